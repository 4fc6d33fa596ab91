"""The sessions in the README and in docs/campaign.md are what really happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coupon_service.cli.up import LOCAL_TOKEN
from coupon_service.web.problems import STATUS
from tests.processes import HOST, ROOT, gunicorn, wait_until, worker
from tests.state import backlog

VARYING = [
    (re.compile(r'"requestId":"[^"]+"'), '"requestId":"…"'),
    (re.compile(r"(requestId +|MER,user123,|AUTUMN,user123,)[\w.-]{12}"), r"\1…"),
    (re.compile(r'"pollAfterMs":\d+'), '"pollAfterMs":…'),
    (re.compile(r"202\d-[\d-]+T[\d:.]+Z"), "…"),
    (re.compile(r"\d+\.\d+"), "…"),
]


def session(text):
    """The console blocks as [(command, output)]."""
    blocks = "".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL))
    return [
        tuple(step.split("\n", 1)) for step in re.split(r"^\$ ", blocks, flags=re.MULTILINE) if step
    ]


def same(text):
    for pattern, replacement in VARYING:
        text = pattern.sub(replacement, text)
    return text


def replay(steps, url, client, environment):
    for command, expected in steps:
        # A person types more slowly than the worker decides.
        wait_until(lambda: not backlog(client), "the worker to decide")
        output = subprocess.run(
            command.replace("localhost:8080/api/coupons", url), shell=True, text=True,
            capture_output=True, check=True, env=environment,
        ).stdout
        assert same(output) == same(expected), command


@pytest.mark.parametrize("page, steps", [("README.md", 4), ("docs/campaign.md", 30)])
def test_session_gives_the_output_that_is_printed(own_server, launch, tmp_path, page, steps):
    api, url = gunicorn(own_server.url, tmp_path / "web.log", COUPON_ADMIN_TOKEN=LOCAL_TOKEN)
    launch(api)
    launch(worker(own_server.url, tmp_path / "worker.log"))
    commands = session((ROOT / page).read_text(encoding="utf-8"))
    assert len(commands) >= steps
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "REDIS_URL": own_server.url}
    replay(commands, url.replace(f"http://{HOST}", HOST), own_server.client(), environment)


def test_korean_readme_has_the_same_session_and_endpoints():
    english, korean = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md")
    )
    assert session(korean) == session(english) != []

    def calls(text):
        return re.findall(r"^\| `((?:GET|POST|DELETE) [^`]+)`", text, re.MULTILINE)

    assert calls(korean) == calls(english) != []


def test_readme_names_every_setting():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    config = (ROOT / "coupon_service" / "config.py").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    names = set(re.findall(r'"((?:COUPON|REDIS)_[A-Z_]+)"', config))
    assert names and all(f"`{name}`" in readme and f"{name}=" in example for name in names)


def test_contract_names_every_problem_code():
    contract = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert all(f"`{code}`" in contract for code in STATUS)


def test_commands_of_the_first_screen_are_those_of_the_package():
    assert (Path(sys.executable).parent / "flask").exists()
    help_text = subprocess.run(
        [Path(sys.executable).parent / "flask", "up", "--help"], cwd=ROOT, text=True,
        capture_output=True, check=True,
    ).stdout
    assert "--redis-port" in help_text and "--port" in help_text
