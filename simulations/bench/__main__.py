"""`python -m simulations.bench`: measures a real `edge911 run` on this machine, and shows it."""

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from simulations.bench import usage
from simulations.bench.load import measure_idle, measure_step, sipp_path
from simulations.bench.measured import Failover, Latency, LoadStep, Measurements
from simulations.bench.table import render
from simulations.bench.timing import FIRST_PROVIDERS, measure_failover, measure_latency
from simulations.bench.world import running_world
from simulations.edge import EdgeError

REQUIRED_RATE = 500
"""Calls per second at which no call may fail; what fails above it is this machine's limit, and no error."""
MAX_RATE = 5000
MAX_SECONDS = 20.0
TIME_LIMIT = 300.0
CATCH_UP_SECONDS = 30.0

DESCRIPTION = """\
Measures what 911 calls cost: starts a real `edge911 run` in a temporary
directory, on loopback addresses, with generated registered devices and
records, journal, notices (to a local webhook), metrics and log all on. Then:

  load      911 calls with location at several rates, SIPp as caller and as
            provider; the provider fails a call without its location
  latency   what the router adds from INVITE to 180, at 200 calls/s
  failover  from the caller's INVITE to the next provider's, where the first
            refuses (503), has a closed port, or is silent

Nothing leaves this machine, and nothing is left behind. Needs SIPp 3.6
(apt-get install sip-tester) and Linux.
"""
EPILOG = """\
examples:
  python -m simulations.bench                   all of it: about 40 s
  python -m simulations.bench --quick           a small one: about 15 s
  python -m simulations.bench --rates 500,1500 --json > bench.json

How to read it:
  Run it twice on an idle machine; the load average is shown, and another busy
  process changes every time here. SIPp needs as much CPU as the router: on two
  processors it sets the highest rate as much as the router does.

exit code:
  0  every call went as it should
  1  a call failed in the latency or failover part, or at a rate up to 500/s; a
     silent provider was left before its timeout; a record or every notice is
     missing; or the router ended. Never because something was slow.
  2  it could not be run: no SIPp, wrong options
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and how much of it."""

    rates: tuple[int, ...] = (200, 500, 1000)
    seconds: float = 4.0
    idle_seconds: float = 4.0
    latency_rate: int = 200
    latency_seconds: float = 5.0
    failover_calls: int = 20
    devices: int = 10_000


QUICK = Plan(
    rates=(50, 200),
    seconds=1.0,
    idle_seconds=0.5,
    latency_rate=100,
    latency_seconds=1.0,
    failover_calls=5,
    devices=2_000,
)


async def measure(plan: Plan, folder: Path, say: Callable[[str], None]) -> Measurements:
    """Measure everything. Raises EdgeError or OSError where the router or a peer cannot be had."""
    before = usage.load_average()
    say(f"import {plan.devices} devices, start the router")
    async with running_world(folder, plan.devices) as world:
        say(f"idle for {plan.idle_seconds:g} s")
        idle = await measure_idle(world, plan.idle_seconds)
        load: list[LoadStep] = []
        for rate in plan.rates:
            say(f"load: {rate} calls/s for {plan.seconds:g} s")
            load.append(await measure_step(world, rate, plan.seconds, idle))
        say(f"latency: {plan.latency_rate} calls/s for {plan.latency_seconds:g} s")
        latency = await measure_latency(world, plan.latency_rate, plan.latency_seconds)
        failover: list[Failover] = []
        for first_provider in FIRST_PROVIDERS:
            say(f"failover: {plan.failover_calls} calls, the first provider {_in_words(first_provider)}")
            failover.append(await measure_failover(world, first_provider, plan.failover_calls))
        is_caught_up = await world.caught_up(CATCH_UP_SECONDS)
        notices = await world.notices_taken()
        metrics = await world.metrics()
    problems = find_problems(load, latency, failover)
    if not notices:
        problems.append("notices: none arrived at the webhook")
    if not is_caught_up:
        problems.append(f"records and notices had not caught up {CATCH_UP_SECONDS:g} s after the last call")
    for name in ("edge911_faults", "edge911_journal_failures"):
        if count := int(metrics.get(name, 0)):
            problems.append(f"{name}: {count}")
    return Measurements(
        version=version("edge911"),
        python=platform.python_version(),
        processors=len(os.sched_getaffinity(0)),
        load_average_before=before,
        load_average_after=usage.load_average(),
        devices=plan.devices,
        idle_cpu_percent=round(idle.cpu * 100, 1),
        idle_pss_mib=round(idle.pss_mib, 1),
        load=load,
        latency=latency,
        failover=failover,
        notices_taken=notices,
        problems=problems,
    )


def find_problems(load: list[LoadStep], latency: Latency, failover: list[Failover]) -> list[str]:
    """What must not be, in words. Slowness is none of it."""
    problems = [
        _failed(f"load: {step.failed} of {step.calls} calls failed at {step.rate}/s", step.errors)
        for step in load
        if step.failed and step.rate <= REQUIRED_RATE
    ]
    if latency.failed:
        problems.append(_failed(f"latency: {latency.failed} of {latency.calls} calls failed", latency.errors))
    for case in failover:
        name = f"failover, first provider {_in_words(case.first_provider)}"
        if case.failed:
            problems.append(_failed(f"{name}: {case.failed} of {case.calls} calls failed", case.errors))
        if case.early:
            problems.append(f"{name}: {case.early} calls left it before its timeout of {case.timeout_ms:g} ms")
    return problems


def _failed(text: str, errors: list[str]) -> str:
    return f"{text} ({'; '.join(errors)})" if errors else text


def _in_words(first_provider: str) -> str:
    return {"refuses": "refuses (503)", "closed": "has a closed port", "silent": "is silent"}[first_provider]


async def _run(plan: Plan, say: Callable[[str], None]) -> Measurements:
    task = asyncio.current_task()
    assert task is not None
    # SIGTERM unwinds like Ctrl-C, so that every process is ended and the folder removed.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="edge911-bench-") as folder:
        async with asyncio.timeout(TIME_LIMIT):
            return await measure(plan, Path(folder), say)


def _rates(text: str) -> tuple[int, ...]:
    try:
        rates = tuple(int(part) for part in text.split(","))
    except ValueError:
        rates = ()
    if not rates or len(set(rates)) < len(rates) or not all(1 <= rate <= MAX_RATE for rate in rates):
        raise argparse.ArgumentTypeError(f"{text!r}: different rates from 1 to {MAX_RATE}, such as 200,500")
    return rates


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r}: seconds from 1 to {MAX_SECONDS:g}")
    return seconds


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m simulations.bench",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer calls and devices, lower rates: about 15 s")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--rates", type=_rates, metavar="N,N", help="calls/s of the load part (200,500,1000)")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="length of each of its steps (4)")
    return parser.parse_args(arguments)


def main() -> int:
    """Entry point; the exit code."""
    options = read_options()
    plan = QUICK if options.quick else Plan()
    plan = dataclasses.replace(plan, rates=options.rates or plan.rates, seconds=options.seconds or plan.seconds)
    progress = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def say(text: str) -> None:
        progress.print(f"bench: {text}")

    if sys.platform != "linux":
        say("needs Linux: CPU and memory are read from /proc")
        return 2
    if sipp_path() is None:
        say("no SIPp on the PATH: install it (apt-get install sip-tester)")
        return 2
    try:
        found = asyncio.run(_run(plan, say))
    except TimeoutError:
        say(f"not done in {TIME_LIMIT:g} s; given up")
        return 1
    except (EdgeError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except asyncio.CancelledError:
        return 143
    if options.json:
        print(json.dumps({"ok": found.ok, **dataclasses.asdict(found)}, indent=1))
    else:
        render(found, Console(width=80, highlight=False))
    return 0 if found.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
