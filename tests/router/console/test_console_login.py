"""Logging in to the console, and what those try who have no business there."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from router.console import passwords
from router.console.rate import Gathered, Rate
from router.store.audit import audit_rows
from router.store.users import count_sessions, sessions
from tests.support.console import (
    BASE_URL,
    CONFIG,
    PASSWORD,
    REAL_MEMORY_KIB,
    Browser,
    ConsoleWorld,
    Http,
    console_world,
)


@pytest.fixture
def world(store_url: str, tmp_path: Path) -> Iterator[ConsoleWorld]:
    """A console, once on SQLite and once on PostgreSQL."""
    with console_world(tmp_path, store_url) as made:
        yield made


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ConsoleWorld]:
    """A console on SQLite."""
    with console_world(tmp_path) as made:
        yield made


def test_a_login_opens_the_pages_of_ones_role_and_a_logout_closes_them(world: ConsoleWorld) -> None:
    browser = world.browser()
    world.user("alice", "engineer")
    assert browser.get("/audit?q=x").headers["location"] == "/login?next=/audit%3Fq%3Dx"
    answer = browser.log_in("Alice", next="/audit?q=x")
    assert (answer.status_code, answer.headers["location"]) == (303, "/audit?q=x")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert browser.get("/audit").status_code == 200
    old = browser.http.cookies["edge911"]
    assert browser.submit("/audit", "/logout").status_code == 303
    browser.http.cookies.set("edge911", old)
    assert browser.get("/audit").status_code == 303, "the session itself is over, not only the cookie gone"
    with world.console.store.reading() as conn:
        assert [(row.who, row.action) for row in audit_rows(conn, subject="user:alice")] == [
            ("alice", "login"),
            ("test", "create"),
        ]


def test_neither_password_nor_token_is_kept(world: ConsoleWorld) -> None:
    browser = world.browser("alice")
    secret = world.token().rpartition("_")[2]
    with world.console.store.reading() as conn:
        for table in ("users", "sessions", "api_tokens", "audit"):
            kept = str(conn.exec_driver_sql(f"SELECT * FROM {table}").all())
            assert PASSWORD not in kept
            assert secret not in kept
            assert browser.http.cookies["edge911"] not in kept


def test_a_wrong_password_and_an_unknown_user_look_the_same(here: ConsoleWorld) -> None:
    here.user("alice")
    answers = [here.browser().log_in(name, "wrong password!") for name in ("alice", "nobody")]
    assert [answer.status_code for answer in answers] == [401, 401]
    texts = [re.sub(r'value="[^"]*"', "", answer.text) for answer in answers]
    assert texts[0] == texts[1]
    assert "do not fit together" in texts[0]


def test_passwords_are_slow_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9106 section 4, the second recommended option: 64 MiB, three passes."""
    passwords._hasher.cache_clear()
    monkeypatch.setattr(passwords, "MEMORY_KIB", REAL_MEMORY_KIB)
    made = passwords.hash_password(PASSWORD)
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert passwords.is_password(PASSWORD, made)
    assert not passwords.is_password(PASSWORD + "x", made)
    assert not passwords.is_password(PASSWORD, "")
    passwords._hasher.cache_clear()


def test_guessing_is_slowed_down_and_others_still_get_in(here: ConsoleWorld) -> None:
    here.user("alice")
    here.user("bob")
    guesser = here.browser()
    statuses = [guesser.log_in("alice", f"guess number {number}").status_code for number in range(12)]
    assert statuses[:9] == [401] * 9
    assert statuses[-1] == 429
    refused = guesser.log_in("alice")
    assert refused.status_code == 429, "also with the right password, or guessing would go on"
    assert int(refused.headers["retry-after"]) > 0
    assert here.browser().log_in("bob").status_code == 303, "behind the same address"


@pytest.fixture
def behind_a_proxy(tmp_path: Path) -> Iterator[ConsoleWorld]:
    """A console to which browsers come through a proxy that says where they are."""
    console = {**CONFIG["console"], "proxies": ["127.0.0.1/32"]}
    with console_world(tmp_path, console=console) as made:
        yield made


def browser_at(world: ConsoleWorld, address: str) -> Browser:
    browser = Browser(world.app)
    browser.http = Http(world.app, base_url=BASE_URL, headers={"X-Forwarded-For": address})
    return browser


def failed_logins(world: ConsoleWorld) -> list[tuple[str, object, object]]:
    """Subject, address and number of tries of those in the audit trail, oldest first."""
    with world.console.store.reading() as conn:
        rows = [row for row in audit_rows(conn, limit=500) if row.action == "login-failed"]
    return [(row.subject, row.after["from"], row.after["tries"]) for row in reversed(rows)]


def test_failed_logins_stand_in_the_audit_trail(behind_a_proxy: ConsoleWorld) -> None:
    behind_a_proxy.user("alice")
    browser_at(behind_a_proxy, "192.0.2.7").log_in("Alice", "not her password")
    browser_at(behind_a_proxy, "192.0.2.8").log_in("not her password", "oops")
    assert failed_logins(behind_a_proxy) == [("user:alice", "192.0.2.7", 1), ("user:unknown", "192.0.2.8", 1)]
    with behind_a_proxy.console.store.reading() as conn:
        kept = str(conn.exec_driver_sql("SELECT * FROM audit").all())
    assert "not her" not in kept, "whatever was typed, in whichever field"
    page = behind_a_proxy.browser("root").get("/audit?subject=user:alice").text
    assert "login failed" in page
    assert "192.0.2.7" in page


def test_guesses_do_not_fill_the_audit_trail() -> None:
    now = [0.0]
    gathered = Gathered(Rate(3, 600, lambda: now[0]), Rate(5, 30, lambda: now[0]))
    assert [gathered.count("a") for _ in range(10)] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert [gathered.count(name) for name in "bcdb"] == [1, 1, 0, 0], "and not by trying many names either"
    now[0] = 600.0
    assert [gathered.count(name) for name in "aadb"] == [8, 0, 2, 2], "none is left out of the number"


def test_guesses_of_others_lock_nobody_out(behind_a_proxy: ConsoleWorld) -> None:
    behind_a_proxy.user("desk")
    desk = browser_at(behind_a_proxy, "192.0.2.7")
    assert desk.log_in("desk").status_code == 303
    assert desk.submit("/audit", "/logout").status_code == 303
    guesser = browser_at(behind_a_proxy, "192.0.2.7")
    while guesser.log_in("desk", "a wrong password").status_code != 429:
        pass
    assert desk.log_in("desk").status_code == 303, "a browser that desk has logged in with before"
    assert browser_at(behind_a_proxy, "192.0.2.8").log_in("desk").status_code == 303, "another address"
    assert guesser.log_in("desk").status_code == 429
    guesser.http.cookies.set("edge911-known", "x" * 16 + ".ffffffff." + "0" * 32)
    assert guesser.log_in("desk").status_code == 429, "nobody signed that"


def test_a_known_browser_guesses_no_faster_and_only_for_its_own_user(behind_a_proxy: ConsoleWorld) -> None:
    behind_a_proxy.user("eve")
    behind_a_proxy.user("desk")
    eve = browser_at(behind_a_proxy, "192.0.2.9")
    assert eve.log_in("eve").status_code == 303
    assert eve.submit("/audit", "/logout").status_code == 303
    for user in ("desk", "eve"):
        statuses = [eve.log_in(user, f"guess number {number}").status_code for number in range(12)]
        assert statuses[-1] == 429


@pytest.mark.parametrize("addresses", [("192.0.2.9",) * 130, [f"2001:db8::{one:x}" for one in range(130)]])
def test_one_place_may_not_try_all_users(behind_a_proxy: ConsoleWorld, addresses: tuple[str, ...]) -> None:
    behind_a_proxy.console.rates.login_address = Rate(100, 1e6)
    statuses = [
        browser_at(behind_a_proxy, one).log_in(f"user-{number}", "a password").status_code
        for number, one in enumerate(addresses)
    ]
    assert statuses == [401] * 100 + [429] * 30


def test_a_session_that_was_there_before_the_login_is_not_taken_over(here: ConsoleWorld) -> None:
    here.user("alice")
    browser = here.browser()
    planted = "planted-by-somebody-else-0123456789"
    browser.http.cookies.set("edge911", planted)
    assert browser.log_in("alice").status_code == 303
    thief = here.browser()
    thief.http.cookies.set("edge911", planted)
    assert thief.get("/audit").status_code == 303


def test_sessions_end_with_time_with_the_password_and_with_the_user(here: ConsoleWorld) -> None:
    browser = here.browser("alice")
    with here.console.store.writing() as conn:
        conn.execute(update(sessions).values(expires_at=time.time() - 1))
    assert browser.get("/audit").status_code == 303
    assert browser.log_in("alice").status_code == 303
    other = Browser(here.app)
    assert other.log_in("alice").status_code == 303
    answer = browser.submit("/account", current=PASSWORD, password="another password", again="another password")
    assert answer.status_code == 303
    assert other.get("/audit").status_code == 303
    assert other.log_in("alice").status_code == 401
    assert other.log_in("alice", "another password").status_code == 303


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_nobody_is_sent_elsewhere_after_the_login(here: ConsoleWorld, target: str) -> None:
    here.user("alice")
    answer = here.browser().log_in("alice", next=target)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_form_from_elsewhere_is_refused(here: ConsoleWorld) -> None:
    browser = here.browser("alice")
    for data in ({}, {"csrf": "0" * 32}):
        assert browser.http.post("/logout", data=data).status_code == 403
    right = {"csrf": browser.csrf("/audit")}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert browser.http.post("/logout", data=right, headers=headers).status_code == 403
    assert browser.get("/audit").status_code == 200
    other = here.browser("bob")
    assert browser.http.post("/logout", data={"csrf": other.csrf("/audit")}).status_code == 403
    assert browser.http.post("/logout", data=right, headers={"Origin": "http://127.0.0.1:8911"}).status_code == 303


def test_a_login_needs_the_form_of_this_browser_too(here: ConsoleWorld) -> None:
    here.user("alice")
    values = {"username": "alice", "password": PASSWORD, "csrf": here.browser().csrf("/login")}
    assert here.browser().http.post("/login", data=values).status_code == 403


def test_roles(here: ConsoleWorld) -> None:
    viewer = here.browser("victor", "viewer")
    answer = viewer.get("/audit")
    assert answer.status_code == 403
    assert "role-too-low" in answer.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8911", 200),
        ("192.0.2.9", 200),
        ("[2001:db8::1]:8911", 200),
        ("localhost", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_host_names_that_are_not_ours(here: ConsoleWorld, host: str, status: int) -> None:
    assert here.browser().get("/login", headers={"Host": host}).status_code == status


def test_a_body_that_is_too_large(here: ConsoleWorld) -> None:
    browser = here.browser()
    data = {"csrf": browser.csrf("/login"), "username": "a" * 300_000}
    assert browser.http.post("/login", data=data).status_code == 413
    chunks = (b"x" * 65_536 for _ in range(10))
    answer = browser.http.post(
        "/login", content=chunks, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    ["/static/../settings.py", "/static/%2e%2e/settings.py", "/static/..%2fsettings.py", "/static//etc/passwd"],
)
def test_nothing_beside_the_static_files(here: ConsoleWorld, path: str) -> None:
    assert here.browser().get(path).status_code == 404


def test_head_answers_as_get_does_without_content(here: ConsoleWorld) -> None:
    browser = here.browser("alice")
    changing = {"set-cookie", "content-length"}  # a form's token changes with its cookie
    for path in ("/login", "/status", "/audit", "/static/live.js", "/nothing", "/", "/api/v1/devices"):
        head, get = browser.http.request("HEAD", path), browser.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers.keys() == get.headers.keys()
        assert {name: head.headers[name] for name in head.headers if name not in changing} == {
            name: get.headers[name] for name in get.headers if name not in changing
        }
    stream = browser.http.request("HEAD", "/live/events")
    assert (stream.status_code, stream.content) == (200, b""), "it ends, as no stream does"


def test_every_answer_is_guarded(here: ConsoleWorld) -> None:
    browser = here.browser("alice")
    for path in ("/login", "/audit", "/nothing", "/static/console.css", "/api/openapi.json", "/api/v1/audit"):
        headers = browser.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_cookies_are_for_https_where_browsers_come_by_https(tmp_path: Path) -> None:
    section = {"listen": "http://127.0.0.1:8911", "public_url": "https://e911.example.com"}
    with console_world(tmp_path, console=section) as world:
        world.user("alice")
        browser = Browser(world.app, base_url="https://e911.example.com")
        answer = browser.log_in("alice")
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-edge911=")
        assert "Secure" in cookie
        assert "max-age" in answer.headers["strict-transport-security"]


def test_both_languages(here: ConsoleWorld) -> None:
    french = Browser(here.app, language="fr-CA,fr;q=0.9,en;q=0.5")
    assert "Mot de passe" in french.get("/login").text
    assert french.submit("/login", "/language", language="en", next="/login").headers["location"] == "/login"
    assert "Password" in french.get("/login").text
    assert 'lang="en"' in french.get("/login").text


def test_a_database_that_is_away_is_said_and_comes_back(here: ConsoleWorld, tmp_path: Path) -> None:
    browser = here.browser("alice")
    file = tmp_path / "edge911.db"
    here.console.store.close()
    good = file.read_bytes()
    for left in ("edge911.db-wal", "edge911.db-shm"):
        (tmp_path / left).unlink(missing_ok=True)
    file.write_bytes(b"no database at all" * 1000)
    answer = browser.get("/audit")
    assert answer.status_code == 503
    assert "database-corrupt" in answer.text
    here.console.store.close()
    file.write_bytes(good)
    assert browser.get("/audit").status_code == 200


def test_a_thousand_sessions(here: ConsoleWorld) -> None:
    from router.store.users import begin_session, get_user

    browser = here.browser("alice")
    now = time.time()
    with here.console.store.writing() as conn:
        user = get_user(conn, "alice")
        assert user is not None
        for _ in range(1000):
            begin_session(conn, user, address="192.0.2.7", now=now, seconds=60)
        assert count_sessions(conn, now) == 1001
        assert count_sessions(conn, now + 120) == 1
    assert browser.get("/audit").status_code == 200
