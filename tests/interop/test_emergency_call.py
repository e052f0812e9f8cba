"""911 and ordinary calls through the router, between real SIPp phones, providers and carriers.

Judged by what arrived at the far side.
"""

import time

import pytest

from tests.interop.wire import (
    HOP_BY_HOP,
    assert_basic,
    assert_carries_location,
    assert_emergency_marks,
    assert_forwarded_by_router,
    assert_identity,
    assert_no_location,
    assert_pidf_lo,
    assert_request_uri,
    assert_same_call,
    assert_unchanged,
    registered_address,
    site_address,
)
from tests.support.raw_sip import Arrived, Call, Peer
from tests.support.sip_text import PIDF
from tests.support.sipp import Sipp, running
from tests.support.world import Plan, World

pytestmark = pytest.mark.peers

PLANS = {
    "with-location": Plan(),
    "site-address": Plan(),
    "unknown": Plan(address={}),
    "delayed": Plan(),
    "reinvite": Plan(),
    "methods": Plan(),
    "hung-up-on": Plan(),
    "test-call": Plan(),
    "test-call-refused": Plan(timeout="500ms", routes=("provider_a",)),
    "tcp-phone": Plan(),
    "tcp-provider": Plan(tcp=("provider_a",)),
    "number-only": Plan(profile="number", address={}),
    "i3": Plan(profile="i3"),
}


def ordinary(world: World, scenario: str, at: str, to: str, *, dial: str = "+12125550177", **options: object) -> Sipp:
    """A SIPp of the router's own street: phone, carrier or PBX."""
    folder = world.router.folder / "ordinary"
    destination = world.router.sip if to == "router" else None
    keys = {"caller": "+12125550102"} if destination else {}
    return Sipp(scenario, at=world.street[at], to=destination, folder=folder, dial=dial, keys=keys, **options)  # type: ignore[arg-type]  # options by name


def test_a_911_call_leaves_with_the_registered_location(the_world: World) -> None:
    place = the_world["with-location"]
    psap, phone = place.sipp("psap_demands_location", "provider_a"), place.caller()
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    sent, arrived = phone.sent("INVITE")[0], psap.request("INVITE")
    assert_carries_location(arrived, sent, place)
    assert phone.statuses()[0] == 100, "100 Trying leaves at once"
    assert phone.statuses()[-1] == 200
    acknowledged, ended = psap.request("ACK"), psap.request("BYE")
    for request in (acknowledged, ended):
        assert_forwarded_by_router(request, phone.sent(request.method)[0], place)
        assert not request.all("route"), "the router's own Route is taken off"
    (notice,) = place.notices()
    for text in ("911", place.callback, place.device_name, "Washington", place.room, f"Place {place.name}"):
        assert text in notice, f"{text!r} is not in the notice:\n{notice}"


def test_the_sites_address_goes_along_for_an_extension_nobody_registered(the_world: World) -> None:
    place = the_world["site-address"]
    psap, phone = place.sipp("psap_demands_location", "provider_a"), place.caller(caller=place.unregistered)
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    assert_carries_location(
        psap.request(),
        phone.sent("INVITE")[0],
        place,
        expected=site_address(place),
        method="Default",
        callback=place.site_callback,
    )


def test_where_nobody_knows_the_place_the_call_goes_basic_911_at_once(the_world: World) -> None:
    place = the_world["unknown"]
    relay, phone = place.sipp("psap_answers", "relay"), place.caller(caller=place.unregistered)
    provider = place.sipp("psap_answers", "provider_a", calls=None)
    with running(relay, provider, phone):
        phone.succeed()
        relay.succeed()
        assert provider.requests() == []
    assert_basic(relay.request(), phone.sent("INVITE")[0], place)
    (notice,) = place.notices()
    assert place.site_callback in notice


def test_a_provider_that_knows_the_address_by_the_number_needs_no_location(the_world: World) -> None:
    place = the_world["number-only"]
    psap, phone = place.sipp("psap_answers", "provider_a"), place.caller(caller=place.unregistered)
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    sent, arrived = phone.sent("INVITE")[0], psap.request()
    assert_same_call(arrived, sent, place)
    assert_request_uri(arrived, place, "provider_a")
    assert_no_location(arrived)
    assert arrived.body == sent.body
    assert_identity(arrived, place.site_callback)


def test_an_esinet_gets_the_service_urn(the_world: World) -> None:
    place = the_world["i3"]
    psap, phone = place.sipp("psap_demands_location", "provider_a"), place.caller()
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    sent, arrived = phone.sent("INVITE")[0], psap.request()
    assert arrived.uri == "urn:service:sos"
    assert arrived.part("application/sdp").body == sent.body
    assert_pidf_lo(arrived, registered_address(place), "Manual")
    assert_emergency_marks(arrived)
    assert_same_call(arrived, sent, place)


def test_a_call_without_an_offer_carries_the_location_alone(the_world: World) -> None:
    place = the_world["delayed"]
    psap, phone = place.sipp("psap_answers", "provider_a"), place.caller("caller_dials_delayed_offer")
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    sent, arrived = phone.sent("INVITE")[0], psap.request()
    assert_same_call(arrived, sent, place)
    assert b"application/sdp" not in arrived.raw
    assert arrived.content_type == PIDF or [part.content_type for part in arrived.parts] == [PIDF]
    assert_pidf_lo(arrived, registered_address(place), "Manual")
    assert psap.request("ACK").body == phone.sent("ACK")[0].body != b""


@pytest.mark.parametrize("name", ["tcp-phone", "tcp-provider"])
def test_phone_and_provider_may_speak_different_transports(the_world: World, name: str) -> None:
    place = the_world[name]
    psap = place.sipp("psap_demands_location", "provider_a")
    phone = place.caller(tcp=name == "tcp-phone")
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    arrived = psap.request()
    assert arrived.transport == ("tcp" if name == "tcp-provider" else "udp")
    assert f"SIP/2.0/{arrived.transport.upper()} " in arrived.vias[0]
    assert_carries_location(arrived, phone.sent("INVITE")[0], place)


def test_a_reinvite_to_the_psaps_contact_is_not_a_second_emergency(the_world: World) -> None:
    place = the_world["reinvite"]
    psap, phone = place.sipp("psap_answers_reinvite", "provider_a"), place.caller("caller_reinvites", pause_ms=100)
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    first, second = {one.raw: one for one in psap.requests("INVITE")}.values()
    assert_carries_location(first, phone.sent("INVITE")[0], place)
    again = phone.sent("INVITE")[-1]
    assert again.uri.startswith("sip:911@"), "the scenario must offer the trap"
    assert_unchanged(second, again, place)
    place.notices()
    time.sleep(0.7)
    assert len(place.desk.posts(place.name)) == 1, "a second notice"
    (record,) = the_world.router.records(first.call_id)
    assert record["intents"] == 1
    assert record["outcome"] == "answered"
    assert record["finished_by"] == "caller"


def test_every_method_of_a_dialog_passes(the_world: World) -> None:
    place = the_world["methods"]
    psap, phone = place.sipp("callee_takes_every_method", "provider_a"), place.caller("caller_uses_every_method")
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    for sent in phone.sent():
        if sent.method == "INVITE" or sent.start == phone.sent("INVITE")[0].start:
            continue
        arrived = [one for one in psap.requests(sent.method) if one.get("cseq") == sent.get("cseq")]
        assert arrived, f"{sent.start} did not arrive"
        assert_unchanged(arrived[0], sent, place)
    assert {"PRACK", "UPDATE", "INFO", "REFER", "MESSAGE", "BYE", "ACK"} <= {one.method for one in psap.requests()}


def test_the_psap_can_hang_up(the_world: World) -> None:
    place = the_world["hung-up-on"]
    psap, phone = place.sipp("psap_hangs_up", "provider_a", pause_ms=50), place.caller("caller_is_hung_up_on")
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    sent, arrived = psap.sent("BYE")[0], phone.request("BYE")
    assert_forwarded_by_router(arrived, sent, place)
    assert arrived.without(*HOP_BY_HOP) == sent.without(*HOP_BY_HOP)


def test_933_goes_out_as_a_test_and_says_so(the_world: World) -> None:
    place = the_world["test-call"]
    psap, phone = place.sipp("psap_answers", "provider_a"), place.caller(dial="933")
    with running(psap, phone):
        phone.succeed()
        psap.succeed()
    arrived = psap.request()
    assert_same_call(arrived, phone.sent("INVITE")[0], place)
    assert_request_uri(arrived, place, "provider_a", "933")
    assert not arrived.all("resource-priority")
    assert not arrived.all("priority")
    assert "emergency" not in ", ".join(arrived.all("call-info"))
    assert "urn:service:sos" not in arrived.raw.decode("utf-8", "replace")
    (notice,) = place.notices()
    assert notice.strip().startswith("TEST"), notice


def test_a_refused_test_call_never_goes_to_basic_911(the_world: World) -> None:
    place = the_world["test-call-refused"]
    provider = place.sipp("provider_refuses_503", "provider_a")
    relay = place.sipp("psap_answers", "relay", calls=None)
    phone = place.caller("caller_is_refused_503", dial="933")
    with running(provider, relay, phone):
        phone.succeed()
        provider.succeed()
        assert relay.requests() == []


def test_an_ordinary_call_passes_byte_for_byte(the_world: World) -> None:
    carrier = ordinary(the_world, "carrier_answers", "carrier", "")
    phone = ordinary(the_world, "caller_dials_with_odd_headers", "phone", "router", dial="19115550100")
    with running(carrier, phone):
        phone.succeed()
        carrier.succeed()
    place = the_world["with-location"]  # only for the router's address
    sent, arrived = phone.sent("INVITE")[0], carrier.request("INVITE")
    assert_unchanged(arrived, sent, place)
    for request in (carrier.request("ACK"), carrier.request("BYE")):
        assert_unchanged(request, phone.sent(request.method)[0], place)


def test_a_registration_passes_to_the_platform_and_back(the_world: World) -> None:
    registrar = ordinary(the_world, "registrar_accepts", "carrier", "")
    phone = ordinary(the_world, "phone_registers", "phone", "router")
    with running(registrar, phone):
        phone.succeed()
        registrar.succeed()
    sent, arrived = phone.sent("REGISTER")[0], registrar.request("REGISTER")
    assert arrived.start == sent.start
    assert arrived.get("path").endswith(f"@{the_world.router.sip};lr>"), "the platform's way back to the phone"
    assert arrived.without("path", *HOP_BY_HOP) == sent.without(*HOP_BY_HOP)
    filled = f";rport={phone.at.port};received={phone.at.address}"
    vias = [via.replace(";rport", filled) for via in sent.vias]
    assert arrived.vias[1:] == vias
    assert phone.responses("REGISTER")[-1].vias == vias


def test_a_call_from_the_carrier_reaches_the_pbx(the_world: World) -> None:
    pbx = ordinary(the_world, "carrier_answers", "pbx", "")
    carrier = ordinary(the_world, "caller_dials", "carrier", "router", dial="+12125550102")
    with running(pbx, carrier):
        carrier.succeed()
        pbx.succeed()
    assert_unchanged(pbx.request("INVITE"), carrier.sent("INVITE")[0], the_world["with-location"])


def test_an_ordinary_call_can_be_cancelled(the_world: World) -> None:
    carrier = ordinary(the_world, "provider_rings_until_cancelled", "carrier", "")
    phone = ordinary(the_world, "caller_cancels_while_ringing", "phone", "router")
    with running(carrier, phone):
        phone.succeed()
        carrier.succeed()
    assert carrier.request("CANCEL").branch == carrier.request("INVITE").branch


@pytest.mark.parametrize("status", [302, 404, 486, 500, 603])
def test_what_the_carrier_answers_to_an_ordinary_call_reaches_the_caller_as_it_is(
    the_world: World, status: int
) -> None:
    def refuse(peer: Peer, arrived: Arrived) -> bool:
        if arrived.message.method == "INVITE":
            peer.respond(arrived, status, extra=("X-Why:  because , of ;this", "Retry-After: 5 (lunch)"))
        return False

    router = the_world.router.sip
    with Peer(the_world.street["carrier"], rule=refuse) as carrier, Peer(the_world.street["phone"]) as phone:
        call = Call(peer=phone, router=router, user="4102", uri=f"sip:+12125550177@{router}")
        call.dial()
        answer = call.refused(status)
        arrived = carrier.take("INVITE").message
        carrier.take("ACK")
    assert b"X-Why:  because , of ;this" in answer.lines
    assert b"Retry-After: 5 (lunch)" in answer.lines
    assert arrived.uri == f"sip:+12125550177@{router}"
