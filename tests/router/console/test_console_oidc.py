"""Login by an OpenID Connect provider that runs: who gets in, with which role, and which tokens are not believed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from joserfc.jwk import RSAKey

from config.schema import Oidc
from router.console import oidc
from router.console.oidc import role_of
from router.store.audit import audit_rows
from router.store.users import Role, get_user
from tests.support.console import Browser, ConsoleWorld, console_world
from tests.support.oidc_provider import OidcProvider, oidc_provider
from tests.support.ports import loopback


@pytest.fixture
def provider() -> Iterator[OidcProvider]:
    oidc._known.clear()
    with oidc_provider(f"{loopback().next_network()}.1") as running:
        yield running


@pytest.fixture
def world(provider: OidcProvider, tmp_path: Path) -> Iterator[ConsoleWorld]:
    section = {
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "client_secret": provider.client_secret,
        "label": "Head office",
    }
    with console_world(tmp_path, console={"listen": "http://127.0.0.1:8911", "oidc": section}) as made:
        yield made


def to_provider(browser: Browser, path: str = "/login/oidc") -> str:
    """Begin a login; the path with which the provider sends the browser back."""
    begun = browser.get(path)
    assert begun.status_code == 303
    sent = requests.get(begun.headers["location"], allow_redirects=False, timeout=10)
    assert sent.status_code == 302
    back = urlsplit(sent.headers["location"])
    assert (back.netloc, back.path) == ("127.0.0.1:8911", "/login/oidc/callback")
    return f"{back.path}?{back.query}"


def log_in(browser: Browser, path: str = "/login/oidc") -> Any:
    return browser.get(to_provider(browser, path))


def test_a_login_with_the_role_that_the_provider_gives(world: ConsoleWorld, provider: OidcProvider) -> None:
    browser = world.browser()
    assert "Head office" in browser.get("/login").text
    answer = log_in(browser, "/login/oidc?next=/audit")
    assert (answer.status_code, answer.headers["location"]) == (303, "/audit")
    assert browser.get("/audit").status_code == 200
    provider.claims["roles"] = ["viewer", "unknown"]
    other = world.browser()
    assert log_in(other).status_code == 303
    assert browser.get("/audit").status_code == 403, "the role of the last login counts"
    with world.console.store.reading() as conn:
        user = get_user(conn, "olive")
        assert user is not None
        assert (user.source, user.role) == ("oidc", Role.VIEWER)
        actions = [row.action for row in audit_rows(conn, subject="user:olive")]
    assert actions == ["login", "change", "login", "create"]
    assert world.browser().log_in("olive", "").status_code == 401, "there is no password to try"


def test_nobody_gets_in_without_a_role(world: ConsoleWorld, provider: OidcProvider) -> None:
    provider.claims["roles"] = ["accounting"]
    answer = log_in(world.browser())
    assert (answer.status_code, "oidc-no-role" in answer.text) == (403, True)
    with world.console.store.reading() as conn:
        assert get_user(conn, "olive") is None


def test_a_user_with_a_password_here_is_not_taken_over(world: ConsoleWorld) -> None:
    world.user("olive", "viewer")
    answer = log_in(world.browser())
    assert (answer.status_code, "oidc-name-taken" in answer.text) == (403, True)


@pytest.mark.parametrize(
    "lies",
    [
        {"aud": "another-client"},
        {"iss": "http://127.0.0.1:9/"},
        {"nonce": "of another login"},
        {"exp": int(time.time()) - 3600},
        {"aud": ["edge911", "another-client"]},
        {"preferred_username": "", "email": "", "sub": "<script>"},
    ],
    ids=lambda lies: next(iter(lies)),
)
def test_tokens_that_are_not_believed(world: ConsoleWorld, provider: OidcProvider, lies: dict[str, Any]) -> None:
    provider.lies = lies
    answer = log_in(world.browser())
    assert (answer.status_code, "oidc-failed" in answer.text) == (502, True)


def test_a_token_that_somebody_else_signed(world: ConsoleWorld, provider: OidcProvider) -> None:
    provider.signing_key = RSAKey.generate_key(2048, {"kid": "one"})
    assert log_in(world.browser()).status_code == 502
    provider.key = provider.signing_key
    assert log_in(world.browser()).status_code == 303, "the provider has changed its key"


def test_an_answer_to_another_login(world: ConsoleWorld) -> None:
    victim, attacker = world.browser(), world.browser()
    back = to_provider(attacker)
    assert victim.get(back).status_code == 502, "nobody is logged in as somebody else without knowing"
    to_provider(victim)
    assert victim.get(back).status_code == 502
    good = to_provider(attacker)
    assert attacker.get(good).status_code == 303
    assert attacker.get(good).status_code == 502, "a code works once"
    assert attacker.get("/login/oidc/callback").status_code == 502


def test_a_provider_that_is_away_is_said(world: ConsoleWorld, tmp_path: Path) -> None:
    section = {"issuer": "http://127.0.0.1:9", "client_id": "x"}
    folder = tmp_path / "away"
    folder.mkdir()
    with console_world(folder, console={"listen": "http://127.0.0.1:8911", "oidc": section}) as made:
        answer = made.browser().get("/login/oidc")
        assert (answer.status_code, "oidc-failed" in answer.text) == (502, True)
    folder = tmp_path / "without"
    folder.mkdir()
    with console_world(folder) as made:
        assert made.browser().get("/login/oidc").status_code == 404


@pytest.mark.parametrize(
    ("keys", "claims", "role"),
    [
        ({}, {"roles": "admin"}, Role.ADMIN),
        ({}, {"roles": ["viewer", "engineer", "desk"]}, Role.ENGINEER),
        ({"roles": {"e911-admins": "admin"}}, {"roles": ["e911-admins"]}, Role.ADMIN),
        ({"roles": {"e911-admins": "admin"}}, {"roles": ["admin"]}, None),
        ({"role_claim": "realm_access.roles"}, {"realm_access": {"roles": ["desk"]}}, Role.DESK),
        ({"role_claim": "a.b.c"}, {"a": "b"}, None),
        ({"default_role": "viewer"}, {}, Role.VIEWER),
        ({}, {"roles": [["admin"], {"admin": 1}, 7, None]}, None),
        ({}, {"roles": {"admin": True}}, None),
    ],
)
def test_roles_of_claims(keys: dict[str, Any], claims: dict[str, Any], role: Role | None) -> None:
    section = Oidc.model_validate({"issuer": "https://login.example.com", "client_id": "x", **keys})
    assert role_of(section, claims) is role
