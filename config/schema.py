"""The configuration as types: every key of edge911.yaml, its default, and what it means.

The models only say what is written. Cross-checks live in config/checks.py, reading in config/load.py.
Durations are seconds, written `300ms`, `2s`, `1m` or a plain number of seconds.
"""

import re
from ipaddress import ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
)

from e911.location import CivicAddress, GeoPoint, IPNetwork, LocationSource

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def parse_duration(value: Any) -> float:
    """Seconds from `300ms`, `2s`, `1m`, `1h` or a plain number of seconds; ValueError otherwise."""
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError("not a duration; write 300ms, 2s, 1m or a number of seconds")
    seconds = float(match[1]) * _UNIT_SECONDS[match[2]]
    if not 0 < seconds <= 86400:
        raise ValueError("a duration lies between 1ms and 24h")
    return seconds


def _parse_network(value: Any) -> IPNetwork:
    try:
        return ip_network(str(value).strip(), strict=True)
    except ValueError as error:
        raise ValueError(f"not a network: {error}; write 10.1.0.0/16, 192.0.2.7 or 2001:db8::/32") from None


def _parse_one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h)?$"}),
]
Network = Annotated[
    IPNetwork,
    BeforeValidator(_parse_network),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "description": "a network in CIDR form, or one address"}),
]
Strings = Annotated[list[str], BeforeValidator(_parse_one_or_many)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Listen(Section):
    """One listening point. A plain URL means {url: URL}."""

    url: str = Field(description="udp://ADDRESS:PORT, tcp://ADDRESS:PORT or tls://ADDRESS:PORT")
    name: Name | None = Field(None, description="name used by trunks.X.listen")
    advertise: str | None = Field(None, description="address others see when this host is behind NAT")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("udp", "tcp", "tls"):
            raise ValueError("write udp://ADDRESS:PORT, tcp://ADDRESS:PORT or tls://ADDRESS:PORT")
        if not parts.hostname or parts.path or parts.query:
            raise ValueError("write SCHEME://ADDRESS:PORT and nothing after it")
        _parse_network(parts.hostname)
        if parts.port == 0:
            raise ValueError("port 0 is not a port others can send to")
        return value

    @property
    def transport(self) -> str:
        """`udp`, `tcp` or `tls`."""
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """The address listened on, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port listened on; 5060, or 5061 for TLS, where none is written."""
        return urlsplit(self.url).port or (5061 if self.transport == "tls" else 5060)


def _parse_listen(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class Tls(Section):
    """Certificates for tls:// listening points and trunks."""

    certificate: str
    private_key: str
    client_ca: str | None = None


class HttpListen(Section):
    """Where an HTTP service of ours listens."""

    listen: str

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port is None:
            raise ValueError("write http://ADDRESS:PORT")
        return value

    @property
    def host(self) -> str:
        """The address listened on."""
        return urlsplit(self.listen).hostname or ""

    @property
    def port(self) -> int:
        """The port listened on."""
        return urlsplit(self.listen).port or 80


class Networks(Section):
    """Who is who on the wire; the longest prefix wins. A trunk's own address counts by itself."""

    inside: list[Network] = Field(default_factory=list, description="phones and PBX: may place calls")
    outside: list[Network] = Field(default_factory=list, description="carriers and providers")
    trust_identity: list[Network] = Field(
        default_factory=list, description="networks whose P-Asserted-Identity is believed (RFC 3325)"
    )


class Trunk(Section):
    """A peer we send calls to."""

    target: str = Field(description="SIP URI: sip:HOST[:PORT][;transport=udp|tcp|tls]")
    side: Literal["inside", "outside"] = "outside"
    trust_identity: bool = Field(False, description="believe P-Asserted-Identity from this peer (RFC 3325)")
    probe: str = Field("30s", description="interval of OPTIONS probes, or off")
    large_messages: Literal["tcp", "udp"] = Field(
        "tcp", description="requests above 1,300 bytes on UDP: try TCP first, or never (RFC 3261 18.1.1)"
    )
    location_from: str = Field("none", description="what a PBX in between lets through of a phone's address")
    listen: str | None = Field(None, description="name of the listening point to send from")

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str) -> str:
        if not re.fullmatch(
            r"sips?:(?:[^@\s;?<>]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::\d{1,5})?"
            r"(?:;transport=(?:udp|tcp|tls))?",
            value,
            re.IGNORECASE,
        ):
            raise ValueError(
                "not a trunk target; write sip:HOST, sip:HOST:PORT or sip:HOST:PORT;transport=tcp"
            )
        return value

    @field_validator("probe")
    @classmethod
    def _check_probe(cls, value: str) -> str:
        if value.lower() not in ("off", "no", "false"):
            parse_duration(value)
        return value

    @property
    def host(self) -> str:
        """Host part of the target, without brackets."""
        return self._parts[0]

    @property
    def port(self) -> int | None:
        """Port of the target; None where the name decides (RFC 3263)."""
        return self._parts[1]

    @property
    def transport(self) -> str:
        """`udp`, `tcp` or `tls`; udp where the target does not say."""
        return self._parts[2]

    @property
    def hostport(self) -> str:
        """Host and port as they stand in the target, for Request-URIs."""
        rest = re.sub(r"^sips?:", "", self.target, flags=re.IGNORECASE).split(";", 1)[0]
        return rest.rpartition("@")[2]

    @property
    def _parts(self) -> tuple[str, int | None, str]:
        scheme, _, rest = self.target.partition(":")
        address, _, parameters = rest.partition(";")
        address = address.rpartition("@")[2]
        transport = parameters.lower().removeprefix("transport=") or (
            "tls" if scheme.lower() == "sips" else "udp"
        )
        if address.startswith("["):
            host, _, port = address[1:].partition("]")
            port = port.removeprefix(":")
        else:
            host, _, port = address.partition(":")
        return host, int(port) if port else None, transport

    @property
    def probe_interval(self) -> float | None:
        """Seconds between OPTIONS probes; None when probing is off."""
        return None if self.probe.lower() in ("off", "no", "false") else parse_duration(self.probe)


class Routes(Section):
    """Ordinary calls, forwarded unchanged; trunks tried in order."""

    outbound: list[str] = Field(default_factory=list, description="from inside")
    inbound: list[str] = Field(default_factory=list, description="from outside")


class EmergencyRoute(Section):
    """An E911 route: a trunk, a provider profile, and how long to wait before the next route starts."""

    name: Name
    trunk: str
    profile: str = "pidf-lo"
    timeout: Duration = Field(2.0, description="to the first response of any kind")
    progress_timeout: Duration = Field(6.0, description="from 100 Trying to the first 18x or 2xx")
    covers: list[str] = Field(
        default_factory=list, description="countries (US) or country-states (CA-QC); empty: everywhere"
    )

    @field_validator("covers")
    @classmethod
    def _check_covers(cls, value: list[str]) -> list[str]:
        for item in value:
            if not re.fullmatch(r"[A-Za-z]{2}(-[A-Za-z]{2,3})?", item):
                raise ValueError(f"{item!r} is not a country (US) or a country and state (CA-QC)")
        return [item.upper() for item in value]


class BasicRoute(Section):
    """A basic 911 route: a number at a third-party emergency call service; no location goes along."""

    name: Name
    trunk: str
    number: str
    timeout: Duration = Field(4.0, description="to the first response of any kind")
    progress_timeout: Duration = Field(10.0, description="from 100 Trying to the first 18x or 2xx")

    @field_validator("number")
    @classmethod
    def _check_number(cls, value: str) -> str:
        if not re.fullmatch(r"\+?[0-9*#().\- ]{2,24}", value):
            raise ValueError("not a number to dial; write +12125550140 or 911")
        return re.sub(r"[().\- ]", "", value)


class DefaultCaller(Section):
    """Where callers belong whom no site claims."""

    site: str | None = None


class Emergency(Section):
    """Which calls are emergencies, and where they go."""

    numbers: list[str] = Field(default_factory=lambda: ["911", "9911"])
    test_numbers: list[str] = Field(default_factory=lambda: ["933"])
    default: DefaultCaller = Field(default_factory=DefaultCaller)
    routes: list[EmergencyRoute] = Field(default_factory=list)
    basic: list[BasicRoute] = Field(default_factory=list)
    from_unlisted: Literal["refuse", "accept"] = Field(
        "refuse", description="911 calls from sources in no listed network"
    )

    @field_validator("numbers", "test_numbers")
    @classmethod
    def _check_numbers(cls, value: list[str]) -> list[str]:
        for item in value:
            if not re.fullmatch(r"[0-9*#]{2,16}", item):
                raise ValueError(f"{item!r} is not a dial string of digits")
        return value

    @field_validator("numbers")
    @classmethod
    def _check_911(cls, value: list[str]) -> list[str]:
        if "911" not in value:
            raise ValueError("911 itself is missing; it must be dialled without a prefix (47 CFR 9.16(b)(1))")
        return value


class Locations(Section):
    """The registered devices, and the order in which location sources are asked."""

    database: str = "sqlite:///edge911.db"
    sources: list[LocationSource] = Field(
        default_factory=lambda: [
            LocationSource.CONVEYED,
            LocationSource.NETWORK,
            LocationSource.REGISTERED,
            LocationSource.SITE,
        ]
    )

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: str) -> str:
        if not re.match(r"(sqlite:///|postgresql(\+psycopg)?://)", value):
            raise ValueError("write sqlite:///FILE or postgresql://USER@HOST/DATABASE")
        return value

    @field_validator("sources")
    @classmethod
    def _check_sources(cls, value: list[LocationSource]) -> list[LocationSource]:
        if len(set(value)) != len(value):
            raise ValueError("a source is named twice")
        return value


class ZoneConfig(Section):
    """An emergency response location (ERL) within a site."""

    id: Name
    name: str = ""
    networks: list[Network] = Field(default_factory=list)
    building: str = ""
    floor: str = ""
    unit: str = ""
    room: str = ""
    landmark: str = ""
    additional: str = ""


class SiteConfig(Section):
    """A place with a street address, the callers it claims and the contacts told of its 911 calls."""

    id: Name
    name: str = ""
    timezone: str = "UTC"
    address: CivicAddress = Field(default_factory=CivicAddress)
    latitude: float | None = Field(None, ge=-90, le=90, description="degrees, WGS 84")
    longitude: float | None = Field(None, ge=-180, le=180, description="degrees, WGS 84")
    networks: list[Network] = Field(default_factory=list)
    numbers: list[str] = Field(default_factory=list, description="patterns; X stands for one digit")
    callback: str = ""
    elins: list[str] = Field(default_factory=list)
    notify: list[str] = Field(default_factory=list)
    routes: list[EmergencyRoute] | None = Field(None, description="replaces emergency.routes for this site")
    basic: list[BasicRoute] | None = Field(None, description="replaces emergency.basic for this site")
    zones: list[ZoneConfig] = Field(default_factory=list)

    @field_validator("numbers")
    @classmethod
    def _check_numbers(cls, value: list[str]) -> list[str]:
        for item in value:
            if not re.fullmatch(r"\+?[0-9X*#]+", item, re.IGNORECASE):
                raise ValueError(f"{item!r} is not a number pattern; write 4XXX or +1212555012X")
        return value

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is not a time zone; write America/New_York") from None
        return value

    @property
    def point(self) -> GeoPoint | None:
        """The site's coordinates, where both are given."""
        if self.latitude is None or self.longitude is None:
            return None
        return GeoPoint(latitude=self.latitude, longitude=self.longitude)


class Contact(Section):
    """Someone who is told when 911 is dialled."""

    language: Literal["en", "fr"] = "en"
    send: Strings = Field(
        default_factory=list, description="Apprise URLs (mailto://, json://, ...) or sip: URIs"
    )
    escalate_after: Duration | None = None
    tests: bool = Field(True, description="also told of test calls (933)")


class Log(Section):
    """Logs of all processes, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"
    redact: bool = Field(True, description="hide locations and numbers")


class Config(Section):
    """The whole of edge911.yaml."""

    node: Name = "edge911"
    domain: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+$",
        description="our FQDN in emergency-CallId, Content-ID and the like; default NODE.edge911.internal",
    )
    state_directory: str = Field(
        "edge911-state", description="journal and key of this node; must survive restarts"
    )
    listen: list[Annotated[Listen, BeforeValidator(_parse_listen)]] = Field(min_length=1)
    tls: Tls | None = None
    health: HttpListen | None = None
    networks: Networks = Field(default_factory=Networks)
    trunks: dict[Name, Trunk] = Field(default_factory=dict)
    routes: Routes = Field(default_factory=Routes)
    emergency: Emergency = Field(default_factory=lambda: Emergency())
    locations: Locations = Field(default_factory=Locations)
    sites: list[SiteConfig] = Field(default_factory=list)
    contacts: dict[Name, Contact] = Field(default_factory=dict)
    console: HttpListen | None = None
    log: Log = Field(default_factory=lambda: Log())

    @property
    def own_domain(self) -> str:
        """The FQDN we name ourselves by."""
        return self.domain or f"{self.node.lower()}.edge911.internal"
