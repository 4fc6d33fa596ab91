"""The pages of the dashboard as the application sends them."""

import re

import pytest
from flask import render_template

from coupon_service.web import pages
from coupon_service.web.app import create_app
from coupon_service.web.problems import STATUS
from coupon_service.web.schemas import RegisterSchema
from tests.processes import ROOT
from tests.state import config_with

WEB = ROOT / "coupon_service" / "web"


@pytest.fixture
def get(fake_client):
    http = create_app(config_with(admin_token="secret"), fake_client).test_client()

    def get(path, language="en", password="secret"):
        return http.get(path, auth=("anybody", password), headers={"Accept-Language": language})

    return get


def used_texts(client):
    """The texts of scripts and pages that are translated."""
    scripts = "".join(file.read_text(encoding="utf-8") for file in WEB.glob("static/*.js"))
    # A long text has several lines.
    used = set(re.findall(r'\bt\(\s*"([^"]+)"', re.sub(r'"\s*\+ "', "", scripts)))
    with create_app(config_with(), client).test_request_context():
        for name, coupon_id in (("coupons", None), ("coupon", "A"), ("system", None)):
            render_template(f"{name}.html", t=lambda text: used.add(text) or text, texts={},
                            name=name, coupon_id=coupon_id)
    return used


def refused_texts():
    """What the API says at the fields of a registration."""
    good = {"couponId": "A", "quantity": 1}
    for wrong in (
        *({"couponId": couponId} for couponId in ("", "A b", "request", "..", "x" * 65)),
        *({"quantity": quantity} for quantity in (0, 10**9 + 1, 1.5)),
        *({"closesAt": at} for at in ("+012345-01-01T00:00:00.000Z", "1960-01-01T00:00:00.000Z")),
    ):
        [texts] = RegisterSchema().validate({**good, **wrong}).values()
        yield from texts


def test_every_text_has_its_korean_and_no_korean_is_left_over(fake_client):
    used, korean = {*used_texts(fake_client), *refused_texts()}, set(pages.TEXTS["ko"])
    # Another refusal is said in English as the API says it, and in Korean by its code.
    assert used <= korean <= used | set(STATUS)


def test_placeholders_are_the_same_in_korean():
    for text, korean in pages.TEXTS["ko"].items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", korean)), text


@pytest.mark.parametrize("query", ["", "?coupon=A", "?system"])
@pytest.mark.parametrize("language, expected", [("ko-KR,ko;q=0.9", "ko"), ("fr, en;q=0.5", "en")])
def test_page_is_in_the_language_of_the_browser(get, query, language, expected):
    page = get(f"/admin{query}", language)
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    assert f'<html lang="{expected}"' in page.text
    assert "Accept-Language" in page.headers["Vary"]
    assert page.headers["Cache-Control"] == "no-store"


def test_page_is_framed_by_nobody_and_runs_only_scripts_of_this_host(get):
    page = get("/admin")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert not re.findall(r"<style|style=|\bon\w+=|https?://", page.text)


def test_id_in_the_query_is_text(get):
    assert "<script>" not in get("/admin?coupon=<script>alert(1)</script>").text


def test_browser_is_asked_for_the_password(get):
    refused = get("/admin", password="wrong")
    assert refused.status_code == 401
    # Chromium looks at the first challenge only.
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")


def test_root_leads_to_the_dashboard(get, fake_client):
    assert get("/").headers["Location"] == "/admin"
    without_token = create_app(config_with(), fake_client).test_client().get("/")
    assert without_token.json["openapi"] == "/api/openapi.json"
