"""The configuration as types: every key of edge911.yaml, its default, and what it means.

Here is the whole; a module beside this one has the sections of one kind. The models only say what is written.
Cross-checks live in config/checks.py, reading in config/load.py, kinds of values in config/values.py. Durations are
seconds, written `300ms`, `2s`, `1m` or a plain number of seconds.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field

from config.schema.address_records import Ali, ProvisioningTarget
from config.schema.console import Console, Oidc, SelfTest
from config.schema.contacts import Contact
from config.schema.emergency import AdditionalData, BasicRoute, DefaultCaller, Emergency, EmergencyRoute
from config.schema.listening import HttpListen, Listen, Tls, parse_listen
from config.schema.location_servers import Lis, Lvf
from config.schema.locations import Locations, ReferenceServer, Wiremap
from config.schema.logs import Log, Trace
from config.schema.section import Section
from config.schema.sites import SiteConfig, ZoneConfig
from config.schema.trunks import Dns, Limits, Networks, Routes, Trunk, TrunkTls
from config.values import Duration, Name, Network, Strings, parse_duration

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
    "Lis",
    "Listen",
    "Locations",
    "Log",
    "Lvf",
    "Name",
    "Network",
    "Networks",
    "Oidc",
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
    "Wiremap",
    "ZoneConfig",
    "parse_duration",
]


class Config(Section):
    """The whole of edge911.yaml."""

    node: Name = Field("edge911", description="name in logs, metrics, call records")
    domain: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)+$",
        description="our FQDN in emergency-CallId, Content-ID and the like; default NODE.edge911.internal",
    )
    state_directory: str = Field("edge911-state", description="journal and key of this node; must survive restarts")
    listen: list[Annotated[Listen, BeforeValidator(parse_listen)]] = Field(
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
