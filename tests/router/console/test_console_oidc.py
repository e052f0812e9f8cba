"""Login by an OpenID Connect provider that runs: who gets in, with which role, and which tokens are not believed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc.jwk import OctKey, RSAKey

from config.schema import Oidc
from router.console import oidc
from router.console.oidc import role_of
from router.store.audit import audit_rows
from router.store.users import Role, User, add_user, all_users, get_user, oidc_user
from tests.support.console import AUTHOR, Browser, ConsoleWorld, console_world
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
    assert (user.issuer, user.subject) == (provider.issuer, "1")
    assert world.browser().log_in("olive", "").status_code == 401, "there is no password to try"


def test_nobody_gets_in_without_a_role(world: ConsoleWorld, provider: OidcProvider) -> None:
    provider.claims["roles"] = ["accounting"]
    answer = log_in(world.browser())
    assert (answer.status_code, "oidc-no-role" in answer.text) == (403, True)
    with world.console.store.reading() as conn:
        assert get_user(conn, "olive") is None
        rows = audit_rows(conn, subject="user:olive")
    assert [(row.action, row.after["reason"]) for row in rows] == [("login-failed", "oidc-no-role")]


def test_a_user_with_a_password_here_is_not_taken_over(world: ConsoleWorld) -> None:
    world.user("olive", "viewer")
    answer = log_in(world.browser())
    assert (answer.status_code, "oidc-name-taken" in answer.text) == (403, True)


def roles_here(world: ConsoleWorld) -> dict[str, tuple[str, str]]:
    with world.console.store.reading() as conn:
        return {user.username: (user.role.value, user.subject) for user in all_users(conn)}


def test_a_user_is_who_the_provider_means_whatever_they_are_called(
    world: ConsoleWorld, provider: OidcProvider
) -> None:
    assert log_in(world.browser()).status_code == 303
    provider.claims["preferred_username"] = "Olivia"
    browser = world.browser()
    assert log_in(browser).status_code == 303
    assert "olive" in browser.get("/account").text
    assert roles_here(world) == {"olive": ("engineer", "1")}, "the same person under another name"
    provider.claims |= {"sub": "2", "preferred_username": "olive", "roles": ["admin"]}
    answer = log_in(world.browser())
    assert (answer.status_code, "oidc-name-taken" in answer.text) == (403, True)
    assert roles_here(world) == {"olive": ("engineer", "1")}, "another person of that name is not let in as them"


def test_a_user_of_another_issuer_is_somebody_else(world: ConsoleWorld, provider: OidcProvider) -> None:
    with world.console.store.writing() as conn:
        oidc_user(conn, "olive", Role.VIEWER, issuer="https://old.example.com", subject="1")
    assert log_in(world.browser()).status_code == 403
    with world.console.store.writing() as conn:
        assert oidc_user(conn, "olga", Role.DESK, issuer="https://old.example.com", subject="1").username == "olive"


def test_a_user_from_before_is_bound_by_their_first_login_and_keeps_their_sites(
    world: ConsoleWorld, provider: OidcProvider
) -> None:
    with world.console.store.writing() as conn:
        add_user(conn, User(username="olive", role=Role.DESK, sites=("hq",), source="oidc"), "", AUTHOR)
    assert log_in(world.browser()).status_code == 303
    with world.console.store.reading() as conn:
        user = get_user(conn, "olive")
        (row,) = audit_rows(conn, subject="user:olive")[1:2]
    assert user is not None
    assert (user.role, user.sites, user.subject) == (Role.ENGINEER, ("hq",), "1")
    assert (row.action, row.after["subject"]) == ("change", "1")
    provider.claims["sub"] = "2"
    assert log_in(world.browser()).status_code == 403


def test_an_address_that_the_provider_has_not_verified_names_nobody(
    world: ConsoleWorld, provider: OidcProvider
) -> None:
    provider.claims = {"sub": "77", "email": "boss@example.com", "email_verified": False, "roles": ["viewer"]}
    assert log_in(world.browser()).status_code == 303
    assert roles_here(world) == {"77": ("viewer", "77")}


def test_roles_that_stand_beside_the_token_and_only_those_of_the_same_user(
    world: ConsoleWorld, provider: OidcProvider
) -> None:
    del provider.claims["roles"]
    provider.userinfo = {"sub": "1", "roles": ["desk"]}
    assert log_in(world.browser()).status_code == 303
    assert roles_here(world) == {"olive": ("desk", "1")}
    provider.userinfo = {"sub": "2", "roles": ["admin"]}
    assert log_in(world.browser()).status_code == 403


def test_keys_of_kinds_unknown_here_stand_beside_the_one_that_signs(
    world: ConsoleWorld, provider: OidcProvider
) -> None:
    provider.further_keys = [{"kty": "AKP", "kid": "two", "alg": "ML-DSA-44", "pub": "AAAA"}, {"kty": "RSA"}, {}]
    assert log_in(world.browser()).status_code == 303


def test_a_provider_that_says_no_is_quoted(world: ConsoleWorld, provider: OidcProvider) -> None:
    browser = world.browser()
    state = parse_qs(urlsplit(to_provider(browser)).query)["state"][0]
    answer = browser.get(f"/login/oidc/callback?error=access_denied&state={state}")
    assert (answer.status_code, "access_denied" in answer.text) == (502, True)
    assert browser.get(f"/login/oidc/callback?code=x&state={state}&iss=https://evil.example").status_code == 502


@pytest.mark.parametrize("header", [{"alg": "RS256"}, {"alg": "none", "kid": "one"}, {"alg": "HS256", "kid": "one"}])
def test_how_a_token_may_be_signed(world: ConsoleWorld, provider: OidcProvider, header: dict[str, Any]) -> None:
    provider.header = header
    if header["alg"] == "HS256":
        provider.signing_key = OctKey.import_key(provider.client_secret * 2)
    assert log_in(world.browser()).status_code == (303 if header["alg"] == "RS256" else 502)


@pytest.mark.parametrize(
    "lies",
    [
        {"aud": "another-client"},
        {"iss": "http://127.0.0.1:9/"},
        {"nonce": "of another login"},
        {"exp": 1_600_000_000},
        {"aud": ["edge911", "another-client"]},
        {"preferred_username": "", "email": "", "sub": "<script>"},
        {"sub": ""},
        {"sub": 7},
    ],
    ids=repr,
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


def test_over_https_no_other_host_of_the_domain_can_begin_a_login_for_somebody(
    provider: OidcProvider, tmp_path: Path
) -> None:
    section = {"issuer": provider.issuer, "client_id": "edge911"}
    keys = {"listen": "http://127.0.0.1:8911", "public_url": "https://e911.example.com", "oidc": section}
    with console_world(tmp_path, console=keys) as made:
        cookie = made.browser().get("/login/oidc").headers["set-cookie"]
    assert cookie.startswith("__Host-edge911-oidc=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
