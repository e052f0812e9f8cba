"""`edge911 demo` as its users run it: a process, its output, its exit code, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EDGE911 = Path(sys.executable).parent / "edge911"
pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(240)]


class Place:
    """Empty home, temporary and working directories for one run, and a setting of the user's that must not matter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("tmp", "home", "work"):
            (folder / name).mkdir()
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "EDGE911_CONFIG": "/nonexistent/edge911.yaml",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
        }

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(EDGE911), "demo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=self.folder / "work",
            env=self.environment,
        )

    @property
    def left(self) -> list[str]:
        """Files that are there."""
        return [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.parent != self.folder]

    @property
    def processes(self) -> list[str]:
        """Command lines of processes that work on anything in here, as the router and its children do."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if str(self.folder) in line:
                    found.append(line)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the demo, and what was there after it."""

    code: int
    out: str
    err: str
    left: list[str]
    processes: list[str]

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as JSON: nothing else may stand there."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def run_demo(folder: Path, *arguments: str) -> Run:
    place = Place(folder)
    process = place.start("--time-limit", "150", *arguments)
    try:
        out, err = process.communicate(timeout=200)
    finally:
        process.kill()
    return Run(code=process.returncode, out=out, err=err, left=place.left, processes=place.processes)


@pytest.fixture(scope="module")
def as_text(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_demo(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def as_json(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_demo(tmp_path_factory.mktemp("json"), "--json")


def test_all_goes_well(as_text: Run, as_json: Run) -> None:
    assert as_text.code == 0, as_text.out + as_text.err
    assert as_json.code == 0, as_json.out + as_json.err
    assert as_json.document["ok"] is True
    assert as_json.document["problems"] == []


def test_nothing_is_left_behind(as_text: Run, as_json: Run) -> None:
    assert (as_text.left, as_text.processes) == ([], [])
    assert (as_json.left, as_json.processes) == ([], [])


def test_text_fits_a_terminal_and_has_no_colour_codes_in_a_pipe(as_text: Run) -> None:
    assert "\x1b" not in as_text.out
    assert [line for line in as_text.out.splitlines() if len(line) > 80] == []
    assert as_text.err == ""


def test_the_screens_show_what_arrived(as_text: Run) -> None:
    first, second, third = as_text.out.split("── Call ")[1:4]
    for shown in ("(212) 555-0112", "NORA QUINN", "350 5TH AVE", "NEW YORK NY 10118 US", "FLOOR 12   ROOM 1204"):
        assert shown in first
    assert "LAT +40.748400  LON -73.985700" in first
    assert "Taken by   ERS A, dialled sip:911@127.0.0." in first
    assert "(212) 555-0170" in second
    assert "NO LOCATION" in second
    assert "dialled sip:+12125550140@127.0.0." in second
    assert "(212) 555-0127" in third
    assert "FLOOR 3   ROOM 312" in third
    assert "Taken by   ERS B" in third


def test_the_ladder_shows_the_call_from_invite_to_bye(as_text: Run) -> None:
    ladder = as_text.out.split("SIP ladder")[1].split("Notice mail")[0].splitlines()
    seen = [
        next((word for word in ("INVITE", "100", "180", "200", "ACK", "BYE") if f" {word} " in line), "")
        for line in ladder
    ]
    for word in ("INVITE", "100", "180", "200", "ACK", "BYE"):
        # Three hops each: phone to PBX, PBX to router, router to provider (a 200 for the INVITE and for the BYE).
        assert seen.count(word) == (6 if word == "200" else 3), (word, ladder)
    times = [float(line.split()[0]) for line in ladder if line[:1] == " " and "│" in line]
    assert times == sorted(times)
    assert "INVITE +location" in "".join(ladder)


def test_the_notices_are_shown_as_the_desk_received_them(as_text: Run) -> None:
    mails = [part.split("PASS")[0] for part in as_text.out.split("| From: ")[1:]]
    assert len(mails) == 3
    assert all(mail.startswith("edge911@example.com") and "| To: desk@example.com" in mail for mail in mails)
    assert "Subject: 911 dialled: Nora Quinn (4012), Head office" in mails[0]
    assert "Callback number: +12125550112" in mails[0]
    assert "none is known" in mails[1]
    assert "Also: Bench by the north door" in mails[2]


def test_every_group_of_expectations_has_its_line(as_text: Run) -> None:
    passed = [line.split()[1] for line in as_text.out.splitlines() if line.startswith("  PASS  ")]
    assert passed.count("Notice") == passed.count("Record") == passed.count("SDP") == passed.count("Callback") == 3
    assert passed.count("Location") == passed.count("Provider") == 2
    assert passed.count("Basic") == passed.count("Failover") == 1
    assert "FAIL" not in as_text.out


def test_json_holds_the_same(as_json: Run) -> None:
    first, second, third = as_json.document["calls"]
    assert first["ali"]["civic"] == {
        "country": "US",
        "state": "NY",
        "city": "New York",
        "street": "5th",
        "street_suffix": "AVE",
        "house_number": "350",
        "postal_code": "10118",
        "floor": "12",
        "room": "1204",
    }
    assert first["ali"]["point"] == {"latitude": 40.7484, "longitude": -73.9857}
    assert first["ali"]["callback"] == "+12125550112"
    assert second["ali"]["civic"] is None
    assert second["ali"]["callback"] == "+12125550170"
    assert [call["record"]["route"] for call in (first, second, third)] == ["ers-a", "relay-centre", "ers-b"]
    assert [step["outcome"] for step in third["record"]["routes"] if step["route"] == "ers-a"][-1] == "unreachable"
    for call in (first, second, third):
        assert call["ok"] is True
        assert call["notice"]["envelope_to"] == ["desk@example.com"]
        assert call["record"]["id"] in call["notice"]["text"]
        times = call["milliseconds"]
        assert 0 < times["arrived"] < times["rang"] < times["answered"]
        assert times["notice"] > 0
        assert call["ladder"][0]["message"].startswith("INVITE sip:911@")
        assert {step["from"] for step in call["ladder"]} == {step["to"] for step in call["ladder"]}
    assert "call 3 of 3" in as_json.err


@pytest.mark.long
@pytest.mark.parametrize(
    ("peer", "failing", "groups"),
    [("provider", [1, 3], {"Call", "Record"}), ("desk", [1, 2, 3], {"Notice", "Record"})],
)
def test_a_broken_peer_is_found_out(tmp_path: Path, peer: str, failing: list[int], groups: set[str]) -> None:
    run = run_demo(tmp_path, "--json", "--break", peer)
    assert run.code == 1, run.err
    document = run.document
    assert document["ok"] is False
    assert [call["number"] for call in document["calls"] if not call["ok"]] == failing
    for call in document["calls"]:
        failed = {check["name"] for check in call["checks"] if not check["ok"]}
        assert failed == (groups if call["number"] in failing else set()), call["checks"]
    assert document["problems"]
    for problem in document["problems"]:
        assert problem.startswith(tuple(f"call {number}, " for number in failing))
    assert (run.left, run.processes) == ([], [])


@pytest.mark.long
def test_a_broken_peer_is_named_in_text(tmp_path: Path) -> None:
    run = run_demo(tmp_path, "--break", "relay")
    assert run.code == 1, run.out
    first, second, rest = run.out.partition("── Records")[0].split("── Call ")[1:4]
    assert "FAIL" not in first
    assert "FAIL" not in rest
    assert [line.split()[1] for line in second.splitlines() if line.startswith("  FAIL")] == ["Call"]
    assert "FAIL  Call       the phone heard no ringing" in second
    assert "the call was not answered: 503" in second
    assert "│◀─ 503 Service" in second
    summary = run.out.partition("── Summary")[2]
    assert "PASS  call 1 by ers-a" in summary
    assert "FAIL  call 2 by relay-centre" in summary
    assert "never" in summary
    assert "wrong: call 2, Record: outcome is failed (503)" in summary
    assert "NOT all went as it should" in summary
    assert [line for line in run.out.splitlines() if len(line) > 80] == []
    assert (run.left, run.processes) == ([], [])


@pytest.mark.long
def test_it_gives_up_in_time(tmp_path: Path) -> None:
    place = Place(tmp_path)
    process = place.start("--time-limit", "0.3", "--json")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    document = json.loads(out)
    assert len(document["problems"]) == 1
    assert document["problems"][0].startswith("not done within 0.3 s; it was at: ")
    assert (place.left, place.processes) == ([], [])


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    place = Place(tmp_path)
    process = place.start()
    assert process.stdout is not None
    try:
        while not place.processes:  # until the router, or what comes before it, is there
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert f"{number.name}: ending the router and all peers" in out
    assert (place.left, place.processes) == ([], [])


def test_an_unknown_peer_to_break_is_a_wrong_command_line(tmp_path: Path) -> None:
    process = Place(tmp_path).start("--break", "phone")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "provider, relay, desk" in err
