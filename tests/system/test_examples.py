"""The examples in docs/examples do what they say."""

import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from tests.browser import chromium
from tests.load import Client
from tests.processes import HOST, ROOT, Server, gunicorn, tool, worker

EXAMPLES = ROOT / "docs" / "examples"


class Quiet(SimpleHTTPRequestHandler):
    """Serves the examples; .mjs is JavaScript to a browser by its type alone."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def other_origin():
    """The origin of a static server with the examples."""
    server = ThreadingHTTPServer((HOST, 0), partial(Quiet, directory=EXAMPLES))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{HOST}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def api(launch_for_all, tmp_path_factory, other_origin):
    """The URL of an API with a worker, which pages of the other origin may use. It has a coupon of
    one for each program, and one for the page."""
    folder = tmp_path_factory.mktemp("examples")
    server = launch_for_all(Server(folder).start())
    web, url = gunicorn(server.url, folder / "web.log", COUPON_CORS_ORIGINS=other_origin)
    launch_for_all(web)
    launch_for_all(worker(server.url, folder / "worker.log"))
    for coupon_id in ("curl.sh", "request_coupon.py", "poll.mjs", "SPRING2025"):
        Client(url).register(coupon_id, 1)
    return url.removesuffix("/api/coupons")


@pytest.mark.parametrize(
    "program, example, issued, refused",
    [
        ("sh", "curl.sh", '"status":"issued"', '"code":"sold_out"'),
        (sys.executable, "request_coupon.py", "issued", "sold_out"),
        ("node", "poll.mjs", "issued", "sold_out"),
    ],
)
def test_program_gets_a_coupon_and_says_why_it_gets_none(api, program, example, issued, refused):
    for user, code, expected in (('사용자 "1"\\', 0, issued), ("user456", 1, refused)):
        ran = subprocess.run(
            [tool(program), EXAMPLES / example, api, example, user],
            capture_output=True, text=True, timeout=60,
        )
        assert (ran.returncode, expected in ran.stdout + ran.stderr) == (code, True), ran


@pytest.mark.long
def test_page_of_another_origin_gets_a_coupon_in_a_browser(api, other_origin):
    with chromium() as browser:
        browser.open(f"{other_origin}/page.html?{quote(api, safe='')}")
        for user, expected in (("user123", "issued"), ("user456", "sold_out")):
            browser.type("[name=user]", user)
            browser.click("button")
            browser.shows("output", expected)


def test_contract_names_every_example():
    contract = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = {file.name for file in EXAMPLES.iterdir() if f"(examples/{file.name})" in contract}
    assert named == {file.name for file in EXAMPLES.iterdir()} and len(named) == 5


@pytest.mark.long
def test_page_of_the_document_shows_every_call_in_a_browser(api):
    with chromium() as browser:
        browser.open(f"{api}/api/docs")
        first = browser.find(".opblock-summary-path")
        names = {each.get_attribute("data-path") for each in browser.all(".opblock-summary-path")}
        assert "/api/coupons/request" in names and len(names) >= 15
        first.click()
        browser.find(".opblock-body")
        assert [text for text in browser.problems() if "favicon" not in text] == []
