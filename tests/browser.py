"""A real Chromium for the tests of pages."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from tests.processes import tool, wait_until

#: What a tester of contrast, labels and roles is to check: WCAG 2.1 A and AA, and good practice.
_AXE = "axe.run({resultTypes: ['violations']}).then(found => arguments[0](found.violations))"


class Browser:
    """A Chromium without a window, and what a user does with a page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Open a page; user and password in the URL answer the prompt of the browser."""
        self.driver.get(url)

    def find(self, selector: str) -> Any:
        """The first element that matches a CSS selector; waits until there is one."""
        wait_until(lambda: self.all(selector), selector)
        return self.all(selector)[0]

    def all(self, selector: str) -> list[Any]:
        from selenium.webdriver.common.by import By

        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """The text of an element as it is seen; empty if there is none."""
        # In one step, because a poll may replace the element meanwhile.
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return self.driver.execute_script(script, selector)

    def shows(self, selector: str, text: str, seconds: float = 20) -> None:
        """Wait until an element shows a text."""
        wait_until(
            lambda: text in self.text(selector), f"{text!r} in {selector}", seconds
        )

    def click(self, selector: str) -> None:
        """Click as soon as it can be clicked."""
        element = self.find(selector)
        wait_until(lambda: element.is_displayed() and element.is_enabled(), selector)
        element.click()

    def type(self, selector: str, text: str) -> None:
        """Replace what is in a field."""
        element = self.find(selector)
        element.clear()
        element.send_keys(text)

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, selector: str) -> None:
        """Press Tab until an element has the focus, as a user without a mouse does."""
        from selenium.webdriver.common.keys import Keys

        script = "return document.activeElement.matches(arguments[0])"
        for _ in range(60):
            if self.driver.execute_script(script, selector):
                return
            self.press(Keys.TAB)
        raise AssertionError(f"Tab does not lead to {selector}")

    def look(self, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Set the size of the window, and the colour scheme that the user prefers."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height,
                     deviceScaleFactor=1, mobile=False)
        self.command("Emulation.setEmulatedMedia",
                     features=[{"name": "prefers-color-scheme", "value": scheme}])

    def command(self, name: str, **arguments: Any) -> Any:
        """Call the browser by its DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def violations(self) -> list[str]:
        """What axe finds: the rule, and the elements."""
        axe = resources.files("axe_core_python").joinpath("axe.min.js")
        self.driver.execute_script(axe.read_text(encoding="utf-8"))
        return [
            f"{each['id']}: {[node['html'] for node in each['nodes']]}"
            for each in self.driver.execute_async_script(_AXE)
        ]

    def problems(self) -> list[str]:
        """What the console says since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def hosts(self) -> set[str]:
        """Whom the browser has sent requests since the last call."""
        logged = [json.loads(entry["message"])["message"]
                  for entry in self.driver.get_log("performance")]
        urls = [each["params"]["request"]["url"] for each in logged
                if each["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).netloc.rpartition("@")[2] for url in urls if url.startswith("http")}


@contextmanager
def chromium(
    language: str = "en", downloads: str = "/nonexistent",
    change: Callable[[Any], None] = lambda options: None,
) -> Iterator[Browser]:
    """Start a browser; end it at the end.

    Args:
        language: what it asks for as Accept-Language.
        downloads: the folder where it puts files.
        change: sets more options.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = tool("chromium", "chromium-browser", "google-chrome")
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                   "--window-size=1280,900"):
        options.add_argument(option)
    options.add_experimental_option("prefs", {
        "intl.accept_languages": language, "download.default_directory": downloads,
    })
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    change(options)
    driver = webdriver.Chrome(options, webdriver.ChromeService(tool("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
