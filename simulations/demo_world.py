"""The world of `edge911 demo`: addresses, actors, the router's configuration, and the phones that are registered."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e911.location import CivicAddress, GeoPoint
from simulations.actor import Actor, free_port
from simulations.callee import Script
from simulations.edge import Edge, EdgeError
from simulations.front_desk import FrontDesk
from simulations.pbx import Pbx
from simulations.phone import Phone
from simulations.psap import Psap
from simulations.relay import RelayCentre

TIMEZONE = "America/New_York"
ROUTER = "edge911"
RELAY_NUMBER = "+12125550140"
BREAKABLE = ("provider", "relay", "desk")
"""Peers that can be broken on purpose."""

_HQ = CivicAddress(
    country="US",
    state="NY",
    city="New York",
    house_number="350",
    street="5th",
    street_suffix="AVE",
    postal_code="10118",
)
_HOSTS = {
    "router": "127.0.0.2",
    "phones": "127.0.0.10",
    "pbx": "127.0.0.20",
    "ers-a": "127.0.0.31",
    "ers-b": "127.0.0.32",
    "relay": "127.0.0.40",
    "desk": "127.0.0.50",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """A phone of the demo, and what must arrive at a PSAP when it dials 911."""

    number: str
    name: str
    site: str
    site_name: str
    callback: str
    location: CivicAddress | None
    point: GeoPoint | None = None


NORA = Extension(
    number="4012",
    name="Nora Quinn",
    site="hq",
    site_name="Head office",
    callback="+12125550112",
    location=_HQ.overlaid(CivicAddress(floor="12", room="1204")),
    point=GeoPoint(latitude=40.7484, longitude=-73.9857),
)
DOCK = Extension(
    number="4301",
    name="Loading dock",
    site="annex",
    site_name="Annex",
    callback="+12125550170",  # the site's: nobody registered this phone
    location=None,
)
LAB = Extension(
    number="4027",
    name="Test lab",
    site="hq",
    site_name="Head office",
    callback="+12125550127",
    location=_HQ.overlaid(CivicAddress(floor="3", room="312", additional="Bench by the north door")),
)
REGISTERED = (NORA, LAB)


class World:
    """Every actor of the demo, and the router between them."""

    def __init__(self, folder: Path, broken: frozenset[str] = frozenset()) -> None:
        hosts = _hosts()
        self.hosts = hosts
        self.edge = Edge(folder)
        answers = 0.4 if "provider" not in broken else None
        self.ers_a = Psap("ERS A", hosts["ers-a"], script=Script(answer_after=answers))
        self.ers_b = Psap("ERS B", hosts["ers-b"], script=Script(answer_after=answers))
        self.relay = RelayCentre(
            "relay",
            hosts["relay"],
            script=Script(answer_after=0.4, hang_up_after=0.25, refuse=503 if "relay" in broken else 0),
        )
        self.desk = FrontDesk(hosts["desk"], refuses="desk" in broken)
        self.sip = (hosts["router"], free_port(hosts["router"]))
        self.pbx = Pbx("PBX", hosts["pbx"], trunk=self.sip)
        self.phones: list[Phone] = []

    @property
    def actors(self) -> list[Actor]:
        """The SIP actors, phones first."""
        return [*self.phones, self.pbx, self.ers_a, self.ers_b, self.relay]

    @property
    def answerers(self) -> tuple[Psap, ...]:
        """Whoever may be offered a 911 call."""
        return self.ers_a, self.ers_b, self.relay

    async def start_actors(self) -> None:
        """Have every peer listen. Raises OSError where an address cannot be had."""
        for actor in (self.pbx, self.ers_a, self.ers_b, self.relay):
            await actor.start()
        await self.desk.start()

    async def start_router(self) -> None:
        """Configure the router, register the phones with it, run it. Raises EdgeError."""
        for left in (2, 1, 0):
            health = (self.hosts["router"], free_port(self.hosts["router"]))
            self.edge.write_config(self.config(health))
            if not (self.edge.folder / "devices.csv").exists():
                (self.edge.folder / "devices.csv").write_text(devices_csv(), "utf-8")
                await self.edge.command("locations", "import", "devices.csv")
            try:
                await self.edge.start(self.sip, health, self.pbx)
                return
            except EdgeError as error:
                # Between our picking a port and its binding it somebody else may have taken it.
                if not left or "cannot listen" not in str(error):
                    raise
                await self.edge.stop()
                self.sip = (self.hosts["router"], free_port(self.hosts["router"]))
                self.pbx.trunk = self.sip

    async def plug_in(self, extension: Extension) -> Phone:
        """A phone with this extension on the network."""
        phone = Phone("phone", self.hosts["phones"], user=extension.number, display_name=extension.name)
        self.phones.append(phone)
        await phone.start()
        return phone

    async def stop(self) -> None:
        """End the router, then every actor."""
        try:
            await self.edge.stop()
        finally:
            for actor in self.actors:
                await actor.stop()
            await self.desk.stop()

    def config(self, health: tuple[str, int]) -> dict[str, Any]:
        """The router's configuration."""
        sip = f"{self.sip[0]}:{self.sip[1]}"

        def trunk(actor: Actor, transport: str, **more: Any) -> dict[str, Any]:
            return {"target": f"sip:{actor.hostport};transport={transport}", "probe": "off", **more}

        return {
            "node": "demo",
            "domain": "edge911.example.com",
            "listen": [f"udp://{sip}", f"tcp://{sip}"],
            "health": {"listen": f"http://{health[0]}:{health[1]}"},
            "networks": {"inside": [f"{self.hosts['phones']}/32"]},
            "trunks": {
                "pbx": trunk(self.pbx, "udp", side="inside", trust_identity=True),
                "ers-a": trunk(self.ers_a, "tcp"),
                "ers-b": trunk(self.ers_b, "tcp"),
                "relay": trunk(self.relay, "udp"),
            },
            "routes": {"inbound": ["pbx"]},
            "emergency": {
                "default": {"site": "hq"},
                "routes": [
                    {"name": "ers-a", "trunk": "ers-a", "profile": "pidf-lo", "timeout": "2s"},
                    {"name": "ers-b", "trunk": "ers-b", "profile": "pidf-lo", "timeout": "2s"},
                ],
                "basic": [{"name": "relay-centre", "trunk": "relay", "number": RELAY_NUMBER}],
            },
            "locations": {"database": "sqlite:///edge911.db", "sources": ["registered", "network", "site"]},
            "sites": [
                {
                    "id": "hq",
                    "name": NORA.site_name,
                    "timezone": TIMEZONE,
                    "address": dict(_given(_HQ)),
                    "numbers": ["40XX"],
                    "callback": "+12125550100",
                    "notify": ["front-desk"],
                },
                {
                    # A site that opened before anybody entered its address: `edge911 check` warns of it.
                    "id": "annex",
                    "name": DOCK.site_name,
                    "timezone": TIMEZONE,
                    "numbers": ["43XX"],
                    "callback": DOCK.callback,
                    "notify": ["front-desk"],
                },
            ],
            "contacts": {"front-desk": {"language": "en", "send": [self.desk.url()]}},
        }


def devices_csv() -> str:
    """The registered phones, as `edge911 locations import` reads them; the street address is their site's."""
    rows = ["device,name,callback,site,floor,room,additional,latitude,longitude"]
    for item in REGISTERED:
        assert item.location is not None
        point = (str(item.point.latitude), str(item.point.longitude)) if item.point else ("", "")
        own = item.location
        rows.append(
            ",".join((item.number, item.name, item.callback, item.site, own.floor, own.room, own.additional, *point))
        )
    return "\n".join(rows) + "\n"


def _given(civic: CivicAddress) -> list[tuple[str, str]]:
    names = ("country", "state", "city", "house_number", "street", "street_suffix", "postal_code")
    return [(name, getattr(civic, name)) for name in names]


def _hosts() -> dict[str, str]:
    """An address of its own for each; 127.0.0.1 for all where the system has no other (macOS)."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((_HOSTS["desk"], 0))
    except OSError:
        return dict.fromkeys(_HOSTS, "127.0.0.1")
    return dict(_HOSTS)
