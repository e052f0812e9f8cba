"""The bench: what it measures is complete and consistent, and a call that went wrong is seen. No time is asserted."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulations.actor import free_port
from simulations.bench import usage
from simulations.bench.__main__ import find_problems, read_options
from simulations.bench.measured import Failover, Latency, LoadStep, spread
from simulations.bench.player import Plan, Player, Role

SECONDS = 90
COMMAND = [sys.executable, "-m", "simulations.bench"]

STEP = LoadStep(
    rate=500,
    seconds=4.0,
    calls=2000,
    failed=0,
    retransmissions=7,
    rate_reached=250.0,
    cpu_ms_per_call=90.0,
    call_process_cpu_ms_per_call=80.0,
    cpu_ms_per_call_with_records=99.0,
    caught_up_seconds=None,
    pss_mib=900.0,
    errors=[],
)
SLOW = spread([5000.0, 9000.0])
LATENCY = Latency(rate=200, calls=2, failed=0, invite_ms=SLOW, ringing_ms=SLOW, added_ms=SLOW, errors=[])
FAILOVER = Failover(
    first_provider="silent", calls=2, failed=0, early=0, timeout_ms=2000.0, next_invite_ms=SLOW, errors=[]
)


def test_a_spread_is_by_nearest_rank() -> None:
    found = spread(float(number) for number in reversed(range(1, 201)))
    assert found is not None
    assert (found.calls, found.min, found.p50, found.p90, found.p99, found.max) == (200, 1, 100, 180, 198, 200)
    assert spread([]) is None
    alone = spread([3.0])
    assert alone is not None
    assert alone.min == alone.p50 == alone.p99 == alone.max == 3.0


def test_slowness_is_no_problem_and_a_failed_call_is() -> None:
    assert find_problems([STEP], LATENCY, [FAILOVER]) == []
    limit = replace(STEP, rate=1000, failed=9)
    assert find_problems([limit], LATENCY, [FAILOVER]) == []
    found = find_problems(
        [replace(STEP, failed=3, errors=["caller: no answer"])],
        replace(LATENCY, failed=1),
        [replace(FAILOVER, failed=2), replace(FAILOVER, early=1)],
    )
    assert found == [
        "load: 3 of 2000 calls failed at 500/s (caller: no answer)",
        "latency: 1 of 2 calls failed",
        "failover, first provider is silent: 2 of 2 calls failed",
        "failover, first provider is silent: 1 calls left it before its timeout of 2000 ms",
    ]


@pytest.mark.parametrize("rates", ["0", "5001", "200,200", "many", ""])
def test_rates_out_of_bounds_are_refused(rates: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options(["--rates", rates])
    assert ended.value.code == 2
    assert "different rates from 1 to 5000" in capsys.readouterr().err


def test_cpu_and_memory_of_a_tree_are_those_of_all_its_processes() -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    with subprocess.Popen([sys.executable, "-c", inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pids = usage.tree(process.pid)
        assert len(pids) == 2
        assert pids[0] == process.pid
        assert usage.cpu_seconds(pids) >= 0.28  # 0.3 s, less the rounding of two counters
        assert usage.cpu_seconds([process.pid]) < usage.cpu_seconds(pids)
        assert usage.pss_mib(pids) > usage.pss_mib([process.pid]) > 1
        process.communicate(b"\n")


@pytest.mark.parametrize(
    ("role", "failure"),
    [
        ("answers", "424 Bad Location Information"),
        ("refuses", "503 Service Unavailable"),
        ("silent", "never answered"),
    ],
)
def test_the_player_fails_calls_that_are_refused_unanswered_or_without_location(role: Role, failure: str) -> None:
    """There is no router between, so no location is added."""
    provider = ("127.0.0.1", free_port("127.0.0.1"))
    plan = Plan(
        name="alone",
        router=provider,
        caller=("127.0.0.2", free_port("127.0.0.2")),
        providers={"primary": provider},
        roles={"primary": role},
        extensions=["30000"],
        calls=3,
        rate=50.0,
        patience=0.5 if role == "silent" else 20.0,
    )
    played = Player(plan).play()
    assert [call.failure for call in played] == [failure] * 3
    for call in played:
        assert call.invite_arrived["primary"] > 0
        assert call.ringing_arrived == 0


def test_without_sipp_it_says_what_to_install(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "sip-tester" in done.stderr


@pytest.mark.long
@pytest.mark.peers
def test_a_quick_bench_places_every_call_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*COMMAND, "--quick", "--json"], capture_output=True, text=True, timeout=SECONDS, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert found["problems"] == []
    assert found["devices"] == 2000
    assert [(step["rate"], step["calls"], step["failed"]) for step in found["load"]] == [(50, 50, 0), (200, 200, 0)]
    for step in found["load"]:
        assert step["rate_reached"] > 0
        assert found["idle_pss_mib"] / 2 < step["pss_mib"]

    latency = found["latency"]
    assert latency["failed"] == 0
    for name in ("invite_ms", "ringing_ms", "added_ms"):
        times = latency[name]
        assert times["calls"] == latency["calls"] == 100
        assert 0 < times["min"] <= times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
    assert latency["added_ms"]["min"] >= latency["invite_ms"]["min"] + latency["ringing_ms"]["min"] - 0.01

    assert [case["first_provider"] for case in found["failover"]] == ["refuses", "closed", "silent"]
    for case in found["failover"]:
        assert (case["failed"], case["early"], case["next_invite_ms"]["calls"]) == (0, 0, 5), case
    assert found["failover"][2]["next_invite_ms"]["min"] >= found["failover"][2]["timeout_ms"] == 2000

    assert found["notices_taken"] > 0
    assert list(tmp_path.iterdir()) == []
    assert _processes_in(tmp_path) == []


@pytest.mark.long
@pytest.mark.peers
def test_a_bench_that_is_told_to_end_ends_what_it_started(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [*COMMAND, "--quick", "--seconds", "20"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as bench:
        assert bench.stderr is not None
        try:
            assert any("load:" in line for line in bench.stderr)
            while not any("sipp" in command for command in _processes_in(tmp_path)):
                assert bench.poll() is None
            bench.terminate()
            assert bench.wait(SECONDS) == 143
        finally:
            bench.kill()
    assert list(tmp_path.iterdir()) == []
    assert _processes_in(tmp_path) == []


def _processes_in(folder: Path) -> list[str]:
    """Command lines that name the folder, or that run in it."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                place, command = os.readlink(process / "cwd"), (process / "cmdline").read_bytes().decode()
            except OSError:
                continue
            if str(folder) in place or str(folder) in command:
                found.append(command)
    return found


@pytest.mark.long
@pytest.mark.parametrize(("most", "code"), [("60000", 0), ("0", 1)])
def test_the_longest_pause_with_many_transactions_alive_is_measured(most: str, code: int) -> None:
    command = [sys.executable, "-m", "simulations.bench.alive", "--transactions", "100", "--most", most]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == code, done.stderr
    assert "server transactions alive" in done.stdout
    assert "INVITE" in done.stdout
    assert "young objects" in done.stdout
