"""The OpenAPI document is that of this code, and is served with a page to try it."""

import json
import re
import sys

import pytest
from openapi_spec_validator import validate

from coupon_service.web import api_docs
from coupon_service.web.app import create_app
from coupon_service.web.problems import STATUS
from tests.processes import ROOT
from tests.state import config_with


@pytest.fixture
def get(fake_client):
    return create_app(config_with(), fake_client).test_client().get


def test_committed_document_is_that_of_this_code():
    from coupon_service.web.openapi import text

    assert api_docs.DOCUMENT.read_text(encoding="utf-8") == text(), (
        "run: python -m coupon_service.web.openapi"
    )
    assert (ROOT / "docs" / "openapi.json").samefile(api_docs.DOCUMENT)


def test_document_is_valid_and_is_what_is_served(get):
    answer = get("/api/openapi.json")
    assert answer.content_type == "application/json"
    assert answer.json == json.loads(api_docs.DOCUMENT.read_text(encoding="utf-8"))
    validate(answer.json)


def test_every_call_is_described_but_those_of_the_pages(get, fake_client):
    rules = create_app(config_with(), fake_client).url_map.iter_rules()
    views = {
        (re.sub(r"<[^>]+>", "{}", rule.rule), method.lower()) for rule in rules
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule not in ("/", "/admin")
        and not rule.rule.startswith(("/static/", "/admin/static/", "/api/docs"))
    }
    described = {
        (re.sub(r"{\w+}", "{}", path), method)
        for path, its in get("/api/openapi.json").json["paths"].items() for method in its
    }
    assert described == views


def test_every_code_is_described_with_an_example(get):
    examples = re.findall(r'"code":"(\w+)"', json.dumps(get("/api/openapi.json").json,
                                                        separators=(",", ":")))
    assert set(STATUS) <= set(examples)


def test_every_operation_has_a_summary_and_every_view_a_docstring(get, fake_client):
    app = create_app(config_with(), fake_client)
    assert not [
        name for name, view in app.view_functions.items()
        if not name.endswith("static") and not view.__doc__
    ]
    for its in get("/api/openapi.json").json["paths"].values():
        assert all(operation["summary"] for operation in its.values())


def test_page_and_its_assets_are_of_this_host(get):
    page = get("/api/docs")
    assert page.content_type == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "http" not in policy
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 3 and not [name for name in named if ":" in name or name[0] == "/"]
    for name in named:
        assert get(f"/api/{name}").status_code == 200, name
    assert get("/api/docs/LICENSE").status_code == 404


@pytest.mark.parametrize("path", ["/api/docs", "/api/docs/swagger-ui.css"])
def test_page_is_501_where_its_assets_are_not_installed(get, monkeypatch, path):
    monkeypatch.setattr(api_docs, "find_spec", lambda name: None)
    answer = get(path)
    assert (answer.status_code, answer.json["code"]) == (501, "docs_not_installed")


def test_document_is_served_without_what_makes_it(get, monkeypatch):
    monkeypatch.setitem(sys.modules, "apispec", None)
    assert get("/api/openapi.json").status_code == 200
