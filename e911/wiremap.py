"""The wiremap: which place an access point (BSSID) or a port of a switch (LLDP chassis and port) serves.

Rows are kept by the network's owner; phones say what they are attached to (e911.attachment). In memory of the call
process, for one thread.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from e911.attachment import Attachment, normal_bssid, normal_chassis, normal_port
from e911.location import CivicAddress, GeoPoint

UNKNOWN_BSSID: Final = "unknown-bssid"
UNKNOWN_PORT: Final = "unknown-switch-port"
AMBIGUOUS_BSSID: Final = "ambiguous-bssid"
BY_BSSID: Final = "wiremap-bssid"
BY_PORT: Final = "wiremap-port"
BY_SWITCH: Final = "wiremap-switch"


@dataclass(frozen=True, slots=True, kw_only=True)
class WiremapEntry:
    """An access point, or a switch port (a whole switch where port is empty), and the place it serves.

    The place is a site or a zone of one, or an address; civic parts beyond a site's go over it, as a device's do.
    """

    bssid: str = ""
    chassis: str = ""
    port: str = ""
    name: str = ""
    """For people: the name of the access point, the number of the outlet."""
    site: str = ""
    zone: str = ""
    civic: CivicAddress = field(default_factory=CivicAddress)
    point: GeoPoint | None = None
    updated_at: float = 0.0
    """Seconds since 1970 of the last change; 0 where it is not known."""

    @property
    def key(self) -> str:
        """What it is known by."""
        return entry_key(self.bssid, self.chassis, self.port)

    @property
    def place(self) -> tuple[str, str, CivicAddress, GeoPoint | None]:
        """All that says where it is."""
        return self.site, self.zone, self.civic, self.point

    @property
    def what(self) -> str:
        """For people: the identifier."""
        return Attachment(bssid=self.bssid, chassis=self.chassis, port=self.port).text

    def __hash__(self) -> int:
        return hash((self.bssid, self.chassis, self.port, self.updated_at))


def entry_key(bssid: str, chassis: str, port: str) -> str:
    """One text for normal identifiers; a row has a BSSID, or a chassis and perhaps a port."""
    return f"bssid {bssid}" if bssid else f"switch {chassis} {port}".rstrip()


def read_identifiers(written: str) -> tuple[str, str, str]:
    """BSSID, chassis and port that people mean: a BSSID alone, or CHASSIS,PORT (`CHASSIS,` for a whole switch).

    Raises ValueError with what would be right.
    """
    chassis, comma, port = written.partition(",")
    if comma and normal_chassis(chassis):
        return "", normal_chassis(chassis), normal_port(port)
    bssid = normal_bssid(written)
    if not comma and bssid:
        return bssid, "", ""
    remedy = "write a BSSID (00:1b:2c:3d:4e:5f), or CHASSIS,PORT (00:1b:54:aa:bb:cc,Gi1/0/14)"
    raise ValueError(f"{written!r} names no access point and no switch port; {remedy}")


class WiremapTable:
    """The rows by identifier. Built whole or changed in place; never raises on what phones send.

    ignored_bits: so many of a BSSID's last bits tell apart only the networks (SSIDs) of one access point. An address
    that is in no row is then looked for among those that differ in nothing else; where these are at several places
    it is none of them (`ambiguous-bssid`).
    """

    __slots__ = ("_by_group", "_by_key", "_ignored_bits")

    def __init__(self, entries: Iterable[WiremapEntry] = (), ignored_bits: int = 0) -> None:
        self._by_key: dict[str, WiremapEntry] = {}
        self._by_group: dict[int, dict[str, WiremapEntry]] = {}
        self._ignored_bits = ignored_bits
        for entry in entries:
            self.put(entry)

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[WiremapEntry]:
        return iter(self._by_key.values())

    def put(self, entry: WiremapEntry) -> None:
        """Add a row, or replace the one with the same key."""
        key = entry.key
        self._by_key[key] = entry
        if self._ignored_bits and entry.bssid:
            self._by_group.setdefault(self._group(entry.bssid), {})[key] = entry

    def remove(self, key: str) -> bool:
        """Forget a row; False where there was none."""
        entry = self._by_key.pop(key, None)
        if entry is not None and self._ignored_bits and entry.bssid:
            group = self._by_group[self._group(entry.bssid)]
            group.pop(key, None)
            if not group:
                del self._by_group[self._group(entry.bssid)]
        return entry is not None

    def get(self, key: str) -> WiremapEntry | None:
        """The row of a key, or None."""
        return self._by_key.get(key)

    def with_ignored_bits(self, ignored_bits: int) -> "WiremapTable":
        """The same rows, looked up otherwise."""
        return self if ignored_bits == self._ignored_bits else WiremapTable(self, ignored_bits)

    def find(self, attachment: Attachment) -> tuple[WiremapEntry | None, str]:
        """The row that a phone attached there is at, and the reason; None and why where there is none."""
        if attachment.chassis:
            found = self._by_key.get(entry_key("", attachment.chassis, attachment.port))
            if found is not None:
                return found, BY_PORT if found.port else BY_SWITCH
            found = self._by_key.get(entry_key("", attachment.chassis, ""))
            return (found, BY_SWITCH) if found is not None else (None, UNKNOWN_PORT)
        if not attachment.bssid:
            return None, attachment.reason
        found = self._by_key.get(entry_key(attachment.bssid, "", ""))
        if found is not None:
            return found, BY_BSSID
        group = self._by_group.get(self._group(attachment.bssid)) if self._ignored_bits else None
        if not group:
            return None, UNKNOWN_BSSID
        candidates = list(group.values())
        first = candidates[0]
        if any(other.place != first.place for other in candidates[1:]):
            return None, AMBIGUOUS_BSSID
        return first, BY_BSSID

    def _group(self, bssid: str) -> int:
        return int(bssid, 16) >> self._ignored_bits


NO_WIREMAP: Final = WiremapTable()
"""For whoever has none; nothing is put into it."""
