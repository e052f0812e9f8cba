"""Each file in tests/data/config has exactly the problems that stand in expected/NAME.txt, as `check` prints them.

After a change of wording: EDGE911_RENEW_EXPECTED=1 pytest tests/config/test_bad_files.py, then read the diff.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from config.load import ConfigError, load_config

DATA = Path(__file__).parents[1] / "data" / "config"


def problems_of(file: str) -> list[str]:
    try:
        found = load_config(Path(file))
        errors, warnings = [], list(found.warnings)
    except ConfigError as error:
        errors, warnings = error.problems, error.warnings
    labelled = [replace(problem, message=f"warning: {problem.message}") for problem in warnings]
    return [str(problem) for problem in (*errors, *labelled)]


@pytest.mark.parametrize("file", sorted(path.name for path in DATA.glob("*.yaml")))
def test_problems_are_exactly_the_expected_ones(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    monkeypatch.delenv("EDGE911_TEST_UNSET", raising=False)
    expected = DATA / "expected" / f"{Path(file).stem}.txt"
    found = problems_of(file)
    if os.environ.get("EDGE911_RENEW_EXPECTED"):
        expected.write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
    assert found == expected.read_text(encoding="utf-8").splitlines()


def test_no_expectation_is_left_without_its_file() -> None:
    stems = {path.stem for path in DATA.glob("*.yaml")}
    assert {path.stem for path in (DATA / "expected").glob("*.txt")} == stems


def test_no_message_speaks_pydantic_or_python() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (DATA / "expected").glob("*.txt"))
    for jargon in (
        "Input should",
        "Value error",
        "pydantic",
        "https://errors",
        "dictionary",
        "NoneType",
        "Extra inputs",
    ):
        assert jargon not in text


def test_a_missing_file_says_so_at_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml:1:1: (file): there is no such file; check the name"


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r":1:1: \(file\): a directory; name a file"):
        load_config(tmp_path)


def test_an_unreadable_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "edge911.yaml"
    path.write_text("listen: [udp://127.0.0.1:5060]\n")

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match="this user may not read it; check its owner and mode"):
        load_config(path)
