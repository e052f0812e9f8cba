"""What the README shows is what happens: its commands are run, and its excerpts are in the files they are of."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from router.cli import build_app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
STATE = "/var/lib/edge911"


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docs/examples as somebody would try them, with the phones registered; the current directory."""
    for file in (ROOT / "docs" / "examples").iterdir():
        text = file.read_text(encoding="utf-8").replace(STATE, str(tmp_path))
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE911_CONFIG", raising=False)
    shutil.copy("pbx.yaml", "edge911.yaml")
    return tmp_path


def run(command: str) -> str:
    """What a command line prints, both streams."""
    result = CliRunner().invoke(build_app(), command.split(), env={"COLUMNS": "200"})
    assert not isinstance(result.exception, (OSError, ValueError, KeyError)), result.exception
    return result.output


def shown(command: str) -> list[str]:
    """The lines that the README shows of a command, the first time it does."""
    for _, text in BLOCKS:
        first, *lines = text.splitlines()
        if first == f"$ edge911 {command}":
            return lines
    raise AssertionError(f"the README shows no output of edge911 {command}")


def assert_shown(lines: list[str], output: str) -> None:
    """Every line of the README in its order; a line of `…` stands for any others."""
    rest = output.splitlines()
    is_gap = False
    for line in lines:
        if line.strip() == "…":
            is_gap = True
            continue
        if is_gap:
            assert line in rest, f"{line!r} is not in\n{output}"
            del rest[: rest.index(line)]
        assert rest, f"the output ends before {line!r}:\n{output}"
        assert rest.pop(0) == line, output
        is_gap = False
    assert is_gap or not rest, f"the README leaves out: {rest}"


def test_the_commands_print_what_the_readme_shows(examples: Path) -> None:
    assert run("check").strip() == "edge911.yaml: no errors, no warnings"
    assert f"$ edge911 check\n{run('check')}" in README
    assert_shown(shown("locations import phones.csv"), run("locations import phones.csv"))
    command = "explain 4102 911 --source 10.20.0.10"
    assert_shown(shown(command), run(command))


def test_a_phone_of_the_hosted_example_is_found_by_its_network(examples: Path) -> None:
    run("locations import phones.csv")
    shutil.copy("hosted.yaml", "edge911.yaml")
    command = "explain 4199 911 --source 10.20.3.18"
    output = run(command)
    assert_shown([*shown(command), "…"], output)


def test_a_mistake_is_told_as_the_readme_tells_it(examples: Path) -> None:
    text = Path("edge911.yaml").read_text(encoding="utf-8")
    Path("edge911.yaml").write_text(text.replace("trunk: e911-a", "trunk: e911-x", 1), encoding="utf-8")
    assert_shown(shown("check"), run("check"))


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "yaml"])
def test_every_excerpt_is_of_an_example_or_fits_into_one(examples: Path, text: str) -> None:
    files = [*examples.glob("*.yaml"), *(ROOT / "config" / "providers").glob("*.yaml")]
    lines = _plain(text.replace(STATE, str(examples)))
    if any(lines <= _plain(file.read_text(encoding="utf-8")) for file in files):
        return
    whole = _over(yaml.safe_load(Path("pbx.yaml").read_text(encoding="utf-8")), yaml.safe_load(text))
    Path("edge911.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    problems = [line for line in run("check").splitlines() if re.match(r"\S+:\d+:\d+: (?!.*: warning: )", line)]
    # The example's other trunks may not fit to the excerpt's listening points.
    assert all("no listening point for" in line for line in problems), problems


def _plain(text: str) -> set[str]:
    """The lines without comments, and with blanks as one: the README lines them up in its own way."""
    lines = (" ".join(line.partition(" #")[0].split()) for line in text.splitlines())
    return {line for line in lines if line and not line.startswith("#")}


def _over(under: object, over: object) -> object:
    if isinstance(under, dict) and isinstance(over, dict):
        return under | {key: _over(under.get(key), value) for key, value in over.items()}
    return over
