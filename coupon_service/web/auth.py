"""Administrators are recognised by the admin token."""

import hmac

from flask import current_app, request

from coupon_service.errors import AdminDisabled, Unauthorized


def require_admin() -> None:
    """Let the request pass if it carries the admin token, as Bearer token or Basic password.

    Raises:
        AdminDisabled: there is no admin token.
        Unauthorized: the request does not carry it.
    """
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
    given = request.authorization
    if given is None:
        return ""
    return {"bearer": given.token, "basic": given.password}.get(given.type) or ""
