"""Administrators are recognised by the admin token."""

import hmac

from flask import current_app, request

from coupon_service.errors import AdminDisabled, Unauthorized


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
    # In constant time, so that a wrong token reveals nothing of the right one.
    if not hmac.compare_digest(_presented().encode("utf-8", "surrogatepass"), _token().encode()):
        raise Unauthorized("the admin token is missing or wrong")


def require_admin_if_set() -> None:
    """As `require_admin`, but let every request pass while there is no admin token."""
    if _token():
        require_admin()


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
