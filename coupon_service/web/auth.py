"""Administrators are recognised by the admin token, and users by theirs, if they have one."""

import hmac

from flask import current_app, request

from coupon_service.errors import AdminDisabled, Unauthorized, WrongUser
from coupon_service.web.user_tokens import UserTokens


def require_admin() -> None:
    """Let the request pass if it carries the admin token, as Bearer token or Basic password.

    The preflight of a browser passes too: it never carries a token, and reads nothing.

    Raises:
        AdminDisabled: there is no admin token.
        Unauthorized: the request does not carry it.
    """
    if request.method == "OPTIONS":
        return
    if not _token():
        raise AdminDisabled("no COUPON_ADMIN_TOKEN is set, so nobody may do this")
    if not _is_admin():
        raise Unauthorized("the admin token is missing or wrong")


def require_admin_if_set() -> None:
    """As `require_admin`, but let every request pass while there is no admin token."""
    if _token():
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
