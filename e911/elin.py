"""ELINs and callbacks: which number a caller is shown under, for how long, and who is called back by it.

An ELIN (emergency location identification number) is lent to a phone without a number of its own when it dials 911.
Its lease says which phone that was and by which way it called. A phone with a number of its own has a lease of that
number, for the same reason: whoever calls the number back meanwhile reaches that very phone.

Time and leases in, decisions out; times are seconds since 1970. Nothing here waits or raises for what calls bring.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple

SHARED = "elin-shared"
"""Every ELIN was in use, so that two callers have the same one; a callback reaches the one who called last."""
LEASES_KEPT = 100_000
"""Leases that are remembered; those of the numbers lent longest ago are forgotten beyond it."""
CALLERS_KEPT = 50
"""Leases of one number that are remembered; beyond it those of test calls go first, then what ends first."""
REMEMBERED_SECONDS = 7 * 86_400.0
"""So long after its end a lease is still known: whose it was, and which number has been idle longest."""
LOW_SHARE = 5
"""A pool is low when one ELIN in so many is left (one at the least)."""


class LeaseKind(StrEnum):
    """What number it is of."""

    ELIN = "elin"
    OWN = "own"


class PoolState(StrEnum):
    """How much of a pool is left."""

    OK = "ok"
    LOW = "elin-pool-low"
    EMPTY = "elin-pool-empty"


@dataclass(slots=True, kw_only=True)
class WayBack:
    """By which way a call came, so that a callback can go the same. Header fields are kept as they came."""

    trunk: str = ""
    """Name of the trunk (a PBX) it came from, or empty for a phone that sent it itself."""
    user: str = ""
    """What the caller is called at that PBX."""
    aor: str = ""
    """From: the caller's address of record."""
    contact: str = ""
    """Contact: where a phone says it is, and which instance it is (+sip.instance, RFC 5626)."""
    transport: str = ""
    """`udp`, `tcp` or `tls`."""
    host: str = ""
    port: int = 0
    """Where the call came from."""
    point_host: str = ""
    point_port: int = 0
    """The listening point it came in by, as bound."""
    process: int = 0
    connection: int = 0
    """Numbers of the process that had the connection and of the connection; 0 for datagrams."""
    noted_at: float = 0.0
    """When it was seen, at the call or at a registration since: of two that are read again the later one counts."""


@dataclass(slots=True, kw_only=True)
class Lease:
    """One number, lent to one caller. Never changed: another takes its place."""

    number: str
    """+E.164."""
    caller: str
    """What the caller is known again by: a registered device, or user and where from."""
    call: str
    """Record id of the last 911 call under it."""
    kind: LeaseKind
    pool: str = ""
    """SITE or SITE/ZONE whose ELIN it is; empty for a number of the phone's own."""
    who: str = ""
    """The caller as people know it: device, number or user."""
    site: str = ""
    zone: str = ""
    node: str = ""
    since: float
    """When the caller first had it, without a gap."""
    until: float
    is_test: bool = False
    """True where only test calls were made under it."""
    is_vouched: bool = False
    """True where a PBX, or a source whose identities are believed, says who called."""
    reason: str = ""
    """`elin-shared`, or empty."""
    contacts: tuple[str, ...] = ()
    way_back: WayBack = field(default_factory=WayBack)
    released_at: float | None = None

    def is_live(self, now: float) -> bool:
        """True until its end."""
        return self.until > now


class Choice(NamedTuple):
    """The number a caller is to have."""

    number: str
    pool: str
    reason: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The ELINs of a site, or of a zone of one."""

    name: str
    site: str
    zone: str
    numbers: tuple[str, ...]
    """+E.164."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUse:
    """How much of the ELINs that a caller may have is in use."""

    pool: str
    total: int
    free: int

    @property
    def state(self) -> PoolState:
        """`ok`, low while one in LOW_SHARE or only one is left, or empty."""
        if self.free == 0:
            return PoolState.EMPTY
        return PoolState.LOW if self.total > 1 and self.free <= max(1, self.total // LOW_SHARE) else PoolState.OK


class Pools:
    """All pools of a configuration; never changed."""

    def __init__(self, pools: Iterable[Pool] = (), of_all: Iterable[str] = ()) -> None:
        """of_all: numbers that are everybody's (a site's callback number and desk), +E.164: lent to nobody."""
        self.of_all = frozenset(of_all)
        self.all = tuple(pool for pool in pools if pool.numbers)
        self._by_place = {(pool.site, pool.zone): pool for pool in self.all}
        self.by_number: dict[str, Pool] = {}
        for pool in self.all:
            for number in pool.numbers:
                self.by_number.setdefault(number, pool)

    def __bool__(self) -> bool:
        return bool(self.all)

    def of(self, site: str, zone: str) -> tuple[Pool, ...]:
        """The pools for a caller in a zone of a site, in the order in which to take from them."""
        places = [(site, zone), (site, "")] if zone else [(site, "")]
        return tuple([pool for place in places if (pool := self._by_place.get(place)) is not None])


def pool_name(site: str, zone: str) -> str:
    """SITE or SITE/ZONE."""
    return f"{site}/{zone}" if zone else site


def _prefers_none(_: str) -> bool:
    return False


class Leases:
    """Every lease that is known, live or over, by number and by caller; for one thread."""

    def __init__(self, pools: Pools | None = None) -> None:
        self.pools = pools or Pools()
        self._by_number: dict[str, dict[str, Lease]] = {}
        """By number, then by caller; who called last stands last."""
        self._by_caller: dict[str, Lease] = {}
        """The last ELIN of each caller."""
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._by_number)

    def __len__(self) -> int:
        return self._count

    def all(self) -> list[Lease]:
        """Every lease, in no particular order."""
        return [lease for found in self._by_number.values() for lease in found.values()]

    def choose(
        self,
        site: str,
        zone: str,
        caller: str,
        now: float,
        *,
        is_test: bool = False,
        prefers: Callable[[str], bool] = _prefers_none,
    ) -> Choice | None:
        """The ELIN for a caller without a number; None where the place has none. Nothing is lent yet.

        The same caller has the same one again while its lease lasts, but for one that is shared while another has
        become free. Else from the zone, then from the site: the one fewest callers have, of those the one that this
        node prefers, then the one idle longest. A test call's lease counts little: a 911 call rather takes that
        number than share one. None free: the least used one is shared.
        """
        pools = self.pools.of(site, zone)
        if not pools:
            return None
        kept: Choice | None = None
        own = self._by_caller.get(caller)
        if own is not None and own.is_live(now):
            name = next((pool.name for pool in pools if own.number in pool.numbers), None)
            if name is not None:
                if not self._real_use(own.number, caller, now, is_test):
                    return Choice(own.number, name, "", own.since)
                kept = Choice(own.number, name, SHARED, own.since)
        for pool in pools:
            best = self._best(pool, caller, now, is_test, prefers)
            if not self._real_use(best, caller, now, is_test):
                return Choice(best, pool.name, "", now)
        return kept or Choice(self._best(pools[0], caller, now, is_test, prefers), pools[0].name, SHARED, now)

    def _best(self, pool: Pool, caller: str, now: float, is_test: bool, prefers: Callable[[str], bool]) -> str:
        def rank(item: tuple[int, str]) -> tuple[int, int, bool, float, int]:
            position, number = item
            used = self._real_use(number, caller, now, is_test)
            tests = self._live(number, caller, now)
            return used, tests, not prefers(number), self.last_used(number, now), position

        return min(enumerate(pool.numbers), key=rank)[1]

    def _live(self, number: str, caller: str, now: float) -> int:
        """How many others have it."""
        return sum(
            lease.is_live(now) and lease.caller != caller for lease in self._by_number.get(number, {}).values()
        )

    def _real_use(self, number: str, caller: str, now: float, is_test: bool) -> int:
        """How many others have it in a way that counts: for a 911 call those of 911 calls."""
        return sum(
            lease.is_live(now) and lease.caller != caller and (is_test or not lease.is_test)
            for lease in self._by_number.get(number, {}).values()
        )

    def last_used(self, number: str, now: float) -> float:
        """When the number was in use last; 0 where it never was, as far as is known."""
        return max((min(lease.until, now) for lease in self._by_number.get(number, {}).values()), default=0.0)

    def put(self, lease: Lease) -> bool:
        """A lease is given, or its way back has changed. False where what is known is newer."""
        found = self._by_number.pop(lease.number, None) or {}
        self._by_number[lease.number] = found  # the number lent last stands last
        known = found.get(lease.caller)
        if known is not None:
            if not _supersedes(lease, known):
                return False
            del found[lease.caller]
            self._count -= 1
        later = [other for other in found.values() if other.until > lease.until]
        found[lease.caller] = lease
        self._count += 1
        for other in later:  # who called last stands last
            found[other.caller] = found.pop(other.caller)
        if lease.kind is LeaseKind.ELIN:
            last = self._by_caller.get(lease.caller)
            if last is None or last.number == lease.number or last.until <= lease.until:
                self._by_caller[lease.caller] = lease
        if len(found) > CALLERS_KEPT:
            self._forget(min(found.values(), key=lambda one: (not one.is_test, one.until)))
        while self._count > LEASES_KEPT:
            for one in list(self._by_number[next(iter(self._by_number))].values()):
                self._forget(one)
        return True

    def merge(self, lease: Lease) -> bool:
        """A lease was read again, here or on another node. False where what is known is as new: its way back may have
        changed since."""
        known = self.of(lease.number, lease.caller)
        return (known is None or _differs(lease, known)) and self.put(lease)

    def _forget(self, lease: Lease) -> None:
        found = self._by_number[lease.number]
        del found[lease.caller]
        self._count -= 1
        if self._by_caller.get(lease.caller) is lease:
            del self._by_caller[lease.caller]
        if not found:
            del self._by_number[lease.number]

    def find(self, number: str, now: float) -> Lease | None:
        """The live lease by which this number is called back: of those who have it, who called last; but whose number
        is vouched for comes before who only says so."""
        found = self._by_number.get(number)
        if found is None:
            return None
        first = None
        for lease in reversed(found.values()):
            if lease.is_live(now):
                if lease.is_vouched or lease.kind is LeaseKind.ELIN:
                    return lease
                first = first or lease
        return first

    def of(self, number: str, caller: str) -> Lease | None:
        """The lease of this number to this caller, live or over."""
        found = self._by_number.get(number)
        return None if found is None else found.get(caller)

    def elin_of(self, caller: str) -> Lease | None:
        """The last lease of an ELIN to this caller, live or over."""
        return self._by_caller.get(caller)

    def last(self, number: str) -> Lease | None:
        """The last lease of this number, live or over."""
        found = self._by_number.get(number)
        return next(reversed(found.values())) if found else None

    def live(self, number: str, now: float) -> list[Lease]:
        """The live leases of this number, who called last at the end."""
        return [lease for lease in self._by_number.get(number, {}).values() if lease.is_live(now)]

    def use_of(self, pools: Sequence[Pool], now: float) -> PoolUse:
        """How much of these pools together is in use."""
        numbers = [number for pool in pools for number in pool.numbers]
        free = sum(not self.live(number, now) for number in numbers)
        return PoolUse(pool=pools[0].name if pools else "", total=len(numbers), free=free)

    def prune(self, now: float) -> None:
        """Forget leases that were over long ago, and those of test calls that are over."""
        for lease in self.all():
            if lease.until < now - (0.0 if lease.is_test else REMEMBERED_SECONDS):
                self._forget(lease)

    def with_pools(self, pools: Pools) -> None:
        """Take the pools of another configuration; leases stay, also of numbers that are in no pool any more."""
        self.pools = pools


def _supersedes(lease: Lease, known: Lease) -> bool:
    """True where a lease is newer than another of the same number and caller."""
    if known.released_at is not None and lease.released_at is None:
        return lease.since >= known.released_at
    if known.released_at is None and lease.released_at is not None:
        return lease.released_at > known.since
    return _age(lease) >= _age(known)


def _age(lease: Lease) -> tuple[float, float]:
    return lease.until, lease.way_back.noted_at


def _differs(lease: Lease, known: Lease) -> bool:
    return (lease.since, lease.released_at, *_age(lease)) != (known.since, known.released_at, *_age(known))


def released(lease: Lease, at: float) -> Lease:
    """The lease, ended by hand."""
    return replace(lease, until=min(lease.until, at), released_at=at)


_LEASE_FIELDS = frozenset(item.name for item in fields(Lease))
_WAY_FIELDS = frozenset(item.name for item in fields(WayBack))


def lease_data(lease: Lease) -> dict[str, Any]:
    """A lease as plain data, for JSON."""
    return asdict(lease)


def lease_from(data: Mapping[str, Any]) -> Lease:
    """The lease of `lease_data`; unknown keys are ignored. KeyError, TypeError or ValueError where it is none."""
    known = {name: value for name, value in data.items() if name in _LEASE_FIELDS}
    way = known.get("way_back") or {}
    known["way_back"] = WayBack(**{name: value for name, value in way.items() if name in _WAY_FIELDS})
    known["kind"] = LeaseKind(known["kind"])
    known["contacts"] = tuple(known.get("contacts") or ())
    known["since"], known["until"] = float(known["since"]), float(known["until"])
    return Lease(**known)
