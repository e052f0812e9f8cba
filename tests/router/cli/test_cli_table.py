"""Tables fit the terminal: a line for each thing, whatever its width; in a pipe nothing is cut."""

import pytest
from rich.cells import cell_len

from router.cli.table import print_table

HEADINGS = ("When", "Site", "Caller", "Route", "Id")
ROWS = [
    ("2026-11-22 21:39:58 EST", "albany / albany-3e", "4102", "primary", "1c78df99406ffbe8971c"),
    (
        "2026-11-22 21:39:58 EST",
        "montréal-siège-social / 32e étage",
        "+15145550121",
        "backup",
        "81c9e9310d0d1179febb",
    ),
]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    return monkeypatch


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_table(HEADINGS, ROWS, cut=("Site", "Id"), drop=("Route",))
    text = capsys.readouterr().out
    for style in ("\x1b[1m", "\x1b[0m"):
        text = text.replace(style, "")
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("width", [66, 72, 80, 100, 120, 160])
def test_each_thing_is_one_line_that_fits(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    terminal.setenv("COLUMNS", str(width))
    lines = printed(capsys)
    assert len(lines) == 1 + len(ROWS)
    assert all(cell_len(line) <= width for line in lines), lines
    for row, line in zip(ROWS, lines[1:], strict=True):
        assert row[0] in line
        assert row[2] in line
        assert row[4][:7] in line


def test_without_room_the_least_of_columns_goes_and_with_room_nothing_does(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.setenv("COLUMNS", "64")
    assert "Route" not in printed(capsys)[0]
    terminal.setenv("COLUMNS", "120")
    assert "Route" in printed(capsys)[0]


def test_in_a_pipe_nothing_is_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    lines = printed(capsys)
    assert all(cell in line for row, line in zip(ROWS, lines[1:], strict=True) for cell in row)
