"""Login, logout, language, and one's own password."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import RedirectResponse, Response

from router.console.failed_logins import record_failed_login
from router.console.known_browsers import mark_known, note_failed_login, note_login, wait_for_login
from router.console.navigation import first_page
from router.console.pages import (
    Form,
    Page,
    form_for,
    local_path,
    page_for,
    set_cookie,
    set_language_cookie,
    visitor,
    visitor_form,
)
from router.console.passwords import BusyError, hash_password, is_outdated, is_password
from router.console.problems import RequestProblem
from router.console.words import LANGUAGES
from router.store.audit import record_change
from router.store.users import (
    MAX_PASSWORD,
    Role,
    User,
    UserError,
    begin_session,
    check_new_password,
    end_session,
    get_user,
    password_hash_of,
    refresh_password_hash,
    set_language,
    set_password_hash,
)

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(page: Annotated[Page, Depends(page_for(Role.VIEWER))]) -> Response:
    """The first page there is."""
    return RedirectResponse(first_page(page.request.app), 303)


@router.get("/login")
def login_page(page: Annotated[Page, Depends(visitor)], next: str = "/") -> Response:  # noqa: A002 (as in the URL)
    """The login form; those who are logged in go on."""
    if page.session is not None:
        return page.redirect(next)
    return page.render("login.html", next=local_path(next), problem="", username="", oidc=page.console.section.oidc)


@router.post("/login")
def login(form: Annotated[Form, Depends(visitor_form)]) -> Response:
    """Try a name and a password. A login begins a new session: none that was there before is taken over."""
    page = form.page
    username = form.text("username").lower()[:100]
    password = form.values.get("password", "")
    if wait := wait_for_login(page, username):
        answer = _refused(form, 429, page.say("login.too_many", seconds=int(wait) + 1))
        answer.headers["Retry-After"] = str(int(wait) + 1)
        return answer
    user = _authenticated(page, username, password)
    if user is None:
        note_failed_login(page, username)
        record_failed_login(page, username, "wrong-password")
        return _refused(form, 401, page.say("login.wrong"))
    note_login(page, username)
    response = signed_in(page, user, form.values.get("next", "/"))
    mark_known(page, response, username)
    return response


def _authenticated(page: Page, username: str, password: str) -> User | None:
    with page.console.store.reading() as conn:
        user, password_hash = get_user(conn, username), password_hash_of(conn, username)
    try:
        is_right = len(password) <= MAX_PASSWORD and is_password(password, password_hash)
    except BusyError:
        raise RequestProblem(503, "logins-busy", page.say("login.busy")) from None
    if user is None or not is_right:
        return None
    if is_outdated(password_hash):
        with page.console.store.writing() as conn:
            refresh_password_hash(conn, user.username, hash_password(password))
    return user


def _refused(form: Form, status: int, problem: str) -> Response:
    page = form.page
    return page.render(
        "login.html",
        status,
        next=local_path(form.values.get("next", "/")),
        problem=problem,
        username=form.text("username")[:100],
        oidc=page.console.section.oidc,
    )


def signed_in(page: Page, user: User, path: str) -> Response:
    """Begin a session, end the one that this browser had, and go on."""
    console = page.console
    now, seconds = time.time(), console.section.session_minutes * 60.0
    with console.store.writing() as conn:
        if page.session is not None:
            end_session(conn, page.session.token)
            console.logins.note(page.session.token, None)
        session = begin_session(conn, user, address=page.address, now=now, seconds=seconds)
        record_change(
            conn, user.username, "login", f"user:{user.username}", None, {"from": page.address}, via="console"
        )
    response = page.redirect(path)
    set_cookie(console, response, console.cookie, session.token)
    response.delete_cookie(console.form_cookie, path="/", secure=console.is_secure, httponly=True, samesite="lax")
    return response


@router.post("/logout")
def logout(form: Annotated[Form, Depends(form_for(Role.VIEWER))]) -> Response:
    """End the session."""
    page = form.page
    if page.session is not None:
        with page.console.store.writing() as conn:
            end_session(conn, page.session.token)
        page.console.logins.note(page.session.token, None)
    response = page.redirect("/login")
    response.delete_cookie(
        page.console.cookie, path="/", secure=page.console.is_secure, httponly=True, samesite="lax"
    )
    return response


@router.post("/language")
def language(form: Annotated[Form, Depends(visitor_form)]) -> Response:
    """Read the console in another language from now on, in this browser and with this user."""
    page, chosen = form.page, form.text("language")
    response = page.redirect(form.values.get("next", "/"))
    if chosen in LANGUAGES:
        set_language_cookie(page.console, response, chosen)
        if page.session is not None:
            with page.console.store.writing() as conn:
                set_language(conn, page.session.user.username, chosen)
    return response


@router.get("/account")
def account(page: Annotated[Page, Depends(page_for(Role.VIEWER))]) -> Response:
    """One's own account."""
    return page.render("account.html", problem="")


@router.post("/account")
def change_password(form: Annotated[Form, Depends(form_for(Role.VIEWER))]) -> Response:
    """Change one's own password; every session of it ends."""
    page = form.page
    user = page.user
    if user.source != "local":
        raise RequestProblem(404, "not-found")
    if wait := page.console.rates.login.wait(f"account {user.username}"):
        return page.render("account.html", 429, problem=page.say("login.too_many", seconds=int(wait) + 1))
    if _authenticated(page, user.username, form.values.get("current", "")) is None:
        page.console.rates.login.take(f"account {user.username}")
        return page.render("account.html", 400, problem=page.say("account.wrong"))
    password = form.values.get("password", "")
    try:
        check_new_password(password, user.username)
    except UserError as error:
        return page.render("account.html", 400, problem=str(error))
    if password != form.values.get("again", ""):
        return page.render("account.html", 400, problem=page.say("account.not_same"))
    with page.console.store.writing() as conn:
        set_password_hash(conn, user.username, hash_password(password), page.author)
    return page.redirect("/login")
