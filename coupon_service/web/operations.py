"""What the OpenAPI document says of each call beside its route, docstring and schemas."""

from typing import Any, NamedTuple

from marshmallow import Schema

from coupon_service.admin.dead_letters import DEAD_LETTER
from coupon_service.keys import NEW_COUPON_ID, NEW_USER_ID
from coupon_service.web import admin_answers, answers, dashboard_answers, schemas

#: HTTP status of the codes that are not in `problems.STATUS`: those of the framework.
FRAMEWORK = {
    "bad_request": 400, "malformed_json": 400, "not_found": 404, "method_not_allowed": 405,
    "request_entity_too_large": 413, "unsupported_media_type": 415, "invalid_request": 422,
    "internal_server_error": 500, "metrics_not_installed": 501, "docs_not_installed": 501,
}
#: Codes that every call can have.
EVERYWHERE = ("method_not_allowed", "internal_server_error")
_STORED = ("unavailable", "misconfigured", "corrupt_data")
_BODY = (
    "bad_request", "malformed_json", "request_entity_too_large", "unsupported_media_type",
    "invalid_request",
)
_ADMIN_CODES = ("unauthorized", "admin_disabled", "cross_site")
_USER_CODES = ("token_missing", "token_expired", "invalid_token", "wrong_user")
_ADMIN: list[dict[str, list[str]]] = [{"admin": []}, {"adminPassword": []}]
_USER: list[dict[str, list[str]]] = [{}, {"user": []}]


class Operation(NamedTuple):
    """What the route and the docstring of a view do not say."""

    answer: type[Schema] | None
    codes: tuple[str, ...] = ()
    security: list[dict[str, list[str]]] = []
    query: type[Schema] | None = None
    body: type[Schema] | None = None
    #: Headers of the answer 200, by their name in `HEADERS`.
    headers: tuple[str, ...] = ()


def _admin(answer: type[Schema], *codes: str, query: type[Schema] | None = None) -> Operation:
    codes += (*_STORED, *_ADMIN_CODES, *(["invalid_request"] if query else []))
    return Operation(answer, codes, _ADMIN, query)


#: The operations by endpoint.
OPERATIONS = {
    "api.register": Operation(
        answers.Registered, ("quantity_too_low", "being_removed", "invalid_window", "unauthorized",
                             "cross_site", *_STORED, *_BODY),
        [{}, *_ADMIN], body=schemas.RegisterSchema,
    ),
    "api.request_coupon": Operation(
        answers.Accepted, ("sold_out", "duplicate", "not_open", "closed", "unknown_coupon",
                           *_USER_CODES, *_STORED, *_BODY), _USER, body=schemas.RequestSchema,
        headers=("Location",),
    ),
    "api.user": Operation(
        answers.RequestStatus, ("not_requested", "unknown_coupon", *_USER_CODES, *_STORED),
        [*_USER, *_ADMIN], headers=("Retry-After",),
    ),
    "api.snapshot": Operation(answers.Numbers, ("unknown_coupon", *_STORED),
                              headers=("Cache-Control",)),
    "admin.coupons": _admin(admin_answers.CouponsPage, query=schemas.CouponsSchema),
    "admin.statistics": _admin(admin_answers.Statistics, "unknown_coupon"),
    "admin.close": _admin(admin_answers.CouponClosed, "unknown_coupon"),
    "admin.delete": _admin(admin_answers.CouponDeleted, "unknown_coupon"),
    "admin.cancel": _admin(admin_answers.RequestCancelled, "unknown_coupon", "not_requested",
                           query=schemas.CancelSchema),
    "admin.issuances": _admin(admin_answers.IssuancesPage, "unknown_coupon",
                              query=schemas.IssuancesSchema),
    "admin.held_by": _admin(admin_answers.HeldByUser),
    "admin.dead_letters": _admin(admin_answers.DeadLettersPage, query=schemas.DeadLettersSchema),
    "admin.retry": _admin(admin_answers.Retried, "not_pending", "unknown_dead_letter"),
    "admin.discard": _admin(admin_answers.Discarded, "unknown_dead_letter"),
    "dashboard.overview": _admin(dashboard_answers.Overview, query=schemas.DashboardSchema),
    "dashboard.coupon": _admin(dashboard_answers.CouponOverview, "unknown_coupon"),
    "dashboard.system": _admin(dashboard_answers.System),
    "metrics.scrape": Operation(None, ("unauthorized", "metrics_not_installed"), [{}, *_ADMIN]),
    "health.alive": Operation(answers.Alive),
    "health.ready": Operation(answers.Ready, ("unavailable",)),
    "api_docs.document": Operation(Schema),
}
#: Headers of answers: what they say, and their schema.
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "X-Request-ID": ("the id that the client has sent, or a new one", {"type": "string"}),
    "Location": ("where the status of the request is", {"type": "string"}),
    "Retry-After": ("seconds after which to ask again", {"type": "string", "pattern": "^[0-9]+$"}),
    "Cache-Control": ("the numbers may be kept for a second", {"type": "string"}),
    "Link": ("the next page, if there is one (RFC 8288)", {"type": "string"}),
    "ETag": ("for If-None-Match", {"type": "string"}),
    "WWW-Authenticate": ("what is asked for", {"type": "string"}),
    "Allow": ("the methods that there are", {"type": "string"}),
}
#: The headers that problems of a status or a code have beside X-Request-ID.
OF_PROBLEMS = {401: "WWW-Authenticate", 405: "Allow", 503: "Retry-After", 409: "Retry-After"}
#: What the answer of an endpoint gives to other operations: their names, and where the ids are.
LINKS: dict[str, tuple[str, dict[str, str]]] = {
    "api.register": (
        "snapshot statistics close issuances delete", {"couponId": "$request.body#/couponId"},
    ),
    "api.request_coupon": ("user cancel", {"couponId": "$response.body#/couponId",
                                           "userId": "$response.body#/userId"}),
    "admin.cancel": ("held_by", {"userId": "$response.body#/userId"}),
    "admin.dead_letters": ("retry discard", {
        "deadLetter": "$response.body#/deadLetters/0/deadLetter",
    }),
}
#: Ids in paths by the argument of the view: name, pattern and an example.
IDS = {
    "coupon_id": ("couponId", NEW_COUPON_ID, "SPRING2025"),
    "user_id": ("userId", NEW_USER_ID, "user123"),
    "name": ("deadLetter", DEAD_LETTER, "0:1763802767201-0"),
}
#: How callers say who they are.
SECURITY = {
    "admin": {"type": "http", "scheme": "bearer", "description": "COUPON_ADMIN_TOKEN"},
    "adminPassword": {"type": "http", "scheme": "basic",
                      "description": "COUPON_ADMIN_TOKEN is the password, of any user"},
    "user": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
             "description": "needed where COUPON_USER_KEY is set: its sub is the user"},
}
