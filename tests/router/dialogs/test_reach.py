"""Who may go where in a dialog: neither an open relay nor a BYE that is lost (decision 0027)."""

from dataclasses import replace
from pathlib import Path

import pytest

from router.dialogs.token_keys import TokenKeys, derived_key
from sip.locating import Located, Server, Weighted
from tests.support.call_world import CONFIG, KEY, PHONE, CallWorld, Sent, invite, of, one, response

STRANGER = ("198.51.100.77", 5060)
LISTED = ("203.0.113.99", 5060)
"""Outside, and no trunk's."""
SOMEWHERE = "sip:victim@192.0.2.200:5060"
CALLER = f"sip:4102@{PHONE[0]}:{PHONE[1]}"


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path)


def answered(world: CallWorld, raw: bytes | None = None, source: tuple[str, int] = PHONE) -> tuple[Sent, list[str]]:
    """An outgoing call, and the Route values of its dialog."""
    sent = one(world.receive(raw or invite("sip:2125550177@10.0.0.5"), source), "INVITE")
    world.receive(response(sent.message, 200), sent.to)
    return sent, sent.message.all("record-route")


def test_a_token_opens_a_dialog_to_any_source(world: CallWorld) -> None:
    sent, routes = answered(world)
    for method in ("BYE", "INFO", "UPDATE"):
        raw = world.in_dialog(sent.message, method, CALLER, routes, from_far=True)
        assert one(world.receive(raw, STRANGER), method).to == PHONE
    raw = world.in_dialog(sent.message, "ACK", CALLER, routes, from_far=True)
    assert one(world.receive(raw, STRANGER), "ACK").to == PHONE
    raw = world.in_dialog(sent.message, "BYE", "sip:far@203.0.113.50:5080", routes)
    assert one(world.receive(raw, STRANGER), "BYE").to == ("203.0.113.50", 5080), "a phone that moved"


def test_a_listed_source_reaches_what_its_dialog_names_and_nothing_else_without(world: CallWorld) -> None:
    sent, routes = answered(world)
    raw = world.in_dialog(sent.message, "BYE", SOMEWHERE, routes, from_far=True)
    assert one(world.receive(raw, LISTED), "BYE").to == ("192.0.2.200", 5060)
    raw = world.in_dialog(sent.message, "BYE", SOMEWHERE, [routes[0].partition(";t=")[0] + ">"], from_far=True)
    assert one(world.receive(raw, LISTED), 403)
    assert world.router.stack.drops["no-route"] == 1


def test_without_a_token_outside_reaches_inside_and_trunks(world: CallWorld) -> None:
    sent, _ = answered(world)
    raw = world.in_dialog(sent.message, "BYE", CALLER, ["<sip:10.0.0.5:5060;lr>"], from_far=True)
    assert one(world.receive(raw, LISTED), "BYE").to == PHONE
    raw = world.in_dialog(sent.message, "BYE", "sip:x@203.0.113.31", ["<sip:10.0.0.5:5060;lr>"], from_far=True)
    assert one(world.receive(raw, LISTED), "BYE").to == ("203.0.113.31", 5060)
    for method in ("INVITE", "BYE", "REFER"):
        raw = world.in_dialog(sent.message, method, SOMEWHERE, ["<sip:10.0.0.5:5060;lr>"], from_far=True)
        assert one(world.receive(raw, LISTED), 403)
    raw = world.in_dialog(sent.message, "ACK", SOMEWHERE, ["<sip:10.0.0.5:5060;lr>"], from_far=True)
    assert not world.receive(raw, LISTED)


def test_a_trunk_by_name_is_a_trunk(tmp_path: Path) -> None:
    trunks = {**CONFIG["trunks"], "named": {"target": "sip:sbc.carrier.example:5060", "probe": "off"}}
    world = CallWorld(tmp_path, trunks=trunks)
    asked: list[str] = []
    there = Located(((Weighted(0, (Server("udp", "203.0.113.80", 5060),)),),))
    world.router.next_hops.resolve = lambda where, told: (asked.append(where.host), told(there))
    sent, _ = answered(world)
    ours = ["<sip:10.0.0.5:5060;lr>"]
    raw = world.in_dialog(sent.message, "BYE", "sip:x@sbc.carrier.example:5060", ours, from_far=True)
    assert one(world.receive(raw, LISTED), "BYE").to == ("203.0.113.80", 5060)
    raw = world.in_dialog(sent.message, "BYE", "sip:x@elsewhere.example:5060", ours, from_far=True)
    assert one(world.receive(raw, LISTED), 403)
    assert asked == ["sbc.carrier.example"]


@pytest.mark.parametrize("target", [SOMEWHERE, "sip:x@victim.example.net"])
@pytest.mark.parametrize("method", ["INVITE", "BYE", "MESSAGE"])
def test_an_overheard_token_makes_no_open_relay(world: CallWorld, target: str, method: str) -> None:
    sent, routes = answered(world)
    for from_far in (True, False):
        raw = world.in_dialog(sent.message, method, target, routes, from_far=from_far)
        assert one(world.receive(raw, STRANGER), 403)
    by_route = world.in_dialog(sent.message, method, CALLER, [*routes, "<sip:192.0.2.200;lr>"], from_far=True)
    assert one(world.receive(by_route, STRANGER), 403)
    assert not of(world.advance(40), method)


def test_a_token_is_of_one_call_and_its_tags(world: CallWorld) -> None:
    sent, routes = answered(world)
    good = world.in_dialog(sent.message, "BYE", CALLER, routes, from_far=True)
    tag = sent.message.get("from").partition("tag=")[2].encode()
    for bad in (
        good.replace(sent.message.call_id.encode(), b"another-call"),
        good.replace(b";tag=" + tag, b";tag=another"),
        good.replace(b";t=", b";t=0"),
        good.replace(b";tag=" + tag, b""),
    ):
        assert bad != good
        assert one(world.receive(bad, STRANGER), 403)
    assert one(world.receive(good, STRANGER), "BYE")


def test_a_caller_from_nowhere_reaches_its_provider_wherever_that_answers(tmp_path: Path) -> None:
    world = CallWorld(tmp_path, emergency={**CONFIG["emergency"], "from_unlisted": "accept"})
    raw = invite(source=STRANGER)
    sent = one(world.receive(raw, STRANGER), "INVITE")
    world.receive(response(sent.message, 200), sent.to)
    routes = sent.message.all("record-route")
    for method in ("ACK", "BYE"):
        request = world.in_dialog(sent.message, method, "sip:psap@192.0.2.9:5060", routes)
        assert one(world.receive(request, STRANGER), method).to == ("192.0.2.9", 5060)
    request = world.in_dialog(sent.message, "BYE", "sip:psap@192.0.2.9:5060", routes)
    assert one(world.receive(request, ("198.51.100.78", 5060)), 403), "another stranger with its token"


def test_a_change_of_keys_loses_no_call(world: CallWorld) -> None:
    sent, routes = answered(world)
    new = bytes(range(32))

    def use(*keys: bytes) -> None:
        world.router.use(replace(world.router.setup, token_keys=TokenKeys(keys)))

    use(new, derived_key(KEY))
    raw = world.in_dialog(sent.message, "BYE", CALLER, routes, from_far=True)
    assert one(world.receive(raw, STRANGER), "BYE")
    later, later_routes = answered(world)
    assert later_routes[0].partition(";t=")[2] != routes[0].partition(";t=")[2]
    use(new)
    raw = world.in_dialog(sent.message, "INFO", CALLER, routes, from_far=True)
    assert one(world.receive(raw, STRANGER), 403), "the old key is gone for good"
    raw = world.in_dialog(later.message, "BYE", CALLER, later_routes, from_far=True)
    assert one(world.receive(raw, STRANGER), "BYE")


def test_an_emergency_calls_bye_is_noted_whichever_key_signed_it(world: CallWorld) -> None:
    from e911.record import CallFinished

    sent, routes = answered(world, invite())
    world.router.use(replace(world.router.setup, token_keys=TokenKeys((bytes(32), derived_key(KEY)))))
    raw = world.in_dialog(sent.message, "BYE", CALLER, routes, from_far=True)
    assert one(world.receive(raw, sent.to), "BYE").to == PHONE
    assert [event.by for event in world.events(CallFinished)] == ["provider"]


def test_inside_goes_anywhere(world: CallWorld) -> None:
    sent, _ = answered(world)
    raw = world.in_dialog(sent.message, "BYE", SOMEWHERE, ["<sip:10.0.0.5:5060;lr>"])
    assert one(world.receive(raw), "BYE").to == ("192.0.2.200", 5060)


def test_a_maddr_says_where_a_request_goes_and_whether_it_may(world: CallWorld) -> None:
    """RFC 3263 section 4, in Request-URI and Route; the far end's Contact may say so."""
    sent, routes = answered(world)
    for uri in ("sip:x@psap.example;maddr=203.0.113.31", "sip:x@192.0.2.200:5060;maddr=203.0.113.31"):
        assert one(world.receive(world.in_dialog(sent.message, "BYE", uri, routes)), "BYE").to == (
            "203.0.113.31",
            5060,
        )
        assert one(world.receive(world.in_dialog(sent.message, "ACK", uri, routes)), "ACK").to == (
            "203.0.113.31",
            5060,
        )
    further = [*routes, "<sip:proxy.example;maddr=203.0.113.31;lr>"]
    assert one(world.receive(world.in_dialog(sent.message, "BYE", "sip:x@psap.example", further)), "BYE").to == (
        "203.0.113.31",
        5060,
    )
    own = ["<sip:10.0.0.5:5060;lr>"]
    raw = world.in_dialog(sent.message, "BYE", CALLER + ";maddr=192.0.2.200", own, from_far=True)
    assert one(world.receive(raw, LISTED), 403), "an inside host, but sent to somewhere else"
    raw = world.in_dialog(sent.message, "BYE", CALLER, [*own, f"<{CALLER};maddr=192.0.2.200;lr>"], from_far=True)
    assert one(world.receive(raw, LISTED), 403)
    raw = invite(f"sip:4102@{PHONE[0]};maddr=192.0.2.200", source=LISTED)
    assert one(world.receive(raw, LISTED), "INVITE").to == ("10.0.0.10", 5060), "a call for the PBX, as any other"


@pytest.mark.parametrize("transport", ["sctp", "ws", "wss", "tls-sctp", "x"])
def test_a_transport_we_have_not_is_nowhere(world: CallWorld, transport: str) -> None:
    sent, routes = answered(world)
    raw = world.in_dialog(sent.message, "BYE", f"sip:x@203.0.113.31;transport={transport}", routes)
    assert [message.message.start for message in world.receive(raw)] == ["SIP/2.0 480 Temporarily Unavailable"]
    assert not world.receive(
        world.in_dialog(sent.message, "ACK", f"sip:x@203.0.113.31;transport={transport}", routes)
    )
