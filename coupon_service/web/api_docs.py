"""The OpenAPI document, and a page on which people can try what it describes.

The page is Swagger UI, whose assets come from the extra `docs`: nothing is from another host.
"""

from importlib.util import find_spec
from pathlib import Path

from flask import Blueprint, Response, current_app, send_from_directory
from werkzeug.exceptions import NotImplemented

api_docs = Blueprint("api_docs", __name__, url_prefix="/api")

#: The committed document; see web/openapi.py.
DOCUMENT = Path(__file__).with_name("openapi.json")
#: Icons of Swagger UI are data: URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>coupon-service API</title>
<link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body></html>
"""
_START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true});\n'


class DocsNotInstalled(NotImplemented):
    """Raised when the page is asked for, and the package with its assets is not installed."""

    code_word = "docs_not_installed"


@api_docs.get("/openapi.json")
def document() -> Response:
    """Read this document."""
    return current_app.response_class(DOCUMENT.read_bytes(), mimetype="application/json")


@api_docs.get("/docs")
def page() -> Response:
    """Show the document as a page."""
    _assets()
    response = current_app.response_class(_PAGE, mimetype="text/html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


@api_docs.get("/docs/start.js")
def start() -> Response:
    """Start the page: a file of its own, because its policy allows no script inside it."""
    return current_app.response_class(_START, mimetype="text/javascript")


@api_docs.get("/docs/<any('swagger-ui.css', 'swagger-ui-bundle.js'):name>")
def asset(name: str) -> Response:
    """Send an asset of the page."""
    return send_from_directory(_assets(), name)


def _assets() -> Path:
    package = find_spec("flask_swagger_ui")
    if package is None or package.origin is None:
        raise DocsNotInstalled("the page needs Swagger UI: pip install flask-swagger-ui")
    return Path(package.origin).with_name("dist")
