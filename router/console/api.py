"""What every endpoint of the REST API shares: tokens, their roles, rate limits.

An endpoint takes `Annotated[Caller, Depends(caller_for(TokenRole.WRITE))]`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from router.console.pages import client_address, console_of
from router.console.problems import RequestProblem
from router.console.settings import Console
from router.store.audit import Author
from router.store.errors import StoreError
from router.store.tokens import ApiToken, TokenRole, find_token, is_time_to_note, note_token

_BEARER = HTTPBearer(auto_error=False, description="A token made with `edge911 tokens add`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A program that calls the API, by its token."""

    console: Console
    token: ApiToken
    request: Request

    @property
    def author(self) -> Author:
        """The same, for the audit trail."""
        return Author(who=f"{self.token.name} ({self.token.id})", via="api")

    @property
    def sites(self) -> tuple[str, ...] | None:
        """Sites it sees; None for all."""
        return self.token.sites

    def may_see(self, site: str) -> bool:
        """True where the token is for this site; what is of no site, only those see who see all."""
        return self.token.sites is None or site in self.token.sites

    def need_site(self, site: str) -> None:
        """Raise RequestProblem 404 for another's site: not even that it is there is told."""
        if not self.may_see(site):
            raise RequestProblem(404, "not-found")


def caller_for(role: TokenRole, *, without_database: bool = False) -> Callable[..., Caller]:
    """A dependency: the caller, whose token may do what `role` may; `without_database`: also one whose token cannot
    be looked up now, and could a short while ago. Raises RequestProblem 401, 403, 429."""

    def caller(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)] = None
    ) -> Caller:
        console = console_of(request)
        address = client_address(request)
        rates = console.rates
        _limit(max(rates.bad_token.wait(address), rates.api.take(f"address {address}")))
        try:
            token = _token(console, given, address)
        except StoreError:
            lately = console.tokens.find(given.credentials) if given is not None and without_database else None
            if lately is None or (lately.expires_at is not None and lately.expires_at <= time.time()):
                raise
            token = lately
        _limit(rates.api.take(f"token {token.id}"))
        if not token.role.covers(role):
            detail = f"the token's role is {token.role.value}; this needs {role.value}"
            raise RequestProblem(403, "role-too-low", detail)
        return Caller(console=console, token=token, request=request)

    return caller


def _limit(wait: float) -> None:
    if wait:
        seconds = str(int(wait) + 1)
        detail = f"too many requests; wait {seconds} s, or raise console.api_requests_per_minute"
        raise RequestProblem(429, "too-many-requests", detail, headers={"Retry-After": seconds})


def _token(console: Console, given: HTTPAuthorizationCredentials | None, address: str) -> ApiToken:
    if given is None:
        detail = "no token; send Authorization: Bearer TOKEN (`edge911 tokens add` makes one)"
        raise RequestProblem(401, "token-missing", detail, headers={"WWW-Authenticate": "Bearer"})
    now = time.time()
    with console.store.reading() as conn:
        found = find_token(conn, given.credentials, now)
    console.tokens.note(given.credentials, found[0] if found and not found[1] else None)
    if found is None or found[1]:
        console.rates.bad_token.take(address)
        reason = found[1] if found else "token-unknown"
        headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise RequestProblem(401, reason, "make another with `edge911 tokens add`", headers=headers)
    token = found[0]
    if is_time_to_note(token, now):
        with console.store.writing() as conn:
            note_token(conn, token.id, now)
    return token
