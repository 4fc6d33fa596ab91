"""The floor: what Flask and gunicorn cost by themselves. A route with a constant answer."""

from flask import Flask

app = Flask(__name__)


@app.post("/api/coupons/request")
def request_coupon() -> dict[str, str]:
    return {"message": "request accepted", "status": "pending"}
