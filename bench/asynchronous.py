"""The same admission and status poll on FastAPI: the same script and data, ids checked alike, the
same answers."""

import os
import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Path
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, StringConstraints
from redis.asyncio import BlockingConnectionPool, Redis

# Beyond the limit requests wait for a connection; without it they would fail.
redis = Redis(connection_pool=BlockingConnectionPool.from_url(
    os.environ["REDIS_URL"], max_connections=50, timeout=30, decode_responses=True, protocol=2,
    driver_info=None,
))
with open(os.environ["ADMIT_LUA"], encoding="utf-8") as script:
    admit = redis.register_script(script.read())
app = FastAPI()

STATUS = {"sold_out": 400, "duplicate": 409, "unknown_coupon": 404, "not_requested": 404}
COUPON_ID, USER_ID = r"^[A-Za-z0-9._~-]{1,64}$", r"^[^\x00-\x1f\x7f-\x9f]{1,128}$"


class Request(BaseModel):
    """Body of POST /api/coupons/request."""

    model_config = ConfigDict(extra="forbid")
    couponId: Annotated[str, StringConstraints(pattern=COUPON_ID)]
    userId: Annotated[str, StringConstraints(pattern=USER_ID)]


@app.post("/api/coupons/request")
async def request_coupon(body: Request) -> JSONResponse:
    coupon_id, user_id = body.couponId, body.userId
    request_id = secrets.token_urlsafe(9)
    [[status, *_]] = await admit(
        keys=[f"coupon:{coupon_id}", f"coupon:{coupon_id}:requested",
              f"coupon:{coupon_id}:pending", "coupon-requests",
              f"coupon:{coupon_id}:user:{user_id}"],
        args=[coupon_id, user_id, request_id],
    )
    if status != "accepted":
        return refusal(coupon_id, status)
    return JSONResponse(
        {"message": "request accepted", "couponId": coupon_id, "userId": user_id,
         "requestId": request_id, "status": "pending"},
        headers={"Location": f"/api/coupons/{coupon_id}/users/{user_id}"},
    )


@app.get("/api/coupons/{coupon_id}/users/{user_id:path}")
async def user(
    coupon_id: Annotated[str, Path(pattern=COUPON_ID)],
    user_id: Annotated[str, Path(pattern=USER_ID)],
) -> JSONResponse:
    # One round trip without MULTI: the pending mark goes when the other is there, so it is read
    # first.
    async with redis.pipeline(transaction=False) as reads:
        reads.hget(f"coupon:{coupon_id}:pending", user_id)
        reads.get(f"coupon:{coupon_id}:user:{user_id}")
        reads.hmget(f"coupon:{coupon_id}", "quantity", "deletedAt", "expiresAt")
        pending, mark, (quantity, deleted_at, expires_at) = await reads.execute()
    if deleted_at or not quantity:
        return refusal(coupon_id, "unknown_coupon")
    if not mark and not pending:
        return refusal(coupon_id, "not_requested")
    request_id, _, entry_id = (mark or pending).partition(" ")
    answer: dict[str, Any] = {"couponId": coupon_id, "userId": user_id, "requestId": request_id}
    if not mark:
        return JSONResponse(
            {**answer, "status": "pending", "pollAfterMs": 50}, headers={"Retry-After": "1"}
        )
    expired = expires_at and time.time() * 1000 >= int(expires_at)
    issued_at = datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC)
    return JSONResponse({
        **answer, "status": "expired" if expired else "issued",
        "issuedAt": issued_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    })


def refusal(coupon_id: str, code: str) -> JSONResponse:
    return JSONResponse(
        {"type": f"urn:coupon-service:problem:{code}", "title": code, "status": STATUS[code],
         "code": code, "detail": f"{coupon_id}: {code}"},
        STATUS[code], media_type="application/problem+json",
    )
