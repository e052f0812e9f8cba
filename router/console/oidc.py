"""Login by another system: OpenID Connect Core 1.0 section 3.1 (authorization code) with PKCE (RFC 7636).

What the system says of a user decides at each login which role they have here. A user is known by its `sub`, which
stays theirs, and not by a name that it may give to somebody else; users with a password of ours are never taken over.
"""

import base64
import hmac
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from fastapi import APIRouter, Depends, Query
from fastapi.responses import RedirectResponse, Response
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from config.schema import Oidc
from router.console.failed_logins import record_failed_login
from router.console.pages import Page, local_path, set_cookie, visitor
from router.console.problems import RequestProblem
from router.console.sign_in import signed_in
from router.store.users import Role, User, UserError, oidc_user, user_name

SECONDS = 5.0
"""So long the other system may take for one answer."""
LOGIN_SECONDS = 600
KEPT_SECONDS = 3600.0
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_CALLBACK = "/login/oidc/callback"

router = APIRouter(include_in_schema=False)


class OidcError(Exception):
    """The login did not work; the text says why, for the log."""


@dataclass(slots=True)
class _Known:
    """What was last learned of an issuer."""

    metadata: dict[str, Any]
    keys: KeySet | None
    at: float


_known: dict[str, _Known] = {}


@router.get("/login/oidc")
def begin(page: Annotated[Page, Depends(visitor)], next: str = "/") -> Response:  # noqa: A002 (as in the URL)
    """Send the browser to the other system, with what its answer must bring back."""
    section = _section(page)
    try:
        metadata = _metadata(section)
    except OidcError as error:
        raise _failed(page, error) from None
    verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    session = _client(page, section)
    url, state = session.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce
    )
    kept = {"state": state, "nonce": nonce, "verifier": verifier, "next": local_path(next)}
    response = RedirectResponse(url, 303)
    content = base64.urlsafe_b64encode(orjson.dumps(kept)).decode()
    set_cookie(page.console, response, page.console.oidc_cookie, content, LOGIN_SECONDS)
    return response


@router.get(_CALLBACK)
def callback(
    page: Annotated[Page, Depends(visitor)],
    code: Annotated[str, Query(max_length=4000)] = "",
    state: Annotated[str, Query(max_length=400)] = "",
    iss: Annotated[str, Query(max_length=400)] = "",
    refusal: Annotated[str, Query(alias="error", max_length=400)] = "",
) -> Response:
    """The other system's answer: who it is, and what they may do here."""
    section = _section(page)
    try:
        kept = _kept(page, state)
        if iss and iss != section.issuer:  # RFC 9207
            raise OidcError("the answer is of another system")
        if refusal:  # RFC 6749 section 4.1.2.1
            raise OidcError(f"it says {refusal[:60]!r}")
        claims = _claims(page, section, code, kept)
        subject, name = _subject(claims), _name(section, claims)
    except OidcError as error:
        raise _failed(page, error) from None
    role = role_of(section, claims)
    if role is None:
        record_failed_login(page, name, "oidc-no-role")
        raise RequestProblem(403, "oidc-no-role", page.say("login.not_let_in", name=name))
    try:
        with page.console.store.writing() as conn:
            user: User = oidc_user(conn, name, role, issuer=section.issuer, subject=subject)
    except UserError as error:
        record_failed_login(page, name, "oidc-name-taken")
        raise RequestProblem(403, "oidc-name-taken", str(error)) from None
    response = signed_in(page, user, kept["next"])
    response.delete_cookie(
        page.console.oidc_cookie, path="/", secure=page.console.is_secure, httponly=True, samesite="lax"
    )
    return response


def role_of(section: Oidc, claims: Mapping[str, Any]) -> Role | None:
    """The highest role that the claims give; None where they give none."""
    found = _role_claim(section, claims)
    values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    given = [
        Role(role)
        for value in values
        if isinstance(value, str) and (role := section.roles.get(value, "" if section.roles else value)) in set(Role)
    ]
    if section.default_role != "none":
        given.append(Role(section.default_role))
    return max(given, key=list(Role).index, default=None)


def _role_claim(section: Oidc, claims: Mapping[str, Any]) -> Any:
    found: Any = claims
    for step in section.role_claim.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _section(page: Page) -> Oidc:
    section = page.console.section.oidc
    if section is None:
        raise RequestProblem(404, "not-found")
    # Paths are relative to the configuration.
    return section.model_copy(update={"ca": str(page.console.loaded.path(section.ca))}) if section.ca else section


def _failed(page: Page, error: OidcError) -> RequestProblem:
    return RequestProblem(502, "oidc-failed", f"{page.say('login.oidc_failed')} ({error})")


def _client(page: Page, section: Oidc) -> OAuth2Session:
    found = OAuth2Session(
        section.client_id,
        section.client_secret or None,
        scope=" ".join(section.scopes),
        redirect_uri=page.console.section.url.rstrip("/") + _CALLBACK,
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic" if section.client_secret else "none",
        default_timeout=SECONDS,
    )
    found.verify = section.ca or True
    return found


def _kept(page: Page, state: str) -> dict[str, str]:
    """What `begin` left in this browser. Raises OidcError where the answer is not to a login that began here."""
    try:
        kept = orjson.loads(base64.urlsafe_b64decode(page.request.cookies.get(page.console.oidc_cookie, "")))
        found = {name: str(kept[name]) for name in ("state", "nonce", "verifier", "next")}
    except (ValueError, KeyError, TypeError):
        raise OidcError("the login did not begin in this browser, or too long ago") from None
    if not state or not hmac.compare_digest(state.encode(), found["state"].encode()):
        raise OidcError("the answer is to another login")
    return found


def _claims(page: Page, section: Oidc, code: str, kept: Mapping[str, str]) -> dict[str, Any]:
    """The claims of the ID token, checked (OpenID Connect Core 1.0 section 3.1.3.7). Raises OidcError."""
    metadata = _metadata(section)
    client = _client(page, section)
    try:
        token = client.fetch_token(
            metadata["token_endpoint"], grant_type="authorization_code", code=code, code_verifier=kept["verifier"]
        )
        text = token["id_token"]
    except (AuthlibBaseError, requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise OidcError(f"no token: {type(error).__name__}") from None
    try:
        found = _decoded(section, text)
    except (JoseError, ValueError, KeyError, TypeError):
        _known.pop(section.issuer, None)  # its keys may have changed
        try:
            found = _decoded(section, text)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise OidcError(f"its token is not good: {type(error).__name__}") from None
    if not hmac.compare_digest(str(found.get("nonce", "")).encode(), kept["nonce"].encode()):
        raise OidcError("its token is of another login")
    if _role_claim(section, found) is None:
        return {**_userinfo(section, token.get("access_token"), _subject(found)), **found}
    return found


def _userinfo(section: Oidc, access_token: object, subject: str) -> dict[str, Any]:
    """What the system says of the user besides the token (OpenID Connect Core 1.0 section 5.3): some put the roles
    there. Empty where it says nothing, or of somebody else."""
    url = _metadata(section).get("userinfo_endpoint")
    if not isinstance(url, str) or not isinstance(access_token, str):
        return {}
    try:
        found = _fetched(section, url, {"Authorization": f"Bearer {access_token}"})
    except OidcError:
        return {}
    return found if found.get("sub") == subject else {}


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise OidcError("its token has no sub")
    return subject


def _decoded(section: Oidc, text: str) -> dict[str, Any]:
    token = jwt.decode(text, _keys(section), algorithms=list(_ALGORITHMS))
    jwt.JWTClaimsRegistry(
        now=int(time.time()),
        leeway=60,
        iss={"essential": True, "value": section.issuer},
        aud={"essential": True, "value": section.client_id},
        exp={"essential": True},
        sub={"essential": True},
    ).validate(token.claims)
    audience = token.claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and token.claims.get("azp") != section.client_id:
        raise ValueError("azp")
    return dict(token.claims)


def _name(section: Oidc, claims: Mapping[str, Any]) -> str:
    for claim in (section.username_claim, "email", "sub"):
        if claim == "email" and claims.get("email_verified") is False:
            continue
        if isinstance(value := claims.get(claim), str) and value:
            try:
                return user_name(value)
            except UserError:
                continue
    raise OidcError("no claim that could be a user name here; set console.oidc.username_claim")


def _metadata(section: Oidc) -> dict[str, Any]:
    """What the issuer publishes of itself, an hour old at the most. Raises OidcError."""
    known = _known.get(section.issuer)
    if known is None or time.monotonic() - known.at > KEPT_SECONDS:
        document = _fetched(section, section.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != section.issuer:
            raise OidcError(f"it calls itself {str(document.get('issuer'))[:100]!r}; set console.oidc.issuer to that")
        if not all(isinstance(document.get(name), str) for name in _ENDPOINTS):
            raise OidcError("its metadata lack an endpoint")
        known = _known[section.issuer] = _Known(document, None, time.monotonic())
    return known.metadata


def _keys(section: Oidc) -> KeySet:
    metadata = _metadata(section)
    known = _known[section.issuer]
    if known.keys is None:
        found: Any = _fetched(section, metadata["jwks_uri"])
        known.keys = KeySet(_readable(found.get("keys")))
    return known.keys


def _readable(found: object) -> list[Any]:
    """The keys that can be read: kinds that are not known here are left out (RFC 7517 section 5)."""
    keys: list[Any] = []
    for one in found if isinstance(found, list) else ():
        with suppress(JoseError, ValueError, KeyError, TypeError, AttributeError):
            keys += KeySet.import_key_set({"keys": [one]}).keys
    return keys


def _fetched(section: Oidc, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    try:
        answer = requests.get(url, headers=headers, timeout=SECONDS, verify=section.ca or True, allow_redirects=False)
        answer.raise_for_status()
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise OidcError(f"{url}: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise OidcError(f"{url}: not a JSON object")
    return found


_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
