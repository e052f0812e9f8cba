"""Callbacks to those who dialled 911, by the whole router in virtual time: bytes in, bytes out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e911.location import Device
from e911.record import AlarmRaised, CallbackEvent, CallIntent
from router.callback.kept_leases import read_leases, write_leases
from router.emergency.explain import explain
from router.journal.event_lines import decode_event, encode_event
from sip.flow import Flow
from sip.locating import Located, Server, Weighted, Where
from tests.support.call_world import (
    CARRIER,
    CONFIG,
    PBX,
    PHONE,
    PROVIDER_A,
    CallWorld,
    Sent,
    cancel_of,
    invite,
    of,
    one,
    response,
)

ELIN, SECOND = "+12125550191", "+12125550192"
OWN = "+12125550142"
DESK = "+12125550100"
HOURS = 3 * 3600.0
LOBBY = Device(device="4102", name="Lobby", site="hq")
NUMBERED = Device(device="4103", name="Reception", site="hq", callback=OWN)


def sections(*, elins: tuple[str, ...] = (ELIN, SECOND), psap: bool = True, **site: Any) -> dict[str, Any]:
    """CONFIG with ELINs at its site; the carrier is where PSAPs call back by."""
    return {
        "sites": [{**CONFIG["sites"][0], "elins": list(elins), **site}],
        "trunks": {
            **CONFIG["trunks"],
            "carrier": {**CONFIG["trunks"]["carrier"], "psap_callback": str(psap).lower()},
        },
    }


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path, devices=(LOBBY, NUMBERED), **sections())


def dial_911(
    world: CallWorld, *, user: str = "4102", source: tuple[str, int] = PBX, transport: str = "udp", **options: Any
) -> Sent:
    """A 911 call; what the provider got."""
    raw = invite(user=user, source=source, transport=transport.upper(), **options)
    sent = one(world.receive(raw, source, transport), "INVITE", PROVIDER_A)
    answer(world, sent, 200)
    return sent


def asserted(sent: Sent) -> str:
    return sent.message.get("p-asserted-identity")


def call_back(
    world: CallWorld, number: str = ELIN, *, uri: str = "", extra: tuple[str, ...] = (), **options: Any
) -> list[Sent]:
    """Somebody calls back by the carrier."""
    uri = uri or f"sip:{number}@10.0.0.5"
    return world.receive(invite(uri, user="+12125550111", source=CARRIER, extra=extra, **options), CARRIER)


def answer(world: CallWorld, sent: Sent, status: int, **options: Any) -> list[Sent]:
    return world.receive(response(sent.message, status, **options), sent.to, sent.transport)


def steps(world: CallWorld) -> list[tuple[str, str]]:
    """What was journalled of callbacks."""
    return [(event.outcome.value, event.to) for event in world.events(CallbackEvent)]


# Lending


def test_a_phone_without_a_number_is_shown_under_an_elin_and_the_intent_carries_the_lease(world: CallWorld) -> None:
    sent = dial_911(world)
    assert ELIN in asserted(sent)
    (intent,) = world.events(CallIntent)
    assert (intent.caller.callback, intent.caller.callback_source) == (ELIN, "elin")
    assert (intent.lease.number, intent.lease.pool, intent.lease.call) == (ELIN, "hq", intent.id)
    assert intent.lease.until == pytest.approx(intent.at + HOURS)
    assert decode_event(encode_event(intent)) == intent


def test_a_phone_with_a_number_of_its_own_shows_that_and_takes_no_elin(world: CallWorld) -> None:
    assert OWN in asserted(dial_911(world, user="4103"))
    assert ELIN in asserted(dial_911(world))
    (first, _) = world.events(CallIntent)
    assert (first.lease.number, first.lease.kind, first.lease.pool) == (OWN, "own", "")


def test_the_zone_lends_first_and_a_device_may_name_another(tmp_path: Path) -> None:
    zones = [
        {"id": "hq-3", "elins": [SECOND], "networks": ["10.1.3.0/24"]},
        {"id": "hq-4", "elins": ["+12125550193"]},
    ]
    named = Device(device="4104", site="hq", elin_zone="hq-4")
    keys = {**sections(elins=(ELIN,), zones=zones), "locations": {"sources": ["network", "registered", "site"]}}
    world = CallWorld(tmp_path, devices=(LOBBY, named), **keys)
    assert SECOND in asserted(dial_911(world, source=PHONE))
    assert "+12125550193" in asserted(dial_911(world, user="4104", source=PHONE))
    assert ELIN in asserted(dial_911(world, user="4198", source=PHONE)), "the zone's is in use"
    assert [event.lease.pool for event in world.events(CallIntent)] == ["hq/hq-3", "hq/hq-4", "hq"]


def test_the_same_caller_has_the_same_elin_again_also_after_a_restart(world: CallWorld) -> None:
    raw = invite(source=PBX)
    first = one(world.receive(raw, PBX), "INVITE")
    restore(world)
    again = one(world.receive(raw, PBX), "INVITE")
    assert again.message.raw == first.message.raw, "a retransmission leaves as one"
    world.now += 600
    assert ELIN in asserted(dial_911(world))
    assert SECOND in asserted(dial_911(world, user="4199"))


def restore(world: CallWorld) -> None:
    """Kill the process, start it again: what its disk says is known."""
    world.restart(**sections())
    events = [decode_event(encode_event(event)) for event in world.events(CallIntent)]
    world.router.callbacks.merge([event.lease for event in events if event.lease is not None])  # type: ignore[union-attr]


def test_a_shared_elin_has_its_reason_and_the_alarm_came_before(world: CallWorld) -> None:
    for user in ("4102", "4198", "4199"):
        dial_911(world, user=user)
    assert [(alarm.reason, alarm.free) for alarm in world.events(AlarmRaised)] == [
        ("elin-pool-low", 1),
        ("elin-pool-empty", 0),
    ]
    (*_, third) = world.events(CallIntent)
    assert third.lease.reason == "elin-shared"
    assert third.lease.number == ELIN
    assert world.router.counts["elins_shared"] == 1
    assert world.router.callbacks.free() == {"hq": 0.0}
    back = one(call_back(world), "INVITE", PBX)
    assert back.message.start.startswith("INVITE sip:4199@"), "who called last"


def test_the_number_of_all_is_not_kept_for_one(tmp_path: Path) -> None:
    shared = Device(device="4105", site="hq", callback=DESK)
    world = CallWorld(tmp_path, devices=(shared,), **sections())
    assert DESK in asserted(dial_911(world, user="4105"))
    assert one(call_back(world, DESK), "INVITE", PBX).message.start == f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0"


def test_explain_says_what_a_call_back_would_do_and_lends_nothing(world: CallWorld) -> None:
    dial_911(world)
    router = world.router

    def explained(dialled: str) -> dict[str, Any]:
        lending = router.callbacks.lending()
        return explain(
            router.rules, router.sources, world.devices, "+12125550111", dialled, CARRIER[0], lending=lending
        )

    found = explained(ELIN)
    assert (found["called_back"]["user"], found["called_back"]["trunk"]) == ("4102", "pbx")
    assert found["desk"] == DESK
    assert "nobody has" in explained(SECOND)["rule"]
    assert "called_back" not in explained("+12125550166")
    assert len(router.callbacks.leases) == 1


def test_without_elins_the_sites_callback_is_shown_as_ever(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, devices=(LOBBY,), **sections(elins=()))
    assert DESK in asserted(dial_911(world))
    (intent,) = world.events(CallIntent)
    assert intent.lease is None
    assert b'"lease"' not in encode_event(intent)
    assert one(call_back(world, DESK), "INVITE", PBX).message.start == f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0"
    assert not world.events(CallbackEvent)


def test_a_refused_call_lends_nothing(world: CallWorld) -> None:
    world.receive(invite(source=CARRIER), CARRIER)
    assert not world.router.callbacks.leases


def test_a_fault_while_lending_costs_only_the_elin(world: CallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.emergency.decision.lend", lambda *_: 1 / 0)
    sent = dial_911(world)
    assert DESK in asserted(sent)
    assert sent.message.all("geolocation"), "the location goes along as ever"
    assert world.router.counts["faults"] == 1


# Whose number it is


STRANGER = ("10.66.6.6", 5060)
CHIEF = "+12125550177"


def with_test_number(**emergency: Any) -> dict[str, Any]:
    return {**sections(), "emergency": {**CONFIG["emergency"], "test_numbers": ["933"], **emergency}}


def goes_as_ever(world: CallWorld, number: str) -> bool:
    """True where a call to it is an ordinary one."""
    sent = one(call_back(world, number), "INVITE", PBX)
    return sent.message.start == f"INVITE sip:{number}@10.0.0.5 SIP/2.0" and not sent.message.all("priority")


@pytest.mark.parametrize("dialled", ["911", "933"])
def test_a_from_field_is_not_enough_to_get_the_calls_of_another(tmp_path: Path, dialled: str) -> None:
    world = CallWorld(tmp_path, devices=(LOBBY, NUMBERED), **with_test_number())
    out = world.receive(invite(f"sip:{dialled}@10.0.0.5", user=CHIEF, source=STRANGER), STRANGER)
    assert CHIEF in asserted(one(out, "INVITE", PROVIDER_A)), "shown as it says"
    assert goes_as_ever(world, CHIEF)
    assert not world.router.callbacks.leases


@pytest.mark.parametrize("dialled", ["911", "933"])
def test_a_psap_reaches_who_dialled_911_whatever_others_write_into_from(tmp_path: Path, dialled: str) -> None:
    world = CallWorld(tmp_path, devices=(LOBBY, NUMBERED), **with_test_number())
    dial_911(world, user="4103")
    world.now += 60
    world.receive(invite(f"sip:{dialled}@10.0.0.5", user=OWN, source=STRANGER), STRANGER)
    world.receive(invite(f"sip:{dialled}@10.0.0.5", user=ELIN, source=STRANGER, number=8), STRANGER)
    assert one(call_back(world, OWN), "INVITE").message.start == "INVITE sip:4103@10.0.0.10:5060 SIP/2.0"
    assert one(call_back(world, ELIN), "INVITE", PBX).message.start == f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0"


@pytest.mark.parametrize(("user", "number"), [("4103", OWN), ("4102", ELIN)])
def test_who_says_elsewhere_to_be_a_device_behind_the_pbx_is_another_caller(
    world: CallWorld, user: str, number: str
) -> None:
    dial_911(world, user=user)
    world.now += 60
    one(world.receive(invite(user=user, source=STRANGER), STRANGER), "INVITE", PROVIDER_A)
    assert one(call_back(world, number), "INVITE").message.start == f"INVITE sip:{user}@10.0.0.10:5060 SIP/2.0"


def test_what_a_phone_writes_into_from_is_remembered_within_limits(tmp_path: Path) -> None:
    """Of each caller something is remembered, 100,000 leases in all: not the 60 kB that a phone may call itself."""
    world = CallWorld(tmp_path, devices=(), **sections())
    for number in range(4):
        source = PBX if number % 2 else PHONE
        user = f"{number}" + "x" * 20_000
        sent = one(world.receive(invite(user=user, source=source), source), "INVITE", PROVIDER_A)
        assert user in sent.message.get("from"), "the provider sees it as it came"
    callbacks = world.router.callbacks
    leases = callbacks.leases.all()
    assert len(leases) == 4
    kept = [text for lease in leases for text in (lease.caller, lease.who, lease.way_back.user)]
    kept += [*callbacks._by_aor, *world.router.emergency.floods._calls]
    assert max(map(len, kept)) < 500
    assert of(call_back(world), "INVITE"), "and they are called back"


def test_a_source_that_is_not_listed_gets_the_calls_of_nobody(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, devices=(LOBBY, NUMBERED), **with_test_number(from_unlisted="accept"))
    unlisted = ("198.51.100.66", 5060)
    for user in (CHIEF, "4103"):
        one(world.receive(invite(user=user, source=unlisted), unlisted), "INVITE", PROVIDER_A)
    assert goes_as_ever(world, CHIEF)
    assert goes_as_ever(world, OWN)


def test_a_test_call_takes_no_number_of_a_phones_own(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, devices=(LOBBY, NUMBERED), **with_test_number())
    one(world.receive(invite("sip:933@10.0.0.5", user="4103", source=PBX), PBX), "INVITE", PROVIDER_A)
    assert goes_as_ever(world, OWN)


def test_a_number_that_a_pbx_says_of_all_its_phones_is_kept_for_none(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, devices=(), **sections())
    said = (f"P-Asserted-Identity: <sip:{CHIEF}@pbx.example.com>",)
    sent = dial_911(world, user="4199", extra=said)
    assert CHIEF in asserted(sent)
    assert goes_as_ever(world, CHIEF)
    dial_911(world, user="2125550177", extra=said, number=8)
    assert not goes_as_ever(world, CHIEF), "From says the same: it is that phone's"


def test_the_desk_of_any_site_is_kept_for_nobody(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, devices=(), **sections(desk=f"sip:{CHIEF}@10.0.7.7"))
    dial_911(world, user=CHIEF)
    assert goes_as_ever(world, CHIEF)


# To the phone


def test_a_callback_goes_to_the_phone_at_its_pbx_past_routes_inbound(world: CallWorld) -> None:
    dial_911(world)
    out = call_back(world)
    back = one(out, "INVITE", PBX)
    assert back.message.start == "INVITE sip:4102@10.0.0.10:5060 SIP/2.0"
    assert one(answer(world, back, 180), 180).to == CARRIER
    assert one(answer(world, back, 200), 200).to == CARRIER
    assert steps(world) == [("received", "phone"), ("sent", "phone"), ("ringing", "phone"), ("answered", "phone")]
    (intent,) = world.events(CallIntent)
    first = world.events(CallbackEvent)[0]
    assert (first.id, first.number, first.caller, first.trunk) == (intent.id, ELIN, "+12125550111", "carrier")
    assert first.contacts == ("desk",)
    assert decode_event(encode_event(first)) == first


@pytest.mark.parametrize(
    "uri",
    [
        "sip:+12125550191@10.0.0.5",
        "sip:2125550191@10.0.0.5",
        "sip:12125550191@10.0.0.5:5060;user=phone",
        "sip:+1-212-555-0191@10.0.0.5",
        "tel:+1-212-555-0191",
        "sip:+12125550191;npdi@10.0.0.5",
        "tel:5550191;phone-context=+1212",
        "sip:5550191;phone-context=+1-212@10.0.0.5;user=phone",
        "sips:+12125550191@10.0.0.5",
    ],
)
def test_every_spelling_of_the_number_is_the_number(world: CallWorld, uri: str) -> None:
    dial_911(world)
    back = one(call_back(world, uri=uri), "INVITE", PBX)
    assert back.message.start == "INVITE sip:4102@10.0.0.10:5060 SIP/2.0"


def test_the_own_number_of_a_phone_that_dialled_911_is_called_back_too(world: CallWorld) -> None:
    before = one(call_back(world, OWN), "INVITE", PBX)
    assert before.message.start == f"INVITE sip:{OWN}@10.0.0.5 SIP/2.0", "an ordinary call"
    dial_911(world, user="4103")
    back = one(call_back(world, OWN), "INVITE", PBX)
    assert back.message.start == "INVITE sip:4103@10.0.0.10:5060 SIP/2.0"
    world.now += HOURS + 1
    after = one(call_back(world, OWN), "INVITE", PBX)
    assert after.message.start == f"INVITE sip:{OWN}@10.0.0.5 SIP/2.0"


@pytest.mark.parametrize(("status", "uri"), [(404, f"sip:{OWN}@10.0.0.5"), (486, f"sip:{DESK}@10.0.0.5")])
def test_a_pbx_that_knows_no_extension_is_asked_for_the_number(world: CallWorld, status: int, uri: str) -> None:
    dial_911(world, user="4103")
    back = one(call_back(world, OWN), "INVITE", PBX)
    again = one(answer(world, back, status), "INVITE", PBX)
    assert again.message.start == f"INVITE {uri} SIP/2.0"
    if status == 404:
        desk = one(answer(world, again, 404), "INVITE", PBX)
        assert desk.message.start == f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0"


def test_a_phone_that_called_by_itself_is_called_by_its_flow(world: CallWorld) -> None:
    behind_nat = ("10.1.3.9", 40000)
    dial_911(world, source=behind_nat, user="4102")
    back = one(call_back(world), "INVITE")
    assert back.to == behind_nat
    assert back.message.start == "INVITE sip:4102@10.1.3.9:40000 SIP/2.0"
    out = answer(world, back, 200)
    routes = one(out, 200).message.all("record-route")
    bye = world.in_dialog(back.message, "BYE", "sip:4102@10.1.3.9:40000", routes)
    assert one(world.receive(bye, CARRIER), "BYE").to == behind_nat


def test_a_phone_by_tcp_is_called_by_its_connection_then_by_a_new_one(world: CallWorld) -> None:
    dial_911(world, source=PHONE, transport="tcp")
    back = one(call_back(world), "INVITE")
    assert (back.to, back.transport, back.connection) == (PHONE, "tcp", 7)
    answer(world, back, 486)
    world.edge.connections.clear()
    again = one(call_back(world), "INVITE")
    assert (again.to, again.transport, again.connection) == (PHONE, "udp", 0), "where its Contact says it listens"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_phone_that_is_silent_where_it_was_is_looked_for_at_its_registrar(world: CallWorld, transport: str) -> None:
    """It may have moved, and says no instance that tells it from another phone of its user."""
    dial_911(world, source=PHONE, transport=transport)
    back = one(call_back(world), "INVITE")
    assert back.to == PHONE
    there = one(world.advance(4.1), "INVITE", CARRIER)
    assert there.message.start == "INVITE sip:4102@pbx.example.com SIP/2.0"
    desk = one(answer(world, there, 404), "INVITE", PBX)
    assert desk.message.start == f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0"


def test_a_phone_that_refuses_is_not_looked_for_elsewhere(world: CallWorld) -> None:
    dial_911(world, source=PHONE)
    desk = one(answer(world, one(call_back(world), "INVITE"), 486), "INVITE")
    assert (desk.to, desk.message.start) == (PBX, f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0")


def test_a_phone_that_registers_again_is_called_by_its_new_flow(world: CallWorld) -> None:
    world.router.edge = world.edge
    dial_911(world, source=PHONE, transport="tcp")
    new = ("10.1.3.7", 50123)
    register = (
        "REGISTER sip:pbx.example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/TCP {new[0]}:{new[1]};branch=z9hG4bKreg1\r\n"
        "Max-Forwards: 70\r\nFrom: <sip:4102@pbx.example.com>;tag=r\r\nTo: <sip:4102@pbx.example.com>\r\n"
        "Call-ID: reg\r\nCSeq: 1 REGISTER\r\n"
        f"Contact: <sip:4102@{new[0]}:{new[1]};transport=tcp>\r\nExpires: 300\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    world.edge.connections.clear()
    world.edge.connections.add(9)
    sent = one(world.receive(register, new, "tcp", connection=9), "REGISTER")
    contacts = tuple(f"Contact: {value}" for value in sent.message.all("contact"))
    world.receive(response(sent.message, 200, extra=contacts), sent.to)
    back = one(call_back(world), "INVITE")
    assert (back.to, back.transport, back.connection) == (new, "tcp", 9)


def register_of(source: tuple[str, int], *, instance: str = "", host: str = "") -> bytes:
    contact = f"<sip:4102@{host or source[0]}:{source[1]}>" + (f';+sip.instance="<{instance}>"' if instance else "")
    return (
        "REGISTER sip:pbx.example.com SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {source[0]}:{source[1]};branch=z9hG4bKreg{source[1]}\r\n"
        "Max-Forwards: 70\r\nFrom: <sip:4102@pbx.example.com>;tag=r\r\nTo: <sip:4102@pbx.example.com>\r\n"
        f"Call-ID: reg\r\nCSeq: 1 REGISTER\r\nContact: {contact}\r\nExpires: 300\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def register(world: CallWorld, source: tuple[str, int], *, instance: str = "", host: str = "") -> None:
    """A registration that the registrar takes."""
    sent = one(world.receive(register_of(source, instance=instance, host=host), source), "REGISTER")
    contacts = tuple(f"Contact: {value};expires=300" for value in sent.message.all("contact"))
    world.receive(response(sent.message, 200, extra=contacts), sent.to)


@pytest.mark.parametrize(
    ("first", "second", "host", "is_moved"),
    [
        ("", "", "", False),
        ("", "", PHONE[0], True),
        ("urn:uuid:1", "urn:uuid:2", "", False),
        ("urn:uuid:1", "urn:uuid:2", PHONE[0], False),
        ("urn:uuid:1", "urn:uuid:1", "", True),
        ("urn:uuid:1", "", "", False),
        ("", "urn:uuid:1", "", False),
    ],
)
def test_another_phone_of_the_same_user_takes_no_callback(
    world: CallWorld, first: str, second: str, host: str, is_moved: bool
) -> None:
    raw = invite(user="4102", source=PHONE)
    if first:
        line = next(line for line in raw.split(b"\r\n") if line.lower().startswith(b"contact:"))
        raw = raw.replace(line, line + f';+sip.instance="<{first}>"'.encode())
    world.receive(raw, PHONE)
    other = ("10.9.9.9", 5066)
    register(world, other, instance=second, host=host)
    assert one(call_back(world), "INVITE").to == (other if is_moved else PHONE)


@pytest.mark.parametrize("by", ["a registrar of its own", "without a binding", "nobody"])
def test_only_a_registration_that_a_registrar_took_moves_the_way_back(world: CallWorld, by: str) -> None:
    dial_911(world, source=PHONE)
    thief = ("10.9.9.9", 5066)
    raw = register_of(thief, host=PHONE[0])
    if by == "a registrar of its own":
        raw = raw.replace(b"REGISTER sip:pbx.example.com", b"REGISTER sip:10.9.9.9:5099")
    sent = one(world.receive(raw, thief), "REGISTER")
    contacts = [] if by == "without a binding" else [f"Contact: {value}" for value in sent.message.all("contact")]
    status = 401 if by == "nobody" else 200
    world.receive(response(sent.message, status, extra=tuple(contacts)), sent.to)
    assert one(call_back(world), "INVITE").to == PHONE


def test_a_registration_is_not_undone_by_what_is_read_again(world: CallWorld) -> None:
    dial_911(world, source=PHONE)
    old = world.router.callbacks.leases.all()
    new = (PHONE[0], 5099)
    register(world, new)
    changes = world.router.callbacks.changes
    world.router.callbacks.merge(old)
    assert one(call_back(world), "INVITE").to == new
    assert world.router.callbacks.changes == changes, "nothing to write to the disk"


def test_where_a_phone_registered_since_its_call_stands_whatever_is_read_first_after_a_restart(
    world: CallWorld,
) -> None:
    """The database knows the way that the call came by; this node's disk also the registration."""
    dial_911(world, source=PHONE)
    of_call = world.router.callbacks.leases.all()
    world.now += 60
    new = (PHONE[0], 5099)
    register(world, new)
    of_disk = world.router.callbacks.leases.all()
    world.start(**sections())
    for found in (of_call, of_disk, of_call):
        world.router.callbacks.merge(found)
    assert one(call_back(world), "INVITE").to == new


def test_a_pbx_that_spells_the_number_otherwise_is_asked_as_it_was_dialled(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, devices=(), **sections())
    dial_911(world, user="2125550177")
    back = one(call_back(world, CHIEF), "INVITE", PBX)
    assert back.message.start == "INVITE sip:2125550177@10.0.0.10:5060 SIP/2.0"
    again = one(answer(world, back, 404), "INVITE", PBX)
    assert again.message.start == f"INVITE sip:{CHIEF}@10.0.0.5 SIP/2.0"


def test_a_request_uri_at_the_pbx_is_a_callback_all_the_same(world: CallWorld) -> None:
    dial_911(world)
    back = one(call_back(world, uri=f"sip:{ELIN}@10.0.0.10"), "INVITE", PBX)
    assert back.message.start == "INVITE sip:4102@10.0.0.10:5060 SIP/2.0"


# To the desk


def test_a_phone_that_does_not_answer_gives_way_to_the_desk(world: CallWorld) -> None:
    dial_911(world)
    back = one(call_back(world), "INVITE", PBX)
    answer(world, back, 100)
    answer(world, back, 180)
    assert not of(world.advance(19.9), "INVITE")
    out = world.advance(0.2)
    desk = one(out, "INVITE", PBX)
    assert desk.message.start == f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0"
    assert one(out, "CANCEL").message.start == "CANCEL sip:4102@10.0.0.10:5060 SIP/2.0"
    answer(world, back, 487)
    assert one(answer(world, desk, 200, tag="desk"), 200).to == CARRIER
    assert steps(world)[3:] == [("no-answer", "phone"), ("sent", "desk"), ("answered", "desk")]


@pytest.mark.parametrize("status", [302, 404, 480, 486, 500, 600, 603])
def test_whatever_the_phone_says_but_yes_the_desk_is_called(world: CallWorld, status: int) -> None:
    dial_911(world)
    back = one(call_back(world), "INVITE", PBX)
    out = answer(world, back, status, extra=("Contact: <sip:+12125550177@203.0.113.99>",))
    desk = one(out, "INVITE")
    assert (desk.to, desk.message.start) == (PBX, f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0")
    assert steps(world)[2] == ("redirected" if status == 302 else "refused", "phone")


def test_a_3xx_is_neither_followed_nor_passed_on(tmp_path: Path) -> None:
    site = {"callback": "", "desk": None}
    world = CallWorld(tmp_path, devices=(LOBBY,), **{**sections(**site), "routes": {"outbound": ["carrier"]}})
    dial_911(world)
    back = one(call_back(world), "INVITE", PBX)
    out = answer(world, back, 302, extra=("Contact: <sip:+12125550177@203.0.113.99>",))
    assert not of(out, "INVITE")
    assert not of(out, 302)
    assert one(out, 480).to == CARRIER
    assert steps(world)[-1] == ("failed", "")


def test_what_the_desk_says_is_the_answer(world: CallWorld) -> None:
    dial_911(world)
    back = one(call_back(world), "INVITE", PBX)
    desk = one(answer(world, back, 486), "INVITE", PBX)
    assert one(answer(world, desk, 603), 603).to == CARRIER


@pytest.mark.parametrize(
    ("desk", "start", "to"),
    [
        ("100", "INVITE sip:100@10.0.0.5 SIP/2.0", PBX),
        ("sip:front@10.0.7.7:5070", "INVITE sip:front@10.0.7.7:5070 SIP/2.0", ("10.0.7.7", 5070)),
        ("+12125550177", "INVITE sip:+12125550177@10.0.0.5 SIP/2.0", PBX),
    ],
)
def test_the_desk_is_a_number_an_extension_or_a_uri(
    tmp_path: Path, desk: str, start: str, to: tuple[str, int]
) -> None:
    world = CallWorld(tmp_path, devices=(LOBBY,), **sections(desk=desk))
    dial_911(world)
    back = one(call_back(world), "INVITE", PBX)
    got = one(answer(world, back, 486), "INVITE")
    assert (got.message.start, got.to) == (start, to)


def test_a_desk_given_by_name_is_known_before_somebody_calls_back(tmp_path: Path) -> None:
    known: dict[Where, Located] = {}
    asked: list[Where] = []

    def resolve(where: Where, told: Callable[[Located], None]) -> None:
        """As Resolver.find: at once where it is known, else later."""
        if where in known:
            told(known[where])
        else:
            asked.append(where)

    world = CallWorld(tmp_path, devices=(LOBBY,), **sections(desk="sip:front@desk.example.com:5070"))
    world.router.resolve = world.router.next_hops.resolve = resolve
    world.router.callbacks.keep_desks()
    (where,) = asked
    known[where] = Located(groups=((Weighted(0, (Server("udp", "10.0.7.7", 5070),)),),))
    dial_911(world)
    back = one(call_back(world), "INVITE", PBX)
    desk = one(answer(world, back, 486), "INVITE")
    assert (desk.to, desk.message.start) == (("10.0.7.7", 5070), "INVITE sip:front@desk.example.com:5070 SIP/2.0")


def test_an_elin_that_nobody_has_any_more_goes_to_the_desk_and_into_the_last_callers_record(world: CallWorld) -> None:
    dial_911(world)
    world.now += HOURS + 1
    back = one(call_back(world), "INVITE", PBX)
    assert back.message.start == f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0"
    assert not back.message.all("priority")
    (intent,) = world.events(CallIntent)
    assert [(event.id, event.reason) for event in world.events(CallbackEvent)[:1]] == [(intent.id, "lease-over")]


def test_an_elin_that_nobody_ever_had_goes_to_the_desk(world: CallWorld) -> None:
    assert one(call_back(world, SECOND), "INVITE", PBX).message.start == f"INVITE sip:{DESK}@10.0.0.5 SIP/2.0"
    assert not world.events(CallbackEvent)
    assert world.router.counts["callbacks_without_lease"] == 1


def test_a_pbx_that_is_gone_from_the_configuration_leaves_the_desk(world: CallWorld) -> None:
    dial_911(world)
    trunks = {name: keys for name, keys in CONFIG["trunks"].items() if name != "pbx"}
    trunks["new-pbx"] = {**CONFIG["trunks"]["pbx"], "target": "sip:10.0.0.11:5060"}
    world.router.use(world.setup(**{**sections(), "trunks": trunks, "routes": {"inbound": ["new-pbx"]}}))
    desk = one(call_back(world), "INVITE")
    assert desk.to == ("10.0.0.11", 5060)
    assert world.events(CallbackEvent)[0].reason == "way-lost"


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_dead_pbx_costs_a_moment_and_the_desk_is_elsewhere(tmp_path: Path, is_refused: bool) -> None:
    world = CallWorld(tmp_path, devices=(LOBBY,), **sections(desk="sip:front@10.0.7.7:5070"))
    dial_911(world)
    back = one(call_back(world), "INVITE", PBX)
    out = world.unreachable(back) if is_refused else world.advance(4.1)
    assert of(out, "INVITE", ("10.0.7.7", 5070))
    assert steps(world)[2] == ("unreachable", "phone")


def test_who_calls_back_may_hang_up(world: CallWorld) -> None:
    dial_911(world)
    raw = invite(f"sip:{ELIN}@10.0.0.5", user="+12125550111", source=CARRIER)
    back = one(world.receive(raw, CARRIER), "INVITE", PBX)
    answer(world, back, 180)
    assert one(world.receive(cancel_of(raw), CARRIER), "CANCEL").to == PBX
    out = answer(world, back, 487)
    assert one(out, 487).to == CARRIER
    assert not of(world.advance(60), "INVITE"), "the desk is not called any more"
    assert steps(world)[-1] == ("cancelled", "")


# Priority: psap-callback (RFC 7090)


def test_a_callback_by_a_marked_trunk_is_marked_whatever_it_said(world: CallWorld) -> None:
    dial_911(world)
    for extra in ((), ("Priority: psap-callback",), ("Priority: normal",)):
        back = one(call_back(world, extra=extra), "INVITE", PBX)
        assert back.message.all("priority") == ["psap-callback"]
        desk = one(answer(world, back, 486), "INVITE", PBX)
        assert desk.message.all("priority") == ["psap-callback"]


@pytest.mark.parametrize("value", ["Psap-Callback", "psap-callback;x=1", "normal, psap-callback"])
def test_the_mark_is_removed_from_all_others(tmp_path: Path, value: str) -> None:
    world = CallWorld(tmp_path, devices=(LOBBY,), **sections(psap=False))
    dial_911(world)
    marked = (f"Priority: {value}",)
    assert not one(call_back(world, extra=marked), "INVITE", PBX).message.all("priority")
    assert not one(call_back(world, DESK, extra=marked), "INVITE", PBX).message.all("priority")
    world = CallWorld(tmp_path, devices=(LOBBY,), **sections())
    assert not one(call_back(world, extra=marked), "INVITE", PBX).message.all("priority"), "no live lease"
    assert not one(call_back(world, DESK, extra=marked), "INVITE", PBX).message.all("priority")
    outbound = world.receive(invite("sip:+12125550177@10.0.0.5", extra=marked), PHONE)
    assert not one(outbound, "INVITE", CARRIER).message.all("priority")


def test_an_ordinary_inbound_call_is_unchanged_byte_for_byte(world: CallWorld) -> None:
    dial_911(world)
    raw = invite("sip:+12125550166@10.0.0.5", source=CARRIER, extra=("Priority: urgent", "X-Odd:   kept "))
    sent = one(world.receive(raw, CARRIER), "INVITE", PBX)
    head, _, body = raw.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n")[3:]:
        assert line in sent.message.raw, line
    assert sent.message.raw.startswith(b"INVITE sip:+12125550166@10.0.0.5 SIP/2.0\r\n")
    assert sent.message.raw.endswith(b"\r\n\r\n" + body)


def test_a_storm_of_callbacks_is_served_and_recorded_within_limits(world: CallWorld) -> None:
    dial_911(world)
    for _ in range(50):
        one(call_back(world), "INVITE", PBX)
    assert sum(outcome == "received" for outcome, _ in steps(world)) == 5
    assert world.router.counts["callbacks"] == 50
    assert world.router.counts["callbacks_not_recorded"] == 45


def test_a_psap_is_served_in_an_overload_and_others_wait(world: CallWorld) -> None:
    dial_911(world)
    admission = world.router.admission
    flow = Flow(world.points.points[0], *CARRIER)
    uri = f"sip:{ELIN}@10.0.0.5".encode()
    assert admission.looks_like_emergency(b"INVITE", uri, flow)
    assert not admission.looks_like_emergency(b"INVITE", b"sip:+12125550166@10.0.0.5", flow)
    admission.is_full = admission.is_restricting = True
    assert one(call_back(world), "INVITE", PBX)
    assert one(call_back(world, "+12125550166"), 503)
    world.now += HOURS + 1
    assert one(call_back(world), 503)


def test_a_psap_is_served_while_draining_and_others_are_not(world: CallWorld) -> None:
    dial_911(world)
    world.router.draining = True
    assert one(call_back(world), "INVITE", PBX)
    assert one(call_back(world, "+12125550166"), 503)


def test_calls_of_others_leave_the_record_of_a_psaps(tmp_path: Path) -> None:
    keys = sections()
    other = {"target": "sip:203.0.113.51:5060", "probe": "off", "private_media": "expected"}
    world = CallWorld(tmp_path, devices=(LOBBY,), **{**keys, "trunks": {**keys["trunks"], "other": other}})
    dial_911(world)
    address = ("203.0.113.51", 5060)
    for number in range(9):
        raw = invite(f"sip:{ELIN}@10.0.0.5", user="+12125550166", source=address, number=50 + number)
        one(world.receive(raw, address), "INVITE", PBX)
    call_back(world)
    received = [event for event in world.events(CallbackEvent) if event.outcome.value == "received"]
    assert [event.is_psap for event in received] == [False] * 5 + [True]


# After a restart


def test_leases_survive_a_kill_and_so_do_their_ways(tmp_path: Path, world: CallWorld) -> None:
    dial_911(world)
    restore(world)
    back = one(call_back(world), "INVITE", PBX)
    assert back.message.start == "INVITE sip:4102@10.0.0.10:5060 SIP/2.0"


def test_a_snapshot_and_what_the_journal_says_after_it(tmp_path: Path, world: CallWorld) -> None:
    dial_911(world)
    kept = world.router.callbacks.leases.all()
    write_leases(tmp_path, kept, 200)
    dial_911(world, user="4199")
    (first, second) = world.events(CallIntent)
    journal = tmp_path / "journal"
    journal.mkdir()
    (journal / "00000100.jsonl").write_bytes(encode_event(first))
    (journal / "00000200.jsonl").write_bytes(encode_event(second) + b'{"type":"intent","id":"torn","lease":{')
    assert [lease.number for lease in read_leases(tmp_path)] == [ELIN, SECOND]
    (tmp_path / "callback-leases.jsonl").write_text("{nothing")
    assert [lease.number for lease in read_leases(tmp_path)] == [ELIN, SECOND], "the journal has both"
