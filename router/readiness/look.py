"""Everything that readiness is judged by, read once: configuration, devices, state of the processes, database."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from config.load import LoadedConfig
from config.problem import Problem
from e911.locate import DeviceTable
from e911.location import Device
from router.calls.call_state import NOTHING, CallState, read_state
from router.emergency.rules import Rules, places_of
from router.locations.device_feed import DeviceFeed
from router.locations.validated_feed import validated_now
from router.locations.validation import due_seconds, not_validated, places_not_validated
from router.locations.wiremap_feed import wiremap_now
from router.network.lookups import locate_now
from router.network.sources import Sources
from router.network.trunks import known_addresses, names_of
from router.process.telemetry import read_status
from router.readiness.phones import SitePhones, phones_of_sites
from router.self_test.schedule import routes_of, went_elsewhere
from router.self_test.shape import shape_of
from router.store.engine import open_store, reading
from router.store.errors import StoreError
from router.store.proofs import last_delivered
from router.store.records import call_events
from router.store.self_tests import SelfTest, latest


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was found. Times are seconds since 1970."""

    now: float
    loaded: LoadedConfig
    warnings: tuple[Problem, ...]
    phones: tuple[SitePhones, ...]
    calls: CallState = NOTHING
    notices: dict[str, object] = field(default_factory=dict)
    """What the notices process says of itself; empty where it does not."""
    database: str = "ok"
    """The name of what is wrong with it."""
    proven: dict[tuple[str, str], float] = field(default_factory=dict)
    """(contact, channel) → when it took a notice last."""
    tests: dict[tuple[str, str], SelfTest] = field(default_factory=dict)
    """(site, route) → the last test call."""
    tested_elsewhere: dict[tuple[str, str], str] = field(default_factory=dict)
    """(site, route) → where that call went, where the route leads elsewhere by now."""
    tested_otherwise: frozenset[tuple[str, str]] = frozenset()
    """Sites and routes whose calls are made otherwise by now than that test call was."""
    not_validated: dict[str, int] = field(default_factory=dict)
    """Site → devices whose address is not known to be valid; empty where no LVF is configured."""
    places_not_validated: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Site → (SITE or SITE/ZONE, what the LVF said) of addresses in the configuration that it does not call valid."""


def down_trunks(calls: CallState) -> frozenset[str]:
    """Trunks that do not answer, as the call process says."""
    return frozenset(trunk.name for trunk in calls.trunks if trunk.state in ("down", "no-address"))


def look(loaded: LoadedConfig, progress: Callable[[int], None] = lambda _: None) -> Look:
    """Read everything. Never raises for what is missing: that is a finding."""
    now = time.time()
    devices = DeviceTable()

    def take(found: list[Device]) -> None:
        for device in found:
            devices.put(device)

    health: list[str] = []
    feed = DeviceFeed(
        loaded.database_url, take, lambda _changed, _removed: None, health.append, directory=loaded.state_directory
    )
    feed.load_now()
    feed.stop()
    config = loaded.config
    located = locate_now(config.dns.endpoints, names_of(config.trunks))
    sources = Sources(config, known_addresses(config.trunks, located.__getitem__))
    rules = Rules(loaded, sources.trunk_addresses, bytes(32))
    wiremap = wiremap_now(loaded.database_url, loaded.state_directory, config.locations.wiremap.bssid_ignored_bits)
    database = health[-1] if health else "ok"
    calls = read_state(loaded.state_directory)
    down = frozenset[str]() if calls.is_stale(now) else down_trunks(calls)
    proven: dict[tuple[str, str], float] = {}
    tests: dict[tuple[str, str], SelfTest] = {}
    elsewhere: dict[tuple[str, str], str] = {}
    otherwise: set[tuple[str, str]] = set()
    try:
        engine = open_store(loaded.database_url, create=False)
        try:
            with reading(engine) as conn:
                proven, tests = last_delivered(conn), latest(conn)
                for site, route in routes_of(config, []):
                    test = tests.get((site.id, route))
                    if test is not None and (
                        sent := went_elsewhere(config, site, route, call_events(conn, test.call))
                    ):
                        elsewhere[site.id, route] = sent
                    if test is not None and test.shape not in ("", shape_of(loaded, site, route)):
                        otherwise.add((site.id, route))
        finally:
            engine.dispose()
    except StoreError as error:
        database = error.reason
    return Look(
        now=now,
        loaded=loaded,
        warnings=tuple(loaded.warnings),
        phones=tuple(phones_of_sites(rules, devices, now=now, wiremap=wiremap, down=down, progress=progress)),
        calls=calls,
        notices=read_status(loaded.state_directory / "notices.json"),
        database=database,
        proven=proven,
        tests=tests,
        tested_elsewhere=elsewhere,
        tested_otherwise=frozenset(otherwise),
        not_validated=dict(not_validated(devices, places_of(config), due_seconds(config), now))
        if config.locations.lvf is not None
        else {},
        places_not_validated=places_not_validated(
            rules.places, validated_now(loaded.database_url, loaded.state_directory), due_seconds(config), now
        )
        if config.locations.lvf is not None
        else {},
    )
