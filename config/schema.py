"""The configuration as types: every key of edge911.yaml, its default, and what it means.

The models only say what is written. Cross-checks live in config/checks.py, reading in config/load.py, kinds of
values in config/values.py. Durations are seconds, written `300ms`, `2s`, `1m` or a plain number of seconds.
"""

import re
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from config.addresses import parse_advertised
from config.values import (
    Collector,
    Desk,
    DialString,
    Duration,
    FieldName,
    LocationFrom,
    Name,
    NameServer,
    Network,
    NumberPattern,
    NumberToDial,
    PeerAddress,
    Probe,
    ProviderId,
    Region,
    Size,
    Strings,
    Target,
    check_address,
    check_host_pattern,
    check_web_url,
    parse_duration,
    parse_name_server,
    peer_address,
    split_url,
)
from e911.ali import Variant
from e911.location import CivicAddress, GeoPoint, LocationSource
from e911.provider_profile import (
    AddLocation,
)

__all__ = [
    "AdditionalData",
    "Ali",
    "BasicRoute",
    "Config",
    "Console",
    "Contact",
    "DefaultCaller",
    "Dns",
    "Duration",
    "Emergency",
    "EmergencyRoute",
    "HttpListen",
    "Listen",
    "Locations",
    "Log",
    "Name",
    "Network",
    "Networks",
    "ProvisioningTarget",
    "ReferenceServer",
    "Routes",
    "Section",
    "SiteConfig",
    "Strings",
    "Tls",
    "Trace",
    "Trunk",
    "TrunkTls",
    "ZoneConfig",
    "parse_duration",
]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, value: Any) -> Any:
        """An empty `sites:` is as good as none where a list, map or section is empty by default."""
        if not isinstance(value, dict) or None not in value.values():
            return value
        return {key: item for key, item in value.items() if item is not None or not cls._may_be_empty(key)}

    @classmethod
    def _may_be_empty(cls, key: str) -> bool:
        field = cls.model_fields.get(key)
        if field is None or field.default_factory is None:
            return False
        default = field.get_default(call_default_factory=True)
        return default in ([], {}) or isinstance(default, (Section, CivicAddress))


class Listen(Section):
    """One listening point. A plain URL means {url: URL}."""

    url: str = Field(description="udp://ADDRESS:PORT, tcp://ADDRESS:PORT or tls://ADDRESS:PORT")
    name: Name | None = Field(
        None, description="name of the interface, used by trunks.X.listen; its udp, tcp and tls items may share it"
    )
    advertise: str | None = Field(
        None, description="ADDRESS[:PORT] that others see, where this host is behind NAT; in Via, Record-Route, Path"
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        remedy = "write udp://ADDRESS:PORT or tcp://ADDRESS:PORT, such as udp://192.0.2.10:5060"
        parts, _ = split_url(value, remedy)
        if parts.scheme not in ("udp", "tcp", "tls"):
            raise ValueError(f"{parts.scheme!r} is not a transport known here; {remedy}")
        check_address(parts.hostname or "", remedy)
        return value

    @field_validator("advertise")
    @classmethod
    def _check_advertise(cls, value: str | None) -> str | None:
        if value is not None:
            parse_advertised(value)
        return value

    @property
    def advertised(self) -> tuple[str, int] | None:
        """Host and port that others see, where they differ from those listened on."""
        if self.advertise is None:
            return None
        host, port = parse_advertised(self.advertise)
        return host, port or self.port

    @property
    def transport(self) -> str:
        """`udp`, `tcp` or `tls`."""
        return split_url(self.url, "")[0].scheme

    @property
    def host(self) -> str:
        """The address listened on, without brackets."""
        return split_url(self.url, "")[0].hostname or ""

    @property
    def port(self) -> int:
        """The port listened on; 5060, or 5061 for TLS, where none is written."""
        return split_url(self.url, "")[1] or (5061 if self.transport == "tls" else 5060)


def _parse_listen(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class Tls(Section):
    """Our certificate, for tls:// listening points and for trunks that ask for one, and whom we believe."""

    certificate: str | None = Field(None, description="PEM file with our certificate and its chain")
    private_key: str | None = Field(None, description="PEM file with its private key")
    client_ca: str | None = Field(
        None, description="PEM file with the CAs whose clients are let in; without a certificate only 911 is served"
    )
    ca: str | None = Field(None, description="PEM file with the CAs of trunks; default: the system's")

    @model_validator(mode="after")
    def _check_pair(self) -> "Tls":
        if (self.certificate is None) != (self.private_key is None):
            missing = "private_key" if self.private_key is None else "certificate"
            raise ValueError(f"{missing} is missing; certificate and private_key belong together")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca without a certificate of ours; add certificate and private_key")
        return self


class TrunkTls(Section):
    """TLS to one trunk. A plain word means {policy: WORD}."""

    policy: Literal["prefer", "require"] | None = Field(
        None,
        description="emergency calls: prefer (verified, then unverified, then tcp, then udp, each with an alarm; "
        "default) or require; other calls to a trunk by TLS are always verified",
    )
    ca: str | None = Field(None, description="PEM file with its CA, or its own certificate; default: tls.ca")
    name: str | None = Field(
        None, description="name its certificate must carry; default: the host of the target (RFC 5922)"
    )


def _parse_trunk_tls(value: Any) -> Any:
    return {"policy": value} if isinstance(value, str) else value


class HttpListen(Section):
    """Where an HTTP service of ours listens."""

    listen: str = Field(description="http://ADDRESS:PORT")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        remedy = "write http://ADDRESS:PORT, such as http://127.0.0.1:8910"
        parts, port = split_url(value, remedy)
        if parts.scheme != "http" or port is None:
            raise ValueError(f"not a listening point; {remedy}")
        return value

    @property
    def host(self) -> str:
        """The address listened on."""
        return split_url(self.listen, "")[0].hostname or ""

    @property
    def port(self) -> int:
        """The port listened on."""
        return split_url(self.listen, "")[1] or 80


class Oidc(Section):
    """Login by another system (OpenID Connect), beside users with passwords of ours."""

    issuer: str = Field(
        pattern=r"^https?://[^\s]+$", description="its URL, below which /.well-known/openid-configuration is"
    )
    client_id: str = Field(min_length=1, description="as it knows us")
    client_secret: str = Field("", description="as it gave it; better ${file:PATH} or ${env:NAME}", repr=False)
    label: str = Field("", description="name of that system on the login page")
    scopes: Strings = Field(default_factory=lambda: ["openid", "profile", "email"], description="what is asked for")
    username_claim: str = Field("preferred_username", description="claim that holds the user's name; else email, sub")
    role_claim: str = Field("roles", description="claim that holds the user's roles or groups, a text or a list")
    roles: dict[str, Literal["viewer", "desk", "engineer", "admin"]] = Field(
        default_factory=dict, description="value of that claim → role here; empty: values that are roles here count"
    )
    default_role: Literal["viewer", "desk", "engineer", "none"] = Field(
        "none", description="role of those to whom none of the values gives one; none: they are not let in"
    )
    ca: str | None = Field(None, description="PEM file with the CAs of the issuer; default: the system's")


class Console(HttpListen):
    """The web console and the REST API: a process of its own, on which no call depends."""

    listen: str = Field(description="http://ADDRESS:PORT or https://ADDRESS:PORT")
    certificate: str | None = Field(None, description="PEM file with the certificate and its chain, for https://")
    private_key: str | None = Field(None, description="PEM file with its private key")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+$",
        description="how browsers reach it where that is not `listen`: https://e911.example.com; also in notices",
    )
    proxies: list[Network] = Field(
        default_factory=list, description="reverse proxies in front whose X-Forwarded-For is believed"
    )
    session_minutes: int = Field(480, ge=5, le=10_080, description="a login ends so many minutes after its last use")
    api_requests_per_minute: int = Field(
        600,
        ge=1,
        le=1_000_000,
        description="requests a minute of one token, and of one address, to the API; more get 429",
    )
    keep_messages_days: float = Field(
        30,
        ge=0,
        le=36_500,
        description="SIP messages of emergency calls are kept so many days, for the ladder and the incident bundle; "
        "0: none are kept. Records are always kept",
    )
    oidc: Oidc | None = Field(None, description="login by another system (OpenID Connect)")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        remedy = "write http://ADDRESS:PORT or https://ADDRESS:PORT, such as http://127.0.0.1:8911"
        parts, port = split_url(value, remedy)
        if parts.scheme not in ("http", "https") or port is None:
            raise ValueError(f"not a listening point; {remedy}")
        return value

    @model_validator(mode="after")
    def _check_certificate(self) -> "Console":
        if (self.certificate is None) != (self.private_key is None):
            missing = "private_key" if self.private_key is None else "certificate"
            raise ValueError(f"{missing} is missing; certificate and private_key belong together")
        if self.is_https and self.certificate is None:
            raise ValueError("https:// needs a certificate; add certificate: FILE and private_key: FILE")
        if self.certificate is not None and not self.is_https:
            raise ValueError("a certificate, and listen is http://; write https:// there")
        return self

    @property
    def is_https(self) -> bool:
        """True where it speaks TLS itself."""
        return self.listen.lower().startswith("https:")

    @property
    def url(self) -> str:
        """Where browsers find it, without a slash at the end."""
        return self.public_url or self.listen


class SelfTest(Section):
    """Test calls that edge911 places itself, for each site by each E911 route, and judges by what it hears."""

    at: str = Field(
        "03:15", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="when, HH:MM in the time zone of each site"
    )
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(
        default_factory=list, description="on these days; empty: every day"
    )
    sites: list[str] = Field(default_factory=list, description="ids of sites; empty: all")
    listen_seconds: float = Field(
        20.0, ge=2, le=120, description="how long at most to listen to the read-back, seconds"
    )
    media_address: str | None = Field(
        None,
        description="address at which the provider's media reaches this host; default: the one the system sends from",
    )


class Networks(Section):
    """Who is who on the wire; the longest prefix wins. A trunk's own address counts by itself."""

    inside: list[Network] = Field(default_factory=list, description="phones and PBX: may place calls")
    outside: list[Network] = Field(default_factory=list, description="carriers and providers")
    trust_identity: list[Network] = Field(
        default_factory=list, description="networks whose P-Asserted-Identity is believed (RFC 3325)"
    )


class TrunkAuth(Section):
    """Who we are to a trunk that asks (digest, RFC 7616 and RFC 8760)."""

    username: str = Field(min_length=1, description="as the provider gave it")
    password: str = Field(description="as the provider gave it; better ${file:PATH} or ${env:NAME}", repr=False)


class Trunk(Section):
    """A peer we send calls to."""

    target: Target | None = Field(None, description="SIP URI: sip:HOST[:PORT][;transport=udp|tcp|tls]")
    targets: list[Target] = Field(
        default_factory=list,
        description="in place of target, for a peer without a name that has several addresses: tried in order",
    )
    side: Literal["inside", "outside"] = Field("outside", description="a PBX or phones: inside; a carrier: outside")
    trust_identity: bool | None = Field(
        None,
        description="true: P-Asserted-Identity from this peer is believed, and goes to it (RFC 3325); false: it is "
        "removed from and towards it; left out: not believed, and passed on as it came unless privacy is asked for",
    )
    probe: Probe = Field("30s", description="interval of OPTIONS probes, or off")
    large_messages: Literal["tcp", "udp"] = Field(
        "tcp", description="requests above 1,300 bytes on UDP: try TCP first, or never (RFC 3261 18.1.1)"
    )
    location_from: LocationFrom = Field(
        "none",
        description="where a PBX shows the phone's own address, to look up in the sites' networks: none, sdp, "
        "contact, via (the bottom one), or header:NAME",
    )
    auth: TrunkAuth | None = Field(
        None, description="answers the 401 and 407 of this trunk on emergency routes", repr=False
    )
    listen: str | None = Field(None, description="name of the listening point (interface) to send from")
    private_media: Literal["warn", "expected"] = Field(
        "warn",
        description="private addresses in SDP towards this trunk, where its own address is public; expected: it "
        "sends media back to where it comes from, or a border controller is on the way",
    )
    registrar: Literal["path", "contact", "none"] = Field(
        "path",
        description="how phones that register there through us are called back: by Path (RFC 3327), or where the "
        "registrar knows no Path by a Contact that leads to us; none: REGISTER passes unedited",
    )
    psap_callback: bool = Field(
        False,
        description="true: PSAPs call back by this trunk; such a call to a number that dialled 911 lately goes to "
        "the phone as `Priority: psap-callback` (RFC 7090)",
    )
    tls: Annotated[TrunkTls, BeforeValidator(_parse_trunk_tls)] = Field(
        default_factory=TrunkTls, description="prefer or require, or {policy: ..., ca: FILE, name: NAME}"
    )

    @model_validator(mode="after")
    def _check_targets(self) -> "Trunk":
        if self.target is not None and self.targets:
            raise ValueError("both target and targets; keep targets, with every address in it")
        if not self.addresses:
            raise ValueError("no target; write target: sip:HOST, or targets: [sip:ADDRESS, sip:ADDRESS]")
        return self

    @cached_property
    def addresses(self) -> tuple[PeerAddress, ...]:
        """Its targets, in order."""
        return tuple(map(peer_address, self.targets if self.target is None else [self.target]))

    @property
    def host(self) -> str:
        """Host part of the first target, without brackets."""
        return self.addresses[0].host

    @property
    def port(self) -> int | None:
        """Port of the first target; None where the name decides (RFC 3263)."""
        return self.addresses[0].port

    @property
    def transport(self) -> str:
        """`udp`, `tcp` or `tls` of the first target; udp where it does not say."""
        return self.addresses[0].transport or "udp"

    @property
    def uses_tls(self) -> bool:
        """True where the target says TLS, or `tls` says to have it."""
        return any(peer.transport == "tls" for peer in self.addresses) or self.tls.policy is not None

    @property
    def may_use_tls(self) -> bool:
        """True also where DNS may say so: a target by name that says neither transport nor port (RFC 3263)."""
        return self.uses_tls or any(
            not peer.transport and peer.port is None and not peer.is_ip for peer in self.addresses
        )

    @property
    def hostport(self) -> str:
        """Host and port as they stand in the first target, for Request-URIs."""
        return self.addresses[0].hostport

    @property
    def probe_interval(self) -> float | None:
        """Seconds between OPTIONS probes; None when probing is off."""
        return None if self.probe.lower() in ("off", "no", "false") else parse_duration(self.probe)


class Dns(Section):
    """Name servers to ask in place of the system's (RFC 3263 look-ups, and addresses)."""

    servers: list[NameServer] = Field(
        default_factory=list, description="ADDRESS or ADDRESS:PORT, asked in order; none: those of /etc/resolv.conf"
    )

    @property
    def endpoints(self) -> list[tuple[str, int]]:
        """Addresses and ports."""
        return [parse_name_server(server) for server in self.servers]


class Routes(Section):
    """Ordinary calls, forwarded unchanged; trunks tried in order."""

    outbound: list[str] = Field(default_factory=list, description="names of trunks, for calls from inside")
    inbound: list[str] = Field(default_factory=list, description="names of trunks, for calls from outside")


class EmergencyRoute(Section):
    """An E911 route: a trunk, a provider profile, and how long to wait before the next route starts."""

    name: Name = Field(description="name in records, logs and `edge911 explain`")
    trunk: str = Field(description="name of the trunk to the provider")
    profile: str = Field("pidf-lo", description="provider profile: pidf-lo, number, i3, or one of your own")
    timeout: Duration = Field(2.0, description="to the first response of any kind")
    progress_timeout: Duration = Field(6.0, description="from 100 Trying to the first 18x or 2xx")
    covers: list[Region] = Field(
        default_factory=list, description="countries (US) or country-states (CA-QC); empty: everywhere"
    )
    add_location: AddLocation | None = Field(
        None,
        description="never: the next hop adds a location itself, none of ours goes along; default: the profile's",
    )
    number: NumberToDial | None = Field(
        None, description="number that a profile asks for ({number}), such as the ESRN of an i2 gateway"
    )


class BasicRoute(Section):
    """A basic 911 route: a number at a third-party emergency call service, to which no location goes along; or a
    provider profile, which says what goes along where it is known."""

    name: Name = Field(description="name in records, logs and `edge911 explain`")
    trunk: str = Field(description="name of the trunk to the emergency call service")
    number: NumberToDial | None = Field(
        None, description="number dialled there: +12125550140, or 911; may be left out where there is a profile"
    )
    profile: str | None = Field(None, description="provider profile, as in routes; a location is not required")
    add_location: AddLocation | None = Field(
        None, description="never: the next hop adds a location itself; default: the profile's"
    )
    timeout: Duration = Field(4.0, description="to the first response of any kind")
    progress_timeout: Duration = Field(
        20.0, description="from 100 Trying to the first 18x or 2xx; telephone networks are slow to ring"
    )

    @model_validator(mode="after")
    def _check_destination(self) -> "BasicRoute":
        if self.number is None and self.profile is None:
            raise ValueError('neither number nor profile; write number: "+12125550140", or profile: i3')
        return self


class Limits(Section):
    """How much of anything is taken. Emergency calls from inside are never limited."""

    per_source: float = Field(
        0,
        ge=0,
        le=1_000_000,
        description="new requests a second of one address that is no trunk's; more get 503. 0: any number",
    )


class DefaultCaller(Section):
    """Where callers belong whom no site claims."""

    site: str | None = Field(None, description="id of a site")


class ProviderDataConfig(Section):
    """Who we are, for the block ProviderInfo (RFC 7852 section 4.1)."""

    name: str = Field(min_length=1, description="name of the organisation whose telephones these are")
    contact: str = Field(
        pattern=r"^(sips?|tel):[!-;=?-~]+$", description="sip: or tel: URI that is answered day and night"
    )
    type: Literal["Client", "Access Network Provider", "Telecom Provider", "Telematics Provider", "Other"] = Field(
        "Client", description="what it is to the caller"
    )
    id: str = Field("", description="its registered id, where it has one")
    id_series: Literal["", "NENA", "EENA", "domain"] = Field("", description="who gave that id")
    language: str = Field("en", pattern=r"^[a-z]{2,3}$", description="language that is spoken there")

    @model_validator(mode="after")
    def _check_id(self) -> "ProviderDataConfig":
        if bool(self.id) != bool(self.id_series):
            raise ValueError("id and id_series belong together; write both, or neither")
        return self


class AdditionalData(Section):
    """What is said of us and our telephones to PSAPs (RFC 7852), for profiles with `additional_data`."""

    provider: ProviderDataConfig | None = Field(None, description="who we are")
    environment: Literal["Business", "Residence", "Unknown"] = Field("Business", description="where the phones are")
    service_type: str = Field(
        "MLTS-local",
        pattern=r"^[A-Za-z0-9-]{1,40}$",
        description="MLTS-local: a PBX of our own; MLTS-hosted; POTS, OTT and others of the IANA list",
    )
    comment: str = Field("", max_length=500, description="what everybody who answers should know")
    language: str = Field("en", pattern=r"^[a-z]{2,3}$", description="language of the comment")


class Emergency(Section):
    """Which calls are emergencies, and where they go."""

    numbers: list[DialString] = Field(
        default_factory=lambda: ["911", "9911"],
        description="dial strings that are emergency calls, beside urn:service:sos; 911 must be among them",
    )
    test_numbers: list[DialString] = Field(
        default_factory=lambda: ["933"], description="dial strings that try the way to the provider"
    )
    default: DefaultCaller = Field(default_factory=DefaultCaller, description="callers whom no site claims")
    routes: list[EmergencyRoute] = Field(
        default_factory=list, description="E911, tried in order: the caller's location goes along"
    )
    basic: list[BasicRoute] = Field(
        default_factory=list, description="basic 911, tried in order: no location known, or every route failed"
    )
    from_unlisted: Literal["refuse", "accept"] = Field(
        "refuse", description="911 calls from sources in no listed network"
    )
    additional_data: AdditionalData = Field(
        default_factory=AdditionalData, description="blocks of RFC 7852, sent where a profile asks for them"
    )
    flood: int = Field(
        10,
        ge=0,
        le=1_000_000,
        description="more 911 calls of one caller in a minute are an alarm; they are served, to block is for people "
        "(`edge911 block`). 0: no alarm",
    )
    callback_window: Duration = Field(
        10_800.0,
        description="so long after a 911 call its ELIN stays lent to the phone, and a call to its number goes to "
        "that very phone, past routes.inbound",
    )
    callback_timeout: Duration = Field(
        20.0, description="a phone that is called back and does not answer for so long gives way to the site's desk"
    )
    all_calls_from: list[Network] = Field(
        default_factory=list,
        description="sources whose every INVITE and MESSAGE is an emergency, whatever it is addressed to",
    )

    @field_validator("numbers")
    @classmethod
    def _check_911(cls, value: list[str]) -> list[str]:
        if "911" not in value:
            raise ValueError("911 itself is missing; add it, it must be dialled without a prefix (47 CFR 9.16(b)(1))")
        return value


IdentifiedBy = Literal["ip", "mac", "bssid", "lldp", "uri", "tel"]
"""What a device is named by to a location server."""


def _ip_and_mac() -> list[IdentifiedBy]:
    return ["ip", "mac"]


class Lis(Section):
    """A location server (LIS) that is asked by HELD (RFC 5985) where a device is. A plain URL means {url: URL}."""

    url: str = Field(description="https://HOST[:PORT]/PATH; http:// on loopback and to inside addresses only")
    timeout: Duration = Field(
        0.3, le=5, description="a 911 call waits so long for the answer; later than that the last one is used"
    )
    identity: list[IdentifiedBy] = Field(
        default_factory=_ip_and_mac,
        min_length=1,
        description="by what a device is named to it (RFC 6155): its addresses, its access point and switch port "
        "(RFC 7105), its address of record, its number; what is known of these is sent",
    )
    fresh: Duration = Field(300, description="an answer no older than this is used without asking again")
    keep: Duration = Field(86_400, description="an older one is used so long, where the server is slow or down")
    token: str | None = Field(
        None,
        min_length=1,
        description="sent as Authorization: Bearer; better ${file:PATH} or ${env:NAME}",
        repr=False,
    )
    ca: str | None = Field(None, description="PEM file with its CA; default: tls.ca, else the system's")
    client_certificate: str | None = Field(None, description="PEM file with the certificate that we show it")
    client_key: str | None = Field(None, description="PEM file with its private key")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return check_web_url(value)

    @field_validator("identity")
    @classmethod
    def _check_identity(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("named twice; name each once")
        return value

    @field_validator("token")
    @classmethod
    def _check_token(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value):
            raise ValueError("a token is one word of ASCII characters; is there a line break in its file?")
        return value

    @model_validator(mode="after")
    def _check_pair(self) -> "Lis":
        if (self.client_certificate is None) != (self.client_key is None):
            missing = "client_key" if self.client_key is None else "client_certificate"
            raise ValueError(f"{missing} is missing; client_certificate and client_key belong together")
        return self

    @property
    def is_secure(self) -> bool:
        """True for https."""
        return self.url.lower().startswith("https:")


class Lvf(Section):
    """A location validation function that registered addresses are checked with. A plain URL means {url: URL}."""

    url: str = Field(description="https://HOST[:PORT]/PATH; http:// on loopback only")
    timeout: Duration = Field(5, le=60, description="an answer that takes longer is none; calls never wait for it")
    every_days: int = Field(30, ge=1, le=3650, description="an address is validated anew after so many days")
    token: str | None = Field(
        None,
        min_length=1,
        description="sent as Authorization: Bearer; better ${file:PATH} or ${env:NAME}",
        repr=False,
    )
    ca: str | None = Field(None, description="PEM file with its CA; default: tls.ca, else the system's")
    client_certificate: str | None = Field(None, description="PEM file with the certificate that we show it")
    client_key: str | None = Field(None, description="PEM file with its private key")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return check_web_url(value)

    @field_validator("token")
    @classmethod
    def _check_token(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value):
            raise ValueError("a token is one word of ASCII characters; is there a line break in its file?")
        return value

    @model_validator(mode="after")
    def _check_pair(self) -> "Lvf":
        if (self.client_certificate is None) != (self.client_key is None):
            missing = "client_key" if self.client_key is None else "client_certificate"
            raise ValueError(f"{missing} is missing; client_certificate and client_key belong together")
        return self


def _parse_lis(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class SwitchPortFields(Section):
    """Header fields in which phones say which switch port they are at."""

    chassis: FieldName = Field(description="field with the chassis ID")
    port: FieldName = Field(description="field with the port ID")


def _parse_switch_port_fields(value: Any) -> Any:
    """A plain NAME: one field with both."""
    return {"chassis": value, "port": value} if isinstance(value, str) else value


class Wiremap(Section):
    """What phones say of their access point and switch port; the table itself is kept by `edge911 wiremap`."""

    access_network_info: bool = Field(
        True, description="read P-Access-Network-Info (RFC 7315): access point of Wi-Fi phones, switch port"
    )
    bssid_headers: list[FieldName] = Field(
        default_factory=list, description="further header fields with the BSSID of the phone's access point"
    )
    lldp_headers: list[Annotated[SwitchPortFields, BeforeValidator(_parse_switch_port_fields)]] = Field(
        default_factory=list,
        description="header fields with switch and port as the phone heard them (LLDP): NAME of one with both, such "
        "as chassis=00:1b:54:aa:bb:cc;port=Gi1/0/14, or {chassis: NAME, port: NAME}",
    )
    bssid_ignored_bits: int = Field(
        0,
        ge=0,
        le=8,
        description="so many of its last bits tell apart only the networks of one access point: 4 for the last digit",
    )


class ReferenceServer(Section):
    """Where references to locations are answered (HELD, RFC 6753), for profiles with `location: reference`. A process
    of its own; where it does not live the location goes along by value."""

    listen: str = Field(description="https://ADDRESS:PORT; http:// only where a proxy in front speaks TLS")
    url: str = Field(
        pattern=r"^https://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~-]+)*$",
        description="what providers and PSAPs reach it by, such as https://e911.example.com:8443/held",
    )
    certificate: str | None = Field(None, description="PEM file with the certificate and its chain, for https://")
    private_key: str | None = Field(None, description="PEM file with its private key")
    client_ca: str | None = Field(None, description="PEM file with the CAs whose clients may ask; none: all may")
    lifetime: Duration = Field(6 * 3600.0, ge=60, le=86_400, description="a reference is answered for so long")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        remedy = "write https://ADDRESS:PORT, such as https://192.0.2.10:8443"
        parts, port = split_url(value, remedy)
        if parts.scheme not in ("http", "https") or port is None:
            raise ValueError(f"not a listening point; {remedy}")
        check_address(parts.hostname or "", remedy)
        return value

    @model_validator(mode="after")
    def _check_certificate(self) -> "ReferenceServer":
        if (self.certificate is None) != (self.private_key is None):
            missing = "private_key" if self.private_key is None else "certificate"
            raise ValueError(f"{missing} is missing; certificate and private_key belong together")
        is_https = self.listen.lower().startswith("https:")
        if is_https and self.certificate is None:
            raise ValueError("https:// needs a certificate; add certificate: FILE and private_key: FILE")
        if not is_https and (self.certificate is not None or self.client_ca is not None):
            raise ValueError("a certificate or client_ca, and listen is http://; write https:// there")
        return self

    @property
    def host(self) -> str:
        """The address listened on."""
        return split_url(self.listen, "")[0].hostname or ""

    @property
    def port(self) -> int:
        """The port listened on."""
        return split_url(self.listen, "")[1] or 443

    @property
    def path(self) -> str:
        """The path of `url`, below which references are; empty where it has none."""
        return urlsplit(self.url).path.rstrip("/")


class Unconfirmed(Section):
    """Softphones and nomadic phones seen on a network they were not on before: their user is asked where."""

    outbound: Literal["allow", "refuse"] = Field(
        "allow",
        description="ordinary outbound calls of such a phone until its location is given: refuse answers 403. 911, "
        "988, registration and incoming calls always pass",
    )
    message: bool = Field(True, description="send the link to the phone itself, as a SIP MESSAGE")
    mail: str | None = Field(
        None,
        description="Apprise mailto:// or mailtos:// URL to send the link by, to the device's `email`",
        repr=False,
    )
    again_after: Duration = Field(43_200, ge=60, description="no second link to one phone before this time is over")
    link_days: int = Field(14, ge=1, le=3650, description="a link is good for so many days")

    @field_validator("mail")
    @classmethod
    def _check_mail(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"mailtos?://.", value):
            raise ValueError("not a mail URL; write mailto://HOST:PORT?from=edge911@example.com, without to=")
        return value


class Locations(Section):
    """The registered devices, and the order in which location sources are asked."""

    database: str = Field(
        "sqlite:///edge911.db", description="sqlite:///FILE or postgresql://USER@HOST/DATABASE", repr=False
    )
    sources: list[LocationSource] = Field(
        default_factory=lambda: [
            LocationSource.CONVEYED,
            LocationSource.NETWORK,
            LocationSource.REGISTERED,
            LocationSource.SITE,
        ],
        description="who is asked where the caller is; the first that knows decides",
    )

    lis: Annotated[Lis | None, BeforeValidator(_parse_lis)] = Field(
        None,
        description="location server (LIS) asked by HELD, for sites without one of their own; add held to sources",
    )
    lvf: Annotated[Lvf | None, BeforeValidator(_parse_lis)] = Field(
        None, description="location validation function asked by LoST (RFC 5222): `edge911 locations validate`"
    )
    wiremap: Wiremap = Field(default_factory=Wiremap, description="access points and switch ports that phones name")
    unconfirmed: Unconfirmed = Field(
        default_factory=Unconfirmed, description="what follows when a softphone shows up on another network"
    )
    reference_timeout: Duration = Field(
        0.3, le=5, description="a location that the caller only refers to (https://…) is waited for so long"
    )
    reference_hosts: list[str] = Field(
        default_factory=list,
        description="hosts such locations are asked of: names, *.example.com, networks; empty: see decision 0012",
    )

    reference_server: ReferenceServer | None = Field(
        None, description="answers references of ours, for provider profiles with `location: reference`"
    )

    @field_validator("reference_hosts")
    @classmethod
    def _check_reference_hosts(cls, value: list[str]) -> list[str]:
        for host in value:
            check_host_pattern(host)
        return value

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: str) -> str:
        if not re.match(r"(sqlite:///|postgresql(\+psycopg)?://).", value):
            raise ValueError("not a database; write sqlite:///FILE or postgresql://USER@HOST/DATABASE")
        return value

    @field_validator("sources")
    @classmethod
    def _check_sources(cls, value: list[LocationSource]) -> list[LocationSource]:
        if len(set(value)) != len(value):
            raise ValueError("a source is named twice; name each once")
        return value


class ZoneConfig(Section):
    """An emergency response location (ERL) within a site."""

    id: Name = Field(description="id, as devices name it")
    name: str = Field("", description="name people know it by")
    networks: list[Network] = Field(default_factory=list, description="phones seen from here are in this zone")
    building: str = Field("", description="building")
    floor: str = Field("", description="floor")
    unit: str = Field("", description="unit, suite, apartment")
    room: str = Field("", description="room")
    landmark: str = Field("", description="landmark or vanity address")
    additional: str = Field("", description="what else helps to find it")
    location_id: ProviderId = Field("", description="the provider's id of this place, for profiles that show it")
    endpoint_id: ProviderId = Field("", description="the provider's id of a line here, for profiles that show it")
    elins: list[str] = Field(
        default_factory=list, description="numbers lent to phones of this zone, before those of the site"
    )


class SiteConfig(Section):
    """A place with a street address, the callers it claims and the contacts told of its 911 calls."""

    id: Name = Field(description="id, as devices name it")
    name: str = Field("", description="name people know it by; also sent as the location's name")
    timezone: str = Field("UTC", description="IANA time zone of notices, such as America/New_York")
    address: CivicAddress = Field(default_factory=CivicAddress, description="civic address of the site")
    latitude: float | None = Field(None, ge=-90, le=90, description="degrees, WGS 84")
    longitude: float | None = Field(None, ge=-180, le=180, description="degrees, WGS 84")
    networks: list[Network] = Field(
        default_factory=list, description="phones seen from here are at this site (never the PBX's own address)"
    )
    numbers: list[NumberPattern] = Field(
        default_factory=list, description="callers with these numbers belong here; patterns, X stands for one digit"
    )
    callback: str = Field("", description="number shown to the PSAP for phones without a number of their own")
    elins: list[str] = Field(
        default_factory=list, description="numbers (ELINs) lent to such phones during and after a 911 call"
    )
    desk: Desk | None = Field(
        None,
        description="number, extension or SIP URI that takes callbacks which a phone does not; default: the site's "
        "callback, by routes.inbound",
    )
    location_id: ProviderId = Field("", description="as of a zone; for callers in no zone, or one without its own")
    endpoint_id: ProviderId = Field("", description="as of a zone; for callers in no zone, or one without its own")
    notify: list[str] = Field(default_factory=list, description="names of the contacts told of 911 calls from here")
    multi_storey: bool = Field(False, description="true: a phone here needs a floor or room to be found")
    floors: list[str] = Field(
        default_factory=list, description="names of the floors, as devices and zones name them; makes it multi_storey"
    )
    lis: Annotated[Lis | None, BeforeValidator(_parse_lis)] = Field(
        None, description="location server of this site, in place of locations.lis"
    )
    routes: list[EmergencyRoute] | None = Field(None, description="replaces emergency.routes for this site")
    basic: list[BasicRoute] | None = Field(None, description="replaces emergency.basic for this site")
    zones: list[ZoneConfig] = Field(
        default_factory=list, description="emergency response locations (ERL) within the site"
    )

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is not a time zone; write one such as America/New_York") from None
        return value

    @property
    def point(self) -> GeoPoint | None:
        """The site's coordinates, where both are given."""
        if self.latitude is None or self.longitude is None:
            return None
        return GeoPoint(latitude=self.latitude, longitude=self.longitude)


FollowUpKind = Literal["answered", "basic", "ended", "abandoned", "callback"]


class Contact(Section):
    """Someone who is told when 911 is dialled."""

    language: Literal["en", "fr"] = Field("en", description="language of notices")
    send: Strings = Field(
        default_factory=list, description="Apprise URLs (mailto://, json://, ...) or sip: URIs", repr=False
    )
    escalate_after: Duration | None = Field(
        None, description="where nobody has acknowledged a 911 call for so long, whoever comes next is told"
    )
    escalate_to: Strings = Field(
        default_factory=list, description="names of contacts that come next; default: the next in the site's notify"
    )
    quiet_hours: str = Field(
        "",
        pattern=r"^(([01]?\d|2[0-3]):[0-5]\d-([01]?\d|2[0-3]):[0-5]\d)?$",
        description="such as 22:00-06:00, in the site's time zone: not told of test calls, and of alarms only after; "
        "911 calls are always told",
    )
    templates: str | None = Field(
        None, description="folder with texts of your own (`edge911 contacts templates` writes those supplied)"
    )
    follow_ups: list[FollowUpKind] = Field(
        ["basic", "abandoned", "callback"],
        description="what is told of a call after its notice: answered, basic (goes on without location), ended, "
        "abandoned (hung up before an answer), callback. Where written, to every channel but calls; by default to "
        "those that keep a thread (mail, chat, pagers, syslog, SNMP); callback: to every channel but calls",
    )
    tests: bool = Field(True, description="also told of test calls (933)")


class ProvisioningTarget(Section):
    """A provider, or a system of yours, that is told where each registered device is."""

    kind: Literal["bandwidth", "webhook"] = Field(
        description="bandwidth: its E911 orders (XML); webhook: a JSON document for each device"
    )
    url: str = Field(
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="https://dashboard.bandwidth.com/api, or where the documents are posted",
    )
    account: str = Field("", pattern=r"^[A-Za-z0-9-]*$", description="account id at Bandwidth")
    username: str = Field("", description="as the provider gave it")
    password: str = Field("", description="as the provider gave it; better ${file:PATH} or ${env:NAME}", repr=False)
    secret: str = Field("", description="webhook: key of the signature in X-Edge911-Signature", repr=False)
    sites: list[str] = Field(default_factory=list, description="devices of these sites only; empty: all")
    ca: str | None = Field(None, description="PEM file with the CAs of its server; default: the system's")
    timeout: Duration = Field(10.0, ge=0.5, le=60, description="so long one request may take")

    @model_validator(mode="after")
    def _check_target(self) -> "ProvisioningTarget":
        if self.kind == "bandwidth" and not (self.account and self.username and self.password):
            raise ValueError("bandwidth needs account, username and password; add what is missing")
        host = urlsplit(self.url).hostname or ""
        if self.url.startswith("http://") and host != "localhost" and not host.startswith("127."):
            raise ValueError("it says where people are, so it goes by https:// (http:// only to this machine)")
        return self


AliKind = Literal["fixed", "nomadic", "softphone", "off-premises", "elin", "site"]
"""Whose number an ALI record is of: a device of that kind, an ELIN, or the callback of a site."""


class Ali(Section):
    """Records for the database operator who has the addresses of our numbers (NENA 02-010 version 2.1)."""

    company: str = Field(min_length=1, max_length=50, description="our name in header and trailer")
    company_id: str = Field("", max_length=5, description="our company id, as registered with NENA")
    customer_name: str = Field("", max_length=32, description="customer in each record; default: the site's name")
    main_number: NumberToDial | None = Field(None, description="billing or pilot number; default: the number itself")
    county_id: str = Field("", max_length=4, description="as the operator wants it")
    exchange: str = Field("", max_length=4, description="LEC exchange, as the operator wants it")
    customer_code: str = Field("", max_length=3, description="as the operator wants it")
    general_use: str = Field("", max_length=20, description="general use area of the header")
    release: str = Field("", max_length=3, description="release number in the header")
    format_version: str = Field("", max_length=1, description="format version in the header")
    class_of_service: dict[AliKind, str] = Field(
        default_factory=dict, description="letter or digit by kind of number; default: 4, business PBX"
    )
    type_of_service: dict[AliKind, str] = Field(
        default_factory=dict, description="digit by kind of number; default: 8 (PS/ALI) for ELINs, 0 for others"
    )
    variant: Variant = Field(
        Variant.STANDARD, description="century: no expanded date and no coordinates, the century in 398-399"
    )
    fill: Literal["zeros", "blanks"] = Field("zeros", description="before the cycle counter and the record count")

    @field_validator("class_of_service", "type_of_service")
    @classmethod
    def _check_codes(cls, value: dict[str, str]) -> dict[str, str]:
        for kind, code in value.items():
            if not re.fullmatch("[0-9A-Z]", code):
                raise ValueError(f"{code!r} of {kind} is not one digit or capital letter")
        return value


class Log(Section):
    """Logs of all processes, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level written")
    format: Literal["json", "console"] = Field("json", description="one JSON object to a line, or text for people")
    redact: bool = Field(True, description="hide locations and numbers")


class PcapExport(Section):
    """Captures of all SIP, for Wireshark and sngrep."""

    directory: str = Field(description="where the files go; made where it is missing")
    file_size: Size = Field(100_000_000, description="a new file is begun when one is so large, such as 100MB")
    files: int = Field(10, ge=1, le=100_000, description="so many files are kept; the oldest is deleted")
    calls: Literal["all", "emergency"] = Field("all", description="every message, or those of 911 calls only")
    redact: bool | None = Field(None, description="hide locations and numbers; default: as log.redact")


class HepExport(Section):
    """All SIP, sent to a Homer server as HEPv3."""

    target: Collector = Field(description="udp://HOST:PORT of the collector")
    capture_id: int = Field(911, ge=1, le=4_294_967_295, description="number by which the collector knows this node")
    password: str = Field("", description="the collector's password, where it wants one", repr=False)
    calls: Literal["all", "emergency"] = Field("all", description="every message, or those of 911 calls only")
    redact: bool | None = Field(None, description="hide locations and numbers; default: as log.redact")

    @property
    def host(self) -> str:
        """The collector's address or name."""
        return split_url(self.target, "")[0].hostname or ""

    @property
    def port(self) -> int:
        """The collector's port."""
        return split_url(self.target, "")[1] or 9060


class Trace(Section):
    """Copies of all SIP messages for diagnosis, off by default; `edge911 trace` needs none of it."""

    pcap: PcapExport | None = Field(None, description="write captures")
    hep: HepExport | None = Field(None, description="send to a Homer server")


class Config(Section):
    """The whole of edge911.yaml."""

    node: Name = Field("edge911", description="name in logs, metrics, call records")
    domain: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+$",
        description="our FQDN in emergency-CallId, Content-ID and the like; default NODE.edge911.internal",
    )
    state_directory: str = Field("edge911-state", description="journal and key of this node; must survive restarts")
    listen: list[Annotated[Listen, BeforeValidator(_parse_listen)]] = Field(
        min_length=1, description="where SIP is received: URLs, or {url: URL, name: NAME, ...}"
    )
    tls: Tls | None = Field(None, description="certificates for tls:// listening points and trunks")
    health: HttpListen | None = Field(None, description="/healthz, /readyz, /metrics, from the call process itself")
    networks: Networks = Field(default_factory=Networks, description="who is who on the wire")
    trunks: dict[Name, Trunk] = Field(default_factory=dict, description="every peer we send calls to, by name")
    dns: Dns = Field(default_factory=Dns, description="where names of trunks and peers are looked up")
    routes: Routes = Field(default_factory=Routes, description="ordinary calls, forwarded unchanged")
    limits: Limits = Field(default_factory=Limits, description="how much of anything is taken")
    emergency: Emergency = Field(default_factory=Emergency, description="911 calls and where they go")
    locations: Locations = Field(default_factory=Locations, description="registered devices and location sources")
    sites: list[SiteConfig] = Field(default_factory=list, description="places, and the callers they claim")
    contacts: dict[Name, Contact] = Field(
        default_factory=dict, description="who is told when someone at a site dials 911, by name"
    )
    provisioning: dict[Name, ProvisioningTarget] = Field(
        default_factory=dict, description="who is told where each registered device is, by name"
    )
    ali: Ali | None = Field(None, description="ALI records for a database operator: `edge911 ali`")
    console: Console | None = Field(None, description="web console and REST API")
    self_test: SelfTest | None = Field(None, description="test calls that are placed by themselves, and judged")
    log: Log = Field(default_factory=Log, description="logs of all processes")
    trace: Trace = Field(default_factory=Trace, description="copies of SIP messages: captures, Homer")

    @property
    def own_domain(self) -> str:
        """The FQDN we name ourselves by."""
        return self.domain or f"{self.node.lower()}.edge911.internal"
