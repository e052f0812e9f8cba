"""Caller and providers in one process, on one clock: 911 calls over UDP, with the time of each message.

Run by the bench as a process of its own: a plan as JSON on standard input, the calls as JSON on standard output.
Nothing is ever sent twice, so a datagram that is lost is a failed call. Times are those of the kernel at reception
where it gives them (SO_TIMESTAMPNS), so that our own waking up is not counted as the router's; both ends are on
CLOCK_REALTIME, in nanoseconds.
"""

import heapq
import json
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from typing import Any, Literal

from sip.answers import build_response
from sip.errors import RemoteError
from sip.headers import parse_name_addr
from sip.message import Request, Response
from sip.parsing import parse_message

SO_TIMESTAMPNS = 35
"""asm-generic/socket.h; the socket module has no name for it. Its control message has the same number."""
_TIMESPEC = struct.Struct("@qq")
RECEIVE_BUFFER = 4_000_000
ANSWER_AFTER_NS = 20_000_000
TALK_NS = 50_000_000

Role = Literal["answers", "refuses", "silent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Calls to place: so many, one every 1/rate seconds; all is over `patience` seconds after the last."""

    name: str
    """Makes Call-IDs unique among plans."""
    router: tuple[str, int]
    caller: tuple[str, int]
    providers: dict[str, tuple[str, int]]
    """By route name; one that is not named here has a closed port."""
    roles: dict[str, Role]
    extensions: list[str]
    """Who calls, one after the other."""
    calls: int
    rate: float
    patience: float


@dataclass(slots=True, kw_only=True)
class PlayedCall:
    """One call. Times are nanoseconds since 1970; 0: it never was."""

    invite_sent: int = 0
    invite_arrived: dict[str, int] = field(default_factory=dict)
    """By provider: the first."""
    ringing_sent: int = 0
    ringing_arrived: int = 0
    failure: str = "never answered"
    """Why it is no good call; empty where it went from INVITE to the 200 of its BYE, with its location."""


class Player:
    """Plays one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.calls: dict[bytes, PlayedCall] = {}
        self.open = 0
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._caller = self._listen(plan.caller, self._at_caller)
        self._provider_sockets = {
            name: self._listen(point, partial(self._at_provider, name)) for name, point in plan.providers.items()
        }

    def _listen(
        self, point: tuple[str, int], take: Callable[[Request | Response, tuple[str, int], int], None]
    ) -> socket.socket:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if sys.platform == "linux":
            udp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        udp.bind(point)
        udp.setblocking(False)
        self._selector.register(udp, selectors.EVENT_READ, take)
        return udp

    def play(self) -> list[PlayedCall]:
        """Place every call; returns when all have ended, or the patience has."""
        start = time.time_ns() + 50_000_000
        step = int(1e9 / self.plan.rate)
        for number in range(self.plan.calls):
            self._at(start + number * step, partial(self._dial, number))
        end = start + self.plan.calls * step + int(self.plan.patience * 1e9)
        while (self.open or self._due) and (now := time.time_ns()) < end:
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            wait = (self._due[0][0] if self._due else end) - time.time_ns()
            for key, _ in self._selector.select(max(wait, 0) / 1e9):
                assert isinstance(key.fileobj, socket.socket)
                self._drain(key.fileobj, key.data)
        for udp in (self._caller, *self._provider_sockets.values()):
            self._selector.unregister(udp)
            udp.close()
        return list(self.calls.values())

    def _at(self, when: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), action))

    def _drain(self, udp: socket.socket, take: Callable[[Request | Response, tuple[str, int], int], None]) -> None:
        while True:
            try:
                data, control, _, peer = udp.recvmsg(65_535, socket.CMSG_SPACE(_TIMESPEC.size))
            except BlockingIOError:
                return
            at = time.time_ns()
            for level, kind, value in control:
                if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(value) >= _TIMESPEC.size:
                    seconds, nanoseconds = _TIMESPEC.unpack_from(value)
                    at = seconds * 1_000_000_000 + nanoseconds
            try:
                take(parse_message(data), peer, at)
            except RemoteError as error:
                print(f"unreadable from {peer[0]}:{peer[1]}: {error}", file=sys.stderr)

    # ---- the caller ----

    def _dial(self, number: int) -> None:
        plan = self.plan
        call_id = f"{plan.name}-{number}@bench.example.com".encode()
        call = self.calls[call_id] = PlayedCall()
        user = plan.extensions[number % len(plan.extensions)].encode()
        body = _sdp(plan.caller[0])
        lines = [
            b'From: "Desk" <sip:%b@pbx.example.com>;tag=c%d' % (user, number),
            b"To: <sip:911@pbx.example.com>",
            b"Call-ID: " + call_id,
            b"CSeq: 1 INVITE",
            b"Contact: <sip:%b@%b>" % (user, _hostport(plan.caller)),
            b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS",
            b"Content-Type: application/sdp",
        ]
        data = self._request(b"INVITE", b"sip:911@" + _hostport(plan.router), call_id, lines, body)
        self.open += 1
        call.invite_sent = time.time_ns()
        self._caller.sendto(data, plan.router)

    def _request(self, method: bytes, uri: bytes, call_id: bytes, lines: list[bytes], body: bytes = b"") -> bytes:
        branch = b"z9hG4bK%b-%b" % (method, call_id.partition(b"@")[0])
        return b"\r\n".join(
            [
                b"%b %b SIP/2.0" % (method, uri),
                b"Via: SIP/2.0/UDP %b;branch=%b" % (_hostport(self.plan.caller), branch),
                b"Max-Forwards: 70",
                *lines,
                b"Content-Length: %d" % len(body),
                b"",
                body,
            ]
        )

    def _at_caller(self, message: Request | Response, peer: tuple[str, int], at: int) -> None:
        call = self.calls.get(message.call_id)
        if call is None or isinstance(message, Request) or call.failure not in ("never answered", "BYE not answered"):
            return
        if message.method == b"BYE":
            self._settle(call, "" if message.status == 200 else f"{message.status} to BYE")
        elif message.status == 180:
            call.ringing_arrived = call.ringing_arrived or at
        elif 200 <= message.status < 300:
            if call.failure == "never answered":
                call.failure = "BYE not answered"
                self._at(at + TALK_NS, partial(self._in_dialog, b"BYE", 2, message))
            self._in_dialog(b"ACK", 1, message)
        elif message.status >= 300:
            self._caller.sendto(self._hop_ack(message), self.plan.router)
            self._settle(call, f"{message.status} {message.reason.decode('latin-1')}")

    def _in_dialog(self, method: bytes, cseq: int, ok: Response) -> None:
        routes = [b"Route: " + value for value in reversed(ok.values("record-route"))]
        target = parse_name_addr(ok.required("contact")).uri
        lines = [
            *routes,
            b"From: " + ok.required("from"),
            b"To: " + ok.required("to"),
            b"Call-ID: " + ok.call_id,
            b"CSeq: %d %b" % (cseq, method),
        ]
        self._caller.sendto(self._request(method, target, ok.call_id, lines), self.plan.router)

    def _hop_ack(self, refusal: Response) -> bytes:
        lines = [
            b"From: " + refusal.required("from"),
            b"To: " + refusal.required("to"),
            b"Call-ID: " + refusal.call_id,
            b"CSeq: 1 ACK",
        ]
        data = self._request(b"ACK", b"sip:911@" + _hostport(self.plan.router), refusal.call_id, lines)
        return data.replace(b"z9hG4bKACK-", b"z9hG4bKINVITE-", 1)  # of the same transaction (section 17.1.1.3)

    def _settle(self, call: PlayedCall, failure: str) -> None:
        call.failure = failure
        self.open -= 1

    # ---- the providers ----

    def _at_provider(self, name: str, message: Request | Response, peer: tuple[str, int], at: int) -> None:
        call = self.calls.get(message.call_id)
        if call is None or isinstance(message, Response):
            return
        udp, role = self._provider_sockets[name], self.plan.roles[name]
        if message.method == b"INVITE":
            repeated = name in call.invite_arrived
            call.invite_arrived.setdefault(name, at)
            if role == "refuses":
                udp.sendto(build_response(message, 503, reason=b"Service Unavailable", to_tag=b"p"), peer)
            elif role == "answers" and not repeated:
                self._answer(name, call, message, peer)
        elif message.method != b"ACK" and role != "silent":
            udp.sendto(build_response(message, 200, to_tag=b"p"), peer)

    def _answer(self, name: str, call: PlayedCall, invite: Request, peer: tuple[str, int]) -> None:
        udp = self._provider_sockets[name]
        if not _has_location(invite):
            udp.sendto(build_response(invite, 424, reason=b"Bad Location Information", to_tag=b"p"), peer)
            return
        extra = [*invite.lines("record-route"), b"Contact: <sip:911@%b>" % _hostport(self.plan.providers[name])]
        ringing = build_response(invite, 180, to_tag=b"p", extra=extra)
        answer = build_response(invite, 200, to_tag=b"p", extra=extra)
        call.ringing_sent = time.time_ns()
        udp.sendto(ringing, peer)
        self._at(call.ringing_sent + ANSWER_AFTER_NS, partial(self._send, udp, answer, peer))

    def _send(self, udp: socket.socket, data: bytes, peer: tuple[str, int]) -> None:
        udp.sendto(data, peer)


def _has_location(invite: Request) -> bool:
    """True where the INVITE brings a location by value, and the SDP with it."""
    kind = (invite.first("content-type") or b"").lower()
    sdp, address = invite.body.find(b"m=audio "), invite.body.find(b"civicAddress")
    named = any(b"<cid:" in value for value in invite.all("geolocation"))
    return named and kind.startswith(b"multipart/mixed") and 0 <= sdp < address


def _hostport(point: tuple[str, int]) -> bytes:
    return f"{point[0]}:{point[1]}".encode()


def _sdp(host: str) -> bytes:
    lines = ["v=0", f"o=desk 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0"]
    lines += ["m=audio 20000 RTP/AVP 0 8 101", "a=rtpmap:101 telephone-event/8000", "a=sendrecv"]
    return "\r\n".join([*lines, ""]).encode()


def plan_from(document: dict[str, Any]) -> Plan:
    """A plan as it came by JSON, which knows no tuples."""
    points = {name: (str(host), int(port)) for name, (host, port) in document["providers"].items()}
    router, caller = tuple(document["router"]), tuple(document["caller"])
    return Plan(**{**document, "router": router, "caller": caller, "providers": points})


def main() -> int:
    """Entry point."""
    calls = Player(plan_from(json.load(sys.stdin))).play()
    json.dump([asdict(call) for call in calls], sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
