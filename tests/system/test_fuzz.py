"""What schemathesis makes of the OpenAPI document is answered as the document says."""

import os
import re
import subprocess
import time

import jwt
import pytest

from tests.load import Client
from tests.processes import gunicorn, tool, wait_until, worker
from tests.state import KEYS, backlog

TOKEN, SECRET = "secret", "a secret of at least 32 characters"
#: Cases that are made at the least, for each way of asking.
CASES = int(os.environ.get("FUZZ_CASES") or 300)
#: Examples of each operation and mode; boundaries and sequences of calls come on top.
EXAMPLES = max(5, CASES // 20)

# Refusals that depend on what is stored, and not on the form of a request.
SETTINGS = """
[checks]
positive_data_acceptance.expected-statuses = [
    "2xx", "400", "401", "403", "404", "409", "422", "501",
]
"""
NOBODY = {"COUPON_ADMIN_TOKEN": TOKEN}
WAYS = {
    "administrator": (NOBODY, TOKEN),
    "nobody": (NOBODY, ""),
    "original": ({}, ""),
    "user": (
        {**NOBODY, "COUPON_USER_KEY": SECRET},
        jwt.encode({"sub": "user123", "exp": int(time.time()) + 86_400}, SECRET),
    ),
}


def fill(server, url):
    """Leave a coupon, an issued request and two dead letters, which the cases meet."""
    Client(url).register("SPRING2025", 10**6, TOKEN)
    client = server.client()
    for _ in range(2):
        client.xadd(KEYS.requests, {"couponId": "no id", "userId": "user123"})
    wait_until(lambda: not backlog(client) and client.xlen(KEYS.dead) == 2, "the dead letters")


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_every_answer_is_as_documented(own_server, launch, tmp_path, way):
    settings, token = WAYS[way]
    fuzzer = tool("schemathesis")
    api, url = gunicorn(own_server.url, tmp_path / "web.log", **settings)
    launch(api)
    launch(worker(own_server.url, tmp_path / "worker.log"))
    fill(own_server, url)
    (tmp_path / "schemathesis.toml").write_text(SETTINGS, encoding="utf-8")
    made = subprocess.run(
        [
            fuzzer, "--config-file", "schemathesis.toml", "run",
            url.replace("/coupons", "/openapi.json"), "--max-examples", str(EXAMPLES),
            "--continue-on-failure", "--no-color", "--generation-database", "none",
            # How many drafts it throws away says nothing of the service; the cases are counted.
            "--suppress-health-check", "filter_too_much,too_slow",
            *(["--header", f"Authorization: Bearer {token}"] if token else []),
        ],
        cwd=tmp_path, capture_output=True, text=True,
    )
    print(made.stdout[-2000:])
    assert made.returncode == 0, made.stdout + made.stderr + api.output()
    [cases] = re.findall(r"(\d+) generated", made.stdout)
    assert int(cases) >= CASES
    assert "Traceback" not in api.output()
