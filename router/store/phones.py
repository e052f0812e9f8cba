"""Phones that were seen: those without a location, and on which network those that move about were last confirmed.

A phone without a location is kept under the name it calls itself by (`user@host`, or a user part), with when and
where it was first and last seen. Giving it a location takes it out of the list, whoever gives it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Connection, Double, Integer, Row, Table, Text, delete, func, or_, select, update

from e911.devices import device_key
from router.store.devices import devices
from router.store.metadata import metadata
from router.store.statements import insert_new, insert_or_overwrite

MOST_PHONES: Final = 20_000
"""Phones kept; of more, those not seen for longest are forgotten."""
_TEXTS: Final = ("network", "address", "user_agent", "method", "display_name", "node")
_BATCH: Final = 200

seen_phones = Table(
    "seen_phones",
    metadata,
    Column("phone", Text, primary_key=True),
    *(Column(name, Text, nullable=False, server_default="") for name in _TEXTS),
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("times", Integer, nullable=False, server_default="0"),
)
phone_networks = Table(
    "phone_networks",
    metadata,
    Column("device", Text, primary_key=True),
    Column("network", Text, nullable=False),
    Column("pending", Text, nullable=False, server_default=""),
    Column("location_at", Double, nullable=False),
    Column("link_sent_at", Double, nullable=False, server_default="0"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPhone:
    """A phone without a location; times in seconds since 1970."""

    phone: str
    network: str
    address: str
    user_agent: str
    method: str
    display_name: str
    node: str
    first_seen: float
    last_seen: float
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow:
    """Where a phone that moves about was when its location was confirmed."""

    device: str
    network: str
    """The network its location holds for."""
    pending: str
    """Another network it was seen on since, or empty."""
    location_at: float
    """When the location was confirmed that holds for `network`."""
    link_sent_at: float


def note_phones(conn: Connection, notes: Sequence[Mapping[str, Any]]) -> None:
    """Keep that phones were seen: each note holds `phone`, `at` and texts. Beyond MOST_PHONES forget the oldest."""
    for note in notes:
        texts = {name: str(note.get(name, ""))[:300] for name in _TEXTS}
        insert_new(conn, seen_phones, [(note["phone"], *texts.values(), note["at"], note["at"], 0)])
        conn.execute(
            update(seen_phones)
            .where(seen_phones.c.phone == note["phone"])
            .values(**texts, last_seen=note["at"], times=seen_phones.c.times + 1)
        )
    number = conn.execute(select(func.count()).select_from(seen_phones)).scalar_one()
    if number > MOST_PHONES:
        oldest = select(seen_phones.c.phone).order_by(seen_phones.c.last_seen).limit(number - MOST_PHONES)
        conn.execute(delete(seen_phones).where(seen_phones.c.phone.in_(oldest.scalar_subquery())))


def phones_without_location(conn: Connection, *, text: str = "", limit: int = MOST_PHONES) -> list[SeenPhone]:
    """Those that still have none, last seen first."""
    rows = conn.execute(select(seen_phones).order_by(seen_phones.c.last_seen.desc(), seen_phones.c.phone)).all()
    located = _located(conn, [row.phone for row in rows])
    wanted = text.casefold()
    found = [SeenPhone(**row._mapping) for row in rows if row.phone not in located]
    return [one for one in found if wanted in f"{one.phone} {one.network} {one.user_agent}".casefold()][:limit]


def forget_phones(conn: Connection, phones: Iterable[str]) -> None:
    """Take phones out of the list; one that is seen again comes back."""
    names = list(phones)
    for start in range(0, len(names), _BATCH):
        conn.execute(delete(seen_phones).where(seen_phones.c.phone.in_(names[start : start + _BATCH])))


def _located(conn: Connection, phones: Sequence[str]) -> set[str]:
    """Those of the phones that are a device with a location."""
    found: set[str] = set()
    for start in range(0, len(phones), _BATCH):
        some = phones[start : start + _BATCH]
        names = {name for phone in some for name in names_of(phone)}
        columns = (devices.c.device, devices.c.aor, devices.c.number, devices.c.username)
        known: set[str] = set()
        query = select(*columns).where(or_(*(column.in_(names) for column in columns)), _HAS_LOCATION)
        for row in conn.execute(query):
            known.update(value for value in row if value)
        found.update(phone for phone in some if known & names_of(phone))
    return found


_HAS_LOCATION = or_(
    devices.c.site != "",
    devices.c.latitude.is_not(None),
    (devices.c.city != "") & or_(devices.c.street != "", devices.c.landmark != ""),
)


def names_of(phone: str) -> set[str]:
    """The names a device may have that is this phone: with its host, and the user part alone."""
    key = device_key(phone)
    return {key, key.rpartition("@")[0] or key}


def network_of(conn: Connection, device: str) -> NetworkRow | None:
    """What is known of the networks of a device."""
    row = conn.execute(select(phone_networks).where(phone_networks.c.device == device)).one_or_none()
    return _network_row(row) if row is not None else None


def keep_network(conn: Connection, row: NetworkRow) -> None:
    """Store it, in place of what was known."""
    values = (row.device, row.network, row.pending, row.location_at, row.link_sent_at)
    insert_or_overwrite(conn, phone_networks, [values])


def _network_row(row: Row[Any]) -> NetworkRow:
    return NetworkRow(**row._mapping)
