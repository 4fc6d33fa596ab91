"""The endpoints of administrators."""

import csv
import io
import tracemalloc

import pytest

from coupon_service.web.app import create_app
from coupon_service.keys import GROUP
from coupon_service.scripts import Registration
from coupon_service.stream import Entry
from tests.state import (
    KEYS,
    assert_consistent,
    config_with,
    drain,
    everything,
    many_issued,
    operations_on,
)

TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture
def http(client):
    return create_app(config_with(admin_token="secret"), client).test_client()


@pytest.fixture
def admin(http):
    def call(method, path, **options):
        return http.open(f"/api{path}", method=method, headers=TOKEN, **options)

    return call


@pytest.fixture
def campaign(client, coupons, worker):
    """Coupon A: 5, issued to u1, u2 and u3, pending for p1."""
    coupons.register(Registration("A", 5))
    for user in ("u1", "u2", "u3"):
        coupons.request("A", user, f"r-{user}")
        drain(client, worker)
    coupons.request("A", "p1", "r-p1")


def test_list_shows_the_snapshot_of_each_coupon_by_id(admin, coupons, campaign):
    coupons.register(Registration("0", 1, {"closesAt": 1_000_000_000_000}))
    first, second = admin("GET", "/coupons").json["coupons"]
    assert (first["couponId"], first["state"]) == ("0", "closed")
    assert second == coupons.snapshot("A")


def test_list_goes_on_page_by_page(admin, coupons):
    coupons.register(*(Registration(f"C{number}", 1) for number in (1, 2, 3, 4, 5)))

    def page(query):
        answer = admin("GET", f"/coupons{query}").json
        return [coupon["couponId"] for coupon in answer["coupons"]], answer["next"]

    assert page("") == (["C1", "C2", "C3", "C4", "C5"], None)
    assert page("?limit=2") == (["C1", "C2"], "C2")
    assert page("?limit=2&after=C2") == (["C3", "C4"], "C4")
    assert page("?limit=2&after=C4") == (["C5"], None)
    assert page("?after=C25") == (["C3", "C4", "C5"], None)
    assert page("?limit=5&after=C5") == ([], None)


def test_statistics_are_the_snapshot_and_the_recent_rate(admin, client, coupons):
    coupons.register(Registration("A", 5))
    client.delete(KEYS.log)
    assert admin("GET", "/coupons/A/statistics").json == {
        **coupons.snapshot("A"),
        "recent": {"issuances": 0, "issuedPerSecond": None, "secondsToDecision": None},
    }
    for number, (asked, decided) in enumerate([(1000, 1500), (1200, 2000), (1000, 3000)]):
        line = {"couponId": "A", "userId": f"u{number}", "entryId": f"{asked}-0"}
        client.xadd(KEYS.log, line, id=f"{decided}-0")
        client.xadd(KEYS.issuances("A"), {"userId": f"u{number}"}, id=f"{decided}-0")
    assert admin("GET", "/coupons/A/statistics").json["recent"] == {
        "issuances": 3, "issuedPerSecond": 1.333,
        "secondsToDecision": {"p50": 0.8, "p99": 2.0, "max": 2.0},
    }


def test_closing_ends_requests_at_once(admin, coupons, http):
    coupons.register(Registration("A", 1))
    answer = admin("POST", "/coupons/A/close")
    assert answer.status_code == 200
    assert answer.json["closesAt"] == coupons.snapshot("A")["closesAt"]
    answer = http.post("/api/coupons/request", json={"couponId": "A", "userId": "u"})
    assert (answer.status_code, answer.json["code"]) == (409, "closed")


def test_closing_again_or_what_is_closed_changes_nothing(admin, client, coupons):
    coupons.register(Registration("A", 1, {"closesAt": 1_000_000_000_000}))
    before = everything(client)
    admin("POST", "/coupons/A/close")
    assert everything(client) == before


def test_closing_before_it_opens_keeps_the_window_in_order(admin, coupons):
    coupons.register(Registration("A", 1, {"opensAt": 4_000_000_000_000}))
    admin("POST", "/coupons/A/close")
    assert coupons.snapshot("A")["state"] == "closed"
    coupons.register(Registration("A", 2))


def test_cancelled_issuance_gives_place_and_stock_back(admin, client, coupons, worker, campaign):
    answer = admin("DELETE", "/coupons/A/users/u2")
    assert answer.status_code == 200
    assert answer.json == {
        "message": "request cancelled", "couponId": "A", "userId": "u2", "requestId": "r-u2",
        "requestStatus": "issued",
    }
    assert client.get(KEYS.stock("A")) == "3"
    assert_consistent(client, "A")
    [*_, (_, last)] = client.xrange(KEYS.log)
    assert (last["userId"], last["decision"]) == ("u2", "cancelled")
    coupons.request("A", "u2", "again")
    drain(client, worker)
    assert coupons.user("A", "u2")["requestId"] == "again"
    assert_consistent(client, "A")


def test_cancelled_pending_request_is_never_issued(admin, client, coupons, worker, campaign):
    assert admin("DELETE", "/coupons/A/users/p1").json["requestStatus"] == "pending"
    assert client.xlen(KEYS.requests) == 0
    assert_consistent(client, "A")
    drain(client, worker)
    assert client.get(KEYS.user("A", "p1")) is None


def test_request_cancelled_in_the_hands_of_a_worker_is_not_issued(
    admin, client, coupons, worker, campaign
):
    [[_, entries]] = client.xreadgroup(GROUP, "me", {KEYS.requests: ">"}, count=1)
    admin("DELETE", "/coupons/A/users/p1")
    worker._decisions.decide([Entry(*entry) for entry in entries])
    assert client.get(KEYS.user("A", "p1")) is None
    assert client.xpending(KEYS.requests, GROUP)["pending"] == 0
    assert_consistent(client, "A")


def test_who_has_nothing_cannot_be_cancelled(admin, client, campaign):
    before = everything(client)
    answer = admin("DELETE", "/coupons/A/users/nobody")
    assert (answer.status_code, answer.json["code"]) == (404, "not_requested")
    assert everything(client) == before


def test_deleted_coupon_leaves_only_the_log_and_refuses_who_waited(
    admin, client, coupons, worker, campaign
):
    answer = admin("DELETE", "/coupons/A")
    assert answer.status_code == 200
    assert answer.json == {
        "message": "coupon deleted", "couponId": "A", "issued": 3, "refused": 1,
    }
    assert set(everything(client)) <= {KEYS.requests, KEYS.log}
    assert client.xlen(KEYS.requests) == 0
    [*_, (_, last)] = client.xrange(KEYS.log)
    assert (last["userId"], last["decision"]) == ("p1", "unknown_coupon")
    coupons.register(Registration("A", 1))
    coupons.request("A", "u1", "again")
    drain(client, worker)
    assert coupons.user("A", "u1")["requestId"] == "again"


def test_issuances_are_listed_newest_first_in_pages(admin, campaign):
    path = "/coupons/A/issuances"
    first = admin("GET", f"{path}?limit=2").json
    assert [each["userId"] for each in first["issuances"]] == ["u3", "u2"]
    assert first["issuances"][0]["requestId"] == "r-u3"
    assert first["issuances"][0]["issuedAt"].endswith("Z")
    second = admin("GET", f"{path}?limit=2&before={first['next']}").json
    assert [each["userId"] for each in second["issuances"]] == ["u1"]
    assert second["next"] is None
    one = admin("GET", f"{path}?userId=u2").json["issuances"]
    assert [each["userId"] for each in one] == ["u2"]
    assert admin("GET", f"{path}?userId=nobody").json["issuances"] == []


def test_cancelled_issuance_is_not_listed(admin, campaign):
    admin("DELETE", "/coupons/A/users/u3")
    listed = admin("GET", "/coupons/A/issuances").json["issuances"]
    assert [each["userId"] for each in listed] == ["u2", "u1"]


@pytest.mark.parametrize(
    "path, query",
    [
        *(("/A/issuances", query) for query in
          ("limit=0", "limit=1001", "limit=x", "before=1", "before=0-0", "before=00-0",
           "before=%D9%A3-%D9%A3",
           "format=xml", "safe=yes", "userId=", "other=1")),
        *(("", query) for query in ("limit=0", "limit=1001", "limit=x", "after=a:b", "other=1")),
    ],
)
def test_bad_query_is_422(admin, campaign, path, query):
    answer = admin("GET", f"/coupons{path}?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_export_is_exact_and_on_demand_safe_from_formulas(admin, client, coupons, worker):
    coupons.register(Registration("A", 9))
    users = ["=1+1", "'=1+1", "+8210", "-1", "@x", 'quote"', "a,b", "홍길동"]
    for user in users:
        coupons.request("A", user, "r")
        drain(client, worker)
    answer = admin("GET", "/coupons/A/issuances?format=csv")
    assert answer.mimetype == "text/csv"
    head, *rows = csv.reader(io.StringIO(answer.text))
    assert head == ["couponId", "userId", "requestId", "issuedAt"]
    assert [row[1] for row in rows] == users[::-1]
    assert {(row[0], row[2]) for row in rows} == {("A", "r")}
    _, *rows = csv.reader(io.StringIO(admin("GET", "/coupons/A/issuances?format=csv&safe=1").text))
    safe = [row[1] for row in rows]
    assert safe[:3] == ["홍길동", "a,b", 'quote"']
    assert not any(user.startswith(("=", "+", "-", "@")) for user in safe)
    assert [user.removeprefix("'") for user in safe] == users[::-1]  # nothing is lost
    one = admin("GET", "/coupons/A/issuances?format=csv&safe=1&userId=%2B8210").text
    assert one.splitlines()[1].startswith("A,'+8210,r,")


def test_export_holds_memory_flat(real_client):
    peaks = []
    for count in (1_000, 20_000):
        real_client.flushall()
        many_issued(real_client, count)
        http = create_app(config_with(admin_token="secret"), real_client).test_client()
        answer = http.get("/api/coupons/A/issuances?format=csv", headers=TOKEN, buffered=False)
        tracemalloc.start()
        assert sum(part.count(b"\r\n") for part in answer.iter_encoded()) == count + 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_coupons_of_a_user_are_listed(admin, client, coupons, worker, campaign):
    coupons.register(Registration("B", 1), Registration("C", 1))
    coupons.request("B", "u1", "r-b")
    drain(client, worker)
    answer = admin("GET", "/users/u1/coupons").json
    assert answer["userId"] == "u1"
    assert [(held["couponId"], held["requestId"]) for held in answer["coupons"]] == [
        ("A", "r-u1"), ("B", "r-b"),
    ]
    assert admin("GET", "/users/nobody/coupons").json["coupons"] == []


@pytest.mark.parametrize(
    "method, path",
    [
        ("POST", "/coupons/NONE/close"), ("DELETE", "/coupons/NONE"),
        ("GET", "/coupons/NONE/statistics"),
        ("DELETE", "/coupons/NONE/users/u"), ("GET", "/coupons/NONE/issuances"),
        ("GET", "/coupons/NONE/issuances?format=csv"), ("GET", "/coupons/NONE/issuances?userId=u"),
    ],
)
def test_unknown_coupon_is_404_and_changes_nothing(admin, client, method, path):
    answer = admin(method, path)
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_coupon")
    assert everything(client) == {}


def test_list_of_coupons_is_registered_all_or_none(admin, client):
    declared = [{"couponId": f"C{number}", "quantity": number + 1} for number in range(1000)]
    answer = admin("POST", "/coupons/register", json=declared)
    assert answer.status_code == 200
    assert [coupon["stock"] for coupon in answer.json["coupons"]] == list(range(1, 1001))
    before = client.dbsize(), client.hgetall(KEYS.coupon("C1"))
    refused = [{"couponId": "new", "quantity": 1},
               {"couponId": "C1", "quantity": 1, "closesAt": "2030-01-01T00:00:00Z",
                "expiresAt": "2029-01-01T00:00:00Z"}]
    answer = admin("POST", "/coupons/register", json=refused)
    assert (answer.json["code"], answer.json["couponId"]) == ("invalid_window", "C1")
    assert (client.dbsize(), client.hgetall(KEYS.coupon("C1"))) == before


@pytest.mark.parametrize(
    "body",
    [
        [], [{"couponId": "A", "quantity": 1}] * 2, [{"couponId": "A", "quantity": 1}, {}],
        [{"couponId": f"C{number}", "quantity": 1} for number in range(1001)], [[]], [None],
    ],
    ids=["empty", "twice", "one bad", "1001", "list", "null"],
)
def test_bad_list_is_422_and_registers_nothing(admin, client, body):
    answer = admin("POST", "/coupons/register", json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert everything(client) == {}


def test_mark_of_another_system_is_listed_without_a_time(client, coupons):
    coupons.register(Registration("A", 1))
    client.set(KEYS.user("A", "u"), "issued")
    assert operations_on(client).held_by("u") == [{"couponId": "A", "requestId": "issued"}]


def test_cancel_of_a_named_request_leaves_a_later_one_alone(
    admin, client, coupons, worker, campaign
):
    path = "/coupons/A/users/u1?requestId=r-u1"
    assert admin("DELETE", path).json["requestId"] == "r-u1"
    coupons.request("A", "u1", "second")
    for _ in range(2):  # pending, then issued
        answer = admin("DELETE", path)
        assert (answer.status_code, answer.json["code"]) == (404, "not_requested")
        drain(client, worker)
    assert coupons.user("A", "u1")["requestId"] == "second"
    assert admin("DELETE", "/coupons/A/users/u1?requestId=a%20b").status_code == 422
    assert admin("DELETE", "/coupons/A/users/u1?request=r").status_code == 422
    assert_consistent(client, "A")


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda client: client.hset(KEYS.coupon("A"), "quantity", "many"),
        lambda client: client.hset(KEYS.coupon("A"), "closesAt", 10**18),
        lambda client: client.hdel(KEYS.coupon("A"), "registeredAt"),
        lambda client: client.delete(KEYS.stock("A")),
        lambda client: client.set(KEYS.requested("A"), "x"),
        lambda client: (client.delete(KEYS.coupon("A")), client.set(KEYS.coupon("A"), "x")),
        lambda client: (client.delete(KEYS.pending("A")), client.set(KEYS.pending("A"), "x")),
    ],
    ids=["quantity", "closesAt", "registeredAt", "no stock", "requested", "type",
         "type of pending"],
)
def test_corrupt_coupon_is_its_own_problem(admin, coupons, campaign, client, caplog, corrupt):
    coupons.register(Registration("B", 1))
    corrupt(client)
    answer = admin("GET", "/coupons")
    assert answer.status_code == 200
    first, second = answer.json["coupons"]
    assert first == {"couponId": "A", "state": "corrupt"}
    assert second == coupons.snapshot("B")
    assert [each["couponId"] for each in admin("GET", "/users/u1/coupons").json["coupons"]] == ["A"]
    caplog.clear()
    answer = admin("GET", "/coupons/A")
    assert (answer.status_code, answer.json["code"]) == (500, "corrupt_data")
    [line] = caplog.messages
    assert line.startswith("the stored data of A is corrupt error=")
    assert "\n" not in line


def test_corrupt_mark_or_issuance_is_a_problem_of_its_coupon(admin, client, campaign):
    client.set(KEYS.user("A", "u1"), "r not-an-id")
    assert admin("GET", "/users/u1/coupons").json["coupons"] == [
        {"couponId": "A", "requestId": "r"}
    ]
    client.xadd(KEYS.issuances("A"), {"no": "user"})
    answer = admin("GET", "/coupons/A/issuances")
    assert (answer.status_code, answer.json["code"]) == (500, "corrupt_data")


@pytest.mark.parametrize("key", [KEYS.stock("A"), KEYS.requested("A")])
@pytest.mark.parametrize("value", ["abc", None])
def test_corrupt_counter_leaves_a_cancellation_undone(admin, client, campaign, key, value):
    client.delete(key) if value is None else client.set(key, value)
    before = everything(client)
    for user in ("u1", "p1"):
        answer = admin("DELETE", f"/coupons/A/users/{user}")
        assert (answer.status_code, answer.json["code"]) == (500, "corrupt_data")
    assert everything(client) == before


def test_request_ids_are_no_options_and_no_formulas(http, coupons):
    coupons.register(Registration("A", 10**6))
    answers = [
        http.post("/api/coupons/request", json={"couponId": "A", "userId": f"u{number}"})
        for number in range(500)
    ]
    ids = {answer.json["requestId"] for answer in answers}
    assert len(ids) == 500
    assert not any(request_id.startswith(("-", "=", "+", "@")) for request_id in ids)


def test_instant_that_cannot_be_shown_is_corrupt_data_of_a_request_too(http, client, campaign):
    client.hset(KEYS.coupon("A"), "opensAt", 999_999_999_999_999)
    asked = http.post("/api/coupons/request", json={"couponId": "A", "userId": "new"})
    for answer in (asked, http.get("/api/coupons/A")):
        assert (answer.status_code, answer.json["code"]) == (500, "corrupt_data")


def test_mark_with_an_id_that_no_stream_takes_is_cancelled_whole(admin, client, campaign):
    client.set(KEYS.user("A", "u1"), f"r-u1 {10**22}-0")
    before = client.get(KEYS.stock("A"))
    assert admin("DELETE", "/coupons/A/users/u1").json["requestStatus"] == "issued"
    assert int(client.get(KEYS.stock("A"))) == int(before) + 1
    assert not client.exists(KEYS.user("A", "u1"))
