"""The dashboard in a real Chromium, beside a real server, API and workers."""

import csv
import signal
import threading
from urllib.parse import urlsplit

import pytest

from tests.browser import chromium
from tests.load import Client, ask_all
from tests.processes import gunicorn, wait_until, worker
from tests.state import KEYS

pytestmark = pytest.mark.long

TOKEN = "local"
ODD_USER = "<img src=x onerror=alert(1)>"


class Service:
    """The URLs of a service with a worker, and what is behind it."""

    def __init__(self, server, url, log, launch):
        self.server, self.api, self.log, self.launch = server, url, log, launch
        self.host = urlsplit(url).netloc
        self.admin = f"http://{self.host}/admin"
        self.worker = launch(worker(server.url, log))

    def page(self, query=""):
        return f"http://user:{TOKEN}@{self.host}/admin{query}"

    def register(self, coupon, quantity, **window):
        body = {"couponId": coupon, "quantity": quantity, **window}
        answer = Client(self.api).call(
            "POST", "/register", body, Authorization=f"Bearer {TOKEN}"
        )
        assert answer[0] == 200, answer

    def ask(self, coupon, users):
        return ask_all(self.api, coupon, users, 4)

    def list(self):
        return Client(self.api).call("GET", "", Authorization=f"Bearer {TOKEN}")[2]["coupons"]

    def stock(self, coupon):
        return self.server.client().get(KEYS.stock(coupon))


@pytest.fixture
def service(own_server, launch, tmp_path):
    web, url = gunicorn(own_server.url, tmp_path / "web.log", COUPON_ADMIN_TOKEN=TOKEN)
    launch(web)
    return Service(own_server, url, tmp_path / "worker.log", launch)


@pytest.fixture
def browser(tmp_path):
    with chromium(downloads=str(tmp_path / "downloads")) as browser:
        yield browser


def confirm(browser, text):
    """Agree to what the dialog says that it will do."""
    browser.shows("#confirm", text)
    browser.click("#confirm .danger")
    wait_until(lambda: not browser.all("dialog[open]"), "the end of the dialog")


def users(count):
    return [f"user{number}" for number in range(count)]


def test_sale_is_seen_and_run(service, browser, tmp_path):
    browser.open(service.page())
    browser.shows("#connection", "Live")
    browser.shows("#no-coupons", "There is no such coupon.")
    browser.click("#open-register")
    browser.type("#field-couponId", "SPRING2025")
    browser.type("#field-quantity", "100")
    browser.click("#register .primary")
    browser.shows("#done", "SPRING2025 is registered.")
    browser.shows("#coupons", "0 of 100")
    browser.shows("#live", "SPRING2025")
    browser.click("#coupons a")

    browser.shows("#numbers", "Quantity\n100")
    browser.shows("#summary", "No issuance was counted yet.")
    sale = threading.Thread(target=service.ask, args=("SPRING2025", [*users(150), ODD_USER]))
    sale.start()
    browser.shows("#numbers", "Issued\n100")
    sale.join()
    browser.shows("#more", "Sold out\n51")
    browser.shows("h1 .state", "sold out")
    browser.shows("#summary", "100 issued, 0 left")
    assert browser.all("#picture .rate") and browser.all("#picture .line")
    assert len(browser.all("#issuances tr")) == 20

    browser.click("#open-register")
    browser.type("#field-quantity", "99")
    browser.click("#register .primary")
    browser.shows("#problem-quantity", "100")
    browser.type("#field-quantity", "102")
    browser.click("#register .primary")
    browser.shows("#numbers", "Left\n2")
    service.ask("SPRING2025", [ODD_USER])
    browser.shows("#issuances tr:first-child th", ODD_USER)

    browser.type("#user-id", ODD_USER)
    browser.click("#user button")
    browser.shows("#found", f"{ODD_USER} · issued")
    browser.click("#cancel")
    confirm(browser, f"Cancel SPRING2025 of {ODD_USER}?")
    browser.shows("#found", "has no such coupon")
    browser.shows("#numbers", "Left\n2")
    assert browser.all("img") == []

    browser.click("#csv")
    downloads = tmp_path / "downloads"
    # Chromium reserves the name with an empty file.
    wait_until(
        lambda: any(file.stat().st_size for file in downloads.glob("*.csv")), "the download"
    )
    [file] = downloads.glob("*.csv")
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert len({row["userId"] for row in rows} & set(users(150))) == len(rows) == 100

    browser.click("#close")
    confirm(browser, "Nobody can request it any more.")
    browser.shows("h1 .state", "closed")
    browser.click("#delete")
    browser.shows("#confirm", "100 issuances and 0 pending requests are removed")
    browser.click("#confirm .back")
    assert service.stock("SPRING2025") == "2"
    browser.click("#delete")
    confirm(browser, "cannot be brought back")
    browser.shows("#no-coupons", "There is no such coupon.")
    assert service.stock("SPRING2025") is None

    # The browser itself notes the refusal and the user who has none.
    expected = ("409", "404")
    assert [text for text in browser.problems() if not any(
        f"the server responded with a status of {status}" in text for status in expected
    )] == []
    assert browser.hosts() == {service.host}


def test_sale_is_run_by_keyboard_alone(service, browser):
    from selenium.webdriver.common.keys import Keys

    browser.open(service.page())
    browser.shows("#connection", "Live")
    browser.tab_to("#open-register")
    browser.press(Keys.ENTER)
    browser.press("KEYS", Keys.TAB, "1")
    browser.press(Keys.ENTER)
    browser.shows("#coupons", "0 of 1")
    service.ask("KEYS", ["alice"])
    browser.shows("#coupons", "1 of 1")
    browser.tab_to("#coupons a")
    browser.press(Keys.ENTER)
    browser.shows("#numbers", "Issued\n1")
    browser.tab_to("#open-register")
    browser.press(Keys.ENTER)
    browser.press(Keys.ESCAPE)
    browser.press(Keys.ENTER)  # the focus is on the button again
    browser.tab_to("#field-quantity")
    browser.press(Keys.BACKSPACE, "2", Keys.ENTER)
    browser.shows("#numbers", "Quantity\n2")
    browser.tab_to("#user-id")
    browser.press("alice", Keys.ENTER)
    browser.shows("#found", "alice · issued")
    browser.tab_to("#cancel")
    browser.press(Keys.ENTER)
    browser.tab_to("#confirm .danger")
    browser.press(Keys.ENTER)
    browser.shows("#numbers", "Issued\n0")
    browser.tab_to("#delete")
    browser.press(Keys.ENTER)
    browser.tab_to("#confirm .danger")
    browser.press(Keys.ENTER)
    browser.shows("#no-coupons", "There is no such coupon.")


def test_lost_server_is_said_and_found_again(service, browser):
    service.register("A", 3)
    browser.open(service.page("?coupon=A"))
    browser.shows("#connection", "Live")
    service.server.stop()
    browser.shows("#connection", "Redis cannot be used. Last seen")
    assert browser.find("body").get_attribute("class") == "stale"
    service.server.start()
    browser.shows("#connection", "Live")
    browser.shows("#numbers", "Quantity\n3")
    wait_until(lambda: browser.find("body").get_attribute("class") == "", "fresh data")


def test_web_process_that_is_gone_is_said(own_server, launch, browser, tmp_path):
    web, url = gunicorn(own_server.url, tmp_path / "web.log", COUPON_ADMIN_TOKEN=TOKEN)
    launch(web)
    browser.open(f"http://user:{TOKEN}@{urlsplit(url).netloc}/admin")
    browser.shows("#connection", "Live")
    web.stop()
    browser.shows("#connection", "The server does not answer. Last seen")


def test_password_that_has_changed_brings_no_prompt(own_server, launch, browser, tmp_path):
    web, url = gunicorn(own_server.url, tmp_path / "web.log", COUPON_ADMIN_TOKEN=TOKEN)
    launch(web)
    browser.open(f"http://user:{TOKEN}@{urlsplit(url).netloc}/admin")
    browser.shows("#connection", "Live")
    browser.driver.execute_script("""
        const fetched = window.fetch;
        const headers = {Authorization: "Basic x"};
        window.fetch = (url, options) => fetched(url, {...options, headers});
    """)
    browser.shows("#connection", "The password is not valid any more")


def test_dead_letter_is_retried_and_discarded(service, browser):
    with service.server.client() as client:
        service.worker.stop()
        service.register("A", 5)
        service.ask("A", ["u0", "u1"])
        client.set(KEYS.stock("A"), "abc")
        service.launch(worker(service.server.url, service.log))
        browser.open(service.page("?system"))
        wait_until(lambda: len(browser.all("#dead tr")) == 2, "two dead letters")
        browser.shows("#dead", "CORRUPT stock")
        client.set(KEYS.stock("A"), "5")
        browser.click("#dead tr:first-child .retry")
        confirm(browser, "goes to the workers again")
        wait_until(lambda: len(browser.all("#dead tr")) == 1, "one dead letter")
        browser.click("#dead .discard")
        confirm(browser, "its place returns")
        browser.shows("#no-dead", "None: every entry could be decided.")
        wait_until(lambda: client.get(KEYS.stock("A")) == "4", "the retried request")


def test_dead_letter_that_is_broken_is_discarded(service, browser):
    with service.server.client() as client:
        client.xadd(KEYS.dead, {"x": "y"})
    browser.open(service.page("?system"))
    browser.shows("#dead", "corrupt data")
    browser.click("#dead .discard")
    confirm(browser, "its place returns")
    browser.shows("#no-dead", "None: every entry could be decided.")


def test_worker_that_is_stopped_is_said(service, browser):
    browser.open(service.page("?system"))
    browser.shows("#queue", "Workers\n1")
    service.worker.signal(signal.SIGTERM)
    service.worker.wait()
    browser.shows("#alarm", "No worker runs")
    browser.shows("#partitions", "answers")
    browser.shows("#no-ledger", "No ledger copies the log.")


def test_coupons_are_searched_and_paged(service, browser):
    for number in range(25):
        service.register(f"C{number:02}", 1)
    browser.open(service.page())
    wait_until(lambda: len(browser.all("#coupons tr")) == 20, "a page")
    browser.click("#next")
    browser.shows("#coupons", "C24")
    browser.click("#first")
    browser.shows("#coupons", "C00")
    browser.type("#prefix", "C1")
    wait_until(lambda: len(browser.all("#coupons tr")) == 10, "those with the prefix")


@pytest.mark.parametrize("scheme, width", [("light", 1280), ("dark", 1280), ("light", 320)])
def test_pages_are_for_everybody(service, browser, scheme, width):
    """Of the longest ids, the greatest quantity and a dead letter too."""
    coupon, user = "x" * 64, "u" * 128
    service.register(coupon, 10**9)
    service.ask(coupon, [user, ODD_USER])
    with service.server.client() as client:
        client.xadd(KEYS.requests, {"couponId": coupon})
    browser.look(width, scheme=scheme)
    for query, ready, opens in (
        ("", "#coupons tr", "#open-register"), (f"?coupon={coupon}", "#issuances tr", "#delete"),
        ("?system", "#dead tr", ".discard"),
    ):
        browser.open(service.page(query))
        browser.shows("#connection", "Live")
        browser.find(ready)
        assert browser.violations() == []
        assert too_wide(browser) == []
        browser.click(opens)
        assert browser.violations() == []
        assert too_wide(browser) == []


def too_wide(browser):
    """What has no room for its contents, in the page or in its place."""
    return browser.driver.execute_script("""
        return [...document.querySelectorAll("html, dialog, dd, section, .card, #picture text")]
          .filter(each => each.getBBox ? each.getBBox().x < 0 : each.scrollWidth > each.clientWidth)
          .map(each => each.outerHTML.slice(0, 99));
    """)


def test_instants_are_of_the_zone_of_the_viewer(service, browser):
    service.register("A", 5)
    browser.command("Emulation.setTimezoneOverride", timezoneId="Asia/Seoul")
    browser.open(service.page("?coupon=A"))
    browser.shows("#connection", "Live")
    browser.click("#open-register")
    browser.driver.execute_script(
        "document.querySelector('#field-opensAt').value = '2031-12-01T09:00:00'"
    )
    browser.click("#register .primary")
    browser.shows("#numbers", "Dec 1, 2031, 9:00:00 AM")
    browser.shows("footer", "Asia/Seoul")
    coupon = Client(service.api).call("GET", "/A")[2]
    assert coupon["opensAt"] == "2031-12-01T00:00:00.000Z" and coupon["closesAt"] is None
    browser.shows("h1 .state", "scheduled")


def test_what_is_refused_is_said_at_the_field(service, browser):
    service.register("A", 5)
    browser.open(service.page())
    browser.shows("#connection", "Live")
    browser.click("#open-register")
    for coupon, quantity, field, text in (
        ("A", "5", "couponId", "This coupon exists"), ("A b", "5", "couponId", "A-Z"),
        ("", "5", "couponId", "A-Z"), ("request", "5", "couponId", "A-Z"),
        ("B", "0", "quantity", "1000000000"), ("B", "", "quantity", "1000000000"),
        ("B", "1.5", "quantity", "integer"), ("B", "1e", "quantity", "incomplete"),
    ):
        browser.type("#field-couponId", coupon)
        browser.type("#field-quantity", quantity)
        browser.click("#register .primary")
        browser.shows(f"#problem-{field}", text)
        wait_until(lambda: browser.find("#register .primary").is_enabled(), "the answer")
        assert browser.find(f"#field-{field}").get_attribute("aria-invalid") == "true"
    browser.click("#register .back")
    assert [each["couponId"] for each in service.list()] == ["A"]


def test_page_speaks_korean(service, tmp_path):
    service.register("A", 2)
    with chromium(language="ko") as browser:
        browser.open(service.page("?coupon=A"))
        browser.shows("#connection", "실시간")
        browser.shows("#numbers", "수량\n2")
        assert browser.find("html").get_attribute("lang") == "ko"
        assert browser.violations() == []
        service.ask("A", ["u0", "u1"])
        browser.click("#open-register")
        browser.type("#field-quantity", "1")
        browser.click("#register .primary")
        browser.shows("#problem-quantity", "이미 발급되었거나")
        browser.type("#field-quantity", "0")
        browser.find("#field-opensAt").send_keys("12312031")
        browser.click("#register .primary")
        browser.shows("#problem-opensAt", "값이 불완전하거나 올바르지 않습니다.")
        browser.driver.execute_script("arguments[0].value = '1960-01-01T00:00'",
                                      browser.find("#field-opensAt"))
        browser.click("#register .primary")
        browser.shows("#problem-quantity", "1 이상 1000000000 이하여야 합니다.")
        browser.shows("#problem-opensAt", "1970-01-02부터 9999-12-31까지")
        browser.open(service.page())
        browser.click("#open-register")
        browser.type("#field-quantity", "5")
        for coupon in ("", "A b", "request"):
            browser.type("#field-couponId", coupon)
            browser.click("#register .primary")
            browser.shows("#problem-couponId", "1~64자여야 하며")


def test_page_of_another_site_can_neither_frame_nor_change_anything(service, browser, tmp_path):
    service.register("A", 2)
    browser.open(service.page())
    browser.shows("#connection", "Live")
    evil = tmp_path / "evil.html"
    evil.write_text(
        f'<iframe src="{service.admin}"></iframe>'
        f'<form method="post" enctype="text/plain" action="{service.api}/A/close"></form>'
    )
    browser.open(evil.as_uri())
    wait_until(lambda: any("frame-ancestors" in text for text in browser.problems()), "a refusal")
    browser.driver.execute_script("document.forms[0].submit()")
    browser.shows("body", "cross_site")
    assert Client(service.api).call("GET", "/A")[2]["state"] == "open"


def test_instant_that_nobody_touches_stays_to_the_millisecond(service, browser):
    """Also that of the second 1:30 of the night in which clocks go back."""
    instant = "2031-11-02T06:30:00.500Z"
    service.register("A", 5, opensAt=instant)
    browser.command("Emulation.setTimezoneOverride", timezoneId="America/New_York")
    browser.open(service.page("?coupon=A"))
    browser.shows("#connection", "Live")
    browser.click("#open-register")
    browser.type("#field-quantity", "6")
    browser.click("#register .primary")
    browser.shows("#numbers", "Quantity\n6")
    assert service.list()[0]["opensAt"] == instant


def test_instant_that_is_incomplete_is_no_empty_one(service, browser):
    service.register("A", 5, closesAt="2031-11-02T06:30:00Z")
    browser.open(service.page("?coupon=A"))
    browser.shows("#connection", "Live")
    browser.click("#open-register")
    browser.find("#field-closesAt").send_keys("\ue017")  # Delete, in one part of it
    browser.click("#register .primary")
    browser.shows("#problem-closesAt", "incomplete")
    assert service.list()[0]["closesAt"] == "2031-11-02T06:30:00.000Z"


def test_quantity_that_nobody_touches_stays_as_another_has_changed_it(service, browser):
    service.register("A", 5)
    browser.open(service.page("?coupon=A"))
    browser.shows("#connection", "Live")
    browser.click("#open-register")
    service.register("A", 9)
    browser.shows("#numbers", "Quantity\n9")
    browser.driver.execute_script(
        "document.querySelector('#field-opensAt').value = '2031-12-01T09:00:00'"
    )
    browser.click("#register .primary")
    browser.shows("h1 .state", "scheduled")
    assert service.list()[0]["quantity"] == 9


def test_coupon_that_is_deleted_elsewhere_is_not_registered_by_a_change(service, browser):
    service.register("A", 5)
    browser.open(service.page("?coupon=A"))
    browser.shows("#connection", "Live")
    Client(service.api).call("DELETE", "/A", Authorization=f"Bearer {TOKEN}")
    browser.shows("#connection", "This coupon is not registered")
    browser.driver.execute_script(
        "const {x, y} = document.querySelector('#open-register').getBoundingClientRect();"
        "document.elementFromPoint(x + 5, y + 5).click()"
    )
    assert not browser.all("dialog[open]")


def test_search_for_what_no_id_has_finds_nothing(service, browser):
    service.register("A", 5)
    browser.open(service.page())
    browser.shows("#coupons", "0 of 5")
    for text in ("쿠폰", "A b", "<img>"):
        browser.type("#prefix", text)
        browser.shows("#no-coupons", "There is no such coupon.")
        browser.shows("#connection", "Live")
        browser.type("#prefix", " A ")
        browser.shows("#coupons", "0 of 5")
    assert browser.problems() == []


def test_corrupt_data_is_said_of_the_coupon_and_not_of_redis(service, browser):
    service.register("A", 5)
    with service.server.client() as client:
        client.set(KEYS.stock("A"), "abc")
    browser.open(service.page())
    browser.shows("#coupons", "corrupt data")
    assert browser.violations() == []
    browser.open(service.page("?coupon=A"))
    browser.shows("#connection", "the stored data of A is corrupt")


def test_corrupt_coupon_is_deleted_on_its_page_and_in_the_list(service, browser):
    for coupon in ("A", "B", "C"):
        service.register(coupon, 5)
    with service.server.client() as client:
        for coupon in ("A", "B"):
            client.set(KEYS.stock(coupon), "abc")
    browser.open(service.page("?coupon=A"))
    browser.shows("#connection", "the stored data of A is corrupt")
    assert not browser.find("#open-register").is_enabled()
    browser.click("#delete")
    browser.shows("#confirm", "Its data cannot be read.")
    confirm(browser, "cannot be brought back")
    browser.shows("#coupons tr:first-child", "corrupt data")
    assert browser.violations() == []
    assert len(browser.all("#coupons .danger")) == 2
    assert not browser.all("#coupons .danger")[1].is_displayed()
    browser.click("#coupons .danger")
    browser.shows("#confirm", "Delete B?")
    confirm(browser, "Its data cannot be read.")
    browser.shows("#done", "B is deleted.")
    wait_until(lambda: [each["couponId"] for each in service.list()] == ["C"], "the deletions")
    browser.shows("#coupons tr:first-child", "C")


def test_series_that_cannot_be_read_is_said_where_the_picture_is(service, browser):
    service.register("A", 5)
    with service.server.client() as client:
        client.delete(KEYS.series("A"))
        client.set(KEYS.series("A"), "no hash")
    browser.open(service.page("?coupon=A"))
    browser.shows("#summary", "What was counted over time is not readable.")
    browser.shows("#numbers", "Quantity\n5")
    browser.shows("#connection", "Live")
    assert browser.violations() == []


def test_issuances_of_one_request_id_are_each_shown(service, browser):
    service.register("A", 5)
    browser.open(service.page("?coupon=A"))
    for number in range(3):
        Client(service.api).ask("A", f"u{number}", **{"Idempotency-Key": "same"})
        browser.shows("#numbers", f"Issued\n{number + 1}")
        shown = [row.text.split()[0] for row in browser.all("#issuances tr")]
        assert shown == [f"u{each}" for each in range(number, -1, -1)]


def test_focus_stays_on_what_moves(service, browser):
    for coupon in ("A", "B"):
        service.register(coupon, 5)
        service.ask(coupon, ["u0"])
    browser.open(service.page())
    browser.shows("#live article:first-child", "B")
    browser.driver.execute_script("document.querySelector('#live article:last-child a').focus()")
    service.ask("A", ["u1"])
    browser.shows("#live article:first-child", "A")
    assert browser.driver.switch_to.active_element.text == "A"


def test_cancel_means_the_request_that_is_shown_and_no_later_one(service, browser):
    service.register("A", 9)
    client = Client(service.api)
    client.ask("A", "u", **{"Idempotency-Key": "first+&"})
    browser.open(service.page("?coupon=A"))
    browser.shows("#numbers", "Issued\n1")
    browser.type("#user-id", "u")
    browser.click("#user button")
    browser.shows("#found", "first+&")
    client.call("DELETE", "/A/users/u", Authorization=f"Bearer {TOKEN}")
    client.ask("A", "u", **{"Idempotency-Key": "second"})
    browser.click("#cancel")
    browser.shows("#confirm", "request first+&")
    browser.click("#confirm .danger")
    browser.shows("#confirm .problem", "no such request")
    browser.click("#confirm .back")
    assert client.call("GET", "/A/users/u")[2]["requestId"] == "second"
    browser.click("#user button")
    browser.shows("#found", "second")
    browser.click("#cancel")
    confirm(browser, "request second")
    browser.shows("#found", "has no such coupon")


def test_user_id_of_any_characters_is_looked_up(service, browser):
    service.register("A", 9)
    browser.open(service.page("?coupon=A"))
    for user in ("\U0001f600" * 128, "a/b?c#d%20\"'", "a  b", "{user}"):
        service.ask("A", [user])
        browser.shows("#issuances tr:first-child th", user)
        browser.driver.execute_script(
            "document.querySelector('#user-id').select();"
            "document.execCommand('insertText', false, arguments[0])", user,
        )
        browser.click("#user button")
        browser.shows("#found", f"{user} · issued")


def test_server_that_does_not_answer_is_said_in_a_dialog(own_server, launch, browser, tmp_path):
    web, url = gunicorn(own_server.url, tmp_path / "web.log", COUPON_ADMIN_TOKEN=TOKEN)
    launch(web)
    Client(url).register("A", 5, TOKEN)
    browser.open(f"http://user:{TOKEN}@{urlsplit(url).netloc}/admin?coupon=A")
    browser.click("#close")
    web.stop()
    browser.click("#confirm .danger")
    browser.shows("#confirm .problem", "The server does not answer.")
    assert browser.driver.switch_to.active_element.text == "Close now"


def test_issuances_from_before_they_were_counted_are_not_denied(service, browser):
    service.register("A", 5)
    service.ask("A", ["u0"])
    browser.open(service.page("?coupon=A"))
    browser.shows("#numbers", "Issued\n1")
    with service.server.client() as client:
        client.delete(KEYS.series("A"))
    browser.shows("#summary", "No issuance was counted yet.")


def test_dialog_stays_until_what_it_does_has_come_to_an_end(service, browser):
    from selenium.webdriver.common.keys import Keys

    service.register("A", 5)
    browser.open(service.page("?coupon=A"))
    browser.click("#close")
    service.server.signal(signal.SIGSTOP)
    browser.click("#confirm .danger")
    browser.press(Keys.ESCAPE)
    wait_until(lambda: browser.text("#confirm[open] .problem"), "what has become of it", 20)
    service.server.signal(signal.SIGCONT)


def test_page_that_cannot_show_an_answer_is_not_live(service, browser):
    service.register("A", 5)
    browser.open(service.page("?coupon=A"))
    browser.shows("#connection", "Live")
    browser.driver.execute_script(
        "window.fetch = async () => new Response('{\"queue\": {\"backlog\": 0}}')"
    )
    wait_until(lambda: browser.all("#connection[data-state=lost]"), "that it is said")
    assert "Live" not in browser.text("#connection")
