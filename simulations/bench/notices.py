"""How long a notice takes, at a few calls and at 50 calls a second.

    python -m simulations.bench.notices [--rate 50] [--seconds 10]

First through a whole `edge911 run`: from the INVITE's arrival at the provider (the kernel's stamp) to the webhook
beginning to take the notice. Then by the notices process alone: from the journal line, written right before
the INVITE leaves, to the webhook having the whole notice. Calls are spread over so many sites that none is folded.
"""

import argparse
import asyncio
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml

from e911.location import CivicAddress, DispatchableLocation, LocationSource
from e911.record import Caller, CallIntent
from router.journal.writer import JournalWriter
from simulations.bench.measured import Spread, spread
from simulations.bench.timing import play
from simulations.bench.world import running_world

LATE_SECONDS = 30.0
SITES = 50
"""So many that none has more than 20 calls in 10 s, from where on notices are folded."""
CALM_RATE = 4
CALM_CALLS = 20
_RECORD = re.compile(r"\bbench-\d+\b")


class Sink(http.server.ThreadingHTTPServer):
    """Takes notices, and when each arrived."""

    daemon_threads = True

    def __init__(self) -> None:
        self.arrived: dict[str, float] = {}
        super().__init__(("127.0.0.1", 0), _Post)


class _Post(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        at = time.time()
        found = _RECORD.search(json.loads(body)["message"])
        assert isinstance(self.server, Sink)
        if found:
            self.server.arrived.setdefault(found[0], at)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def intent(number: int) -> CallIntent:
    """A call at a site of its own."""
    return CallIntent(
        id=f"bench-{number}",
        at=time.time(),
        node="bench",
        kind="emergency",
        call_id=f"{number}@bench",
        from_tag="t",
        dialled="911",
        caller=Caller(number="4102", device="4102", device_name="Front desk", callback="+12125550123"),
        site=f"site-{number}",
        zone="",
        location=DispatchableLocation(
            civic=CivicAddress(
                country="US", state="NY", city="New York", house_number="350", street="5th", floor="3"
            ),
            point=None,
            source=LocationSource.REGISTERED,
            method="Manual",
        ),
        location_sent=True,
        sources=(),
        first_route="primary",
        contacts=("desk",),
    )


async def measure_whole(rate: float, calls: int) -> tuple[Spread | None, int]:
    """Through call process and notices process: the times, in milliseconds, and how many notices never came."""
    with tempfile.TemporaryDirectory() as name:
        async with running_world(Path(name), calls, SITES) as world:
            played = await play(world, {"primary": "answers"}, calls, rate)
            await world.caught_up(LATE_SECONDS)
            arrived = await world.notices_arrived()
    sent = {number: call.invite_arrived.get("primary") for number, call in enumerate(played)}
    times = [(arrived[number] - at) / 1e6 for number, at in sent.items() if at and number in arrived]
    return spread(times), calls - len(times)


def measure(rate: int, seconds: float) -> tuple[Spread | None, int]:
    """The times, in milliseconds, and how many notices never came."""
    sink = Sink()
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    count = int(rate * seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = {
            "node": "bench",
            "listen": ["udp://127.0.0.1:5060"],
            "networks": {"inside": ["127.0.0.0/8"]},
            "contacts": {"desk": {"send": [f"json://127.0.0.1:{sink.server_port}/desk"]}},
        }
        (folder / "edge911.yaml").write_text(yaml.safe_dump(config))
        state = folder / "edge911-state"
        journal = JournalWriter(state / "journal", "bench")
        command = [sys.executable, "-m", "router.notices", "--config", str(folder / "edge911.yaml")]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        try:
            while not (state / "notices.json").exists():
                time.sleep(0.05)
            time.sleep(1.0)
            sent: dict[str, float] = {}
            begin = time.monotonic()
            for number in range(count):
                time.sleep(max(begin + number / rate - time.monotonic(), 0.0))
                event = intent(number)
                sent[event.id] = event.at
                journal.append(event)
            deadline = time.monotonic() + LATE_SECONDS
            while len(sink.arrived) < count and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            process.terminate()
            process.wait(20)
            journal.close()
            sink.shutdown()
            sink.server_close()
    times = [(sink.arrived[call] - at) * 1000 for call, at in sent.items() if call in sink.arrived]
    return spread(times), count - len(times)


def main() -> int:
    """Print the times; 1 where a notice never came. Slowness is no failure."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.notices", description=__doc__)
    parser.add_argument("--rate", type=int, default=50, help="calls a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    missing = 0
    for rate, calls in ((CALM_RATE, CALM_CALLS), (options.rate, int(options.rate * options.seconds))):
        times, lost = asyncio.run(measure_whole(rate, calls))
        missing += lost
        _show("webhook after the INVITE was at the provider", rate, times)
    times, lost = measure(options.rate, options.seconds)
    missing += lost
    _show("webhook after the journal line, notices process alone", options.rate, times)
    if missing:
        print(f"{missing} notices never came", file=sys.stderr)
    return 1 if missing else 0


def _show(what: str, rate: int, times: Spread | None) -> None:
    if times is not None:
        print(
            f"notice, {rate} calls/s, none folded, {what}, ms: "
            f"p50 {times.p50:.1f}, p90 {times.p90:.1f}, p99 {times.p99:.1f}, max {times.max:.1f} of {times.calls}"
        )


if __name__ == "__main__":
    sys.exit(main())
