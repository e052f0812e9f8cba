"""The world of the bench: a router with its devices and its configuration, and what it says of itself."""

import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from simulations.actor import Actor, free_port
from simulations.bench import usage
from simulations.bench.children import child
from simulations.edge import Edge, EdgeError

ROUTE_TIMEOUT_SECONDS = 2.0
FIRST_EXTENSION = 30_000
SINK_START_SECONDS = 10.0
PAGE_SECONDS = 2.0
_STREETS = ("Main", "Oak", "Pine", "Maple", "Cedar", "Elm", "Lake", "Hill", "Walnut", "River")
_SUFFIXES = ("ST", "AVE", "RD")
_CITIES = (
    ("NY", "Albany", "12207"),
    ("CA", "San Mateo", "94401"),
    ("TX", "Plano", "75023"),
    ("OH", "Dayton", "45402"),
)
_AREA_CODES = (518, 212, 415, 617, 312, 214, 206, 404, 303, 937)

Point = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Who is where: loopback addresses with ports that were free."""

    router: Point
    health: Point
    phones: Point
    primary: Point
    secondary: Point
    relay: Point
    sink: Point


def pick_addresses() -> Addresses:
    """Addresses of a loopback network that no other bench of this machine is likely to use. Raises OSError."""
    network = f"127.{160 + os.getpid() % 60}.{os.getpid() // 60 % 250 + 1}"

    def point(number: int) -> Point:
        host = f"{network}.{number}"
        return host, free_port(host)

    return Addresses(
        router=point(1),
        health=point(1),
        phones=point(2),
        primary=point(101),
        secondary=point(102),
        relay=point(121),
        sink=point(9),
    )


class World:
    """A router under test, in a folder of its own."""

    def __init__(self, folder: Path, addresses: Addresses, devices: int) -> None:
        self.folder = folder
        self.at = addresses
        self.devices = devices
        self.edge = Edge(folder)

    @property
    def pids(self) -> list[int]:
        """The processes of the router: supervisor first."""
        return usage.tree(self.edge.process.pid) if self.edge.process is not None else []

    def call_process(self) -> list[int]:
        """The one that serves SIP."""
        return [pid for pid in self.pids if usage.runs_module(pid, "router.app")]

    async def metrics(self) -> dict[str, float]:
        """What /metrics says, those without labels; empty where it cannot be had."""
        page = await get(self.at.health, "/metrics")
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        return {sample.name: sample.value for sample in samples if not sample.labels}

    async def caught_up(self, seconds: float) -> bool:
        """Wait until every event of the journal is in the database and every notice delivered; False: not in time."""
        asked_at = time.time()
        lags = ("journal_lag_bytes", "records_lag_bytes", "queued")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    metrics = await self.metrics()
                    is_news = metrics.get("edge911_notices_at", 0.0) >= asked_at
                    if is_news and not any(metrics.get(f"edge911_notices_{name}", 1.0) for name in lags):
                        return True
                    await asyncio.sleep(0.1)
        return False

    async def notices_taken(self) -> int:
        """How many notices the webhook has taken."""
        page = await get(self.at.sink, "/")
        return int(json.loads(page)["posts"]) if page else 0

    async def notices_arrived(self) -> dict[int, int]:
        """By the number of the device: when its first notice came, nanoseconds since 1970."""
        page = await get(self.at.sink, "/")
        return {int(number): at for number, at in json.loads(page)["arrived"].items()} if page else {}


@contextlib.asynccontextmanager
async def running_world(folder: Path, devices: int, sites: int = 1) -> AsyncIterator[World]:
    """A router that is ready for calls, and the webhook of its notices. Raises EdgeError or OSError.

    sites: the devices are spread over so many, one after the other.
    """
    world = World(folder, pick_addresses(), devices)
    (folder / "devices.csv").write_text(devices_csv(devices, sites), "utf-8")
    world.edge.write_config(config(world.at, sites))
    await world.edge.command("locations", "import", "devices.csv")
    async with started(world):
        yield world


@contextlib.asynccontextmanager
async def started(world: World) -> AsyncIterator[None]:
    """The router of a world whose configuration and devices are there. Raises EdgeError or OSError."""
    asking = Actor("bench", world.at.phones[0])
    try:
        async with _webhook_sink(world):
            await asking.start()
            await world.edge.start(world.at.router, world.at.health, asking)
            await asking.stop()
            await _devices_loaded(world)
            yield
    finally:
        await asking.stop()
        await world.edge.stop()


async def _devices_loaded(world: World) -> None:
    """Wait until every device is in the router's memory."""
    for _ in range(100):
        if (await world.metrics()).get("edge911_devices") == world.devices:
            return
        await asyncio.sleep(0.1)
    raise EdgeError(f"edge911 run did not load {world.devices} devices in 10 s: {world.edge.last_words()}")


@contextlib.asynccontextmanager
async def _webhook_sink(world: World) -> AsyncIterator[None]:
    host, port = world.at.sink
    command = [sys.executable, "-m", "simulations.bench.webhook_sink", "--listen", f"{host}:{port}"]
    async with child(command, world.folder, stdout=PIPE) as sink:
        assert sink.stdout is not None
        try:
            async with asyncio.timeout(SINK_START_SECONDS):
                if await sink.stdout.readline() != b"ready\n":
                    raise EdgeError(f"the webhook for the notices did not start on {host}:{port}")
        except TimeoutError:
            raise EdgeError(f"the webhook for the notices was not ready in {SINK_START_SECONDS:.0f} s") from None
        yield


async def get(point: Point, path: str) -> str:
    """A page by HTTP; empty where it cannot be had."""
    try:
        async with asyncio.timeout(PAGE_SECONDS):
            reader, writer = await asyncio.open_connection(*point)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {point[0]}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ""
    return body.decode() if head.startswith(b"HTTP/1.1 200") else ""


def extension(number: int) -> str:
    """The user part of a device."""
    return str(FIRST_EXTENSION + number)


def site_id(number: int) -> str:
    """The id of a site."""
    return f"campus-{number}" if number else "campus"


def devices_csv(count: int, sites: int = 1) -> str:
    """So many registered devices with a civic address each, as `edge911 locations import` reads them."""
    rows = [
        "device,name,callback,site,country,state,city,street,street_suffix,house_number,building,floor,room,postal_code"
    ]
    for number in range(count):
        state, city, postal_code = _CITIES[number % len(_CITIES)]
        street = f"{_STREETS[number // 7 % len(_STREETS)]},{_SUFFIXES[number % len(_SUFFIXES)]}"
        callback = f"+1{_AREA_CODES[number // 100 % len(_AREA_CODES)]}55501{number % 100:02}"
        place = f"{number + 1},Building {number % 12 + 1},{number % 30 + 1},{number % 900 + 100},{postal_code}"
        who = f"{extension(number)},Desk {number},{callback},{site_id(number % sites)}"
        rows.append(f"{who},US,{state},{city},{street},{place}")
    return "\n".join(rows) + "\n"


def config(at: Addresses, sites: int = 1) -> dict[str, Any]:
    """The router's configuration: everything on that is on in service."""

    def trunk(point: Point) -> dict[str, Any]:
        return {"target": f"sip:{point[0]}:{point[1]};transport=udp", "probe": "off", "large_messages": "udp"}

    def route(name: str) -> dict[str, Any]:
        return {"name": name, "trunk": name, "profile": "pidf-lo", "timeout": f"{ROUTE_TIMEOUT_SECONDS:g}s"}

    listen = f"{at.router[0]}:{at.router[1]}"
    return {
        "node": "bench",
        "domain": "edge911.example.com",
        "listen": [f"udp://{listen}", f"tcp://{listen}"],
        "health": {"listen": f"http://{at.health[0]}:{at.health[1]}"},
        "networks": {"inside": [f"{at.phones[0]}/32"]},
        "trunks": {"primary": trunk(at.primary), "secondary": trunk(at.secondary), "relay": trunk(at.relay)},
        "emergency": {
            "default": {"site": "campus"},
            "routes": [route("primary"), route("secondary")],
            "basic": [{"name": "relay", "trunk": "relay", "number": "+12125550140"}],
        },
        "locations": {"database": "sqlite:///edge911.db", "sources": ["registered", "site"]},
        "sites": [
            {
                "id": site_id(number),
                "name": f"Campus {number}",
                "timezone": "America/New_York",
                "address": {
                    "country": "US",
                    "state": "NY",
                    "city": "Albany",
                    "house_number": "1",
                    "street": "Lake",
                    "street_suffix": "RD",
                    "postal_code": "12207",
                },
                "callback": "+15185550100",
                "notify": ["desk"],
            }
            for number in range(sites)
        ],
        "contacts": {"desk": {"language": "en", "send": [f"json://{at.sink[0]}:{at.sink[1]}/911"]}},
        "log": {"level": "info", "format": "json"},
    }
