"""911 calls at a given rate with SIPp as caller and as provider, and what they cost the router."""

import asyncio
import csv
import re
import shutil
import signal
import time
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from simulations.bench import usage
from simulations.bench.children import child, end
from simulations.bench.measured import LoadStep
from simulations.bench.world import Point, World, extension
from simulations.edge import EdgeError

SCENARIOS = Path(__file__).parent
START_SECONDS = 5.0
PATIENCE_SECONDS = 8.0
"""So long after the last call was due a step is given up."""
CATCH_UP_SECONDS = 12.0
STARTING_STEPS = 20
STARTING_STEP_SECONDS = 0.5
QUIET_CPU = 0.15
"""CPU seconds per second at which the router counts as started."""
_ERROR_TEXT = re.compile(r"\d{10}\.\d+: (.{0,150})")


def sipp_path() -> str | None:
    """Where SIPp is, or None."""
    return shutil.which("sipp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """The router without calls. CPU in seconds per second."""

    cpu: float
    call_process_cpu: float
    pss_mib: float


async def measure_idle(world: World, seconds: float) -> Idle:
    """Wait until what starting needs is done, then look on for so many seconds."""
    pids, sip_pids = world.pids, world.call_process()
    for _ in range(STARTING_STEPS):
        before = usage.cpu_seconds(pids)
        await asyncio.sleep(STARTING_STEP_SECONDS)
        if usage.cpu_seconds(pids) - before <= QUIET_CPU * STARTING_STEP_SECONDS:
            break
    started = time.monotonic()
    cpu, sip_cpu = usage.cpu_seconds(pids), usage.cpu_seconds(sip_pids)
    await asyncio.sleep(seconds)
    cpu, sip_cpu = usage.cpu_seconds(pids) - cpu, usage.cpu_seconds(sip_pids) - sip_cpu
    passed = time.monotonic() - started
    return Idle(cpu=cpu / passed, call_process_cpu=sip_cpu / passed, pss_mib=usage.pss_mib(pids))


async def measure_step(world: World, rate: int, seconds: float, idle: Idle) -> LoadStep:
    """Place rate * seconds calls. What the router uses without them is taken off.

    Raises EdgeError where SIPp does not start, or a process of the router ended.
    """
    calls = int(rate * seconds)
    folder = world.folder / f"load-{rate}"
    folder.mkdir()
    phones = [f"{extension(number)};Desk {number};" for number in range(world.devices)]
    (folder / "phones.csv").write_text("\n".join(["SEQUENTIAL", *phones, ""]), "utf-8")
    async with child(_command("provider", world.at.primary), folder) as provider:
        await _bound(provider, world.at.primary)
        pids, sip_pids = world.pids, world.call_process()
        cpu, sip_cpu, started = usage.cpu_seconds(pids), usage.cpu_seconds(sip_pids), time.monotonic()
        command = _command("caller", world.at.phones, world.at.router)
        # At most two seconds' worth of calls at a time: a router that hangs is not buried.
        command += ["-inf", "phones.csv", "-r", str(rate), "-m", str(calls), "-l", str(2 * rate)]
        async with child(command, folder) as caller:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds + PATIENCE_SECONDS):
                    await caller.wait()
            await end(caller, signal.SIGTERM)
        loaded = time.monotonic()
        load_cpu = usage.cpu_seconds(pids) - cpu - idle.cpu * (loaded - started)
        load_sip_cpu = usage.cpu_seconds(sip_pids) - sip_cpu - idle.call_process_cpu * (loaded - started)
        memory = usage.pss_mib(pids)
        await end(provider, signal.SIGUSR1)
    is_caught_up = await world.caught_up(CATCH_UP_SECONDS)
    quiet = time.monotonic()
    whole_cpu = usage.cpu_seconds(pids) - cpu - idle.cpu * (quiet - started)
    if set(world.pids) != set(pids):
        raise EdgeError(f"a process of the router ended at {rate} calls/s: {world.edge.last_words()}")
    sent, taken = _statistics(folder / "caller.csv"), _statistics(folder / "provider.csv")
    good = int(sent.get("SuccessfulCall(C)", 0))
    made = max(int(sent.get("TotalCallCreated", 0)), 1)
    return LoadStep(
        rate=rate,
        seconds=seconds,
        calls=calls,
        failed=min(max(calls - good, int(taken.get("FailedCall(C)", 0))), calls),
        retransmissions=int(sent.get("Retransmissions(C)", 0) + taken.get("Retransmissions(C)", 0)),
        rate_reached=round(_rate(sent), 1),
        cpu_ms_per_call=round(max(load_cpu, 0) * 1000 / made, 3),
        call_process_cpu_ms_per_call=round(max(load_sip_cpu, 0) * 1000 / made, 3),
        cpu_ms_per_call_with_records=round(max(whole_cpu, 0) * 1000 / made, 3),
        caught_up_seconds=round(quiet - loaded, 1) if is_caught_up else None,
        pss_mib=round(memory, 1),
        errors=_errors(folder),
    )


def _command(scenario: str, at: Point, to: Point | None = None) -> list[str]:
    """SIPp with an address of its own for SIP, media and control."""
    command = [sipp_path() or "sipp", *([f"{to[0]}:{to[1]}"] if to else [])]
    command += ["-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", at[0], "-p", str(at[1]), "-mi", at[0], "-ci", at[0]]
    command += [
        "-nostdin",
        "-skip_rlimit",
        "-buff_size",
        "4000000",
        "-trace_stat",
        "-stf",
        f"{scenario}.csv",
        "-fd",
        "1",
    ]
    return [*command, "-trace_err", "-error_file", f"{scenario}.errors"]


async def _bound(process: Process, point: Point) -> None:
    """Wait until SIPp has its UDP socket (from /proc/net/udp)."""
    octets = "".join(f"{int(octet):02X}" for octet in reversed(point[0].split(".")))
    wanted = f" {octets}:{point[1]:04X} "
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                if wanted in Path("/proc/net/udp").read_text():
                    return
                await asyncio.sleep(0.02)
    raise EdgeError(f"SIPp did not start on {point[0]}:{point[1]} (exit code {process.returncode})")


def _statistics(file: Path) -> dict[str, float]:
    """The last line of SIPp's statistics: counters, and times in seconds."""
    try:
        with file.open(newline="") as lines:
            rows = [row for row in csv.reader(lines, delimiter=";") if row]
    except OSError:
        return {}
    found = {}
    for name, value in zip(rows[0], rows[-1], strict=False) if len(rows) > 1 else ():
        with suppress(ValueError):
            found[name] = _number(value)
    return found


def _rate(sent: dict[str, float]) -> float:
    """Calls per second: SIPp ends with the end of the last call, and began that one a call's length earlier."""
    placing = sent.get("CurrentTime", 0.0) - sent.get("StartTime", 0.0) - sent.get("CallLength(C)", 0.0)
    return sent.get("TotalCallCreated", 0.0) / max(placing, 0.1)


def _number(text: str) -> float:
    """A number, a time of day (its part in seconds since 1970), or hours:minutes:seconds[:microseconds] in seconds.

    Raises ValueError.
    """
    parts = text.split("\t")[-1].split(":")
    if len(parts) == 1:
        return float(parts[0])
    hours, minutes, seconds, *rest = (int(part) for part in parts)
    return hours * 3600 + minutes * 60 + seconds + (rest[0] / 1e6 if rest else 0.0)


def _errors(folder: Path) -> list[str]:
    found: list[str] = []
    for name in ("caller", "provider"):
        with suppress(OSError):
            text = (folder / f"{name}.errors").read_text(errors="replace")[:20_000]
            found += [f"{name}: {line}" for line in dict.fromkeys(_ERROR_TEXT.findall(text))][:2]
    return found
