"""What every page shares: who looks at it, in which language, what a form must carry, how it is shown.

A page's function takes `Annotated[Page, Depends(page_for(Role.DESK))]`; one that changes something takes
`Annotated[Form, Depends(form_for(Role.ENGINEER))]`, whose token was checked. Pages without a login take
`Depends(visitor)` and `Depends(visitor_form)`.
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hmac import compare_digest
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from router.console.navigation import entries_for
from router.console.problems import NotSignedIn, RequestProblem
from router.console.settings import LONGEST_SESSION, Console
from router.console.words import LANGUAGES, accepted_language
from router.store.audit import Author
from router.store.errors import StoreError
from router.store.users import Role, Session, User, csrf_of, find_session, note_session

LANGUAGE_COOKIE = "edge911-language"
_YEAR = 365 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One request for a page, by somebody or (session None) by anybody."""

    console: Console
    request: Request
    language: str
    session: Session | None = None
    form_token: str = ""
    """Without a login: what binds a form to this browser, in a cookie."""

    @property
    def user(self) -> User:
        """Who is logged in. Raises NotSignedIn."""
        if self.session is None:
            raise NotSignedIn
        return self.session.user

    @property
    def author(self) -> Author:
        """The same, for the audit trail."""
        return Author(who=self.user.username, via="console")

    @property
    def csrf(self) -> str:
        """What a form on this page must carry."""
        return self.session.csrf if self.session is not None else csrf_of(self.form_token)

    @property
    def address(self) -> str:
        """Where the browser is, as far as it can be told."""
        return client_address(self.request)

    def may_see(self, site: str) -> bool:
        """True where the user sees this site; what is of no site, only those see who see all."""
        sites = self.user.sites
        return sites is None or site in sites

    def need_site(self, site: str) -> None:
        """Raise RequestProblem 404 for another's site: not even that it is there is told."""
        if not self.may_see(site):
            raise RequestProblem(404, "not-found")

    def say(self, key: str, /, **values: object) -> str:
        """A text in the language of this page."""
        return self.console.words.say(self.language, key, **values)

    def render(self, template: str, status: int = 200, /, **values: Any) -> Response:
        """The page."""
        user = self.session.user if self.session is not None else None
        path = self.request.url.path
        html = self.console.templates.get_template(template).render(
            page=self,
            user=user,
            t=partial(self.console.words.say, self.language),
            language=self.language,
            languages=LANGUAGES,
            csrf=self.csrf,
            path=path,
            entries=entries_for(self.request.app, user.role if user else None, path),
            node=self.console.config.node,
            can=self._can,
            **values,
        )
        response = HTMLResponse(html, status)
        if self.session is None:
            self._bind(response)
        return response

    def redirect(self, path: str) -> Response:
        """To another page of ours, after a form."""
        return RedirectResponse(local_path(path), 303)

    def _can(self, role: str) -> bool:
        return self.session is not None and self.session.user.role.covers(Role(role))

    def _bind(self, response: Response) -> None:
        if self.request.cookies.get(self.console.form_cookie) != self.form_token:
            set_cookie(self.console, response, self.console.form_cookie, self.form_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form that was sent: its page, its fields, its files."""

    page: Page
    values: Mapping[str, str]
    files: Mapping[str, UploadFile]

    def text(self, name: str) -> str:
        """A field without space around it; empty where it was not sent."""
        return self.values.get(name, "").strip()


def console_of(request: Request) -> Console:
    """The one of this application."""
    found: Console = request.app.state.console
    return found


def visitor(request: Request) -> Page:
    """The page for anybody, logged in or not. Raises StoreError where there is a cookie and no database."""
    console = console_of(request)
    token = _cookie(request)
    return _page(request, _session(console, token) if token else None)


def _visitor_without_database(request: Request) -> Page:
    """The same; while the database is away, a login counts that it knew a short while ago. Raises StoreError."""
    try:
        return visitor(request)
    except StoreError:
        console = console_of(request)
        session = console.logins.find(_cookie(request))
        if session is None or session.expires_at <= time.time():
            raise
        return _page(request, session)


def _cookie(request: Request) -> str:
    token = request.cookies.get(console_of(request).cookie, "")
    return token if 20 <= len(token) <= 100 else ""


def _page(request: Request, session: Session | None) -> Page:
    console = console_of(request)
    form_token = request.cookies.get(console.form_cookie, "")
    if not 20 <= len(form_token) <= 100:
        form_token = secrets.token_urlsafe(24)
    return Page(
        console=console,
        request=request,
        language=language_of(request, session),
        session=session,
        form_token=form_token,
    )


def page_for(role: Role, *, without_database: bool = False) -> Callable[..., Page]:
    """A dependency: the page for those who are logged in and may do what `role` may; `without_database`: also those
    whose login cannot be looked up now, and could a short while ago."""
    who = _visitor_without_database if without_database else visitor

    def page(found: Annotated[Page, Depends(who)]) -> Page:
        if not found.user.role.covers(role):
            raise RequestProblem(403, "role-too-low", found.say("error.role", role=found.say(f"role.{role}")))
        return found

    return page


def form_for(role: Role, *, without_database: bool = False) -> Callable[..., Form]:
    """A dependency: a form of theirs, sent from a page of ours."""
    who = page_for(role, without_database=without_database)

    def form(page: Annotated[Page, Depends(who)], sent: Annotated[dict[str, Any], Depends(_sent)]) -> Form:
        return _checked(page, sent)

    return form


async def _sent(request: Request) -> AsyncIterator[dict[str, Any]]:
    try:
        found = await request.form(max_files=4, max_fields=200)
    except MultiPartException as error:
        raise RequestProblem(400, "form-not-readable", str(error.message)) from None
    try:
        yield dict(found)
    finally:
        await found.close()


def visitor_form(page: Annotated[Page, Depends(visitor)], sent: Annotated[dict[str, Any], Depends(_sent)]) -> Form:
    """A form of anybody, sent from a page of ours."""
    return _checked(page, sent)


def _checked(page: Page, sent: Mapping[str, Any]) -> Form:
    values = {name: value for name, value in sent.items() if isinstance(value, str)}
    given = values.pop("csrf", "") or page.request.headers.get("x-csrf-token", "")
    if not compare_digest(given.encode(), page.csrf.encode()):
        raise RequestProblem(403, "form-token-wrong", page.say("error.form"))
    files = {name: value for name, value in sent.items() if isinstance(value, UploadFile)}
    return Form(page=page, values=values, files=files)


def _session(console: Console, token: str) -> Session | None:
    now = time.time()
    with console.store.reading() as conn:
        found = find_session(conn, token, now)
    console.logins.note(token, found[0] if found else None)
    if found is None:
        return None
    session, is_due = found
    if is_due:
        seconds = console.section.session_minutes * 60.0
        with console.store.writing() as conn:
            note_session(conn, token, now=now, seconds=seconds, longest=LONGEST_SESSION)
    return session


def language_of(request: Request, session: Session | None) -> str:
    """What was chosen in this browser, else by this user, else what the browser asks for."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    if session is not None and session.user.language in LANGUAGES:
        return session.user.language
    return accepted_language(request.headers.get("accept-language", ""))


def client_address(request: Request) -> str:
    """The browser's address; that of the peer, unless it is a proxy whose word counts."""
    console = console_of(request)
    peer = request.client.host if request.client else ""
    if peer and console.is_proxy(peer):
        for hop in reversed(request.headers.get("x-forwarded-for", "").split(",")):
            named = hop.strip()
            if named and not console.is_proxy(named):
                return named[:45]
    return peer


def local_path(path: str) -> str:
    """The path where it leads to a page of ours, else the first page: never to another site."""
    is_local = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if is_local and not urlsplit(path).netloc else "/"


def set_cookie(console: Console, response: Response, name: str, value: str, max_age: int | None = None) -> None:
    """A cookie of ours: no script reads it, no other site sends it along with a form."""
    response.set_cookie(
        name, value, max_age=max_age, path="/", secure=console.is_secure, httponly=True, samesite="lax"
    )


def set_language_cookie(console: Console, response: Response, language: str) -> None:
    """Remember what this browser reads."""
    set_cookie(console, response, LANGUAGE_COOKIE, language, _YEAR)


def moment(at: float | None) -> str:
    """A time for `<time datetime>`, in UTC; empty for none."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def moment_text(at: float | None) -> str:
    """The same for people without scripts."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else "—"
