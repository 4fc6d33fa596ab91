"""Read by gunicorn by itself; its command line and GUNICORN_CMD_ARGS go before it."""

import os
import sys

_port = os.environ.get("PORT", "8080")
if not (_port.isdecimal() and 0 < int(_port) < 65536):
    sys.exit(f"PORT must be 1 to 65535, not {_port!r}")
bind = f"0.0.0.0:{_port}"
_processes = os.environ.get("WEB_CONCURRENCY", "2")
if not (_processes.isdecimal() and int(_processes) > 0):
    # gunicorn would start, and serve nothing.
    sys.exit(f"WEB_CONCURRENCY must be 1 or more, not {_processes!r}")
workers = int(_processes)
# Compared in docs/performance.md: connections stay open, and waiting blocks none of them.
worker_class = "coupon_service.web.gunicorn_worker.GunicornWorker"
# The lines of `--access-logfile -`. Each `name=` becomes a field of a JSON line; the requestId of
# the answer leads to the line of the decision.
access_log_format = (
    '%(t)s remote=%(h)s request="%(r)s" status=%(s)s bytes=%(B)s microseconds=%(D)s '
    "xRequestId=%({http_x_request_id}e)s requestId=%({coupon.request_id}e)s"
)
# It would be opened in the home folder, where two installations meet.
control_socket_disable = True
