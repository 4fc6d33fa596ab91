"""A rehearsal says whether the promise is kept, and notices when it is not."""

import shutil
import sys

import pytest
from click.testing import CliRunner

from coupon_service.cli import rehearse as module
from tests.processes import HOST, ROOT, Process, free_port, gunicorn, listens, wait_until
from tests.processes import worker as start_worker
from tests.state import KEYS

TOKEN = "secret"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 2.0)
    monkeypatch.setenv("COUPON_ADMIN_TOKEN", TOKEN)

    def run(url, *options):
        return CliRunner().invoke(
            module.rehearse, ["--users", "300", "--quantity", "50", "--url", url, *options]
        )

    return run


@pytest.fixture
def service(own_server, launch, tmp_path):
    """The URL of a service without a worker."""
    api, url = gunicorn(own_server.url, tmp_path / "web.log", COUPON_ADMIN_TOKEN=TOKEN)
    launch(api)
    return url.removesuffix("/api/coupons")


def coupons_left(server):
    return [
        each for keys in KEYS.all for each in server.client().zrange(keys.coupons, 0, -1)
    ]


@pytest.mark.parametrize("options, left", [([], 0), (["--keep"], 1)])
def test_promise_that_is_kept(service, own_server, launch, tmp_path, run, options, left):
    launch(start_worker(own_server.url, tmp_path / "worker.log"))
    result = run(service, *options)
    assert result.exit_code == 0, result.output
    assert "promised  50 issued, 250 refused, nobody twice" in result.output
    assert "happened  50 issued, 250 refused, 0 twice" in result.output
    assert "as promised" in result.output
    assert len(coupons_left(own_server)) == left


def test_stopped_worker_is_said(service, own_server, run):
    result = run(service)
    assert result.exit_code == 1
    assert "BROKEN: 50 requests are not decided: does a worker run?" in result.output
    assert coupons_left(own_server) == []


def test_requests_that_are_refused_otherwise_are_said(own_server, launch, tmp_path, run):
    api, url = gunicorn(own_server.url, tmp_path / "web.log", COUPON_ADMIN_TOKEN=TOKEN,
                        COUPON_USER_KEY="k" * 32)
    launch(api)
    result = run(url.removesuffix("/api/coupons"))
    assert result.exit_code == 1
    assert "BROKEN: requests are answered with token_missing" in result.output


def test_one_too_many_is_said(own_server, launch, tmp_path, run):
    """A copy of the service whose scripts admit and issue one more than the quantity."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "coupon_service", copy / "coupon_service")
    for name in ("worker.py", "wsgi.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, copy)
    for name, before, after in (
        ("admit", "taken + #admitted >= quantity", "taken + #admitted > quantity"),
        ("issue", "left - granted <= 0", "left - granted < 0"),
    ):
        script = copy / "coupon_service" / "lua" / f"{name}.lua"
        text = script.read_text(encoding="utf-8")
        assert text.count(before) == 1
        script.write_text(text.replace(before, after), encoding="utf-8")
    port = free_port()
    settings = {"REDIS_URL": own_server.url, "COUPON_ADMIN_TOKEN": TOKEN, "PYTHONPATH": str(copy)}
    for command in (["-m", "gunicorn", "wsgi:app", "--bind", f"{HOST}:{port}"], ["worker.py"]):
        launch(Process(
            [sys.executable, *command], tmp_path / f"{command[0]}.log", copy, **settings
        ).start())
    wait_until(lambda: listens(port), "gunicorn to listen")
    result = run(f"http://{HOST}:{port}")
    assert result.exit_code == 1
    assert "BROKEN: 1 too many are issued" in result.output


def test_call_of_an_administrator_keeps_no_connection_that_the_service_could_close(service):
    api = module.Api(service, TOKEN)
    assert api.call("GET", "")["coupons"] == []
    assert api._connection.sock is None
    assert api.call("GET", "")["coupons"] == []


def test_service_that_is_not_there_is_said(run):
    result = run(f"http://{HOST}:{free_port()}")
    assert result.exit_code == 3
    assert "does not answer" in result.output
