"""`edge911 users` and `edge911 tokens`, and the trail that every command leaves."""

import getpass
import re
from pathlib import Path

import pytest
import yaml

from router.store.audit import AuditRow, audit_rows
from router.store.engine import open_store, reading
from tests.support.commands import invoke
from tests.support.console import CONFIG, PASSWORD


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE911_CONFIG", raising=False)
    (tmp_path / "edge911.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def run(*arguments: str, text: str = PASSWORD + "\n") -> tuple[int, str, str]:
    result = invoke(arguments, input=text)
    return result.exit_code, result.stdout, result.stderr


def trail(folder: Path, subject: str) -> list[AuditRow]:
    engine = open_store(f"sqlite:///{folder}/edge911.db")
    try:
        with reading(engine) as conn:
            return audit_rows(conn, subject=subject)
    finally:
        engine.dispose()


def test_the_first_admin_and_others(folder: Path) -> None:
    assert run("users", "list") == (0, "no users; `edge911 users add NAME --role admin` makes the first\n", "")
    assert run("users", "add", "Alice", "--role", "admin", "--password-stdin") == (0, "alice: admin, all sites\n", "")
    assert run("users", "add", "lou", "--site", "lab", "--password-stdin") == (0, "lou: viewer, lab\n", "")
    assert run("users", "role", "lou", "--role", "engineer", "--site", "lab", "--site", "hq")[1] == (
        "lou: engineer, hq, lab\n"
    )
    assert run("users", "password", "lou", "--password-stdin") == (0, "lou: password changed\n", "")
    _, listed, _ = run("users", "list")
    assert re.search(r"alice +admin +all sites +local", listed)
    assert run("users", "remove", "LOU") == (0, "lou: removed\n", "")
    rows = trail(folder, "user:lou")
    assert [row.action for row in rows] == ["remove", "change-password", "change", "create"]
    assert {(row.who, row.via) for row in rows} == {(getpass.getuser(), "cli")}
    assert (rows[2].before, rows[2].after) == (
        {"role": "viewer", "sites": "lab", "source": "local"},
        {"role": "engineer", "sites": "hq lab", "source": "local"},
    )
    assert PASSWORD not in (folder / "edge911.db").read_bytes().decode("latin-1")


@pytest.mark.parametrize(
    ("arguments", "text", "named"),
    [
        (("users", "add", "a b", "--password-stdin"), PASSWORD, "username: 'a b' is not a user name"),
        (("users", "add", "x", "--password-stdin"), "short", "password: 5 characters; 10 at least"),
        (("users", "add", "x", "--password-stdin"), "", "password: 0 characters"),
        (("users", "add", "longname123", "--password-stdin"), "longname123", "hardly more than the user name"),
        (
            ("users", "add", "x", "--role", "king", "--password-stdin"),
            PASSWORD,
            "write viewer, desk, engineer, admin",
        ),
        (("users", "add", "x", "--site", "mars", "--password-stdin"), PASSWORD, "no site is called 'mars'"),
        (("users", "add", "x", "--role", "admin", "--site", "hq", "--password-stdin"), PASSWORD, "sees all sites"),
        (("users", "add", "x"), PASSWORD, "use --password-stdin"),
        (("users", "remove", "nobody"), "", "there is no user 'nobody'"),
        (("users", "password", "nobody", "--password-stdin"), PASSWORD, "there is no user 'nobody'"),
        (("users", "role", "nobody", "--role", "viewer"), "", "there is no user 'nobody'"),
        (("tokens", "add", "x", "--role", "king"), "", "write read, write, admin"),
        (("tokens", "add", " "), "", "a token needs a name"),
        (("tokens", "add", "x", "--role", "admin", "--site", "hq"), "", "an admin token sees all sites"),
        (("tokens", "remove", "nothing"), "", "there is no token 'nothing'"),
    ],
)
def test_what_cannot_be_is_said_with_its_remedy(
    folder: Path, arguments: tuple[str, ...], text: str, named: str
) -> None:
    code, out, err = run(*arguments, text=text)
    assert (code, out) == (1, "")
    assert named in err
    assert err.startswith("edge911: ")


def test_the_last_admin_stays(folder: Path) -> None:
    run("users", "add", "alice", "--role", "admin", "--password-stdin")
    for arguments in (("users", "remove", "alice"), ("users", "role", "alice", "--role", "viewer")):
        code, _, err = run(*arguments)
        assert code == 1
        assert "make somebody else an admin first" in err


def test_a_token_is_shown_once(folder: Path) -> None:
    assert run("tokens", "list") == (0, "no tokens\n", "")
    _, text, _ = run("tokens", "add", "crm", "--role", "write", "--site", "hq", "--days", "30")
    found = re.fullmatch(r"e911_([0-9a-f]{8})_[\w-]{40,}\n", text)
    assert found
    _, listed, _ = run("tokens", "list")
    assert re.search(rf"{found[1]} +crm +write +hq", listed)
    assert text.rpartition("_")[2].strip() not in listed
    assert run("tokens", "remove", found[1]) == (0, f"{found[1]} (crm): removed\n", "")
    assert [row.action for row in trail(folder, f"token:{found[1]}")] == ["remove", "create"]


def test_every_command_that_changes_devices_leaves_its_rows(folder: Path) -> None:
    (folder / "devices.csv").write_text("device,name,site\n4001,One,hq\n4002,Two,lab\n")
    assert run("locations", "import", "devices.csv")[0] == 0
    assert run("locations", "import", "devices.csv")[0] == 0
    assert run("locations", "set", "4001", "room=7")[0] == 0
    assert run("locations", "remove", "4001")[0] == 0
    rows = trail(folder, "device:4001")
    assert [(row.action, row.who, row.via) for row in rows] == [
        (action, getpass.getuser(), "cli") for action in ("remove", "change", "create")
    ], "what an import leaves as it was leaves no row"
    assert rows[1].after["room"] == "7"
    assert (rows[0].after, rows[0].before["name"]) == ({}, "One")
    assert [row.action for row in trail(folder, "device:4002")] == ["create"]
