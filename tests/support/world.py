"""A world for interop tests: one router, and for each test a place of its own with phones, providers and a desk.

Every place has its own addresses, site, numbers, routes and contact, so tests that share a router share nothing
else: what one test's provider does can neither reach nor slow another test's call.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ports import Endpoint, Street, free_port, street
from tests.support.raw_sip import Call, Peer
from tests.support.router_process import RouterProcess
from tests.support.sipp import Sipp
from tests.support.webhook_sink import WebhookSink

ADDRESS = {
    "country": "US",
    "state": "NY",
    "city": "Albany",
    "house_number": "1",
    "street": "Lake",
    "street_suffix": "RD",
    "postal_code": "12207",
}
RELAY_NUMBER = "+12125550140"
TRUNKS = ("provider_a", "provider_b", "relay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is particular about a place; the defaults make an ordinary one."""

    address: Mapping[str, str] = field(default_factory=lambda: dict(ADDRESS))
    """The site's own address; empty: nothing but the device's own registration knows where it is."""
    timeout: str = "3s"
    progress_timeout: str = "6s"
    profile: str = "pidf-lo"
    routes: tuple[str, ...] = ("provider_a", "provider_b")
    route_keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """More keys of a route, by trunk."""
    trunk_keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """More keys of a trunk, by its name here."""
    pbx: Mapping[str, Any] | None = None
    """Keys of a PBX of the place's own, at its `pbx` endpoint; None: there is none."""
    tcp: tuple[str, ...] = ()
    """Trunks reached over TCP."""
    tls: tuple[str, ...] = ()
    """Trunks reached over TLS."""
    basic: bool = True
    language: str = "en"
    site_keys: Mapping[str, Any] = field(default_factory=dict)
    networks: bool = False
    """The phones' network belongs to the site, and second_phone's address to a zone (2nd floor, room 2-Z)."""
    notify: tuple[str, ...] | None = None
    """Contacts; None: the place's own webhook."""


@dataclass(frozen=True, slots=True)
class Place:
    """A site with its phones, its providers and the desk that is told."""

    name: str
    index: int
    plan: Plan
    street: Street
    router: Endpoint
    desk: WebhookSink
    folder: Path

    @property
    def device(self) -> str:
        """A registered extension: it has an address, a room, and a callback number."""
        return f"4{self.index:02d}1"

    @property
    def unregistered(self) -> str:
        """An extension of this site that nobody registered."""
        return f"4{self.index:02d}9"

    @property
    def callback(self) -> str:
        """The registered device's callback number."""
        return f"+12125550{100 + self.index}"

    @property
    def site_callback(self) -> str:
        """The site's callback number."""
        return f"+13125550{100 + self.index}"

    @property
    def room(self) -> str:
        """The registered device's room."""
        return f"{self.index}-R"

    @property
    def device_name(self) -> str:
        """The registered device's name."""
        return f"Desk of {self.name}"

    def trunk(self, name: str) -> str:
        """The configuration's name of a trunk of this place."""
        return f"{self.name}-{name}".replace("_", "-")

    def sipp(self, scenario: str, at: str, **options: Any) -> Sipp:
        """A SIPp that waits for calls at one of this place's endpoints."""
        return Sipp(
            scenario, at=self.street[at], folder=self.folder, tcp=options.pop("tcp", at in self.plan.tcp), **options
        )

    def caller(self, scenario: str = "caller_dials", *, caller: str | None = None, **options: Any) -> Sipp:
        """A SIPp phone that dials 911 from the registered extension."""
        keys = {"caller": caller or self.device, **options.pop("keys", {})}
        return Sipp(scenario, at=self.street["phone"], to=self.router, folder=self.folder, keys=keys, **options)

    def peer(self, at: str, **options: Any) -> Peer:
        """A raw peer at one of this place's endpoints."""
        return Peer(self.street[at], **options)

    def call(self, phone: Peer, **options: Any) -> Call:
        """A call from the registered extension by a raw peer."""
        return Call(peer=phone, router=self.router, user=options.pop("user", self.device), **options)

    def notices(self, count: int = 1, timeout: float = 40) -> list[str]:
        """The texts of the notices of calls told to this place's desk, as soon as there are `count`. That the router
        refused a configuration, which every desk hears, is none of them."""
        posts = self.desk.wait_for(
            self.name, count, timeout, wanted=lambda post: "configuration refused" not in post.text
        )
        return [post.text for post in posts]

    def row(self) -> str:
        """The CSV row of the registered extension."""
        return (
            f"{self.device},{self.device_name},{self.callback},{self.name},US,NY,Albany,{100 + self.index},"
            f"Washington,AVE,12210,3,{self.room}"
        )

    def site(self) -> dict[str, Any]:
        """The place's section under `sites`."""
        plan = self.plan
        routes = [
            {
                "name": name.replace("_", "-"),
                "trunk": self.trunk(name),
                "profile": plan.profile,
                "timeout": plan.timeout,
                "progress_timeout": plan.progress_timeout,
                **plan.route_keys.get(name, {}),
            }
            for name in plan.routes
        ]
        basic = [
            {
                "name": "relay-centre",
                "trunk": self.trunk("relay"),
                "number": RELAY_NUMBER,
                "timeout": plan.timeout,
                "progress_timeout": plan.progress_timeout,
            }
        ]
        return {
            "id": self.name,
            "name": f"Place {self.name}",
            "timezone": "America/New_York",
            "address": dict(plan.address),
            "numbers": [f"4{self.index:02d}X"],
            "callback": self.site_callback,
            "notify": list(plan.notify if plan.notify is not None else (self.name,)),
            "routes": routes,
            "basic": basic if plan.basic else [],
            **(self._networks() if plan.networks else {}),
            **plan.site_keys,
        }

    def _networks(self) -> dict[str, Any]:
        zone = {"id": f"{self.name}-2", "name": "2nd floor", "networks": [f"{self.street.network}.3/32"]}
        return {"networks": [self.street.phones], "zones": [{**zone, "floor": "2", "room": "2-Z"}]}

    def _transport(self, name: str) -> str:
        return "tls" if name in self.plan.tls else "tcp" if name in self.plan.tcp else "udp"

    def trunks(self) -> dict[str, Any]:
        """The place's entries under `trunks`."""
        return {
            self.trunk(name): {
                "target": f"sip:{self.street[name]};transport={self._transport(name)}",
                "probe": "off",
                "large_messages": "udp",
                **self.plan.trunk_keys.get(name, {}),
            }
            for name in TRUNKS
        } | self._pbx()

    def _pbx(self) -> dict[str, Any]:
        if self.plan.pbx is None:
            return {}
        target = f"sip:{self.street['pbx']}"
        return {self.trunk("pbx"): {"target": target, "side": "inside", "probe": "off", **self.plan.pbx}}


DEVICE_COLUMNS = (
    "device,name,callback,site,country,state,city,house_number,street,street_suffix,postal_code,floor,room"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A running router, its places, its carrier and PBX."""

    router: RouterProcess
    street: Street
    places: Mapping[str, Place]
    desk: WebhookSink

    def __getitem__(self, name: str) -> Place:
        return self.places[name]

    @property
    def secure(self) -> Endpoint:
        """Where the router listens for TLS."""
        url = next(url for url in self.router.config["listen"] if url.startswith("tls://"))
        address, port = url.removeprefix("tls://").split(":")
        return Endpoint(address=address, port=int(port))


def build(
    folder: Path, plans: Mapping[str, Plan], desk: WebhookSink, home: Street, **keys: Any
) -> tuple[dict[str, Place], dict[str, Any]]:
    """The places and the configuration of a world; `keys` replace whole sections of it."""
    router = home["router"]
    places = {
        name: Place(name, index, plan, street(), router, desk, folder / name)
        for index, (name, plan) in enumerate(plans.items(), start=1)
    }
    inside = [home.phones, *(place.street.phones for place in places.values())]
    trunks: dict[str, Any] = {
        "carrier": {"target": f"sip:{home['carrier']}", "probe": "off"},
        "pbx": {"target": f"sip:{home['pbx']}", "side": "inside", "trust_identity": True, "probe": "off"},
    }
    for place in places.values():
        trunks |= place.trunks()
    health = home["provider_a"]  # any other address of the street: health listens apart from SIP
    config: dict[str, Any] = {
        "node": "test-node",
        "listen": [f"udp://{router}", f"tcp://{router}"],
        "health": {"listen": f"http://{health}"},
        "networks": {"inside": inside, "outside": []},
        "trunks": trunks,
        "routes": {"outbound": ["carrier"], "inbound": ["pbx"]},
        "emergency": {"numbers": ["911", "9911"], "test_numbers": ["933"]},
        "locations": {
            "database": "sqlite:///edge911.db",
            "sources": ["conveyed", "registered", "network", "site"],
        },
        "sites": [place.site() for place in places.values()],
        "contacts": {
            name: {"language": place.plan.language, "send": [desk.url(name)]} for name, place in places.items()
        },
        "log": {"level": "info", "format": "json"},
    }
    if "tls" in keys:
        config["listen"].append(f"tls://{Endpoint(address=router.address, port=free_port(router.address))}")
    return places, {**config, **keys}


@contextmanager
def world(
    folder: Path,
    plans: Mapping[str, Plan],
    *,
    files: Mapping[str, str] | None = None,
    desk: WebhookSink | None = None,
    running: bool = True,
    **keys: Any,
) -> Iterator[World]:
    """A world with these places and a running router.

    `files` lie beside its edge911.yaml (path to text); `desk` is a webhook receiver to use instead of an own one;
    `keys` replace whole sections of the configuration. `running=False`: no device imported, nothing started yet.
    """
    for name, text in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    with ExitStack() as stack:
        home = street()
        desk = desk or stack.enter_context(WebhookSink(home["desk"].address))
        places, config = build(folder, plans, desk, home, **keys)
        rows = [place.row() for place in places.values()]
        process = RouterProcess(
            folder,
            config,
            devices="\n".join([DEVICE_COLUMNS, *rows]) + "\n",
            probe_from=home["phone"].address,
        )
        if running:
            stack.enter_context(process)
        else:
            stack.push(process.__exit__)
        yield World(router=process, street=home, places=places, desk=desk)
