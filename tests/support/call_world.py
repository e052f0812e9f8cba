"""A CallRouter with no sockets and virtual time: bytes go in, bytes come out, the clock is a number."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from config.load import load_config
from e911.locate import DeviceTable
from e911.location import CivicAddress, Device
from e911.record import JournalEvent
from router.calls.dispatch import CallRouter
from router.calls.setup import Setup
from router.emergency.earlier import KEPT_SECONDS, earlier_calls
from router.emergency.rules import Rules
from router.journal.event_lines import decode_event, encode_event
from router.network.listening import ListeningPoints, listening_points
from router.network.lookups import Resolver
from router.network.sources import Sources
from router.network.trunks import Trunks
from sip.flow import Flow, ListeningPoint, TlsPeer
from sip.framing import StreamFramer
from tests.support.sip_text import Message, parse

KEY = b"a key for tests, 32 bytes long.."
CLOCK = 1_900_000_000.0
PHONE = ("10.1.3.7", 5060)
PROVIDER_A = ("203.0.113.31", 5060)
PROVIDER_B = ("203.0.113.32", 5060)
RELAY = ("203.0.113.40", 5060)
CARRIER = ("203.0.113.50", 5060)
PBX = ("10.0.0.10", 5060)

MEDIA_PASSES = {"private_media": "expected"}
CONFIG: dict[str, Any] = {
    "node": "test",
    "domain": "edge.example.com",
    "listen": ["udp://10.0.0.5:5060", "tcp://10.0.0.5:5060"],
    "networks": {"inside": ["10.0.0.0/8"], "outside": ["203.0.113.0/24"]},
    "trunks": {
        "pbx": {
            "target": "sip:10.0.0.10:5060",
            "side": "inside",
            "trust_identity": "true",
            "probe": "off",
            **MEDIA_PASSES,
        },
        "carrier": {"target": "sip:203.0.113.50:5060", "probe": "off", **MEDIA_PASSES},
        "ers-a": {"target": "sip:203.0.113.31:5060", "probe": "off", "large_messages": "udp", **MEDIA_PASSES},
        "ers-b": {"target": "sip:203.0.113.32:5060", "probe": "off", "large_messages": "udp", **MEDIA_PASSES},
        "relay": {"target": "sip:203.0.113.40:5060", "probe": "off", **MEDIA_PASSES},
    },
    "routes": {"outbound": ["carrier"], "inbound": ["pbx"]},
    "emergency": {
        "numbers": ["911", "9911"],
        "default": {"site": "hq"},
        "routes": [
            {"name": "primary", "trunk": "ers-a", "profile": "pidf-lo", "timeout": "2s", "progress_timeout": "6s"},
            {"name": "backup", "trunk": "ers-b", "profile": "pidf-lo", "timeout": "2s", "progress_timeout": "6s"},
        ],
        "basic": [
            {"name": "relay", "trunk": "relay", "number": "+12125550140", "timeout": "4s", "progress_timeout": "8s"}
        ],
    },
    "locations": {"sources": ["registered", "network", "site"]},
    "sites": [
        {
            "id": "hq",
            "name": "Head office",
            "timezone": "America/New_York",
            "address": {
                "country": "US",
                "state": "NY",
                "city": "New York",
                "house_number": "350",
                "street": "5th",
                "street_suffix": "AVE",
                "postal_code": "10118",
            },
            "callback": "+12125550100",
            "notify": ["desk"],
        }
    ],
    "contacts": {"desk": {"send": ["json://192.0.2.1/911"]}},
}

DESK_PHONE = Device(
    device="4102",
    name="Reception",
    callback="+12125550142",
    site="hq",
    civic=CivicAddress(floor="3", room="312"),
)

SDP = b"v=0\r\no=- 1 1 IN IP4 10.1.3.7\r\ns=-\r\nc=IN IP4 10.1.3.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


class MemoryJournal:
    """Keeps the events; can be told to fail."""

    def __init__(self) -> None:
        self.events: list[JournalEvent] = []
        self.fails = False

    def append_lines(self, lines: list[bytes]) -> bool:
        if not self.fails:
            self.events += map(decode_event, lines)
        return not self.fails

    def note_not_encodable(self, error: Exception) -> None:
        raise error


@dataclass(frozen=True)
class Sent:
    """One message that the router sent."""

    message: Message
    to: tuple[str, int]
    transport: str
    point: ListeningPoint
    """Where it leaves from."""
    peer: TlsPeer | None = None
    """What a certificate there must prove."""
    connection: int = 0


@dataclass
class FakeEdge:
    """Says whether TCP connections can be had, when the test lets it."""

    asked: list[Flow] = field(default_factory=list)
    waiting: list[Callable[[str], None]] = field(default_factory=list)

    distrusted: list[Flow] = field(default_factory=list)
    renewed: list[Flow] = field(default_factory=list)
    line: float = 0.0
    """Seconds that the line takes of the time to an answer."""
    connections: set[int] = field(default_factory=lambda: {7})
    held: list[tuple[Flow, float]] = field(default_factory=list)
    flushed: int = 0

    def flush(self) -> None:
        self.flushed += 1

    def is_connected(self, connection: int) -> bool:
        return connection in self.connections

    def hold(self, flow: Flow, seconds: float) -> None:
        self.held.append((flow, seconds))

    def distrust(self, flow: Flow) -> None:
        """Remember it."""
        self.distrusted.append(flow)

    def renew(self, flow: Flow) -> None:
        """Remember it."""
        self.renewed.append(flow)

    def line_seconds(self, _: Flow) -> float:
        return self.line

    def connect(self, flow: Flow, told: Callable[[str], None]) -> None:
        self.asked.append(flow)
        self.waiting.append(told)


class CallWorld:
    """The router, and the peers' ends of every wire."""

    def __init__(self, folder: Path, *, devices: tuple[Device, ...] = (DESK_PHONE,), **sections: Any) -> None:
        self.folder = folder
        self.now = 1000.0
        self.points = ListeningPoints([])
        self.devices = DeviceTable()
        for device in devices:
            self.devices.put(device)
        self.journal = MemoryJournal()
        self.edge = FakeEdge()
        self.start(**sections)

    def setup(self, **sections: Any) -> Setup:
        """A configuration's setup; sections replace those of CONFIG."""
        path = self.folder / "edge911.yaml"
        path.write_text(yaml.safe_dump({**CONFIG, **sections}))
        loaded = load_config(path)
        if [point.bound_to for point in self.points.points] != [
            item.url.partition("//")[2] for item in loaded.config.listen
        ]:
            self.points = ListeningPoints(listening_points(loaded.config))
        trunks = Trunks(loaded.config, self.points, Resolver())
        sources = Sources(loaded.config, trunks.addresses())
        return Setup(Rules(loaded, sources.trunk_addresses, KEY), sources, trunks, self.points)

    def start(self, **sections: Any) -> None:
        """Start (again) with nothing in memory."""
        self.router = CallRouter(
            self.setup(**sections),
            key=KEY,
            journal=self.journal,
            devices=self.devices,
            now=lambda: self.now,
            clock=lambda: CLOCK + self.now,
        )
        self.router.edge = self.edge

    def restart(self, **sections: Any) -> None:
        """The process is killed and started again: it knows what the journal says."""
        self.router.write_waiting()
        self.start(**sections)
        self.router.earlier = earlier_calls(
            [decode_event(encode_event(event)) for event in self.journal.events], CLOCK + self.now - KEPT_SECONDS
        )

    def receive(
        self,
        raw: bytes,
        source: tuple[str, int] = PHONE,
        transport: str = "udp",
        *,
        point: str = "",
        peer: TlsPeer | None = None,
        connection: int = 7,
    ) -> list[Sent]:
        """A message comes in, by the first listening point of the transport and name; what goes out then."""
        at = next(
            one for one in self.points.points if one.transport == transport and (not point or one.name == point)
        )
        self.router.stack.receive(raw, Flow(at, *source, 0 if transport == "udp" else connection, 0, peer), self.now)
        return self.sent()

    def refuse_unframed(self, framer: StreamFramer) -> None:
        """What the edge does where a stream cannot be framed any more."""
        assert framer.error is not None
        flow = Flow(self.points.points[1], *PHONE, 7)
        self.router.stack.refuse_unframed(framer.unframed(), flow, framer.error)

    def in_dialog(
        self, invite: Message, method: str, uri: str, routes: list[str], *, from_far: bool = False, cseq: int = 2
    ) -> bytes:
        """A request of the caller, or of the far end, in the dialog of an INVITE that was answered by `response`."""
        near, far = invite.get("from"), f"{invite.get('to')};tag=psap"
        host = "203.0.113.31" if from_far else "10.1.3.7"
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{method}{next(_numbers)};rport",
            "Max-Forwards: 70",
            *(f"Route: {route}" for route in routes),
            f"From: {far if from_far else near}",
            f"To: {near if from_far else far}",
            f"Call-ID: {invite.call_id}",
            f"CSeq: {cseq} {method}",
            "Content-Length: 0",
            "",
            "",
        ]
        return "\r\n".join(lines).encode()

    def advance(self, seconds: float) -> list[Sent]:
        """Time passes; what goes out meanwhile."""
        end = self.now + seconds
        out: list[Sent] = []
        for _ in range(10_000):
            due = self.router.stack.queue.earliest
            if due > end:
                break
            self.now = max(self.now, due)
            self.router.stack.advance(self.now)
            out += self.sent()
        self.now = end
        return out

    def reached(self, answer: bool | str) -> list[Sent]:
        """The connection that was asked for last can, or cannot, be had (or for this reason)."""
        self.edge.waiting.pop()(answer if isinstance(answer, str) else "" if answer else "refused")
        return self.sent()

    def sent(self) -> list[Sent]:
        """Take what the router has ready to send, as the edge does."""
        if self.router.stack.out:
            self.router.before_sending()
        out = [
            Sent(parse(data), (flow.host, flow.port), flow.point.transport, flow.point, flow.peer, flow.connection)
            for flow, data, _ in self.router.stack.out
        ]
        self.router.stack.out.clear()
        return out

    def unreachable(self, sent: Sent) -> list[Sent]:
        """The network says that a message could not be delivered."""
        self.router.stack.unreachable(sent.message.raw, self.now)
        return self.sent()

    def events(self, kind: type) -> list[Any]:
        """The journal's events of a type, in order."""
        self.router.write_waiting()
        return [event for event in self.journal.events if isinstance(event, kind)]


_numbers = itertools.count(1)


def invite(
    uri: str = "sip:911@10.0.0.5",
    *,
    user: str = "4102",
    extra: tuple[str, ...] = (),
    body: bytes = SDP,
    number: int | None = None,
    source: tuple[str, int] = PHONE,
    content_type: str = "application/sdp",
    transport: str = "UDP",
) -> bytes:
    """An INVITE; the same bytes for the same `number`."""
    number = next(_numbers) if number is None else number
    lines = [
        f"INVITE {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport} {source[0]}:{source[1]};branch=z9hG4bKt{number};rport",
        "Max-Forwards: 70",
        f'From: "Desk" <sip:{user}@pbx.example.com>;tag=f{number}',
        "To: <sip:911@pbx.example.com>",
        f"Call-ID: call-{number}",
        "CSeq: 1 INVITE",
        f"Contact: <sip:{user}@{source[0]}:{source[1]}>",
        *extra,
    ]
    if body:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def cancel_of(raw: bytes) -> bytes:
    """The CANCEL of an INVITE made by `invite`."""
    message = parse(raw)
    lines = [
        message.start.replace("INVITE", "CANCEL"),
        f"Via: {message.get('via')}",
        "Max-Forwards: 70",
        f"From: {message.get('from')}",
        f"To: {message.get('to')}",
        f"Call-ID: {message.call_id}",
        "CSeq: 1 CANCEL",
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def response(
    request: Message, status: int, *, tag: str = "psap", extra: tuple[str, ...] = (), body: bytes = b""
) -> bytes:
    """A peer's response to a request it got."""
    lines = [f"SIP/2.0 {status} Because"]
    lines += [f"Via: {value}" for value in request.all("via")]
    if 100 < status < 300:
        lines += [f"Record-Route: {value}" for value in request.all("record-route")]
        lines.append("Contact: <sip:psap@203.0.113.31:5060>")
    to = request.get("to") + ("" if status == 100 or "tag=" in request.get("to") else f";tag={tag}")
    lines += [
        f"From: {request.get('from')}",
        f"To: {to}",
        f"Call-ID: {request.call_id}",
        f"CSeq: {request.get('cseq')}",
        *extra,
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def of(sent: list[Sent], what: str | int, to: tuple[str, int] | None = None) -> list[Sent]:
    """Those that are requests of a method, or responses with a status (and go there)."""
    return [
        one
        for one in sent
        if (one.message.is_request and one.message.method == what if isinstance(what, str) else
            not one.message.is_request and one.message.status == what)
        and (to is None or one.to == to)
    ]  # fmt: skip


def one(sent: list[Sent], what: str | int, to: tuple[str, int] | None = None) -> Sent:
    """The only one of them."""
    found = of(sent, what, to)
    assert len(found) == 1, f"{len(found)} × {what} to {to} among {[(s.message.start, s.to) for s in sent]}"
    return found[0]
