"""Where a caller is, as types: civic addresses, points, registered devices, sites and their zones.

Field names are those of the YAML keys and the CSV columns, so a row, a key and an attribute read alike.
Coordinates are WGS 84 degrees, latitude first (RFC 5491 section 5).
"""

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

IPNetwork = IPv4Network | IPv6Network


class LocationSource(StrEnum):
    """Who can be asked where the caller is; the configured order decides."""

    CONVEYED = "conveyed"
    HELD = "held"
    NETWORK = "network"
    REGISTERED = "registered"
    SITE = "site"


class DeviceKind(StrEnum):
    """How a device moves: fixed on a desk, nomadic, a softphone, or away from every site."""

    FIXED = "fixed"
    NOMADIC = "nomadic"
    SOFTPHONE = "softphone"
    OFF_PREMISES = "off-premises"


@dataclass(frozen=True, slots=True, kw_only=True)
class CivicAddress:
    """A civic address; an empty string means "not given". The order is ours, not the PIDF-LO schema's."""

    country: str = ""
    state: str = ""
    county: str = ""
    city: str = ""
    pre_directional: str = ""
    street: str = ""
    street_suffix: str = ""
    post_directional: str = ""
    house_number: str = ""
    house_number_suffix: str = ""
    postal_code: str = ""
    building: str = ""
    floor: str = ""
    unit: str = ""
    room: str = ""
    landmark: str = ""
    additional: str = ""

    def overlaid(self, finer: "CivicAddress") -> "CivicAddress":
        """This address with every field that `finer` has put over it."""
        given = {name: value for name in CIVIC_FIELDS if (value := getattr(finer, name))}
        return replace(self, **given) if given else self

    @property
    def is_empty(self) -> bool:
        """True where no field is given."""
        return not any(getattr(self, name) for name in CIVIC_FIELDS)

    @property
    def as_street_address(self) -> "CivicAddress":
        """The address without what lies within it (building, floor, unit, room)."""
        return replace(self, building="", floor="", unit="", room="", additional="")

    @property
    def has_street_address(self) -> bool:
        """True where it names a place by itself (a city and a street or landmark), not only a room in one."""
        return bool(self.city and (self.street or self.landmark))


CIVIC_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(CivicAddress))
FINER_FIELDS = ("building", "floor", "unit", "room", "landmark", "additional")


@dataclass(frozen=True, slots=True, kw_only=True)
class GeoPoint:
    """A point on the earth, WGS 84 (EPSG:4326), degrees."""

    latitude: float
    longitude: float
    uncertainty: float = 0.0
    """The caller is within so many metres of it; 0 where that is not known."""

    def __post_init__(self) -> None:
        if not -90 <= self.latitude <= 90:
            raise ValueError(f"latitude {self.latitude} is not between -90 and 90 degrees")
        if not -180 <= self.longitude <= 180:
            raise ValueError(f"longitude {self.longitude} is not between -180 and 180 degrees")

    @property
    def within(self) -> str:
        """For people: ` ± 20 m` where it is known how far off it may be, else empty."""
        return f" ± {self.uncertainty:.0f} m" if self.uncertainty else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A registered device: who it is (address of record, number or user), and where its owner says it is."""

    device: str
    name: str = ""
    kind: DeviceKind = DeviceKind.FIXED
    aor: str = ""
    """Another address of record it is known by, or empty."""
    number: str = ""
    """Another number it is known by, canonical."""
    username: str = ""
    """Another user part it is known by, canonical."""
    mac: str = ""
    """Its hardware address, 12 lower-case hexadecimal digits."""
    callback: str = ""
    language: str = ""
    """Of the person it is of: `en`, `fr`, or empty."""
    email: str = ""
    """Where that person is written to."""
    site: str = ""
    zone: str = ""
    elin_zone: str = ""
    """The zone of its site that lends it an ELIN, where that is not `zone`."""
    civic: CivicAddress = field(default_factory=CivicAddress)
    point: GeoPoint | None = None
    confirmed_at: float = 0.0
    """When somebody last said that it is there, seconds since 1970; 0 where it is not known."""
    confirmed_by: str = ""
    """Who said so."""
    expires_at: float = 0.0
    """From when on its location must be confirmed anew; 0: never."""
    unconfirmed: str = ""
    """Why its location is in doubt until somebody confirms it (`new-network`), or empty."""
    validation: str = ""
    """What the location validation function said of its location, or empty: see router/locations/validation.py."""
    validated_at: float = 0.0
    acknowledged_at: float = 0.0
    """When its user last acknowledged what 911 cannot do there."""
    updated_at: float = 0.0
    """Seconds since 1970 of the last change; 0 where it is not known."""
    provisioning: str = ""
    """What became of telling the provider where it is: `pending`, `active`, `refused: WORDS`, or empty."""
    location_id: str = ""
    """The provider's id of its own place, from people or from what the provider took (decision 0058)."""
    endpoint_id: str = ""
    """The provider's id of the device, likewise."""

    def doubt(self, now: float) -> str:
        """Why its location is not to be relied on at `now`: `location-unconfirmed`, `location-expired`, or empty."""
        if self.unconfirmed:
            return "location-unconfirmed"
        return "location-expired" if 0 < self.expires_at <= now else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """An emergency response location (ERL, NENA) within a site: a floor, a wing, a room."""

    id: str
    name: str = ""
    networks: tuple[IPNetwork, ...] = ()
    finer: CivicAddress = field(default_factory=CivicAddress)
    location_id: str = ""
    """The provider's id of this place (Bandwidth, Telnyx: location id; Intrado: ERL id)."""
    endpoint_id: str = ""
    """The provider's id of a line here (Bandwidth: AEUI; Telnyx: sip_from_id; i2: ESQK)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place with one street address, the callers it claims, and the contacts told of its 911 calls."""

    id: str
    name: str = ""
    timezone: str = "UTC"
    address: CivicAddress = field(default_factory=CivicAddress)
    point: GeoPoint | None = None
    networks: tuple[IPNetwork, ...] = ()
    numbers: tuple[str, ...] = ()
    callback: str = ""
    contacts: tuple[str, ...] = ()
    multi_storey: bool = False
    """True where a location in it is of no use without floor or room."""
    floors: tuple[str, ...] = ()
    """The names of its floors, where they are listed."""
    zones: tuple[Zone, ...] = ()
    location_id: str = ""
    """As of a zone; for callers in no zone, or in one without its own."""
    endpoint_id: str = ""


@dataclass(slots=True, kw_only=True, unsafe_hash=True)  # never changed; to freeze it triples the price of making one
class DispatchableLocation:
    """The place that goes to the PSAP and into the notice, labelled with where it came from.

    method is the PIDF-LO `method` token (RFC 4119, RFC 6881, IANA): Manual for registered devices, Wiremap for a
    network or a switch port, 802.11 for an access point, Default for a site's own address, and whatever the caller
    or a location server wrote. occupant becomes NAM. updated_at is when it was last confirmed, seconds since 1970, 0
    where nobody recorded it. finer_from is the source whose floor, unit or room was put to it, or empty.
    """

    civic: CivicAddress
    point: GeoPoint | None
    source: LocationSource
    method: str
    site: str = ""
    zone: str = ""
    occupant: str = ""
    updated_at: float = 0.0
    finer_from: str = ""
    doubt: str = ""
    """`location-unconfirmed` or `location-expired`: better than nothing, but ask the caller."""
    validation: str = ""
    """What the location validation function said of a registered location, or empty."""
    validated_at: float = 0.0
    """When it said so, seconds since 1970; 0 where it was not asked, or nobody wrote it down."""
