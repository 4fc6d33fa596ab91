"""The same admission on FastAPI: the same script, ids checked alike, the same answers."""

import os
import secrets
from typing import Annotated

from fastapi import FastAPI
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

STATUS = {"sold_out": 400, "duplicate": 409, "unknown_coupon": 404}


class Request(BaseModel):
    """Body of POST /api/coupons/request."""

    model_config = ConfigDict(extra="forbid")
    couponId: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~-]{1,64}$")]
    userId: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,128}$")]


@app.post("/api/coupons/request")
async def request_coupon(body: Request) -> JSONResponse:
    coupon_id, user_id = body.couponId, body.userId
    request_id = secrets.token_urlsafe(12)
    [[status, *_]] = await admit(
        keys=[f"coupon:{coupon_id}", f"coupon:{coupon_id}:requested",
              f"coupon:{coupon_id}:pending", "coupon-requests",
              f"coupon:{coupon_id}:user:{user_id}"],
        args=[coupon_id, user_id, request_id],
    )
    if status != "accepted":
        return JSONResponse(
            {"type": f"urn:coupon-service:problem:{status}", "title": status,
             "status": STATUS[status], "code": status, "detail": f"{coupon_id}: {status}"},
            STATUS[status], media_type="application/problem+json",
        )
    return JSONResponse(
        {"message": "request accepted", "couponId": coupon_id, "userId": user_id,
         "requestId": request_id, "status": "pending"},
        headers={"Location": f"/api/coupons/{coupon_id}/users/{user_id}"},
    )
