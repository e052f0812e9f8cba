"""The call process: SIP, health and metrics, nothing else. Started by router.supervisor; `python -m router.app`."""

import gc

if __name__ == "__main__":
    gc.disable()  # what is imported stays: to look at it again and again is a fifth of a start; `begin` ends this

import asyncio
import hashlib
import logging
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path

from config.load import ConfigError, LoadedConfig, load_config
from e911.locate import DeviceTable
from e911.location import Device
from e911.lost import ValidatedAddresses
from e911.numbers import EmergencyNumbers
from e911.wiremap import WiremapTable
from router.callback.lease_keeper import LeaseKeeper
from router.calls.call_pages import CallPages, metrics_of
from router.calls.call_state import StateFile
from router.calls.dispatch import CallRouter
from router.calls.limits import MOST_TRANSACTIONS, Limit, warn, warn_of_sizes
from router.calls.overload import MOST, Overload
from router.calls.reloading import Reloading
from router.calls.setup import Setup
from router.dialogs.emergency_dialogs import journalled_dialogs
from router.dialogs.token_keys import TokenKeys, load_token_keys
from router.emergency.blocks import Blocks
from router.emergency.earlier import KEPT_SECONDS, EarlierCalls, read_earlier_calls
from router.emergency.rules import Rules
from router.journal.writer import JournalWriter
from router.locating.held_client import HeldClient, HostRules
from router.locating.lis_calls import LisCalls
from router.locating.lis_client import LisClient
from router.locations.device_feed import NOT_READ_YET, DeviceFeed
from router.locations.phone_notes import PhoneNotes
from router.locations.table_feed import TableFeed
from router.locations.validated_feed import followed_addresses
from router.locations.wiremap_feed import followed_wiremap
from router.network.certificate_renewal import CertificateRenewal
from router.network.certificates import Certificates, files_of
from router.network.listening import ListeningPoints, listening_points
from router.network.lookups import Resolver
from router.network.probes import Probes
from router.network.sources import Side, Sources
from router.network.standing import StandingConnections, emergency_trunks
from router.network.trunk_names import Addresses, TrunkNames
from router.network.trunks import Trunks
from router.process import garbage
from router.process.child_process import begin, end
from router.process.health import HealthServer
from router.process.key import load_key
from router.process.loop_faults import LoopFaults
from router.process.signs_of_life import Heartbeat, release_signals
from router.process.state_directory import NOT_ALONE, claim
from router.process.telemetry import DeferredLog, configure_logging
from router.trace.messages import Hello
from router.trace.server import TraceServer
from sip.locating import Server
from sip.parsing import near_limits
from sip.stream_limits import MAX_BUFFERED_BYTES, MAX_CONNECTIONS, MAX_STRANGERS
from sip.transport import SipEdge

log = logging.getLogger("edge911.calls")

DRAIN_SECONDS = 30.0
LAST_WORDS_SECONDS = 0.7
HOUSEKEEPING_SECONDS = 0.1
FIRST_LOOK_SECONDS = 0.7
"""So long a start waits for the database before calls are served without its devices."""
START_RESOLVE_SECONDS = 1.0
"""So long a start waits for the addresses of trunks that are given by name."""
RESTORE_SECONDS = 1.0
"""So long a start reads the journal for calls that are up."""

EXIT_CANNOT_START = 1


class CannotStartError(Exception):
    """The process cannot serve; the text says why and what to do."""


class App:
    """One call process, from start to stop."""

    def __init__(
        self, path: Path, loaded: LoadedConfig, logs: DeferredLog, heartbeat: Heartbeat | None = None
    ) -> None:
        self.path = path
        self.loaded = loaded
        self.logs = logs
        self.loop = asyncio.get_running_loop()
        servers = loaded.config.dns.endpoints
        self.dns_counts: Counter[str] = Counter()
        self.resolver = Resolver(servers, counts=self.dns_counts)
        """For names that peers bring along."""
        self.trunk_resolver = Resolver(servers, threads=2, counts=self.dns_counts)
        """For trunks, whose names shall not wait behind those of peers."""
        self.trunk_names = TrunkNames(self.trunk_resolver, loaded.state_directory, self.begin)
        self.key, self.key_problem = load_key(loaded.state_directory, loaded.config.node)
        self.points = ListeningPoints(listening_points(loaded.config))
        self.trunk_resolver.is_of_use = self._can_send_to
        self.certificates = Certificates(files_of(loaded))
        self.token_keys: TokenKeys | None = None
        self.devices = DeviceTable()
        self.database_health = "starting"
        self.journal = JournalWriter(loaded.state_directory / "journal", loaded.config.node)
        self.held = HeldClient(self.resolver.find_addresses, [point.host for point in self.points.points])
        self.router = CallRouter(
            self.setup(loaded, self.trunk_names.addresses(loaded)),
            key=self.key,
            journal=self.journal,
            devices=self.devices,
            now=self.loop.time,
            resolve=self.resolver.find,
            note=logs.note,
            ask_reference=self.held,
        )
        self.held.counts = self.router.counts
        self.lis = LisClient(
            self.resolver.find_addresses,
            time.time,
            lambda address: self.router.sources.reaches_inside(str(address)),
            self.router.counts,
        )
        self.router.lis = LisCalls(self.router, self.lis)
        self._use_references(loaded)
        self.probes = Probes(
            self.router.stack,
            self.router.trunks.health,
            key=self.key,
            domain=loaded.config.own_domain,
            began=time.time(),
            now=self.loop.time,
            renew=self.router.renew,
        )
        self.edge = SipEdge(
            self.router.stack,
            self.on_fault,
            self.points.localise,
            self._is_known,
            tls=self.certificates,
            peer_of=lambda flow: self.router.trunks.tls_peer_at(flow.host, flow.port),
            may_alias=lambda host: not self.router.sources.is_trunk(host),
            is_urgent=self.router.admission.looks_like_emergency,
        )
        self.router.edge = self.edge
        self.renewal = CertificateRenewal(self.certificates, self.edge, self.router.counts, self.begin)
        self.overload = Overload(
            self.router.admission.looks_like_emergency,
            self.edge.take,
            lambda data, flow: self.router.admission.refuse_if_new(self.edge.take, data, flow),
            self.loop.time,
            self.router.counts,
            self._say_overloaded,
        )
        self.edge.waiting = self.overload
        streams, stack = self.edge.streams, self.router.stack
        self.limits = (
            Limit("transactions", MOST_TRANSACTIONS, lambda: len(stack.servers)),
            Limit("connections", MAX_CONNECTIONS, lambda: streams.accepted - streams.strangers),
            Limit("connections-of-strangers", MAX_STRANGERS, lambda: streams.strangers),
            Limit("buffered-bytes", MAX_BUFFERED_BYTES, streams.held_bytes),
            Limit("waiting", sum(MOST.values()), lambda: len(self.overload)),
        )
        self._sizes_said: dict[str, int] = {}
        self.blocks = Blocks(loaded.state_directory)
        self.blocks.look()
        self.router.blocks = self.blocks
        self.router.phones = PhoneNotes(self.router, loaded.state_directory)
        self.trace = TraceServer(self.edge, loaded.state_directory, self._hello)
        self.router.call_began = self.trace.call_began
        self.edge.before_sending = self.router.before_sending
        self.standing = StandingConnections(
            self.edge, self.loop.time, lambda: self.router.trunks, lambda: self.loaded.config
        )
        self.heartbeat = heartbeat or Heartbeat(None)
        self.started_at = time.time()
        self.stopping = asyncio.Event()
        self._is_serving = False
        self.health: HealthServer | None = None
        self.lag = 0.0
        self._beats = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.state_file = StateFile(loaded.state_directory)
        self.addresses = self.trunk_names.addresses(loaded)
        """Those that the Setup in use was made with."""
        self.reloading = Reloading(self)
        self._job_faults: Counter[str] = Counter()
        self._jobs: tuple[tuple[int, str, Callable[[], None]], ...] = (
            (1, "writing to the journal", self.router.write_waiting),
            (1, "writing the log", self.logs.render),
            (10, "looking at limits", self._look_at_limits),
            (10, "looking whether the database answers", lambda: self.feed.watch(time.monotonic())),
            (10, "noting where phones are still", lambda: self.router.phones.look(self.router.now())),
            (10, "looking whether references are answered", self._look_at_references),
            (600, "looking at the sizes of messages", lambda: warn_of_sizes(near_limits, self._sizes_said)),
            (5, "looking for callers that were blocked by hand", self.blocks.look),
            (10, "showing that the process lives", self.heartbeat.beat),
            (10, "writing to the journal again", self._retry_journal),
            (1, "collecting garbage", garbage.collect_young),
            (10, "ending connections that are stuck", self.edge.streams.sweep),
            (20, "looking for new certificates", self.renewal.notice),
            (10, "looking for new addresses of trunks", self.reloading.notice_addresses),
            (50, "keeping what DNS said of trunks", self.trunk_names.keep),
            (50, "keeping leases of callback numbers", lambda: self.leases.keep()),
            (10, "keeping the addresses of desks", self.router.callbacks.keep_desks),
            (20, "telling how trunks fare", self._tell_state),
            (100, "holding connections to emergency trunks", self.standing.look),
            (100, "forgetting the addresses that peers see of us", self.edge.forget_sources),
            (300, "closing idle connections", self.edge.streams.close_idle),
            (600, "looking for certificates that end", self.certificates.warn),
            (600, "collecting garbage in a quiet moment", self._collect_when_quiet),
        )
        self.leases = LeaseKeeper(
            self.router.callbacks, self.journal, loaded.database_url, loaded.state_directory, loaded.config.node
        )
        self.feed = DeviceFeed(
            loaded.database_url,
            self._replace_devices,
            self._change_devices,
            self._database_health,
            directory=loaded.state_directory,
        )
        self.tables = TableFeed(
            loaded.database_url,
            [
                followed_wiremap(lambda: self.router.rules.attachment_fields.ignored_bits, self._use_wiremap),
                followed_addresses(self._use_validated),
            ],
            directory=loaded.state_directory,
        )
        self.metrics = metrics_of(self)

    @property
    def faults(self) -> int:
        """Faults of edge911 itself that were caught since the start, in calls and around them."""
        return self.router.counts["faults"]

    # ---- configuration ----

    def _can_send_to(self, server: Server) -> bool:
        """True where a listening point fits."""
        return self.points.choose(server.transport, server.address) is not None

    def setup(self, loaded: LoadedConfig, addresses: Addresses, before: Trunks | None = None) -> Setup:
        """Everything made from a configuration; a thread may do it, for many sites take seconds."""
        sources = Sources(loaded.config, addresses)
        trunks = Trunks(loaded.config, self.points, self.trunk_resolver, before)
        return Setup(
            Rules(loaded, sources.trunk_addresses, self.key), sources, trunks, self.points, self._token_keys(loaded)
        )

    def _token_keys(self, loaded: LoadedConfig) -> TokenKeys:
        """Those of the file; where that cannot be used the ones in use go on."""
        keys, problem = load_token_keys(loaded.state_directory, self.key)
        if problem:
            if self.token_keys is not None:
                keys = self.token_keys
            log.error(
                "token keys not usable: %s; %s",
                problem,
                "those in use stay" if self.token_keys is not None else "one derived from the node's key is used",
            )
        self.token_keys = keys
        return keys

    def use(self, loaded: LoadedConfig, setup: Setup, addresses: Addresses) -> None:
        """Configuration and what was made from it change together."""
        self.loaded, self.addresses = loaded, addresses
        self.router.use(setup)
        self.router.wiremap = self.router.wiremap.with_ignored_bits(setup.rules.attachment_fields.ignored_bits)
        self._probe()
        self._use_references(loaded)

    def _use_references(self, loaded: LoadedConfig) -> None:
        locations = loaded.config.locations
        self.router.references.use(locations.reference_server, loaded.state_directory, self.key)
        self._look_at_references()
        self.held.use(HostRules(locations.reference_hosts), locations.reference_timeout)

    def _probe(self) -> None:
        """Probe the trunks in use."""
        if self._is_serving:
            self.probes.use(self.router.trunks, emergency_trunks(self.loaded.config))
            self.edge.flush()

    def begin(self, work: Coroutine[object, object, None]) -> None:
        """Have it done beside the calls."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def on_hangup(self) -> None:
        """SIGHUP: read the configuration beside the calls."""
        self.begin(self.reloading.reload())

    def _tell_state(self) -> None:
        """Write down that we live and how trunks fare: console and `edge911 doctor` ask nothing of us."""
        self.state_file.write(
            {
                "serving": self._is_serving and not self.router.draining,
                "database": self.database_health,
                "devices": len(self.devices),
                "trunks": self.probes.report(time.time() - self.loop.time()),
            }
        )

    def log_warnings(self) -> None:
        """Those of the configuration in use."""
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

    def _use_wiremap(self, wiremap: WiremapTable) -> None:
        self.router.wiremap = wiremap

    def _use_validated(self, validated: ValidatedAddresses) -> None:
        self.router.validated = validated

    def _database_health(self, reason: str) -> None:
        self.database_health = reason
        if reason.startswith(NOT_READ_YET):
            return  # so it is at every start; said where it stays so
        if reason == "ok":
            log.info("registered devices: %d, database ok", len(self.devices))
        else:
            self._say_without_database()

    def _say_without_database(self) -> None:
        log.error(
            "registered devices not from the database: %s; 911 calls go on by what is known (%d devices), "
            "site address or basic 911",
            self.database_health,
            len(self.devices),
        )

    def _forget_earlier_calls(self) -> None:
        self.router.earlier = EarlierCalls()

    # ---- running ----

    async def start(self) -> None:
        """Load, listen, serve. Raises CannotStartError.

        Neither the database nor a name server is waited for longer than a second in all: whoever calls meanwhile
        gets no answer.
        """
        # Calls make no reference cycles (tested), so reference counts free what they leave behind; a pass of the
        # collector over the live transactions would hold up every call. It runs in quiet moments only.
        garbage.begin()
        self.feed.load_kept()
        self.tables.load_kept()
        self.feed.start()
        self.tables.start()
        has_looked, *_ = await asyncio.gather(
            self.feed.first_look(FIRST_LOOK_SECONDS),
            self.trunk_names.resolve(self.loaded, START_RESOLVE_SECONDS),
            self._restore_dialogs(),
            self.leases.restore(),
        )
        self.leases.start()
        if self.reloading.has_moved():
            addresses = self.trunk_names.addresses(self.loaded)
            self.use(self.loaded, self.setup(self.loaded, addresses, self.router.trunks), addresses)
        garbage.loaded()
        self.router.earlier = read_earlier_calls(self.loaded.state_directory / "journal", time.time())
        self.loop.call_later(KEPT_SECONDS, self._forget_earlier_calls)
        for point in self.points.points:
            try:
                if point.transport == "udp":
                    self.edge.listen_udp(point, point.host)
                elif point.transport == "tls" and self.certificates.server() is None:
                    self.renewal.waiting.append(point)
                    log.error(
                        "not listening on tls://%s: %s; mend it (`edge911 check`) and it is served within seconds",
                        point.bound_to,
                        "; ".join(map(str, self.certificates.material.troubles)) or "there is no certificate",
                    )
                else:
                    await self.edge.listen_stream(point, point.host)
            except OSError as error:
                raise CannotStartError(
                    f"cannot listen on {point.transport}://{point.bound_to}: {error.strerror or error}; "
                    "is another edge911 (or another SIP server) running, and is the address this machine's?"
                ) from None
        if len(self.renewal.waiting) == len(self.points.points):
            raise CannotStartError(
                "nothing to listen on: every listening point is tls://, and there is no certificate: "
                + "; ".join(map(str, self.certificates.material.troubles))
            )
        self.renewal.say()
        health = self.loaded.config.health
        if health is not None:
            self.health = HealthServer(CallPages(self).all())
            try:
                await self.health.start(health.host, health.port)
            except OSError as error:
                # Calls matter more than the page that tells of them.
                log.error("health.listen %s: %s; calls are served without it", health.listen, error)
        try:
            await self.trace.start()
        except OSError as error:
            log.warning("%s cannot be made: %s; calls are served, and cannot be traced", self.trace.path, error)
        if not has_looked:
            self._say_without_database()
        if self.key_problem:
            log.error("no key of this node: %s; one derived from the node's name is used", self.key_problem)
        self.log_warnings()
        served = [point for point in self.points.points if point not in self.renewal.waiting]
        self.heartbeat.beat()
        log.info("serving on %s; %d devices", ", ".join(map(repr, served)), len(self.devices))
        self.standing.look()
        self._housekeeping(self.loop.time())
        self._is_serving = True
        self._probe()

    async def _restore_dialogs(self) -> None:
        """The emergency calls that were up before the start; journalled again, for old segments go."""
        try:
            reading = asyncio.to_thread(journalled_dialogs, self.journal.directory)
            formed, ended = await asyncio.wait_for(reading, RESTORE_SECONDS)
            for dialog in self.router.dialogs.restore(formed, ended):
                self.router.write_later(dialog)
        except Exception as error:
            log.warning("dialogs-not-read: %s", error or "no time")

    def _housekeeping(self, due: float) -> None:
        """Ten times a second: what can wait until the loop has a moment. No fault of one job stops another."""
        now = self.loop.time()
        self.loop.call_at(now + HOUSEKEEPING_SECONDS, self._housekeeping, now + HOUSEKEEPING_SECONDS)
        self.lag = now - due
        self._beats += 1
        for every, doing, job in self._jobs:
            if self._beats % every == 0:
                try:
                    job()
                except Exception:
                    self.router.counts["faults"] += 1
                    self._job_faults[doing] += 1
                    if self._job_faults[doing] % 600 == 1:  # the first, then one a minute: the log may be what fails
                        log.exception("fault in edge911 itself, while %s; it is tried again", doing)

    def _look_at_references(self) -> None:
        self.router.references.look(time.time())

    def _look_at_limits(self) -> None:
        self.router.admission.look_at_limits()
        warn(self.limits, self.loop.time())

    def _say_overloaded(self) -> None:
        log.warning("overloaded: more comes than can be treated; 911 goes first, new ordinary calls may get 503")

    def _retry_journal(self) -> None:
        self.journal.retry()

    def _collect_when_quiet(self) -> None:
        if len(self.router.stack.servers) < 1000 and not self.router.in_progress():
            garbage.collect_all()

    def on_fault(self, error: str, data: bytes) -> None:
        """A fault of our own while a message was treated: loud, counted, survived. Tells nothing of the message but
        its method, length and a hash: what is in it may say who called and from where."""
        self.router.counts["faults"] += 1
        self.router.stack.drops["internal-error"] += 1
        fault = sys.exception()
        places = [
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(fault.__traceback__ if fault is not None else None)
        ]
        method = data.partition(b" ")[0]
        log.error(
            "fault in edge911 itself: %s at %s; the message: %s, %d bytes, hash %s",
            error.partition(":")[0],
            " < ".join(reversed(places)) or "a place unknown",
            method.decode() if method.isalpha() and len(method) < 20 else "no request",
            len(data),
            hashlib.blake2b(data, digest_size=4).hexdigest(),
        )

    async def drain(self) -> None:
        """SIGTERM: no new ordinary calls; 911 is served until its transactions end, 30 s at the most."""
        self.router.draining = True
        self._is_serving = False
        self.probes.stop()
        log.info("stopping: 911 is served until transactions end, %d s at the most", int(DRAIN_SECONDS))
        end = self.loop.time() + DRAIN_SECONDS
        was_busy = False
        while self.loop.time() < end and self.router.in_progress():
            was_busy = True
            await asyncio.sleep(0.05)
        if was_busy:
            await asyncio.sleep(LAST_WORDS_SECONDS)  # for a 2xx or an ACK that was lost and comes again
        await self.trace.close()
        await self.edge.close()
        if self.health is not None:
            self.health.close()
        self.feed.stop()
        self.leases.stop()
        self.tables.stop()
        self.held.close()
        self.lis.close()
        self.router.references.close()
        self.router.write_waiting()
        self.journal.retry()
        self.router.phones.settle(1.0)
        self.resolver.close()
        self.trunk_resolver.close()
        log.info("stopped")
        self.logs.finish()

    def _hello(self) -> Hello:
        """What those who follow messages need to know."""
        config = self.loaded.config
        return Hello(
            node=config.node,
            redact=config.log.redact,
            trunks=self.addresses,
            numbers=EmergencyNumbers(
                emergency=frozenset(config.emergency.numbers), test=frozenset(config.emergency.test_numbers)
            ),
        )

    def _is_known(self, host: str) -> bool:
        """True where an address is in a listed network, or a trunk's."""
        return self.router.sources.classify(host, 0).side is not Side.UNLISTED


async def serve(path: Path, loaded: LoadedConfig, logs: DeferredLog, heartbeat: Heartbeat) -> int:
    """Run one call process until SIGTERM or SIGINT."""
    app = App(path, loaded, logs, heartbeat)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, app.on_hangup)
    loop.set_exception_handler(LoopFaults(app.edge.counts, loop.time))
    release_signals()
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
    options = begin("router.app", __doc__)
    try:
        loaded = load_config(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CANNOT_START
    if claim(loaded.state_directory) is None:
        print(f"edge911: {NOT_ALONE.format(loaded.state_directory)}", file=sys.stderr)
        return EXIT_CANNOT_START
    logs = configure_logging(loaded.config.log, process="calls", node=loaded.config.node)
    return asyncio.run(serve(options.config, loaded, logs, options.heartbeat))


if __name__ == "__main__":
    end(main())
