"""The application: every page and endpoint, put together. `create_app` is also what the tests start."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException

from config.load import LoadedConfig
from e911.attachment import mac_text
from router.console import (
    acknowledge_page,
    api_bulk,
    api_calls,
    api_devices,
    api_docs,
    api_places,
    api_users,
    api_wiremap,
    audit_page,
    calls_page,
    contacts_page,
    elins_page,
    evidence_page,
    import_page,
    live_page,
    locations_page,
    oidc,
    readiness_page,
    sheet_page,
    sign_in,
    sites_page,
    status_page,
    tests_page,
    trunks_page,
    unlocated,
    users_page,
    where_page,
    wiremap_page,
)
from router.console.guard import Guard
from router.console.pages import Page, language_of, moment, moment_text, visitor
from router.console.problems import FieldProblem, NotSignedIn, RequestProblem
from router.console.rate import Rates
from router.console.settings import Console, Store
from router.console.words import Words
from router.process.printable import visible
from router.store.errors import StoreError

_HERE = Path(__file__).parent

PAGES: tuple[APIRouter, ...] = (
    acknowledge_page.router,
    sign_in.router,
    live_page.router,
    readiness_page.router,
    evidence_page.router,
    status_page.router,
    tests_page.router,
    calls_page.router,
    oidc.router,
    locations_page.router,
    import_page.router,
    sites_page.router,
    trunks_page.router,
    contacts_page.router,
    audit_page.router,
    users_page.router,
    elins_page.router,
    sheet_page.router,
    unlocated.router,
    where_page.router,
    wiremap_page.router,
)
"""Pages for people, in no particular order. Add yours here; its entry in the menu is in navigation.py."""
ENDPOINTS: tuple[APIRouter, ...] = (
    api_bulk.endpoints,
    api_devices.endpoints,
    api_places.endpoints,
    api_wiremap.endpoints,
    api_calls.endpoints,
    calls_page.endpoints,
    live_page.endpoints,
    readiness_page.endpoints,
    tests_page.endpoints,
    audit_page.endpoints,
    api_users.endpoints,
    elins_page.endpoints,
    unlocated.endpoints,
)
"""Parts of the REST API; each has a path below /api/v1."""


def make_console(loaded: LoadedConfig, state_directory: Path | None = None) -> Console:
    """What the pages work with. Opens nothing yet. The configuration must have a `console`."""
    section = loaded.config.console
    assert section is not None
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
    )
    templates.filters |= {"moment": moment, "moment_text": moment_text, "mac": mac_text}
    return Console(
        loaded=loaded,
        section=section,
        store=Store(loaded.database_url),
        state_directory=state_directory or loaded.state_directory,
        words=Words(),
        templates=templates,
        rates=Rates(section.api_requests_per_minute),
    )


def create_app(console: Console) -> FastAPI:
    """The ASGI application of a console."""
    app = FastAPI(
        title="edge911",
        version="1",
        summary="Registered devices, sites, calls, trunks and users of an edge911 router",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.console = console
    for part in (*PAGES, *ENDPOINTS, api_docs.router):
        app.include_router(part)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    app.state.paths = frozenset(
        path for part in PAGES for route in part.routes if (path := getattr(route, "path", ""))
    )
    app.add_middleware(Guard, console=console)
    handlers: dict[Any, Any] = {
        NotSignedIn: _sign_in_first,
        RequestProblem: _problem,
        StoreError: _without_database,
        HTTPException: _http_error,
        RequestValidationError: _bad_values,
        Exception: _fault,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    return app


def _sign_in_first(request: Request, _error: Exception) -> Response:
    if request.method != "GET":
        return _shown(request, RequestProblem(401, "not-signed-in"))
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(wanted, safe='/')}" if wanted != "/" else "/login", 303)


def _problem(request: Request, error: RequestProblem) -> Response:
    return _shown(request, error)


def _without_database(request: Request, error: StoreError) -> Response:
    return _shown(request, RequestProblem(503, error.reason, error.remedy, headers={"Retry-After": "5"}))


def _http_error(request: Request, error: HTTPException) -> Response:
    names = {404: "not-found", 405: "method-not-allowed"}
    headers = dict(error.headers or {})
    return _shown(
        request, RequestProblem(error.status_code, names.get(error.status_code, "http-error"), headers=headers)
    )


def _bad_values(request: Request, error: RequestValidationError) -> Response:
    fields = [
        FieldProblem(field=".".join(str(step) for step in item["loc"][1:]) or "body", message=str(item["msg"]))
        for item in error.errors()[:50]
    ]
    return _shown(request, RequestProblem(422, "values-wrong", fields=fields))


def _fault(request: Request, _error: Exception) -> Response:
    return _shown(request, RequestProblem(500, "fault"))


def _shown(request: Request, problem: RequestProblem) -> Response:
    if request.url.path.startswith("/api/"):
        return problem.as_response()
    try:
        page = visitor(request)
    except StoreError:  # then nobody is logged in, as far as this page goes
        console: Console = request.app.state.console
        page = Page(console=console, request=request, language=language_of(request, None))
    response = page.render("error.html", problem.status, problem=problem)
    response.headers.update(problem.headers)
    return response
