"""The examples in docs/examples do what they say."""

import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from tests.load import Client
from tests.processes import HOST, ROOT, gunicorn, tool, worker

EXAMPLES = ROOT / "docs" / "examples"


class Quiet(SimpleHTTPRequestHandler):
    """Serves the examples; .mjs is JavaScript to a browser by its type alone."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def log_message(self, *args):
        pass


@pytest.fixture
def other_origin():
    """The origin of a static server with the examples."""
    server = ThreadingHTTPServer((HOST, 0), partial(Quiet, directory=EXAMPLES))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{HOST}:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api(own_server, launch, tmp_path, other_origin):
    """The URL of an API with a worker and one coupon of one, which pages of the other origin may
    use."""
    web, url = gunicorn(own_server.url, tmp_path / "web.log", COUPON_CORS_ORIGINS=other_origin)
    launch(web)
    launch(worker(own_server.url, tmp_path / "worker.log"))
    Client(url).register("SPRING2025", 1)
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
    for user, code, expected in (("user123", 0, issued), ("user456", 1, refused)):
        ran = subprocess.run(
            [tool(program), EXAMPLES / example, api, "SPRING2025", user],
            capture_output=True, text=True, timeout=60,
        )
        assert (ran.returncode, expected in ran.stdout + ran.stderr) == (code, True), ran


def browser():
    """A Chromium without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = tool("chromium", "chromium-browser", "google-chrome")
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(tool("chromedriver")))


def test_page_of_another_origin_gets_a_coupon_in_a_browser(api, other_origin):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    with browser() as chromium:
        chromium.get(f"{other_origin}/page.html?{quote(api, safe='')}")
        for user, expected in (("user123", "issued"), ("user456", "sold_out")):
            field = chromium.find_element(By.NAME, "user")
            field.clear()
            field.send_keys(user)
            chromium.find_element(By.TAG_NAME, "button").click()
            output = chromium.find_element(By.TAG_NAME, "output")
            WebDriverWait(chromium, 30).until(lambda _: output.text == expected, output.text)


def test_contract_names_every_example():
    contract = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = {file.name for file in EXAMPLES.iterdir() if f"(examples/{file.name})" in contract}
    assert named == {file.name for file in EXAMPLES.iterdir()} and len(named) == 5


def test_page_of_the_document_shows_every_call_in_a_browser(api):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    with browser() as chromium:
        chromium.get(f"{api}/api/docs")
        shown = WebDriverWait(chromium, 30).until(
            lambda _: chromium.find_elements(By.CSS_SELECTOR, ".opblock-summary-path")
        )
        names = {element.get_attribute("data-path") for element in shown}
        assert "/api/coupons/request" in names and len(shown) >= 17
        shown[0].click()
        WebDriverWait(chromium, 30).until(
            lambda _: chromium.find_elements(By.CSS_SELECTOR, ".opblock-body")
        )
        problems = [entry["message"] for entry in chromium.get_log("browser")]
        assert [text for text in problems if "favicon" not in text] == []
