"""The command line: help, version, where -c may stand, exit codes, and modules that are missing or broken."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import router.cli
from router.cli import build_app, main
from router.cli.common import OPTION_BEFORE_COMMAND, ConfigOption, config_path, load_or_exit

GOOD = """listen: [udp://127.0.0.1:5060]
networks: {inside: [10.0.0.0/8]}
trunks: {a: {target: "sip:203.0.113.1:5060", probe: off, private_media: expected}}
emergency:
  default: {site: hq}
  routes: [{name: one, trunk: a}]
  basic: [{name: two, trunk: a, number: "911"}]
sites:
  - {id: hq, timezone: America/New_York, callback: "+12125550100", notify: [desk],
     address: {country: US, state: NY, city: Albany, street: Lake, house_number: "1", postal_code: "12207"}}
contacts: {desk: {send: "json://127.0.0.1:8099"}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE911_CONFIG", raising=False)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "warned.yaml").write_text(GOOD + "console: {listen: 'http://192.0.2.9:8911'}\n")
    (tmp_path / "bad.yaml").write_text(GOOD + "nodes: hq\nroutes: {outbound: [b]}\n")
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(build_app(), arguments)
    return result.exit_code, result.stdout, result.stderr


def test_help_teaches_the_usual_order() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert 0 < out.index("edge911 check") < out.index("edge911 explain") < out.index("edge911 run")
    assert "EDGE911_CONFIG" in out


def test_commands_stand_in_the_order_of_their_use() -> None:
    lines = run("--help")[1].partition("Commands:")[2].splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert shown == [name for name in router.cli.COMMANDS if name in shown]
    assert {"check", "schema"} <= set(shown)


def test_config_path_ends_with_1_where_there_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/etc/edge911/edge911.yaml").exists():
        pytest.skip("this machine has a configuration in /etc/edge911")
    OPTION_BEFORE_COMMAND.set(None)  # of a command that another test ran in this process
    with pytest.raises(typer.Exit) as caught:
        config_path(None)
    assert caught.value.exit_code == 1
    assert "no configuration found" in capsys.readouterr().err


def test_version() -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("edge911 0.")


def test_a_clean_file_is_one_line_and_0(folder: Path) -> None:
    assert run("check", "-c", "good.yaml") == (0, "good.yaml: no errors, no warnings\n", "")


def test_warnings_are_0(folder: Path) -> None:
    code, out, err = run("check", "-c", "warned.yaml")
    assert (code, out) == (0, "warned.yaml: 0 errors, 1 warning\n")
    assert err == (
        "warned.yaml:12:19: console.listen: warning: passwords and locations cross the network in clear; "
        "write https:// and give a certificate, or say public_url: https://NAME where a proxy in front speaks TLS\n"
    )


def test_errors_are_1_and_on_standard_error(folder: Path) -> None:
    code, out, err = run("check", "-c", "bad.yaml")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        'bad.yaml:12:1: nodes: unknown key; did you mean "node"?',
        'bad.yaml:13:21: routes.outbound[0]: no trunk is called "b"; known here: a',
        "bad.yaml: 2 errors, 0 warnings",
    ]


def test_json(folder: Path) -> None:
    code, out, err = run("check", "--json", "--config", "bad.yaml")
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert (found["file"], found["ok"], found["warnings"]) == ("bad.yaml", False, [])
    assert found["errors"][0] == {
        "file": "bad.yaml",
        "line": 12,
        "column": 1,
        "path": "nodes",
        "message": 'unknown key; did you mean "node"?',
    }
    code, out, _ = run("check", "--json", "-c", "warned.yaml")
    assert code == 0
    assert json.loads(out)["ok"] is True


def test_where_the_configuration_may_be_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("-c", "good.yaml", "check")[0] == 0
    assert run("-c", "bad.yaml", "check", "-c", "good.yaml")[0] == 0
    monkeypatch.setenv("EDGE911_CONFIG", "good.yaml")
    assert run("check")[0] == 0
    assert run("check", "-c", "bad.yaml")[0] == 1
    monkeypatch.delenv("EDGE911_CONFIG")
    (folder / "edge911.yaml").write_text(GOOD)
    assert run("check") == (0, "edge911.yaml: no errors, no warnings\n", "")


@pytest.mark.parametrize("arguments", [["-c", "good.yaml", "FILE"], ["FILE", "-c", "good.yaml"]])
def test_the_option_stands_before_or_after_the_arguments(folder: Path, arguments: list[str]) -> None:
    app, seen = build_app(), []

    @app.command("try")
    def try_it(file: Path, config: ConfigOption = None) -> None:
        seen.append((file, load_or_exit(config).config.node))

    assert CliRunner().invoke(app, ["try", *arguments]).exit_code == 0
    assert seen == [(Path("FILE"), "edge911")]


def test_load_or_exit_prints_every_problem_and_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        load_or_exit(Path("bad.yaml"))
    assert caught.value.exit_code == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["bad.yaml:12:1", "bad.yaml:13:21", "edge911"]


def test_no_configuration_says_where_it_looked(folder: Path) -> None:
    if Path("/etc/edge911/edge911.yaml").exists():
        pytest.skip("this machine has a configuration in /etc/edge911")
    code, out, err = run("check")
    assert (code, out) == (1, "")
    assert "looked at edge911.yaml and /etc/edge911/edge911.yaml" in err


def test_schema_prints_the_schema() -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert json.loads(out)["title"] == "edge911.yaml"


def test_a_wrong_command_line_is_2() -> None:
    assert run("chekc")[0] == 2
    assert run("check", "--jsn")[0] == 2


def test_a_command_whose_module_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router.cli, "COMMANDS", ("check", "no_such_command"))
    assert run("--help")[0] == 0


def test_a_command_that_cannot_be_imported_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_command.py").write_text("import no_such_module_at_all\n")
    monkeypatch.setattr(router.cli, "__path__", [*router.cli.__path__, str(tmp_path)])
    monkeypatch.setattr(router.cli, "COMMANDS", ("broken_command",))
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        build_app()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("4102", ""), "TO is empty"),
        (("4102", "  "), "TO is empty"),
        (("41\n02", "911"), "FROM: "),
        (("4102", "9\x1b[2J11"), "TO: "),
        (("4102", "911", "--source", "10.0.0.999"), "--source 10.0.0.999: not an IP address"),
    ],
)
def test_explain_refuses_what_no_call_can_be(folder: Path, arguments: tuple[str, ...], named: str) -> None:
    code, out, err = run("explain", "-c", "good.yaml", *arguments)
    assert (code, out) == (1, "")
    assert named in err
    assert "\x1b" not in err


def test_every_command_is_named_whole_in_the_overview(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for group in ((), ("locations",), ("calls",), ("users",), ("tokens",)):
        _, out, _ = run(*group, "--help")
        assert not out.rstrip().endswith("...")
        assert "...\n" not in out.partition("Commands:")[2]


def test_a_fault_of_our_own_is_one_line_and_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("the reason")

    monkeypatch.delenv("EDGE911_TRACEBACK", raising=False)
    monkeypatch.setattr(router.cli, "build_app", broken)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 3
    assert capsys.readouterr().err.splitlines() == [
        "edge911: a fault in edge911 itself: RuntimeError: the reason (EDGE911_TRACEBACK=1 shows where)"
    ]
    monkeypatch.setenv("EDGE911_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        main()


def test_help_imports_nothing_of_weight() -> None:
    code = (
        "import sys; sys.argv = ['edge911', '--help']\n"
        "from router.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'sqlalchemy', 'apprise', 'yaml', 'lxml', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
