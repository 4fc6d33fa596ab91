"""Makes the pictures of the dashboard in docs/images: `python -m tests.screenshots`."""

import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.browser import Browser, chromium
from tests.load import Client, ask_all
from tests.processes import ROOT, Process, Server, gunicorn, wait_until, worker

TOKEN = "local"
IMAGES = ROOT / "docs" / "images"
#: Name, language, colour scheme, width and height in pixels, and what of the dashboard is shown.
PICTURES = [
    ("light", "en", "light", 1280, 1240, "?coupon=SPRING2025"),
    ("dark", "en", "dark", 1280, 800, ""),
    ("phone", "en", "light", 390, 844, "?coupon=SPRING2025"),
    ("korean", "ko", "light", 1280, 1240, "?coupon=SPRING2025"),
    ("system", "en", "light", 1280, 900, "?system"),
]
#: Requests a second in each second of the sale, the rush first.
RUSH = [190, 160, 120, 90, 75, 60, 50, 45, 40, 35, 30, 30]


def sell(url: str) -> None:
    """Run a sale that is sold by three quarters, and others that are over or yet to come."""
    client = Client(url)
    for coupon, quantity in (("AUTUMN-VIP", 50), ("SPRING2025", 1250), ("SUMMER-SALE", 5000)):
        client.register(coupon, quantity, TOKEN)
    client.call(
        "POST", "/register", {"couponId": "WINTER", "quantity": 800, "opensAt":
                              "2031-12-01T09:00:00+09:00"}, Authorization=f"Bearer {TOKEN}",
    )
    ask_all(url, "AUTUMN-VIP", (f"user{number}" for number in range(85)), 4)
    ask_all(url, "SUMMER-SALE", (f"user{number}" for number in range(1234)), 4)
    for second, rate in enumerate(RUSH):
        began = time.monotonic()
        ask_all(url, "SPRING2025", [f"user{second}-{number}" for number in range(rate)] * 2, 4)
        time.sleep(max(0.0, began + 1 - time.monotonic()))


def take(browser: Browser, page: str, file: Path) -> None:
    """Save what a page shows as soon as it has data."""
    browser.open(page)
    wait_until(
        lambda: browser.find("#connection").get_attribute("data-state") == "live", "the data"
    )
    time.sleep(1)  # the bars grow
    browser.driver.save_screenshot(str(file))


def main() -> None:
    """Start a service, run a sale, and make the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        server = Server(logs)
        processes: list[Process] = [server.start()]
        try:
            web, url = gunicorn(server.url, logs / "web.log", COUPON_ADMIN_TOKEN=TOKEN)
            processes += [web, worker(server.url, logs / "worker.log")]
            sell(url)
            for name, language, scheme, width, height, query in PICTURES:
                with chromium(language=language) as browser:
                    browser.look(width, height, scheme)
                    page = f"http://user:{TOKEN}@{urlsplit(url).netloc}/admin{query}"
                    take(browser, page, IMAGES / f"{name}.png")
        finally:
            for process in processes:
                process.stop()


if __name__ == "__main__":
    main()
