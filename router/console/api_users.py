"""Users of the console and tokens of the API, for programs that look after accounts: admin tokens only."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from router.console.api import Caller, caller_for
from router.console.api_devices import Json
from router.console.device_edit import values_wrong
from router.console.passwords import hash_password
from router.console.problems import FieldProblem, RequestProblem
from router.store.tokens import ApiToken, TokenRole, add_token, all_tokens, remove_token
from router.store.users import (
    Role,
    User,
    UserError,
    add_user,
    all_users,
    change_user,
    check_new_password,
    check_sites,
    get_user,
    remove_user,
    set_password_hash,
    user_name,
)

endpoints = APIRouter(prefix="/api/v1", tags=["users and tokens"])

_ADMIN = caller_for(TokenRole.ADMIN)
_TEXT = {"type": "string"}
_SITES = {"type": ["array", "null"], "items": _TEXT, "description": "ids of sites; null: all"}
_DAY = 86_400.0


def _body(**properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_USER = _body(
    role={"type": "string", "enum": [role.value for role in Role]},
    sites=_SITES,
    password={"type": "string", "description": "10 characters at least; needed for a new user"},
)
_TOKEN = _body(
    name={"type": "string", "description": "who holds it"},
    role={"type": "string", "enum": [role.value for role in TokenRole]},
    sites=_SITES,
    days={"type": ["integer", "null"], "description": "it ends after so many days; null: never"},
)


@endpoints.get("/users")
def list_users(caller: Annotated[Caller, Depends(_ADMIN)]) -> Response:
    """Everybody who may log in to the console."""
    with caller.console.store.reading() as conn:
        found = [_shown(user) for user in all_users(conn)]
    return JSONResponse({"users": found})


@endpoints.put("/users/{name}", openapi_extra=_USER, responses={201: {"description": "a new user"}})
def put_user(caller: Annotated[Caller, Depends(_ADMIN)], name: str, body: Json) -> Response:
    """Add a user, or give one another role, other sites, another password; what is not given stays."""
    _only(body, "role", "sites", "password")
    try:
        username = user_name(name)
        password = body.get("password")
        if password is not None:
            check_new_password(str(password), username)
        hashed = hash_password(str(password)) if password is not None else ""
        with caller.console.store.writing() as conn:
            known = get_user(conn, username)
            role = _role(body["role"]) if "role" in body else known.role if known else Role.VIEWER
            sites = _sites(caller, body["sites"]) if "sites" in body else known.sites if known else None
            if known is None:
                if not hashed:
                    raise UserError("password", "a new user needs one; give password")
                user = User(username=username, role=role, sites=check_sites(role, sites))
                add_user(conn, user, hashed, caller.author)
            else:
                change_user(conn, username, caller.author, role=role, sites=sites)
                if hashed:
                    if known.source != "local":
                        raise UserError("password", "this user logs in elsewhere; leave password out")
                    set_password_hash(conn, username, hashed, caller.author)
            after = get_user(conn, username)
    except UserError as error:
        raise values_wrong([FieldProblem.of(error.field, str(error))]) from None
    assert after is not None
    return JSONResponse(_shown(after), 200 if known else 201)


@endpoints.delete("/users/{name}", status_code=204)
def delete_user(caller: Annotated[Caller, Depends(_ADMIN)], name: str) -> Response:
    """Take a user away; their sessions end. The last admin stays."""
    try:
        with caller.console.store.writing() as conn:
            if get_user(conn, name) is None:
                raise RequestProblem(404, "not-found")
            remove_user(conn, name, caller.author)
    except UserError as error:
        raise values_wrong([FieldProblem.of(error.field, str(error))]) from None
    return Response(status_code=204)


@endpoints.get("/tokens")
def list_tokens(caller: Annotated[Caller, Depends(_ADMIN)]) -> Response:
    """All tokens, without their secrets."""
    with caller.console.store.reading() as conn:
        found = [_token(token) for token in all_tokens(conn)]
    return JSONResponse({"tokens": found})


@endpoints.post("/tokens", status_code=201, openapi_extra=_TOKEN)
def post_token(caller: Annotated[Caller, Depends(_ADMIN)], body: Json) -> Response:
    """Make a token. `token` of the answer is its text, shown this once."""
    _only(body, "name", "role", "sites", "days")
    try:
        role, days = body.get("role", "read"), body.get("days")
        if role not in set(TokenRole):
            raise UserError("role", f"not a role of a token; write {', '.join(TokenRole)}")
        if days is not None and not (type(days) is int and 0 < days <= 36_500):
            raise UserError("days", "not a number of days; write one from 1 to 36500, or null")
        with caller.console.store.writing() as conn:
            made, text = add_token(
                conn,
                str(body.get("name", "")),
                TokenRole(role),
                caller.author,
                sites=_sites(caller, body.get("sites")),
                expires_at=time.time() + days * _DAY if days else None,
            )
    except UserError as error:
        raise values_wrong([FieldProblem.of(error.field, str(error))]) from None
    return JSONResponse({**_token(made), "token": text}, 201)


@endpoints.delete("/tokens/{token}", status_code=204)
def delete_token(caller: Annotated[Caller, Depends(_ADMIN)], token: str) -> Response:
    """Take a token away; it opens nothing from now on."""
    try:
        with caller.console.store.writing() as conn:
            remove_token(conn, token, caller.author)
    except UserError:
        raise RequestProblem(404, "not-found") from None
    return Response(status_code=204)


def _only(body: dict[str, Any], *names: str) -> None:
    if unknown := sorted(body.keys() - set(names)):
        what = f"unknown; known: {', '.join(names)}"
        raise values_wrong([FieldProblem.of(name[:100], what) for name in unknown])


def _role(value: Any) -> Role:
    if value not in set(Role):
        raise UserError("role", f"not a role; write {', '.join(Role)}")
    return Role(value)


def _sites(caller: Caller, value: Any) -> list[str] | None:
    """Raises UserError."""
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(site, str) for site in value):
        raise UserError("sites", 'not a list of sites; write ["hq"], or null for all')
    known = caller.console.places
    for site in value:
        if site not in known:
            raise UserError("sites", f"no site is called {site[:50]!r}; known: {', '.join(sorted(known))[:300]}")
    return value


def _shown(user: User) -> dict[str, Any]:
    return {
        "username": user.username,
        "role": user.role.value,
        "sites": user.sites,
        "source": user.source,
        "created_at": user.created_at,
        "last_login_at": user.last_login_at,
    }


def _token(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role.value,
        "sites": token.sites,
        "created_by": token.created_by,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
    }
