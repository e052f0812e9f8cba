"""911 calls and their location server: who is asked, who waits and for how long, and what arrives then."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e911.conveyed import ReferenceAnswer
from e911.held_request import HeldIdentity
from e911.locate import HeldAnswer
from e911.location import CivicAddress, Device, DispatchableLocation, LocationSource
from e911.record import CallEnded, CallIntent, CallLocating, SourceAnswer
from router.locating.lis_calls import LisCalls
from router.locating.lis_client import LisServer
from tests.e911.pidf_documents import GOOD
from tests.support.call_world import (
    CLOCK,
    CONFIG,
    DESK_PHONE,
    PBX,
    PHONE,
    CallWorld,
    cancel_of,
    invite,
    of,
    one,
)
from tests.support.sip_text import PIDF, Message, civic

HERE = CivicAddress(
    country="US", state="NY", city="New York", house_number="350", street="5th", street_suffix="AVE",
    postal_code="10118", floor="7", room="701",
)  # fmt: skip
LIS = {"url": "https://lis.example.com/held"}
SOURCES = ["conveyed", "held", "network", "registered", "site"]
SITE = {
    **CONFIG["sites"][0],
    "networks": ["10.1.0.0/16"],
    "zones": [{"id": "hq-3e", "networks": ["10.1.3.0/24"], "floor": "3"}],
}


def placed(civic: CivicAddress = HERE, at: float = CLOCK) -> DispatchableLocation:
    return DispatchableLocation(civic=civic, point=None, source=LocationSource.HELD, method="LLDP-MED", updated_at=at)


class FakeClient:
    """Remembers what it was asked, and answers when the test says so."""

    def __init__(self) -> None:
        self.fresh: HeldAnswer | None = None
        self.asked: list[tuple[LisServer, HeldIdentity]] = []
        self.ahead: list[tuple[LisServer, HeldIdentity]] = []
        self.waiting: list[Callable[[HeldAnswer], None]] = []

    def known(self, server: LisServer, identity: HeldIdentity) -> HeldAnswer | None:
        return self.fresh

    def ask(self, server: LisServer, identity: HeldIdentity, told: Callable[[HeldAnswer], None]) -> None:
        self.asked.append((server, identity))
        self.waiting.append(told)

    def ask_ahead(self, server: LisServer, identity: HeldIdentity) -> None:
        self.ahead.append((server, identity))

    def late(self, server: LisServer, identity: HeldIdentity) -> HeldAnswer:
        return HeldAnswer(reason="held-late")


def world_of(
    folder: Path, *, lis: Any = LIS, sources: list[str] = SOURCES, devices: tuple[Device, ...] = (), **sections: Any
) -> tuple[CallWorld, FakeClient]:
    world = CallWorld(
        folder, devices=devices, **{"locations": {"sources": sources, "lis": lis}, "sites": [SITE], **sections}
    )
    client = FakeClient()
    world.router.lis = LisCalls(world.router, client)  # type: ignore[arg-type]  # what the calls use of it
    return world, client


def place(message: Message) -> dict[str, str]:
    (part,) = [part for part in message.parts if part.content_type == PIDF]
    return civic(part)


def held(world: CallWorld) -> SourceAnswer:
    return next(answer for answer in world.events(CallIntent)[-1].sources if answer.source == "held")


def test_the_answer_decides_and_goes_to_the_provider(tmp_path: Path) -> None:
    world, client = world_of(tmp_path)
    assert not of(world.receive(invite()), "INVITE")
    ((server, identity),) = client.asked
    assert (server.name, identity) == ("lis.example.com", HeldIdentity(ip=PHONE[0]))
    client.waiting.pop()(HeldAnswer(location=placed(), reason="held-answered", detail="lis.example.com: 10.1.3.7"))
    message = one(world.sent(), "INVITE").message
    assert world.edge.flushed
    assert (place(message)["FLR"], place(message)["ROOM"]) == ("7", "701")
    assert b"<gp:method>LLDP-MED</gp:method>" in message.raw
    answer = held(world)
    assert (answer.outcome, answer.confidence, answer.as_of) == ("won", "high", CLOCK)


def test_a_server_that_does_not_say_how_it_knows(tmp_path: Path) -> None:
    world, client = world_of(tmp_path)
    client.fresh = HeldAnswer(location=replace(placed(), method=""), reason="held-answered")
    message = one(world.receive(invite()), "INVITE").message
    assert place(message)["ROOM"] == "701"
    assert b"method" not in message.raw, "no method at all, rather than an empty one"


def test_a_call_waits_no_longer_than_the_timeout(tmp_path: Path) -> None:
    world, client = world_of(tmp_path, lis={**LIS, "timeout": "200ms"})
    world.receive(invite())
    assert not world.advance(0.19)
    message = one(world.advance(0.02), "INVITE").message
    assert place(message)["FLR"] == "3", "the next source"
    assert (held(world).outcome, held(world).reason) == ("missed", "held-late")
    client.waiting.pop()(HeldAnswer(location=placed(), reason="held-answered"))
    assert not world.sent(), "too late is too late: the call is decided once"


def test_what_is_known_already_costs_no_time(tmp_path: Path) -> None:
    world, client = world_of(tmp_path)
    client.fresh = HeldAnswer(location=placed(), reason="held-answered")
    assert place(one(world.receive(invite()), "INVITE").message)["ROOM"] == "701"
    assert client.asked == []


def test_an_old_answer_is_asked_for_again_and_labelled(tmp_path: Path) -> None:
    world, client = world_of(tmp_path)
    client.fresh = HeldAnswer(location=placed(at=CLOCK - 90_000), reason="held-kept")
    world.receive(invite())
    assert len(client.asked) == 1
    client.waiting.pop()(replace(client.fresh, detail="lis: 10.1.3.7; held-late"))
    one(world.sent(), "INVITE")
    answer = held(world)
    assert (answer.reason, answer.confidence, answer.as_of) == ("held-kept", "low", CLOCK - 90_000)


def test_nobody_waits_where_somebody_before_it_knows(tmp_path: Path) -> None:
    world, client = world_of(tmp_path, sources=["network", "held", "site"])
    assert place(one(world.receive(invite()), "INVITE").message)["FLR"] == "3"
    assert held(world).reason == "held-not-needed"
    assert (client.asked, len(client.ahead)) == ([], 1)


def test_a_kept_answer_still_gives_the_room(tmp_path: Path) -> None:
    world, client = world_of(tmp_path, sources=["network", "held", "site"])
    client.fresh = HeldAnswer(location=placed(replace(HERE, floor="3", room="312")), reason="held-answered")
    message = one(world.receive(invite()), "INVITE").message
    assert (place(message)["FLR"], place(message)["ROOM"]) == ("3", "312")
    assert world.events(CallIntent)[-1].location.finer_from == "held"
    client.fresh = HeldAnswer(location=placed(), reason="held-answered")
    assert "ROOM" not in place(one(world.receive(invite()), "INVITE").message), "another floor's"


def test_a_desk_phones_room_is_put_to_what_the_server_says(tmp_path: Path) -> None:
    desk = replace(DESK_PHONE, civic=CivicAddress(floor="7", room="712"))
    world, client = world_of(tmp_path, devices=(desk,))
    client.fresh = HeldAnswer(location=placed(replace(HERE, room="")), reason="held-answered")
    assert place(one(world.receive(invite()), "INVITE").message)["ROOM"] == "712"
    assert world.events(CallIntent)[-1].location.finer_from == "registered"


def test_a_site_has_its_own_server_or_the_general_one(tmp_path: Path) -> None:
    own = {**SITE, "lis": "https://lis.hq.example.com/"}
    other = {
        "id": "b",
        "name": "B",
        "address": {"country": "US", "city": "B", "street": "B"},
        "networks": ["10.2.0.0/16"],
    }
    world, client = world_of(tmp_path, sites=[own, other])
    world.receive(invite())
    world.receive(invite(user="4999", source=("10.2.0.1", 5060)), ("10.2.0.1", 5060))
    assert [server.name for server, _ in client.asked] == ["lis.hq.example.com", "lis.example.com"]


def test_a_site_without_any(tmp_path: Path) -> None:
    own = {**SITE, "lis": "https://lis.hq.example.com/"}
    other = {
        "id": "b",
        "name": "B",
        "address": {"country": "US", "city": "B", "street": "B"},
        "networks": ["10.2.0.0/16"],
    }
    world, _ = world_of(tmp_path, sites=[own, other], lis=None)
    one(world.receive(invite(user="4999", source=("10.2.0.1", 5060)), ("10.2.0.1", 5060)), "INVITE")
    assert held(world).reason == "no-lis"


NUMBER = HeldIdentity(uri="sip:2125550142@pbx.example.com", tel="+12125550142")
IDENTITIES = [
    (["ip"], invite(user="4999", source=PBX), PBX, None),
    (["ip"], invite(), PHONE, HeldIdentity(ip=PHONE[0])),
    (["tel", "uri"], invite(user="2125550142", source=PBX), PBX, NUMBER),
    (["mac"], invite(extra=("X-MAC: 00:0b:82:1a:2b:3c",)), PHONE, HeldIdentity(mac="000b821a2b3c")),
]


@pytest.mark.parametrize(("wanted", "raw", "source", "identity"), IDENTITIES)
def test_by_what_a_phone_is_named(
    tmp_path: Path, wanted: list[str], raw: bytes, source: tuple[str, int], identity: HeldIdentity | None
) -> None:
    world, client = world_of(tmp_path, lis={**LIS, "identity": wanted})
    sent = of(world.receive(raw, source), "INVITE")
    assert [asked for _, asked in client.asked] == ([identity] if identity else [])
    if identity is None:
        assert sent
        assert held(world).reason == "held-no-identity"


def test_its_access_point_where_the_server_goes_by_that(tmp_path: Path) -> None:
    world, client = world_of(tmp_path, lis={**LIS, "identity": ["bssid"]})
    world.receive(invite(extra=("P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=001B2C3D4E50",)))
    ((_, identity),) = client.asked
    assert identity.attachment is not None
    assert identity.attachment.bssid == "001b2c3d4e50"


def test_a_reference_and_the_server_are_waited_for_together(tmp_path: Path) -> None:
    world, client = world_of(tmp_path)
    waiting: list[Callable[[ReferenceAnswer], None]] = []
    world.router.ask_reference = lambda _uri, _caller, told: waiting.append(told)
    world.receive(invite(extra=("Geolocation: <https://gone.example.com/7>",)))
    assert (len(client.asked), len(waiting)) == (1, 1)
    client.waiting.pop()(HeldAnswer(location=placed(), reason="held-answered"))
    assert not of(world.sent(), "INVITE")
    waiting.pop()(ReferenceAnswer(reason="reference-unreachable"))
    assert place(one(world.sent(), "INVITE").message)["ROOM"] == "701"
    again = invite(extra=("Geolocation: <https://gone.example.com/8>",))
    world.receive(again)
    waiting.pop()(ReferenceAnswer(document=GOOD))
    assert not of(world.sent(), "INVITE")
    one(world.advance(0.31), "INVITE")
    assert world.events(CallIntent)[-1].location.source == "conveyed"


def test_a_call_that_waits_is_told_to_those_who_watch_before_it_goes_on(tmp_path: Path) -> None:
    world, client = world_of(tmp_path, lis={**LIS, "timeout": "2s"})
    world.receive(invite())
    world.advance(0.05)
    assert world.events(CallLocating) == [], "most waits are over before anybody could see them"
    world.advance(0.1)
    (said,) = world.events(CallLocating)
    assert (said.kind, said.site, said.caller.source_address) == ("emergency", "hq", PHONE[0])
    client.waiting.pop()(HeldAnswer(location=placed(), reason="held-answered"))
    one(world.sent(), "INVITE")
    (intent,) = world.events(CallIntent)
    assert (intent.id, intent.caller.number) == (said.id, said.caller.number), "the same call"
    assert len(world.events(CallLocating)) == 1


def test_what_cannot_be_told_of_a_call_that_waits_holds_it_up_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, client = world_of(tmp_path, lis={**LIS, "timeout": "2s"})

    def fault(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(world.router.emergency, "_say_locating", fault)
    world.receive(invite())
    world.advance(0.3)
    assert world.router.counts["faults"] == 1
    client.waiting.pop()(HeldAnswer(location=placed(), reason="held-answered"))
    assert place(one(world.sent(), "INVITE").message)["ROOM"] == "701"


def test_a_call_cancelled_meanwhile_goes_nowhere(tmp_path: Path) -> None:
    world, client = world_of(tmp_path)
    raw = invite()
    world.receive(raw)
    assert one(world.receive(cancel_of(raw)), 487)
    assert world.events(CallLocating) == []
    client.waiting.pop()(HeldAnswer(location=placed(), reason="held-answered"))
    assert not of(world.sent() + world.advance(1.0), "INVITE")
    (intent,), (ended,) = world.events(CallIntent), world.events(CallEnded)
    assert (ended.id, ended.outcome, ended.status) == (intent.id, "cancelled", 487), "it is on record"
    assert (intent.first_route, intent.location_sent, intent.contacts) == ("", False, ("desk",))
    assert intent.location.civic.floor == "3", "what is known without the server"
    assert (held(world).outcome, held(world).reason) == ("missed", "held-late")
    assert not world.router.emergency.being_set_up
    assert not world.router.counts["faults"]


def test_a_call_cancelled_by_one_way_while_the_other_waits_goes_on(tmp_path: Path) -> None:
    world, client = world_of(tmp_path)
    raw = invite(number=77)
    other = raw.replace(b"branch=z9hG4bKt77", b"branch=z9hG4bKother")
    world.receive(raw)
    world.receive(other)
    assert one(world.receive(cancel_of(raw)), 487)
    assert world.events(CallIntent) == []
    client.waiting.pop()(HeldAnswer(location=placed(), reason="held-answered"))
    one(world.sent(), "INVITE")
    assert (len(world.events(CallIntent)), world.events(CallEnded)) == (1, [])


@pytest.mark.parametrize("broken", ["known", "ask", "late"])
def test_a_fault_of_ours_stops_no_call(tmp_path: Path, broken: str) -> None:
    world, client = world_of(tmp_path)

    def fault(*_: object) -> None:
        raise RuntimeError("on purpose")

    setattr(client, broken, fault)
    sent = world.receive(invite()) + world.advance(0.4)
    assert place(one(sent, "INVITE").message)["FLR"] == "3"
    assert world.router.counts["faults"] == 1


# Ahead of a call


def register(user: str = "4102", source: tuple[str, int] = PHONE) -> bytes:
    lines = [
        "REGISTER sip:platform.example.com SIP/2.0",
        f"Via: SIP/2.0/UDP {source[0]}:{source[1]};branch=z9hG4bKr{user};rport",
        "Max-Forwards: 70",
        f"From: <sip:{user}@platform.example.com>;tag=r",
        f"To: <sip:{user}@platform.example.com>",
        f"Call-ID: register-{user}",
        "CSeq: 1 REGISTER",
        f"Contact: <sip:{user}@{source[0]}:{source[1]}>",
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def test_a_phone_that_registers_is_asked_for_and_not_held_up(tmp_path: Path) -> None:
    world, client = world_of(tmp_path)
    assert of(world.receive(register()), "REGISTER"), "it goes on at once"
    assert [identity for _, identity in client.ahead] == [HeldIdentity(ip=PHONE[0])]
    world.receive(register("4103", PBX), PBX)
    world.receive(register("4104", ("203.0.113.9", 5060)), ("203.0.113.9", 5060))
    assert len(client.ahead) == 1, "neither the PBX itself nor anybody outside"


def test_nobody_is_asked_where_held_is_no_source(tmp_path: Path) -> None:
    world, client = world_of(tmp_path, sources=["network", "site"])
    world.receive(register())
    one(world.receive(invite()), "INVITE")
    assert client.asked == client.ahead == []
    assert [answer.source for answer in world.events(CallIntent)[-1].sources] == [
        "network", "site", "conveyed", "registered",
    ]  # fmt: skip
