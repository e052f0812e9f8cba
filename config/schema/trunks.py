"""The peers that calls go to, who is who on the wire, and where ordinary calls go."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from config.schema.section import Section
from config.values import (
    LocationFrom,
    NameServer,
    Network,
    PeerAddress,
    Probe,
    Target,
    parse_duration,
    parse_name_server,
    peer_address,
)


class Networks(Section):
    """Who is who on the wire; the longest prefix wins. A trunk's own address counts by itself."""

    inside: list[Network] = Field(default_factory=list, description="phones and PBX: may place calls")
    outside: list[Network] = Field(default_factory=list, description="carriers and providers")
    trust_identity: list[Network] = Field(
        default_factory=list, description="networks whose P-Asserted-Identity is believed (RFC 3325)"
    )


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


class Limits(Section):
    """How much of anything is taken. Emergency calls from inside are never limited."""

    per_source: float = Field(
        0,
        ge=0,
        le=1_000_000,
        description="new requests a second of one address that is no trunk's; more get 503. 0: any number",
    )
