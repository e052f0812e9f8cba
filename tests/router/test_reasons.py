"""Every name that edge911 gives stands in docs/reasons.md, and every refusal on the wire says its name.

The names are read from the sources themselves, so that one that is added is missed here, not by who meets it.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from e911.location import Device, DeviceKind
from e911.record import CallOutcome, RouteOutcome, SourceOutcome
from router.emergency.blocks import Block, Blocks, write_blocks
from router.notices.outbox import NoticeState
from sip.answers import build_response
from sip.errors import Reason
from sip.flow import UNCERTIFIED, Flow
from sip.framing import StreamFramer
from sip.message import Request
from sip.parsing import parse_message
from tests.support.call_world import CallWorld, Sent

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reasons.md").read_text(encoding="utf-8")
SOURCES = [
    path
    for folder in ("sip", "e911", "router")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "migrations" not in path.parts and "cli" not in path.parts
]

FIELDS = """
accept-contact accept-encoding accept-language alert-info allow-events answer-mode authentication-info cache-control
call-id call-info content-disposition content-encoding content-id content-language content-length
content-transfer-encoding content-type error-info feature-caps flow-timer geolocation-error geolocation-routing
history-info identity-info in-reply-to info-package max-breadth max-forwards mime-version min-expires min-se
p-access-network-info p-asserted-identity p-charging-vector p-early-media p-preferred-identity proxy-authenticate
proxy-authorization proxy-require record-route refer-sub refer-to referred-by reject-contact remote-party-id reply-to
request-disposition resource-priority retry-after security-client security-server security-verify service-route
session-expires session-id sip-etag sip-if-match subscription-state target-dialog user-agent user-to-user
www-authenticate
"""
"""Header fields of SIP, MIME and HTTP, lower case."""
OTHERS = """
no-store latin-1 utf-8 log-writer recorder-start device-feed table-feed node-beat edge911-devices if-absent
phone-keeper queued-lines sip-agent snmp-agent channel-prepare link-secret espeak-ng en-us fr-fr
sample-1 sample-2 sample-3e off-premises top-most winner-only no-number ambiguous-number named-twice
"""
"""Values of fields, character sets, names of threads and of samples, and what is never given to anybody."""
IDENTIFIERS = """
eth-location dsl-location i-wlan-node-id wlan-node-id ap-mac port-channel chassis-id switch-id port-id
"""
"""Parameters with which phones name what they are attached to."""
CONSOLE = """
edge911-language edge911-oidc x-csrf-token x-forwarded-for change-password if-match if-none-match date-time
self-service confirm-location
"""
"""Cookies, header fields and actions of the console."""
SAMPLES = "sample-1 sample-2 sample-3e"
"""Names in the calls that templates are tried with."""
NO_REASONS = frozenset(f"{FIELDS} {OTHERS} {IDENTIFIERS} {CONSOLE} {SAMPLES}".split())
"""Hyphenated, and no reasons."""


def is_documented(name: str) -> bool:
    """True where the name stands in the document in code quotes, by itself or with labels or as a family."""
    return re.search(rf"`[^`\n]*(?<![\w-]){re.escape(name)}(?![\w-])[^`\n]*`", TEXT) is not None


def constants(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that a module counts, logs or gives as a reason."""
    for node in ast.walk(tree):
        found: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
            if node.value.attr in ("counts", "drops"):
                found = node.slice
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            if name in ("Gauge", "GaugeGroup", "cut_off") and node.args:
                found = node.args[0]
            elif name == "CounterGroup" and isinstance(node.args[0], ast.Constant):
                yield f"{node.args[0].value}_total", node.lineno
            elif name == "_say" and len(node.args) > 1:
                found = node.args[1]
        elif isinstance(node, ast.keyword) and node.arg == "reason":
            found = node.value
        if isinstance(found, ast.Constant) and isinstance(found.value, str) and found.value:
            yield found.value, found.lineno


def hyphenated(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every text of a module that reads like a reason; names of timers are none."""
    timers = {
        argument
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("set_timer", "stop_timer")
        for argument in node.args
    }
    names_of_timers = {node.value for node in timers if isinstance(node, ast.Constant)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        is_known = node.value in NO_REASONS or node.value in names_of_timers
        if not is_known and re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", node.value):
            yield node.value, node.lineno


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_in_the_sources_is_documented(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    found = [*constants(tree), *hyphenated(tree)]
    missing = {name: line for name, line in found if not is_documented(name)}
    assert not missing, f"{source.name}: not in docs/reasons.md (name: line): {missing}"


@pytest.mark.parametrize("names", [Reason, RouteOutcome, CallOutcome, SourceOutcome, NoticeState])
def test_every_member_of_an_enumeration_is_documented(names: Any) -> None:
    assert [name.value for name in names if not is_documented(name.value)] == []


def test_the_document_names_no_reason_that_there_is_not() -> None:
    table = TEXT.partition("## Messages dropped or refused")[2].partition("\n## ")[0]
    documented = {
        name for line in table.splitlines() if line.startswith("| `") for name in re.findall("`([^`]+)`", line[:60])
    }
    names = {reason.value for reason in Reason}
    assert {name for name in documented if name not in names and "-" in name and " " not in name} == set()
    assert is_documented("too-many-hops")
    assert not is_documented("too-many")
    assert not is_documented("never-given")


# ---- on the wire ----


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What is done to the router, and what it must answer."""

    reason: Reason
    status: int
    act: Callable[[CallWorld], list[Sent]]
    sections: dict[str, Any] = field(default_factory=dict)


def request(start: str = "OPTIONS sip:4102@10.1.3.8 SIP/2.0", body: bytes = b"", **fields: str | None) -> bytes:
    """A request; fields replace those it has (None: without it), `_` for a hyphen."""
    method = start.split(" ")[0]
    lines: dict[str, str | None] = {
        "Via": "SIP/2.0/UDP 10.1.3.7:5060;branch=z9hG4bKreason",
        "Max-Forwards": "70",
        "From": "<sip:4102@pbx.example.com>;tag=f",
        "To": "<sip:4102@pbx.example.com>",
        "Call-ID": "reason",
        "CSeq": f"1 {method}",
        "Content-Length": str(len(body)),
    }
    lines |= {name.replace("_", "-"): value for name, value in fields.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{start}\r\n{head}\r\n".encode() + body


def came(raw: bytes, **options: Any) -> Callable[[CallWorld], list[Sent]]:
    return lambda world: world.receive(raw, **options)


def streamed(raw: bytes) -> Callable[[CallWorld], list[Sent]]:
    """A stream that cannot be framed."""

    def act(world: CallWorld) -> list[Sent]:
        framer = StreamFramer()
        framer.feed(raw)
        world.refuse_unframed(framer)
        return world.sent()

    return act


def connection_gone(world: CallWorld) -> list[Sent]:
    """A call by the Path of a phone whose connection has ended since."""
    out = world.receive(request("REGISTER sip:platform.example.com SIP/2.0", CSeq="1 REGISTER"), transport="tcp")
    (path,) = [sent.message.get("path") for sent in out if sent.message.is_request]
    world.edge.connections.clear()
    return world.receive(request("INVITE sip:4102@192.168.1.20 SIP/2.0", Route=path), ("203.0.113.50", 5060))


def calls_from_elsewhere(world: CallWorld) -> list[Sent]:
    world.devices.put(Device(device="4102", kind=DeviceKind.SOFTPHONE, unconfirmed="new-network"))
    return world.receive(request("INVITE sip:+12125550199@10.0.0.5 SIP/2.0", From="<sip:4102@a>;tag=1"))


def draining(world: CallWorld) -> list[Sent]:
    world.router.draining = True
    return world.receive(request("INVITE sip:+12125550199@10.0.0.5 SIP/2.0"))


def blocked(world: CallWorld) -> list[Sent]:
    """Somebody blocked this phone by hand."""
    at = world.router.clock()
    write_blocks(world.folder, [Block(who="10.1.3.7", reason="a prank", since=at, until=at + 60)], at)
    world.router.blocks = Blocks(world.folder)
    world.router.blocks.look()
    return world.receive(request("INVITE sip:911@10.0.0.5 SIP/2.0"))


def overloaded(world: CallWorld) -> list[Sent]:
    """A new call that has waited too long for its turn."""
    call = request("INVITE sip:+12125550199@10.0.0.5 SIP/2.0")
    flow = Flow(world.points.points[0], "10.1.3.7", 5060)
    world.router.admission.refuse_if_new(
        lambda data, flow: world.router.stack.receive(data, flow, world.now), call, flow
    )
    return world.sent()


def too_fast(world: CallWorld) -> list[Sent]:
    """More from one phone than the configuration allows."""
    calls = [request("INVITE sip:+12125550199@10.0.0.5 SIP/2.0", Call_ID=str(number)) for number in range(3)]
    return [world.receive(call.replace(b"branch=z9hG4bK", b"branch=z9hG4bK%d" % n)) for n, call in enumerate(calls)][
        -1
    ]


def broken(world: CallWorld) -> list[Sent]:
    """A fault of our own."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a fault made by this test")

    world.router.ordinary.receive = fails  # type: ignore[method-assign]
    return world.receive(request())


def everybody_answers(status: int | None, dialled: str = "+12125550199") -> Callable[[CallWorld], list[Sent]]:
    """Everybody to whom the INVITE goes answers with this status, or is silent."""

    def act(world: CallWorld) -> list[Sent]:
        out = world.receive(request(f"INVITE sip:{dialled}@10.0.0.5 SIP/2.0"))
        everything = list(out)
        for _ in range(10):
            onward = [sent for sent in out if sent.message.is_request and sent.message.method == "INVITE"]
            if status is None:
                out = world.advance(40.0)
            else:
                out = [] if onward else world.advance(2.0)  # a 911 call goes round once more after a second
                for sent in onward:
                    forwarded = parse_message(sent.message.raw, own=True)
                    assert isinstance(forwarded, Request)
                    out += world.receive(build_response(forwarded, status, to_tag=b"far"), sent.to)
            everything += out
        return everything

    return act


def comes_back(dialled: str) -> Callable[[CallWorld], list[Sent]]:
    """What left us comes in again, from inside."""

    def act(world: CallWorld) -> list[Sent]:
        out = world.receive(request(f"INVITE sip:{dialled}@10.0.0.5 SIP/2.0"))
        (onward,) = [sent.message.raw for sent in out if sent.message.is_request]
        again = re.sub(rb"^INVITE \S+", b"INVITE sip:%b@10.0.0.5" % dialled.encode(), onward)
        return world.receive(again, ("10.0.0.10", 5060))

    return act


def way_back_lost(world: CallWorld) -> list[Sent]:
    """A response that has no Via but ours."""
    out = world.receive(request("INVITE sip:+12125550199@10.0.0.5 SIP/2.0"))
    (onward,) = [sent for sent in out if sent.message.is_request]
    top = onward.message.all("via")[0]
    fields = {"Via": top, "CSeq": "1 INVITE", "To": "<sip:x@y>;tag=far"}
    return world.receive(request("SIP/2.0 180 Ringing", **fields), onward.to)


def closed(world: CallWorld) -> list[Sent]:
    """ICMP says that nobody listens there."""
    out = world.receive(request("INVITE sip:+12125550199@10.0.0.5 SIP/2.0"))
    return out + [one for sent in out if sent.message.is_request for one in world.unreachable(sent)]


def options_to_closed_port(world: CallWorld) -> list[Sent]:
    """The same for a request that is no INVITE."""
    (onward,) = world.receive(request())
    return world.unreachable(onward)


REFUSED = [
    Refused(reason=Reason.SOURCE_NOT_LISTED, status=403, act=came(request(), source=("198.51.100.9", 5060))),
    Refused(
        reason=Reason.SOURCE_NOT_LISTED,
        status=403,
        act=came(request("INVITE sip:911@10.0.0.5 SIP/2.0"), source=("198.51.100.9", 5060)),
    ),
    Refused(
        reason=Reason.SOURCE_NOT_LISTED,
        status=403,
        act=came(request("INVITE sip:911@10.0.0.5 SIP/2.0"), source=("203.0.113.20", 5060)),
    ),
    Refused(
        reason=Reason.NO_ROUTE,
        status=404,
        act=came(request("INVITE sip:+12125550199@10.0.0.5 SIP/2.0")),
        sections={"routes": {"outbound": [], "inbound": []}},
    ),
    Refused(
        reason=Reason.NO_ROUTE,
        status=403,
        act=came(request(Route="<sip:198.51.100.7;lr>"), source=("203.0.113.20", 5060)),
    ),
    Refused(
        reason=Reason.BAD_FLOW_TOKEN,
        status=403,
        act=came(request(Route=f"<sip:{'x' * 32}@10.0.0.5:5060;lr>"), source=("203.0.113.20", 5060)),
    ),
    Refused(reason=Reason.FLOW_FAILED, status=430, act=connection_gone),
    Refused(reason=Reason.OVERLOADED, status=503, act=overloaded),
    Refused(reason=Reason.RATE_LIMITED, status=503, act=too_fast, sections={"limits": {"per_source": 1}}),
    Refused(reason=Reason.BLOCKED, status=403, act=blocked),
    Refused(
        reason=Reason.LOCATION_NEEDED,
        status=403,
        act=calls_from_elsewhere,
        sections={"locations": {"unconfirmed": {"outbound": "refuse"}}},
    ),
    Refused(reason=Reason.SHUTTING_DOWN, status=503, act=draining),
    Refused(reason=Reason.SIPS_NOT_ALLOWED, status=480, act=came(request("INVITE sips:4@10.0.0.5:5060 SIP/2.0"))),
    Refused(reason=Reason.NO_CLIENT_CERTIFICATE, status=403, act=came(request(), transport="tcp", peer=UNCERTIFIED)),
    Refused(reason=Reason.TOO_MANY_HOPS, status=483, act=came(request(Max_Forwards="0"))),
    Refused(
        reason=Reason.TOO_MANY_HOPS,
        status=483,
        act=came(request("INVITE sip:911@10.0.0.5 SIP/2.0", Max_Forwards="0")),
    ),
    Refused(reason=Reason.LOOP_DETECTED, status=482, act=comes_back("+12125550199")),
    Refused(reason=Reason.LOOP_DETECTED, status=482, act=comes_back("911")),
    Refused(reason=Reason.MAX_BREADTH_EXCEEDED, status=440, act=came(request(Max_Breadth="0"))),
    Refused(reason=Reason.UNKNOWN_TRANSACTION, status=481, act=came(request("CANCEL sip:911@10.0.0.5 SIP/2.0"))),
    Refused(
        reason=Reason.UNKNOWN_TRANSACTION,
        status=481,
        act=came(request("BYE sip:10.0.0.5:5060 SIP/2.0", To="<sip:a@b>;tag=t")),
    ),
    Refused(reason=Reason.BAD_EXTENSION, status=420, act=came(request(Proxy_Require="gold"))),
    Refused(reason=Reason.UNSUPPORTED_SCHEME, status=416, act=came(request("OPTIONS nobody:x SIP/2.0"))),
    Refused(reason=Reason.BAD_REQUEST_URI, status=400, act=came(request("OPTIONS sip:a@10.1.3.8:99999 SIP/2.0"))),
    Refused(reason=Reason.BAD_REQUEST_URI, status=400, act=came(request("OPTIONS nonsense SIP/2.0"))),
    Refused(reason=Reason.BAD_REQUEST_URI, status=414, act=came(request(f"OPTIONS sip:{'a' * 5000}@b SIP/2.0"))),
    Refused(reason=Reason.BAD_START_LINE, status=400, act=came(request("OPTIONS sip:a @10.1.3.8 SIP/2.0"))),
    Refused(reason=Reason.BAD_VERSION, status=505, act=came(request("OPTIONS sip:a@10.1.3.8 SIP/7.0"))),
    Refused(reason=Reason.MISSING_FIELD, status=400, act=came(request(Call_ID=None))),
    Refused(reason=Reason.REPEATED_FIELD, status=400, act=came(request(to="<sip:again@b>"))),
    Refused(reason=Reason.BAD_VIA, status=400, act=came(request(Via="SIP/2.0/UDP 10.1.3.7:5060;branch=z9hG4bKr;;"))),
    Refused(reason=Reason.BAD_CSEQ, status=400, act=came(request(CSeq="one OPTIONS"))),
    Refused(reason=Reason.HEADER_TOO_LARGE, status=513, act=came(request(X="y" + "\r\nX: y" * 600))),
    Refused(reason=Reason.BAD_ADDRESS, status=400, act=came(request(Route="<sip:a"))),
    Refused(reason=Reason.BAD_MAX_FORWARDS, status=400, act=came(request(Max_Forwards="many"))),
    Refused(reason=Reason.CSEQ_METHOD_MISMATCH, status=400, act=came(request(CSeq="1 BYE"))),
    Refused(reason=Reason.CSEQ_METHOD_MISMATCH, status=501, act=came(request("NEW sip:a@b SIP/2.0", CSeq="1 BYE"))),
    Refused(reason=Reason.BAD_FIELD_LINE, status=400, act=came(request(**{"no name": "x"}))),
    Refused(reason=Reason.BAD_CONTENT_LENGTH, status=400, act=came(request(Content_Length="-1"))),
    Refused(reason=Reason.BAD_CONTENT_LENGTH, status=400, act=streamed(request(Content_Length="-1"))),
    Refused(reason=Reason.BODY_INCOMPLETE, status=400, act=came(request(Content_Length="10"))),
    Refused(reason=Reason.MESSAGE_TOO_LARGE, status=413, act=streamed(request(Content_Length="99999999"))),
    Refused(reason=Reason.NEXT_HOP_UNREACHABLE, status=503, act=closed),
    Refused(reason=Reason.NEXT_HOP_UNREACHABLE, status=503, act=options_to_closed_port),
    Refused(
        reason=Reason.NEXT_HOP_UNREACHABLE,
        status=480,
        act=came(request(Route="<sip:nowhere.example.com;lr>")),
    ),
    Refused(reason=Reason.NEXT_HOP_SILENT, status=408, act=everybody_answers(None)),
    Refused(reason=Reason.NEXT_HOP_UNAVAILABLE, status=500, act=everybody_answers(503)),
    Refused(reason=Reason.EVERY_ROUTE_FAILED, status=503, act=everybody_answers(503, "911")),
    Refused(reason=Reason.EVERY_ROUTE_FAILED, status=503, act=everybody_answers(None, "911")),
    Refused(reason=Reason.INTERNAL_ERROR, status=500, act=broken),
]  # fmt: skip
NEVER_ANSWERED: dict[Reason, bytes | Callable[[CallWorld], list[Sent]]] = {
    Reason.NOT_SIP: b"GET / HTTP/1.0\r\n\r\n",
    Reason.KEEP_ALIVE: b"\r\n\r\n",
    Reason.HEADER_INCOMPLETE: b"OPTIONS sip:a SIP/2.0\r\nVia: x",
    Reason.BAD_STATUS: b"SIP/2.0 099 x\r\nVia: SIP/2.0/UDP a\r\n\r\n",
    Reason.STRAY_RESPONSE: request("SIP/2.0 200 OK", CSeq="1 OPTIONS"),
    Reason.STRAY_ACK: request("ACK sip:10.0.0.5:5060 SIP/2.0"),
    Reason.NO_VIA_BELOW: way_back_lost,
}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.reason}-{case.status}")
def test_a_refusal_says_why_and_is_counted(case: Refused, tmp_path: Path) -> None:
    world = CallWorld(tmp_path, **case.sections)
    before = world.router.stack.drops[case.reason]
    answers = [sent.message for sent in case.act(world) if not sent.message.is_request and sent.message.status >= 200]
    assert {answer.status for answer in answers} == {case.status}
    warnings = answers[0].all("warning")
    assert len(warnings) == 1
    if case.reason is Reason.SIPS_NOT_ALLOWED:
        assert warnings[0].startswith("380 ")  # RFC 5630 has its own
    else:
        assert re.fullmatch(rf'399 \S+ "{case.reason}: \S.*"', warnings[0]), warnings
    assert not answers[0].all("retry-after")
    assert world.router.stack.drops[case.reason] == before + 1
    assert str(case.status) in documented_statuses(case.reason)


@pytest.mark.parametrize("reason", NEVER_ANSWERED)
def test_what_is_never_answered_is_counted(reason: Reason, tmp_path: Path) -> None:
    world = CallWorld(tmp_path)
    what = NEVER_ANSWERED[reason]
    assert (world.receive(what) if isinstance(what, bytes) else what(world)) == []
    assert world.router.stack.drops == {reason: 1}
    assert documented_statuses(reason) == ["none"]


def documented_statuses(reason: Reason) -> list[str]:
    """The answers that the document gives for a reason."""
    (row,) = re.findall(rf"^\|[^|\n]*`{reason}`[^|\n]*\|([^|\n]*)\|", TEXT, re.MULTILINE)
    return [status.strip() for status in row.split(",")]


def test_every_reason_is_tried() -> None:
    assert {case.reason for case in REFUSED} | set(NEVER_ANSWERED) == set(Reason)
