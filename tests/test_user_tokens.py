"""Who is asking: with COUPON_USER_KEY set, the token says it. Both ways of a request say the same.
"""

import base64
import hashlib
import hmac
import json
import sys
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from coupon_service.errors import ConfigError, CouponError
from coupon_service.scripts import Registration
from coupon_service.web import fast_path
from coupon_service.web.app import create_app
from coupon_service.web.user_tokens import LEEWAY, UserTokens
from tests.state import config_with, coupons_on, everything

SECRET = "a secret of at least 32 characters"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
REQUEST = "/api/coupons/request"


def public(private):
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def private_pem(private):
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def token(key=SECRET, algorithm="HS256", **claims):
    claims = {"sub": "u", "exp": int(time.time()) + 3600, **claims}
    return jwt.encode({n: v for n, v in claims.items() if v is not None}, key, algorithm)


def forged(header, claims, secret, more=b""):
    """A token that PyJWT refuses to make; `more` follows its claims, and is signed too."""
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims).encode()) + more
    signature = hmac.digest(secret.encode(), signed, hashlib.sha256) if secret else b""
    return (signed + b"." + part(signature)).decode()


@pytest.fixture(params=["fast path", "Flask"])
def service(request, fake_client):
    """Make a client of a service with the settings given; coupon A is registered."""
    coupons_on(fake_client).register(Registration("A", 9))

    def make(**settings):
        app = create_app(config_with(**{"user_key": SECRET, **settings}), fake_client)
        if request.param == "Flask":
            return Client(app)
        fast = fast_path.put_before(app)
        assert isinstance(fast, fast_path.FastPath)
        return Client(fast)

    return make


def ask(http, given=None, **body):
    headers = {} if given is None else {"Authorization": given}
    return http.post(REQUEST, json={"couponId": "A", **body}, headers=headers)


def status(http, given=None, user="u"):
    headers = {} if given is None else {"Authorization": given}
    return http.get(f"/api/coupons/A/users/{user}", headers=headers)


EXPIRED = {"exp": int(time.time()) - LEEWAY - 60}
LATER = {"nbf": int(time.time()) + LEEWAY + 3600}
ATTACKS = {
    "none": ({}, None, "token_missing"),
    "not a bearer token": ({}, "Basic dTp1", "token_missing"),
    "empty": ({}, "Bearer ", "token_missing"),
    "expired": ({}, token(**EXPIRED), "token_expired"),
    "not yet valid": ({}, token(**LATER), "invalid_token"),
    "without exp": ({}, token(exp=None), "invalid_token"),
    "exp is no number": ({}, forged({"alg": "HS256"}, {"sub": "u", "exp": "x"}, SECRET),
                         "invalid_token"),
    "exp is enormous": ({}, forged({"alg": "HS256"}, {"sub": "u", "exp": 1e300}, SECRET), None),
    "exp is infinite": ({}, forged({"alg": "HS256"}, {"sub": "u", "exp": float("inf")}, SECRET),
                        "invalid_token"),
    "wrong key": ({}, token(SECRET + "!"), "invalid_token"),
    "alg none": ({}, forged({"alg": "none"}, {"sub": "u", "exp": 9e9}, ""), "invalid_token"),
    "alg none, signed": ({}, forged({"alg": "none"}, {"sub": "u", "exp": 9e9}, SECRET),
                         "invalid_token"),
    "another alg of the same key": ({}, token(SECRET * 2, "HS512"), "invalid_token"),
    "RS256 key as HS256 secret": (
        {"user_key": public(RSA)},
        forged({"alg": "HS256"}, {"sub": "u", "exp": 9e9}, public(RSA)), "invalid_token",
    ),
    "ES256 where RS256 is the key": ({"user_key": public(RSA)}, token(EC, "ES256"),
                                     "invalid_token"),
    "wrong audience": ({"user_audience": "coupons"}, token(aud="mail"), "invalid_token"),
    "no audience": ({"user_audience": "coupons"}, token(), "invalid_token"),
    "audience of another service": ({}, token(aud="mail"), "invalid_token"),
    "wrong issuer": ({"user_issuer": "https://id"}, token(iss="https://evil"), "invalid_token"),
    "no issuer": ({"user_issuer": "https://id"}, token(), "invalid_token"),
    "8 KB of rubbish": ({}, "x.y" * 2700, "invalid_token"),
    "8 KB of dots": ({}, "." * 8000, "invalid_token"),
    "not ASCII": ({}, "tökén", "invalid_token"),
    "deep JSON": ({}, base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.x", "invalid_token"),
    "header is a list": ({}, "W10.e30.x", "invalid_token"),
    "critical extension": ({}, forged({"alg": "HS256", "crit": ["x"], "x": 1},
                                      {"sub": "u", "exp": 9e9}, SECRET), "invalid_token"),
    "without sub": ({}, token(sub=None), "invalid_token"),
    "sub is a number": ({}, forged({"alg": "HS256"}, {"sub": 5, "exp": 9e9}, SECRET),
                        "invalid_token"),
    "sub is no userId": ({}, token(sub="../x"), "invalid_token"),
    "sub is empty": ({}, token(sub=""), "invalid_token"),
    "sub has a surrogate": ({}, token(sub="\ud800"), "invalid_token"),
    "admin token": ({"admin_token": "secret"}, "secret", "invalid_token"),
}


@pytest.mark.parametrize("settings, given, code", ATTACKS.values(), ids=ATTACKS)
def test_attack_is_refused_and_changes_nothing(service, fake_client, settings, given, code):
    http, before = service(**settings), everything(fake_client)
    if given is not None and " " not in given:
        given = f"Bearer {given}".encode().decode("latin-1")
    answer = ask(http, given, userId="u")
    if code is None:
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="user"' + (
        "" if code == "token_missing" else ', error="invalid_token"'
    )
    assert everything(fake_client) == before
    if given != "Bearer secret":
        answer = status(http, given)
        assert (answer.status_code, answer.json["code"]) == (401, code)


ORDINARY_HEAD = {"alg": "HS256", "typ": "JWT"}
NUMBERS = st.sampled_from([0, 1, -5, 5, 60, 3600]).map(lambda after: int(time.time()) + after) | (
    st.sampled_from(["x", 1e300, float("inf"), None, True, 9e9, -1, {}])
)
TEXTS = st.sampled_from(["u", "other", "", "../x", 5, None, ["u"], {"u": 1}])
ODD_CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "aud", "iss", "jti", "more"]), TEXTS, max_size=2
) | st.dictionaries(st.sampled_from(["exp", "iat", "nbf"]), NUMBERS, max_size=2)
HEADS = st.just(ORDINARY_HEAD) | st.sampled_from([
    {"typ": "JWT", "alg": "HS256"}, {"alg": "HS512"}, {"alg": "none"}, [],
    {"alg": "HS256", "crit": ["x"], "x": 1}, {"alg": "HS256", "kid": "1"},
])


def verdict(tokens, given):
    try:
        return tokens.user(f"Bearer {given}")
    except CouponError as error:
        return type(error)


@settings(max_examples=1000, deadline=None)
@given(
    st.sampled_from([{}, {}, {"user_audience": "u"}, {"user_issuer": "u"}]), HEADS, ODD_CLAIMS,
    st.sampled_from([SECRET] * 4 + [SECRET + "!", ""]), st.sampled_from([b""] * 4 + [b"!", b"="]),
    st.sampled_from([""] * 4 + ["=", ".", "A", "-", "!"]), st.data(),
)
def test_ordinary_tokens_get_the_verdict_of_pyjwt(config, head, odd, secret, more, put, data):
    claims = {"sub": "u", "exp": int(time.time()) + 3600, **odd}
    made = forged(head, claims, secret, more)
    at = data.draw(st.integers(0, len(made)))
    made = made[:at] + put + made[at + len(put) * data.draw(st.booleans()):]
    config = config_with(user_key=SECRET, **config)
    ours, pyjwt = UserTokens(config), UserTokens(config)
    ours._heads.add(forged(ORDINARY_HEAD, {}, "").partition(".")[0])
    pyjwt._ordinary = lambda given: None
    assert verdict(ours, made) == verdict(pyjwt, made)


def test_ordinary_token_is_verified_without_pyjwt(monkeypatch):
    tokens = UserTokens(config_with(user_key=SECRET))
    assert tokens.user(f"Bearer {token(sub='first')}") == "first"
    monkeypatch.setattr(tokens, "_any", None)
    assert tokens.user(f"Bearer {token(sub='second', iat=int(time.time()))}") == "second"


def test_sub_of_another_user_is_403(service, fake_client):
    http, before = service(), everything(fake_client)
    for answer in (ask(http, f"Bearer {token()}", userId="v"),
                   status(http, f"Bearer {token()}", "v")):
        assert (answer.status_code, answer.json["code"]) == (403, "wrong_user")
    assert everything(fake_client) == before


def test_sub_is_the_user_and_the_body_may_repeat_it(service):
    http = service()
    for body in ({}, {"userId": "u"}):
        answer = http.post(REQUEST, json={"couponId": "A", **body}, headers={
            "Authorization": f"bearer {token()}", "Idempotency-Key": "k",
        })
        assert (answer.status_code, answer.json["userId"]) == (200, "u")
    assert status(http, f"Bearer {token()}").json["status"] == "pending"


@pytest.mark.parametrize("body", [{"userId": None}, {"userId": ""}, {"userId": 5}, {"more": 1}])
def test_token_does_not_excuse_a_body_that_does_not_fit(service, body):
    answer = ask(service(), f"Bearer {token()}", **body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("key, algorithm", [(RSA, "RS256"), (EC, "ES256")])
@pytest.mark.parametrize("escaped", [False, True])
def test_pem_of_a_public_key_is_one_with_escaped_lines_too(service, key, algorithm, escaped):
    pem = public(key)
    http = service(user_key=pem.replace("\n", "\\n") if escaped else pem)
    assert ask(http, f"Bearer {token(key, algorithm)}").status_code == 200


def test_audience_and_issuer_that_fit_are_accepted(service):
    http = service(user_audience="coupons", user_issuer="https://id")
    given = token(aud=["mail", "coupons"], iss="https://id")
    assert ask(http, f"Bearer {given}").status_code == 200


def test_clocks_may_differ_a_little(service):
    http = service()
    now = int(time.time())
    for claims in ({"exp": now - 2}, {"nbf": now + 3, "sub": "v"}):
        assert ask(http, f"Bearer {token(**claims)}").status_code == 200


def test_token_that_was_valid_is_refused_once_it_has_expired(service, monkeypatch):
    http, given = service(), f"Bearer {token()}"
    assert ask(http, given).status_code == 200
    now = time.time()
    monkeypatch.setattr("coupon_service.web.user_tokens.time", lambda: now + 3600 + LEEWAY + 1)
    answer = ask(http, given)
    assert (answer.status_code, answer.json["code"]) == (401, "token_expired")


@pytest.mark.parametrize("given", ["Bearer secret", "Basic OnNlY3JldA=="])
def test_administrators_may_read_every_status(service, given):
    http = service(admin_token="secret")
    ask(http, f"Bearer {token()}")
    assert status(http, given).json["status"] == "pending"


def test_no_admin_token_makes_nobody_an_administrator(service):
    assert status(service(), "Bearer ").status_code == 401


def test_other_calls_need_no_token(service):
    assert service().get("/api/coupons/A").status_code == 200


def test_without_a_key_tokens_are_not_looked_at(service):
    http = service(user_key="")
    assert ask(http, "Bearer rubbish", userId="u").status_code == 200
    assert status(http).json["status"] == "pending"
    answer = ask(http, f"Bearer {token()}")
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["userId"])


SMALL_RSA = (
    "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf"
    "\n9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==\n-----END PUBLIC KEY-----"
)


@pytest.mark.parametrize(
    "key", ["short", "x" * 31, private_pem(RSA), private_pem(EC), SMALL_RSA,
            "-----BEGIN PUBLIC KEY-----\nrubbish\n-----END PUBLIC KEY-----",
            public(ec.generate_private_key(ec.SECP384R1()))],
    ids=["short", "31 bytes", "private RSA", "private EC", "RSA of 512 bits", "rubbish", "P-384"],
)
def test_key_that_cannot_be_used_is_one_line(fake_client, key):
    with pytest.raises(ConfigError, match="^COUPON_USER_KEY[^\n]*$") as raised:
        create_app(config_with(user_key=key), fake_client)
    assert key not in str(raised.value)


@pytest.mark.parametrize("settings", [{"user_audience": "a"}, {"user_issuer": "i"}])
def test_audience_or_issuer_without_a_key_is_one_line(fake_client, settings):
    """Otherwise a forgotten key would let everybody ask for anybody."""
    with pytest.raises(ConfigError, match="COUPON_USER_KEY"):
        create_app(config_with(**settings), fake_client)


def test_missing_extra_is_one_clear_line(fake_client, monkeypatch):
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(ConfigError, match="COUPON_USER_KEY needs PyJWT"):
        create_app(config_with(user_key=SECRET), fake_client)
