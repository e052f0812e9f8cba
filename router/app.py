"""The call process: SIP, health and metrics, nothing else. Started by router.supervisor; `python -m router.app`."""

import argparse
import asyncio
import gc
import logging
import signal
import sys
import time
from pathlib import Path

from config.load import ConfigError, LoadedConfig, load_config
from e911.locate import DeviceTable
from e911.location import Device
from router.decision import Rules
from router.device_feed import DeviceFeed
from router.dispatch import CallRouter, Setup
from router.health import Answer, HealthServer, json_answer
from router.journal import JournalWriter
from router.key import load_key
from router.lookups import Resolver
from router.parent import die_with_parent
from router.sources import Sources
from router.telemetry import CounterGroup, Gauge, LaterHandler, Metrics, configure_logging, notices_status
from router.trunks import ListeningPoints, Trunks
from sip.stack import ListeningPoint
from sip.transport import SipEdge

log = logging.getLogger("edge911.calls")

DRAIN_SECONDS = 30.0
HOUSEKEEPING_SECONDS = 0.1
EXIT_CANNOT_START = 1


class CannotStartError(Exception):
    """The process cannot serve; the text says why and what to do."""


class App:
    """One call process, from start to stop."""

    def __init__(self, path: Path, loaded: LoadedConfig, logs: LaterHandler) -> None:
        self.path = path
        self.loaded = loaded
        self.logs = logs
        self.loop = asyncio.get_running_loop()
        self.resolver = Resolver()
        self.key, self.key_problem = load_key(loaded.state_directory, loaded.config.node)
        self.points = ListeningPoints(
            [
                ListeningPoint(listen.transport, listen.host, listen.port)
                for listen in loaded.config.listen
                if listen.transport != "tls"
            ]
        )
        self.devices = DeviceTable()
        self.database_health = "starting"
        self.journal = JournalWriter(loaded.state_directory / "journal", loaded.config.node)
        self.router = CallRouter(
            self.setup_from(loaded),
            key=self.key,
            journal=self.journal,
            devices=self.devices,
            now=self.loop.time,
            resolve=self.resolver.ask,
            note=logs.note,
        )
        self.edge = SipEdge(self.router.stack, self.on_fault, self.points.localise)
        self.router.edge = self.edge
        self.faults = 0
        self.started_at = time.time()
        self.stopping = asyncio.Event()
        self.health: HealthServer | None = None
        self.lag = 0.0
        self._beats = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._known_addresses: dict[str, tuple[str, ...]] = {}
        self.feed = DeviceFeed(
            loaded.database_url,
            self._replace_devices,
            self._change_devices,
            self._database_health,
            directory=loaded.state_directory,
        )
        self.metrics = self._metrics()

    # ---- configuration ----

    def setup_from(self, loaded: LoadedConfig) -> Setup:
        """Everything made from a configuration; trunk names as far as they are resolved now."""
        trunks = Trunks(loaded.config, self.points, self.resolver)
        sources = Sources(loaded.config, trunks.addresses())
        return Setup(Rules(loaded, sources.trunk_addresses, self.key), sources, trunks, self.points)

    def on_hangup(self) -> None:
        """SIGHUP: read the configuration in a thread, for a large one takes seconds."""
        task = self.loop.create_task(self.reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self) -> None:
        """Take the new configuration, or keep the old one and say what is wrong with the new."""
        try:
            loaded = await asyncio.to_thread(load_config, self.path)
        except ConfigError as error:
            for problem in error.problems:
                log.error("configuration refused, the old one stays: %s", problem)
            self.router.counts["reloads_refused"] += 1
            return
        old = self.loaded.config
        if (
            loaded.config.listen != old.listen
            or loaded.config.health != old.health
            or loaded.database_url != self.loaded.database_url
        ):
            log.warning("listen, health.listen and locations.database change at the next restart only")
        self.loaded = loaded
        self.router.use(self.setup_from(loaded))
        self.router.counts["reloads"] += 1
        self._log_warnings()
        log.info("configuration reloaded")

    def _log_warnings(self) -> None:
        for problem in self.loaded.warnings:
            log.warning("configuration: %s", problem)

    # ---- devices ----

    def _replace_devices(self, devices: list[Device]) -> None:
        for device in list(self.devices):
            self.devices.remove(device.device)
        for device in devices:
            self.devices.put(device)

    def _change_devices(self, changed: list[Device], removed: list[str]) -> None:
        for name in removed:
            self.devices.remove(name)
        for device in changed:
            self.devices.put(device)

    def _database_health(self, reason: str) -> None:
        self.database_health = reason
        if reason == "ok":
            log.info("registered devices: %d, database ok", len(self.devices))
        else:
            log.error(
                "registered devices not from the database: %s; 911 calls go on by what is known (%d devices), "
                "site address or basic 911",
                reason,
                len(self.devices),
            )

    # ---- running ----

    async def start(self) -> None:
        """Load, listen, serve. Raises CannotStartError."""
        await self._resolve_trunks()
        self.feed.load_now()
        for point in self.points.points:
            try:
                if point.transport == "udp":
                    self.edge.listen_udp(point, point.host)
                else:
                    await self.edge.listen_tcp(point, point.host)
            except OSError as error:
                raise CannotStartError(
                    f"cannot listen on {point.transport}://{point.sent_by.decode()}: {error.strerror or error}; "
                    "is another edge911 (or another SIP server) running, and is the address this machine's?"
                ) from None
        if not self.points.points:
            raise CannotStartError("no udp:// or tcp:// listening point; tls:// is not built yet")
        health = self.loaded.config.health
        if health is not None:
            self.health = HealthServer(
                {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics_page}
            )
            try:
                await self.health.start(health.host, health.port)
            except OSError as error:
                # Calls matter more than the page that tells of them.
                log.error("health.listen %s: %s; calls are served without it", health.listen, error)
        self.feed.start()
        if self.key_problem:
            log.error("no key of this node: %s; one derived from the node's name is used", self.key_problem)
        self._log_warnings()
        log.info("serving on %s; %d devices", ", ".join(map(repr, self.points.points)), len(self.devices))
        self._housekeeping(self.loop.time())
        # Calls make no reference cycles (tested), so reference counts free what they leave behind; a pass of the
        # collector over the live transactions would hold up every call. It runs in quiet moments only.
        gc.collect()
        gc.freeze()
        gc.disable()

    async def _resolve_trunks(self) -> None:
        waiting = [self._resolved(state.config.host) for state in self.router.trunks.states.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=3.0)
        self._known_addresses = self.router.trunks.addresses()
        self.router.use(self.setup_from(self.loaded))

    def _resolved(self, host: str) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = self.loop.create_future()

        def told(_: tuple[str, ...]) -> None:
            if not done.done():
                done.set_result(None)

        self.resolver.ask(host, told)
        return done

    def _housekeeping(self, due: float) -> None:
        """Ten times a second: what can wait until the loop has a moment."""
        now = self.loop.time()
        self.lag = now - due
        self.router.write_waiting()
        self.logs.render()
        self._beats += 1
        if self._beats % 300 == 0:
            self.edge.close_idle()
        if self._beats % 600 == 0 and len(self.router.stack.servers) < 1000 and not self._in_progress():
            gc.collect()
        if self._beats % 50 == 0:
            addresses = self.router.trunks.addresses()
            if addresses != self._known_addresses:
                self._known_addresses = addresses
                self.router.use(self.setup_from(self.loaded))
        self.loop.call_at(now + HOUSEKEEPING_SECONDS, self._housekeeping, now + HOUSEKEEPING_SECONDS)

    def on_fault(self, error: str, data: bytes) -> None:
        """A fault of our own while a message was treated: loud, counted, survived."""
        self.faults += 1
        self.router.stack.drops["internal-error"] += 1
        log.exception("fault in edge911 itself: %s; message begins %r", error, data[:60])

    async def drain(self) -> None:
        """SIGTERM: no new ordinary calls; 911 is served until its transactions end, 30 s at the most."""
        self.router.draining = True
        log.info("stopping: 911 is served until transactions end, %d s at the most", int(DRAIN_SECONDS))
        end = self.loop.time() + DRAIN_SECONDS
        while self.loop.time() < end and self._in_progress():
            await asyncio.sleep(0.05)
        await self.edge.close()
        if self.health is not None:
            self.health.close()
        self.feed.stop()
        self.router.write_waiting()
        log.info("stopped")
        self.logs.finish()

    def _in_progress(self) -> bool:
        return any(not server.is_answered for server in self.router.stack.servers.values())

    # ---- pages ----

    def _healthz(self) -> Answer:
        return json_answer(
            200,
            {
                "status": "ok",
                "node": self.loaded.config.node,
                "uptime_seconds": round(time.time() - self.started_at, 1),
                "database": self.database_health,
                "devices": len(self.devices),
                "journal": self.journal.last_error or "ok",
                "notices": notices_status(self.loaded.state_directory / "notices.json"),
            },
        )

    def _readyz(self) -> Answer:
        if self.router.draining:
            return json_answer(503, {"status": "stopping"})
        return json_answer(200, {"status": "ready"})

    def _metrics_page(self) -> Answer:
        return 200, "text/plain; version=0.0.4; charset=utf-8", self.metrics.text()

    def _metrics(self) -> Metrics:
        router = self.router
        stack = router.stack
        return Metrics(
            [
                CounterGroup("edge911_dropped", "messages dropped or refused, by reason", "reason", stack.drops),
                CounterGroup("edge911_events", "what happened to calls, by name", "event", router.counts),
                CounterGroup("edge911_transactions_events", "transaction layer, by name", "event", stack.counts),
                CounterGroup("edge911_transport_events", "sockets, by name", "event", self.edge.counts),
            ],
            [
                Gauge("edge911_server_transactions", "requests being served", lambda: len(stack.servers)),
                Gauge("edge911_client_transactions", "requests sent on", lambda: len(stack.clients)),
                Gauge("edge911_connections", "TCP connections", lambda: len(self.edge.connections)),
                Gauge("edge911_devices", "registered devices in memory", lambda: len(self.devices)),
                Gauge(
                    "edge911_database_ok",
                    "1 where devices come from the database",
                    lambda: float(self.database_health == "ok"),
                ),
                Gauge("edge911_journal_failures", "events not journalled", lambda: self.journal.failures),
                Gauge("edge911_loop_lag_seconds", "how late the event loop was", lambda: self.lag),
                Gauge("edge911_faults", "faults of edge911 itself", lambda: self.faults),
                Gauge("edge911_start_time_seconds", "when the process started", lambda: self.started_at),
                Gauge("edge911_draining", "1 while stopping", lambda: float(router.draining)),
                Gauge("edge911_log_lines_lost", "log lines nobody could take", lambda: self.logs.lost),
            ],
            self.loaded.state_directory / "notices.json",
        )


async def serve(path: Path, loaded: LoadedConfig, logs: LaterHandler) -> int:
    """Run one call process until SIGTERM or SIGINT."""
    app = App(path, loaded, logs)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, app.on_hangup)
    try:
        await app.start()
    except CannotStartError as error:
        print(f"edge911: {error}", file=sys.stderr)
        logs.finish()
        return EXIT_CANNOT_START
    await app.stopping.wait()
    await app.drain()
    return 0


def main() -> int:
    """Entry point of the call process."""
    parser = argparse.ArgumentParser(prog="python -m router.app", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--parent", type=int, metavar="PID", help="process to end with; default: whoever started this"
    )
    options = parser.parse_args()
    die_with_parent(options.parent)
    try:
        loaded = load_config(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CANNOT_START
    logs = configure_logging(loaded.config.log, process="calls", node=loaded.config.node)
    return asyncio.run(serve(options.config, loaded, logs))


if __name__ == "__main__":
    sys.exit(main())
