"""Prints the CPU µs of a request on the fast path, counted and not counted, without HTTP and Redis.

A process of its own, because the locks are to be gevent's, as they are under gunicorn.
"""

from gevent import monkey

monkey.patch_thread()

import sys  # noqa: E402 (the locks have to be patched before they are made)
from io import BytesIO  # noqa: E402
from time import process_time  # noqa: E402
from typing import Any  # noqa: E402

from coupon_service.config import Config  # noqa: E402
from coupon_service.web.app import create_app  # noqa: E402
from coupon_service.web.api import REQUEST_PATH  # noqa: E402
from coupon_service.web.fast_path import put_before  # noqa: E402

BODY = b'{"couponId":"BENCH","userId":"user"}'
REQUESTS = 20_000


def service(counted: bool) -> Any:
    """Make the application, whose admissions succeed without Redis."""
    app = create_app(Config())
    for installation in app.extensions["coupon_service"]:
        installation.coupons.request = lambda coupon_id, user_id, request_id: {
            "couponId": coupon_id, "userId": user_id, "requestId": request_id, "status": "pending",
        }
    if not counted:
        app.http_counters = None
    return put_before(app)


def microseconds(application: Any) -> float:
    """Measure the CPU time of a request."""
    started = process_time()
    for _ in range(REQUESTS):
        application({
            "PATH_INFO": REQUEST_PATH, "REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(BODY)), "wsgi.input": BytesIO(BODY),
        }, lambda *_: None)
    return (process_time() - started) / REQUESTS * 1e6


if __name__ == "__main__":
    services = [service(counted=True), service(counted=False)]
    for _ in range(int(sys.argv[1])):
        print(*map(microseconds, services))
