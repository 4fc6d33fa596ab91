"""The pages of the dashboard. They have no data: a script of theirs polls web/dashboard.py.

All are at one path, because a browser sends the password that it was given there to everything
below the same folder: so also to the API, which the scripts call.
"""

import json
from pathlib import Path

from flask import (
    Blueprint,
    Response,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response as BaseResponse

from coupon_service.web.auth import has_admin_token, require_admin

pages = Blueprint(
    "pages", __name__, template_folder="templates", static_folder="static",
    static_url_path="/admin/static",
)

#: Languages beside English: each text of the pages, and what it is there.
TEXTS: dict[str, dict[str, str]] = {
    "en": {},
    "ko": json.loads(Path(__file__).with_name("ko.json").read_text(encoding="utf-8")),
}
_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@pages.get("/")
def root() -> BaseResponse:
    """Lead to the dashboard; while there is no admin token, say where the API is described."""
    if has_admin_token():
        return redirect(url_for("pages.dashboard"))
    return jsonify(
        message="set COUPON_ADMIN_TOKEN for the dashboard", dashboard=url_for("pages.dashboard"),
        openapi=url_for("api_docs.document"), docs=url_for("api_docs.page"),
    )


@pages.get("/admin")
def dashboard() -> Response:
    """Show all coupons, the one that the query names, or the system."""
    require_admin()
    name = next((name for name in ("coupon", "system") if name in request.args), "coupons")
    language = request.accept_languages.best_match(TEXTS, "en")
    texts = TEXTS[language]
    page = render_template(
        f"{name}.html", t=lambda text: texts.get(text, text), texts=texts, language=language,
        name=name, coupon_id=request.args.get("coupon"), root=request.root_path,
    )
    response = make_response(page)
    response.headers["Content-Security-Policy"] = _POLICY
    response.vary.add("Accept-Language")
    return response
