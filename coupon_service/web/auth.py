"""Administrators are recognised by the admin token, and users by theirs, if they have one."""

import hmac
from urllib.parse import urlsplit

from flask import current_app, request

from coupon_service.errors import AdminDisabled, CrossSite, Unauthorized, WrongUser
from coupon_service.web.user_tokens import UserTokens


def require_admin() -> None:
    """Let the request pass if it carries the admin token, as Bearer token or Basic password.

    The preflight of a browser passes too: it never carries a token, and reads nothing.

    Raises:
        AdminDisabled: there is no admin token.
        Unauthorized: the request does not carry it.
        CrossSite: it would change something, and the page of another site made a browser send it.
    """
    if request.method == "OPTIONS":
        return
    if not _token():
        raise AdminDisabled("no COUPON_ADMIN_TOKEN is set, so nobody may do this")
    if not _is_admin():
        raise Unauthorized("the admin token is missing or wrong")
    if request.method not in ("GET", "HEAD") and _is_basic() and _is_cross_site():
        raise CrossSite("a page of another site may change nothing with the password of a browser")


def has_admin_token() -> bool:
    """Return whether there is an admin token, so that administrators can be recognised."""
    return bool(_token())


def require_admin_if_set() -> None:
    """As `require_admin`, but let every request pass while there is no admin token."""
    if has_admin_token():
        require_admin()


def token_user() -> str | None:
    """Return who is asking; None if users have no tokens.

    Raises:
        InvalidToken: they have, and that of the request is missing or not valid.
    """
    tokens: UserTokens | None = current_app.user_tokens  # type: ignore[attr-defined]
    return None if tokens is None else tokens.user(request.headers.get("Authorization", ""))


def require_user(user_id: str) -> None:
    """Let the request pass if this user, an administrator, or one without tokens sends it.

    Raises:
        InvalidToken: the token is missing or not valid.
        WrongUser: it is that of another user.
    """
    if _token() and _is_admin():
        return
    if token_user() not in (None, user_id):
        raise WrongUser("the token is that of another user")


def _is_basic() -> bool:
    # A browser adds no Bearer token by itself, so the page that sends one knows it.
    return request.headers.get("Authorization", "").lower().startswith("basic ")


def _is_cross_site() -> bool:
    """Whether a browser says that a page of another origin makes the request."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    # Without TLS browsers send no Sec-Fetch-Site, but an Origin with each POST and DELETE.
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.host


def _is_admin() -> bool:
    # In constant time, so that a wrong token reveals nothing of the right one.
    return hmac.compare_digest(_presented().encode("utf-8", "surrogatepass"), _token().encode())


def _token() -> str:
    token: str = current_app.extensions["coupon_service"].config.admin_token
    return token


def _presented() -> str:
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        # Werkzeug would take a token with a "=" in it for a list of parameters.
        return rest.strip(" ")
    given = request.authorization
    return (given.password or "") if given and given.type == "basic" else ""
