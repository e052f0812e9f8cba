"""Users and tokens, for admins: add, change, remove. The last admin stays."""

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from router.console.pages import Form, Page, form_for, page_for
from router.console.passwords import hash_password
from router.store.tokens import TokenRole, add_token, all_tokens, remove_token
from router.store.users import (
    Role,
    User,
    UserError,
    add_user,
    all_users,
    change_user,
    check_new_password,
    check_sites,
    remove_user,
    set_password_hash,
    user_name,
)

router = APIRouter(include_in_schema=False)

_ADMIN = page_for(Role.ADMIN)
_ADMIN_FORM = form_for(Role.ADMIN)
_DAY = 86_400.0


@router.get("/users")
def users(page: Annotated[Page, Depends(_ADMIN)]) -> Response:
    """Everybody who may log in."""
    return _users(page)


@router.post("/users")
def change_users(form: Annotated[Form, Depends(_ADMIN_FORM)]) -> Response:
    """Add a user, give one another role or password, or take one away."""
    actions: dict[str, Callable[[Form], None]] = {
        "add": _add,
        "role": _change,
        "password": _password,
        "remove": _remove,
    }
    try:
        actions.get(form.text("action"), _unknown)(form)
    except UserError as error:
        return _users(form.page, 422, problem=f"{error.field}: {error}")
    return form.page.redirect("/users")


@router.get("/tokens")
def tokens(page: Annotated[Page, Depends(_ADMIN)]) -> Response:
    """All tokens of the API, without their secrets."""
    return _tokens(page)


@router.post("/tokens")
def change_tokens(form: Annotated[Form, Depends(_ADMIN_FORM)]) -> Response:
    """Make a token, which is shown this once, or take one away."""
    page = form.page
    try:
        if form.text("action") == "remove":
            with page.console.store.writing() as conn:
                remove_token(conn, form.text("token"), page.author)
            return page.redirect("/tokens")
        role = form.text("role")
        if role not in set(TokenRole):
            raise UserError("role", f"not a role of a token; choose {', '.join(TokenRole)}")
        days = form.text("days")
        if days and not (days.isdecimal() and 0 < int(days) <= 36_500):
            raise UserError("days", "not a number of days; write one from 1 to 36500, or nothing")
        with page.console.store.writing() as conn:
            _, text = add_token(
                conn,
                form.text("name"),
                TokenRole(role),
                page.author,
                sites=_sites(form),
                expires_at=time.time() + int(days) * _DAY if days else None,
            )
    except UserError as error:
        return _tokens(page, 422, problem=f"{error.field}: {error}")
    return _tokens(page, made=text)


def _users(page: Page, status: int = 200, *, problem: str = "") -> Response:
    with page.console.store.reading() as conn:
        found = all_users(conn)
    return page.render(
        "users.html", status, users=found, roles=list(Role), sites=page.console.config.sites, problem=problem
    )


def _tokens(page: Page, status: int = 200, *, problem: str = "", made: str = "") -> Response:
    with page.console.store.reading() as conn:
        found = all_tokens(conn)
    return page.render(
        "tokens.html",
        status,
        tokens=found,
        roles=list(TokenRole),
        sites=page.console.config.sites,
        problem=problem,
        made=made,
        now=time.time(),
    )


def _unknown(_: Form) -> None:
    raise UserError("action", "unknown; use the buttons of the page")


def _add(form: Form) -> None:
    role = _role(form)
    name = user_name(form.text("username"))
    user = User(username=name, role=role, sites=check_sites(role, _sites(form)))
    password = form.values.get("password", "")
    check_new_password(password, name)
    with form.page.console.store.writing() as conn:
        add_user(conn, user, hash_password(password), form.page.author)


def _change(form: Form) -> None:
    with form.page.console.store.writing() as conn:
        change_user(conn, form.text("username"), form.page.author, role=_role(form), sites=_sites(form))


def _password(form: Form) -> None:
    password = form.values.get("password", "")
    check_new_password(password, user_name(form.text("username")))
    hashed = hash_password(password)
    with form.page.console.store.writing() as conn:
        set_password_hash(conn, form.text("username"), hashed, form.page.author)


def _remove(form: Form) -> None:
    with form.page.console.store.writing() as conn:
        remove_user(conn, form.text("username"), form.page.author)


def _role(form: Form) -> Role:
    role = form.text("role")
    if role not in set(Role):
        raise UserError("role", f"not a role; choose {', '.join(Role)}")
    return Role(role)


def _sites(form: Form) -> list[str] | None:
    """The sites chosen, all of the configuration; None for all. Raises UserError."""
    chosen = form.text("sites").replace(",", " ").split()
    known = {site.id for site in form.page.console.config.sites}
    for site in chosen:
        if site not in known:
            raise UserError("sites", f"no site is called {site[:50]!r}; known: {', '.join(sorted(known))[:300]}")
    return chosen or None
