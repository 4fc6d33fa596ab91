"""A short form of the search in interleavings.py, and faults that it must find."""

import pytest

from coupon_service import scripts
from coupon_service.keys import GROUP
from coupon_service.stream import RequestStream
from tests.interleavings import Budget, Explorer, Violation, own_server

#: More steps than there are in any path: the search is complete.
ALL = 99
#: By what is broken: the script, the text in it, what takes its place; the budget with which it is
#: found, and what is found.
FAULTS = {
    "admit.lua without the request id check": (
        "admit", "holder == request_id", "false",
        Budget(), "the answer is .'duplicate', 'pending', 'first'. and not accepted",
    ),
    "issue.lua without the request id check": (
        "issue", "issued[user_id] == request_id", "false",
        Budget(admit=1, again=0, delete=0), "the verdict on u1 is 2",
    ),
    "issue.lua without since": (
        "issue", "not newer(entry_id, since)", "false",
        Budget(admit=1, again=0, cancel=0, fault=0), "the marks are not those of the log|verdict",
    ),
    "remove.lua believes that the coupon is due": (
        "remove", "now < due_at", "false",
        Budget(again=0, cancel=0, fault=0), "the coupon is not live",
    ),
    "remove.lua removes marks by name, whatever they say": (
        "remove", "select(2, parts(mark)) == line", "true",
        Budget(admit=1, again=0, cancel=0, delete=2, fault=0), "issuances are not those of the",
    ),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with own_server(tmp_path_factory.mktemp("server")) as client:
        yield client


@pytest.mark.parametrize("quantity, budget, depth, states", [
    (1, Budget(), 6, 1000),
    (2, Budget(), 5, 500),
    (1, Budget(admit=1, cancel=0, fault=0), ALL, 900),
    (2, Budget(cancel=0, delete=0), ALL, 600),
    (1, Budget(admit=1, again=0, cancel=2, delete=0, fault=0), ALL, 50),
])
def test_no_order_of_steps_breaks_a_promise(client, quantity, budget, depth, states):
    result = Explorer(client, quantity, budget).explore(depth)
    assert result.states > states and result.transitions > 2 * result.states
    assert result.complete == (depth == ALL)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_a_script_is_found(client, monkeypatch, fault):
    script, text, replacement, budget, expected = FAULTS[fault]
    original = scripts.source
    assert original(script).count(text) == 1
    broken = original(script).replace(text, replacement)
    monkeypatch.setattr(
        scripts, "source", lambda name: broken if name == script else original(name))
    with pytest.raises(Violation, match=expected):
        Explorer(client, 1, budget).explore(13)


def test_entry_that_is_acknowledged_when_it_is_read_is_found(client, monkeypatch):
    read_new = RequestStream.read_new

    def acknowledge(self, count, block_ms):
        entries = read_new(self, count, block_ms)
        for entry in entries:
            client.xack(self._name, GROUP, entry.entry_id)
        return entries

    monkeypatch.setattr(RequestStream, "read_new", acknowledge)
    with pytest.raises(Violation, match="u1.* is accepted and never issued; after 2 steps"):
        Explorer(client, 1).explore(13)
