"""Makes the OpenAPI document. `python -m coupon_service.web.openapi` writes what is served.

It is made from the routes, the docstrings, the schemas and web/operations.py. apispec is needed
to make it, and not to serve it.
"""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema

from coupon_service import __version__
from coupon_service.config import Config
from coupon_service.keys import REQUEST_ID
from coupon_service.web import admin_answers, answers, schemas
from coupon_service.web.api_docs import DOCUMENT
from coupon_service.web.app import create_app
from coupon_service.web.operations import (
    EVERYWHERE,
    FRAMEWORK,
    HEADERS,
    IDS,
    LINKS,
    OF_PROBLEMS,
    OPERATIONS,
    SECURITY,
    Operation,
)
from coupon_service.web.problems import PROBLEM_TYPE, STATUS, problem


def document() -> dict[str, Any]:
    """Return the OpenAPI document of this version."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec(
        "Coupon service", __version__, "3.1.0", plugins=[plugin], info={
            "description": "First-come-first-served coupons; docs/api.md is the contract in words. "
                           "HEAD is answered where GET is, OPTIONS everywhere.",
            "license": {"name": "MIT", "identifier": "MIT"},
        }, servers=[{"url": "/"}],
    )
    plugin.converter.add_attribute_function(  # type: ignore[union-attr]
        lambda _, field, **__: {"format": "date-time"} if isinstance(field, schemas.Instant) else {}
    )
    for name, scheme in SECURITY.items():
        spec.components.security_scheme(name, scheme)
    for name, (text, schema) in HEADERS.items():
        spec.components.header(name, {"description": text, "schema": schema})
    spec.components.schema("Problem", _problem_schema())
    spec.components.schema("Corrupt", schema=admin_answers.Corrupt)
    spec.components.schema("RegisteredMany", schema=answers.RegisteredMany)
    for path, method, operation in _operations(create_app(Config())):
        spec.path(path, operations={method: operation})
    made: dict[str, Any] = json.loads(json.dumps(spec.to_dict()), object_hook=_ecma)
    for name, schema in made["components"]["schemas"].items():
        if name != "Problem":
            schema["additionalProperties"] = False
    for name in ("CouponsPage", "Overview"):
        listed = made["components"]["schemas"][name]["properties"]["coupons"]
        listed["items"] = {"anyOf": [listed["items"], {"$ref": "#/components/schemas/Corrupt"}]}
    return made


def text() -> str:
    """Return the document as it is committed and served."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def _operations(app: Flask) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if rule.endpoint not in OPERATIONS:
            continue
        path = re.sub(r"<\w+:(\w+)>", lambda found: f"{{{IDS[found[1]][0]}}}", rule.rule)
        [method] = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        summary, _, description = (app.view_functions[rule.endpoint].__doc__ or "").partition("\n")
        its = OPERATIONS[rule.endpoint]
        codes = (*its.codes, *EVERYWHERE, *(["not_found"] if "<" in rule.rule else []))
        operation = {
            "operationId": rule.endpoint.partition(".")[2],
            "tags": [rule.endpoint.partition(".")[0]],
            "summary": summary.rstrip("."),
            "description": " ".join(description.split()),
            "parameters": list(_parameters(rule.arguments, its, rule.endpoint)),
            "responses": {"200": _success(rule.endpoint, its), **_problems(codes)},
            "security": its.security,
        }
        if its.body:
            operation["requestBody"] = _body(its.body)
        if rule.endpoint == "api.snapshot":
            operation["responses"]["304"] = {
                "description": "Nothing has changed", "headers": _refs("ETag", "Cache-Control"),
            }
        yield path, method.lower(), operation


def _parameters(ids: set[str], its: Operation, endpoint: str) -> Iterator[dict[str, Any]]:
    for argument in sorted(ids):
        name, pattern, example = IDS[argument]
        yield {"in": "path", "name": name, "required": True, "example": example,
               "schema": {"type": "string", "pattern": rf"(?:{pattern})\Z"}}
    if its.query:
        yield {"in": "query", "schema": its.query}
    names = {"api.request_coupon": "Idempotency-Key"}
    for name in filter(None, (names.get(endpoint), "X-Request-ID")):
        schema = {"type": "string"} if name == "X-Request-ID" else {
            "type": "string", "pattern": rf"{REQUEST_ID}\Z",
        }
        yield {"in": "header", "name": name, "schema": schema, "required": False}


def _body(schema: type[Schema]) -> dict[str, Any]:
    shown: Any = schema
    example: dict[str, Any] = {"couponId": "SPRING2025", "userId": "user123"}
    if schema is schemas.RegisterSchema:
        shown = {"oneOf": [schema, {"type": "array", "items": schema, "minItems": 1,
                                    "maxItems": schemas.MAX_REGISTRATIONS}]}
        example = {"couponId": "SPRING2025", "quantity": 1000,
                   "opensAt": "2026-11-22T09:00:00Z"}
    return {"required": True,
            "content": {"application/json": {"schema": shown, "example": example}}}


def _success(endpoint: str, its: Operation) -> dict[str, Any]:
    shown: Any = its.answer
    content = {"application/json": {"schema": shown}}
    if its.answer is None:
        content = {kind: {"schema": {"type": "string"}}
                   for kind in ("text/plain", "application/openmetrics-text")}
    elif its.answer is Schema:
        content = {"application/json": {"schema": {"type": "object"}}}
    elif its.answer is answers.Registered:
        shown = {"oneOf": [its.answer, answers.RegisteredMany]}
        content = {"application/json": {"schema": shown}}
    elif its.answer is admin_answers.IssuancesPage:
        content["text/csv"] = {"schema": {"type": "string"}}
    headers = [*its.headers, "X-Request-ID"]
    if its.query and its.answer and "next" in its.answer._declared_fields:
        headers.append("Link")
    if endpoint == "api.snapshot":
        headers.append("ETag")
    names, ids = LINKS.get(endpoint, ("", {}))
    links = {name: {"operationId": name, "parameters": ids} for name in names.split()}
    if endpoint == "api.register":
        links["request_coupon"] = {"operationId": "request_coupon", "requestBody": {
            "couponId": "$request.body#/couponId", "userId": "user123",
        }}
    made = {"description": "Done", "headers": _refs(*headers), "content": content}
    return {**made, "links": links} if links else made


def _problems(codes: tuple[str, ...]) -> dict[str, Any]:
    statuses = {**STATUS, **FRAMEWORK}
    made = {}
    for status in sorted({statuses[code] for code in codes}):
        its = [code for code in codes if statuses[code] == status]
        made[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "headers": _refs("X-Request-ID", *filter(None, [OF_PROBLEMS.get(status)])),
            "content": {PROBLEM_TYPE: {
                "schema": {"allOf": [
                    {"$ref": "#/components/schemas/Problem"},
                    {"type": "object",
                     "properties": {"code": {"type": "string", "enum": its}}},
                ]},
                "examples": {
                    code: {"value": problem(status, code, "a sentence for people")} for code in its
                },
            }},
        }
    return made


def _refs(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object", "description": "RFC 9457; code is stable",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {"type": text, "title": text, "status": {"type": "integer"}, "code": text,
                       "detail": text},
    }


def _name(schema: Any) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return {"RegisterSchema": "Registration"}.get(kind.__name__, kind.__name__.removesuffix(
        "Schema"
    ))


def _ecma(node: dict[str, Any]) -> dict[str, Any]:
    r"""Turn a pattern that Python matches from the beginning to \Z into one of ECMA-262, and leave
    out the empty default of what may be left out: it does not match."""
    if node.get("default") == "":
        del node["default"]
    if isinstance(node.get("pattern"), str) and r"\Z" in node["pattern"]:
        pattern = re.sub(r"\\ud800-\\udfff", "", node["pattern"])  # which no JSON text carries
        pattern = pattern.removesuffix(r"\Z").replace(r"\Z", "$")
        node["pattern"] = f"^{pattern}$"
    return node


if __name__ == "__main__":
    DOCUMENT.write_text(text(), encoding="utf-8")
