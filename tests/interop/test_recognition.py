"""What is an emergency call and what is not, in every form it can come; from where it is served; what is kept of it.

Played by raw peers: the bytes of the INVITE are what is tested.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.interop.wire import (
    HOP_BY_HOP,
    assert_carries_location,
    assert_identity,
    assert_no_location,
    assert_pidf_lo,
    assert_request_uri,
    registered_address,
    site_address,
)
from tests.support.ports import Endpoint
from tests.support.raw_sip import Call, Peer, answers, sdp
from tests.support.sip_text import Message, civic, geolocation, location_part, parse
from tests.support.world import DEVICE_COLUMNS, Place, Plan, World

pytestmark = pytest.mark.peers

QUEBEC = {
    "country": "CA",
    "state": "QC",
    "city": "Montréal",
    "house_number": "1200",
    "street": "Exemple",
    "street_suffix": "RUE",
    "post_directional": "O",
    "postal_code": "H3B 2Y5",
}
COVERS = {"provider_a": {"covers": ["US"]}, "provider_b": {"covers": ["CA-QC"]}}

PLANS = {
    "forms": Plan(),
    "bodies": Plan(),
    "winner-only": Plan(profile="winner"),
    "sources": Plan(),
    "withheld": Plan(),
    "new-york": Plan(route_keys=COVERS),
    "quebec": Plan(address=QUEBEC, route_keys=COVERS, language="fr"),
    "ontario": Plan(address={**QUEBEC, "state": "ON", "city": "Ottawa"}, route_keys=COVERS),
    "tcp-and-udp": Plan(trunk_keys={"provider_a": {"large_messages": "tcp"}}, timeout="4s"),
    "only-udp": Plan(trunk_keys={"provider_a": {"large_messages": "tcp"}}, timeout="4s"),
    "never-tcp": Plan(trunk_keys={"provider_a": {"large_messages": "udp"}}, timeout="4s"),
    "odd": Plan(),
    "networks": Plan(networks=True),
    "moved": Plan(),
}
KEYS = {
    "locations": {"database": "sqlite:///edge911.db", "sources": ["registered", "network", "site", "conveyed"]},
}
FILES = {
    "profiles/winner.yaml": 'description: "as pidf-lo, only our location shown"\ncaller_location: winner-only\n',
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Peers that stay for the whole module: one phone, one provider that answers, the carrier."""

    world: World
    place: Place
    phone: Peer
    provider: Peer
    carrier: Peer

    def dial(self, uri: str, *extra: str, place: Place | None = None, **options: object) -> tuple[Message, Message]:
        """Dial and be answered by whoever takes the call: the INVITE as sent and as it arrived; then hang up."""
        call = (place or self.place).call(self.phone, uri=uri, **options)
        sent = parse(call.invite(*extra))
        call.dial(*extra)
        call.answered()
        call.hang_up()
        found = [
            one for peer in (self.provider, self.carrier) for one in peer.messages("INVITE", call_id=call.call_id)
        ]
        assert len({one.raw for one in found}) == 1, f"{uri} arrived {len(found)} times"
        return sent, found[0]


@pytest.fixture(scope="module")
def stage(the_world: World) -> Iterator[Stage]:
    place = the_world["forms"]
    with (
        place.peer("phone") as phone,
        place.peer("provider_a", rule=answers(180, 200)) as provider,
        Peer(the_world.street["carrier"], rule=answers(180, 200)) as carrier,
    ):
        yield Stage(the_world, place, phone, provider, carrier)


CAUGHT = [
    "sip:911@ROUTER",
    "sip:9911@ROUTER",
    "sip:9-1-1@ROUTER",
    "sip:9.1.1@ROUTER",
    "sip:%39%31%31@ROUTER",
    "sip:9%2D11@ROUTER",
    "sip:+911@ROUTER",
    "sip:911@pbx.example.com",
    "sip:911@203.0.113.99:5070;user=phone",
    "sip:911;phone-context=example.com@ROUTER;user=phone",
    "SIP:911@ROUTER",
    "tel:911",
    "tel:9-1-1;phone-context=example.com",
    "urn:service:sos",
    "URN:SERVICE:SOS.fire",
    "urn:service:sos.police",
]


@pytest.mark.parametrize("uri", CAUGHT)
def test_caught(stage: Stage, uri: str) -> None:
    sent, arrived = stage.dial(uri.replace("ROUTER", str(stage.world.router.sip)))
    assert_carries_location(arrived, sent, stage.place)


NOT_CAUGHT = [
    "sip:19115550100@ROUTER",
    "sip:2129110000@ROUTER",
    "sip:+12129115501@ROUTER",
    "sip:9110@ROUTER",
    "sip:4911@ROUTER",
    "sip:911911@ROUTER",
    "sip:psap911@ROUTER",
    "tel:+19115550100",
    "urn:service:counseling",
    "urn:service:sosx",
]


@pytest.mark.parametrize("uri", NOT_CAUGHT)
def test_not_caught(stage: Stage, uri: str) -> None:
    sent, arrived = stage.dial(uri.replace("ROUTER", str(stage.world.router.sip)))
    assert stage.carrier.messages("INVITE", call_id=sent.call_id), "an ordinary call goes to the carrier"
    assert arrived.start == sent.start
    assert arrived.without(*HOP_BY_HOP) == sent.without(*HOP_BY_HOP)
    assert arrived.body == sent.body


# --- bodies -----

OWN_PIDF = b"""<?xml version="1.0"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10"
  xmlns:ca="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr" entity="pres:phone@example.com">
 <tuple id="t"><status><gp:geopriv><gp:location-info><ca:civicAddress><ca:country>US</ca:country><ca:A1>NY</ca:A1>
 <ca:A3>Troy</ca:A3><ca:RD>Other</ca:RD><ca:HNO>9</ca:HNO></ca:civicAddress></gp:location-info><gp:usage-rules/>
 </gp:geopriv></status></tuple></presence>"""


def multipart(address: str) -> tuple[str, bytes]:
    """A body with odd but legal parts: a boundary to be quoted, spaces, a part without a type, a dash line within."""
    boundary = "-- odd (boundary)_1"
    parts = [
        b"Content-Type:application/sdp\r\nX-Odd:  kept \r\n\r\n" + sdp(address),
        b"content-type: text/plain;charset=utf-8\r\nContent-ID: <note@phone.example.com>\r\n\r\n"
        b"--\r\nl\xc3\xa0 \r\n\r\n",
        b"Content-Type: application/pidf+xml\r\nContent-ID: <own@phone.example.com>\r\n\r\n" + OWN_PIDF,
    ]
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return f'multipart/mixed; boundary="{boundary}"', body + b"--" + boundary.encode() + b"--\r\n"


@pytest.mark.parametrize("name", ["bodies", "winner-only"])
def test_a_multipart_body_keeps_its_parts_and_the_profile_says_whose_location_is_shown(
    stage: Stage, name: str
) -> None:
    place = stage.world[name]
    content_type, body = multipart(place.street["phone"].address)
    with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)) as provider:
        call = place.call(phone, body=body, content_type=content_type)
        extra = ("Geolocation: <cid:own@phone.example.com>", "Geolocation-Routing: no")
        call.dial(*extra)
        call.answered()
        call.hang_up()
        arrived = provider.messages("INVITE")[0]
    sent = parse(call.invite(*extra))
    assert [part.raw for part in arrived.parts][:3] == [part.raw for part in sent.parts]
    assert len(arrived.parts) == 4
    assert_pidf_lo(arrived, registered_address(place), "Manual")
    shown = geolocation(arrived)
    if name == "bodies":
        assert shown[0] == "cid:own@phone.example.com"
        assert len(shown) == 2, "the caller's location is kept beside ours, which is last"
    else:
        assert len(shown) == 1
    assert location_part(arrived).raw == arrived.parts[3].raw


def test_what_described_the_body_describes_its_part(stage: Stage) -> None:
    sent, arrived = stage.dial(
        f"sip:911@{stage.world.router.sip}",
        "Content-Disposition: session;handling=required",
        "Content-Language: fr-CA",
    )
    part = arrived.part("application/sdp")
    assert part.body == sent.body
    assert part.get("content-disposition") == "session;handling=required"
    assert part.get("content-language") == "fr-CA"
    assert not arrived.all("content-disposition")
    assert not arrived.all("content-language")


def test_identifiers_that_are_there_already_are_kept(stage: Stage) -> None:
    given = "<urn:emergency:uid:callid:abc123:bcf.example.com>;purpose=emergency-CallId"
    _, arrived = stage.dial(f"sip:911@{stage.world.router.sip}", f"Call-Info: {given}", "Resource-Priority: esnet.0")
    information = ", ".join(arrived.all("call-info"))
    assert given in information
    assert information.count("emergency-CallId") == 1
    assert information.count("emergency-IncidentId") == 1
    priorities = ", ".join(arrived.all("resource-priority"))
    assert "esnet.0" in priorities
    assert "esnet.1" in priorities


def test_a_withheld_number_is_shown_to_the_psap_and_kept_in_the_record(stage: Stage) -> None:
    place = stage.place
    sent, arrived = stage.dial(f"sip:911@{stage.world.router.sip}", "Privacy: id")
    assert_identity(arrived, place.callback)
    assert "id" not in arrived.get("privacy").split(";")
    (record,) = stage.world.router.records(sent.call_id)
    assert record["caller"]["privacy"] == "id"


def test_an_identity_that_is_not_trusted_decides_nothing(stage: Stage) -> None:
    """P-Asserted-Identity from a phone names another device: the From decides, and the claim does not leave."""
    other = stage.world["bodies"]
    sent, arrived = stage.dial(
        f"sip:911@{stage.world.router.sip}", f"P-Asserted-Identity: <sip:{other.device}@pbx.example.com>"
    )
    assert_carries_location(arrived, sent, stage.place)


@pytest.mark.parametrize(
    "line",
    [
        "Date: yesterday",
        "Expires: soon",
        "Allow: ,,;;,",
        "Supported: @@@",
        "Geolocation: not-a-uri",
        "Accept: <<<",
        "Call-Info: broken",
        "X-Empty:",
        "Subject: \xe9t\xe9",
        "Warning: 999",
        "Session-Expires: -5;refresher=nobody",
    ],
)
def test_a_malformed_field_that_we_do_not_need_stops_no_911_call(stage: Stage, line: str) -> None:
    sent, arrived = stage.dial(f"sip:911@{stage.world.router.sip}", line)
    assert_request_uri(arrived, stage.place, "provider_a")
    assert_pidf_lo(arrived, registered_address(stage.place), "Manual")
    assert arrived.part("application/sdp").body == sent.body


def test_behind_the_pbx_the_asserted_identity_decides_and_the_pbxs_address_does_not(stage: Stage) -> None:
    """The PBX shows its main number in From; a trunk's own address is never a phone's."""
    place = stage.place
    with Peer(stage.world.street["pbx"]) as pbx:
        call = Call(peer=pbx, router=place.router, user="main")
        extra = f'P-Asserted-Identity: "Desk" <sip:{place.device}@pbx.example.com>'
        call.dial(extra)
        call.answered()
        call.hang_up()
        arrived = stage.provider.messages("INVITE", call_id=call.call_id)[0]
        assert_carries_location(arrived, parse(call.invite(extra)), place)


@pytest.mark.parametrize("at", ["phone", "second_phone"])
def test_a_phone_is_placed_by_its_network_and_more_closely_by_its_zone(stage: Stage, at: str) -> None:
    place = stage.world["networks"]
    with place.peer(at) as phone, place.peer("provider_a", rule=answers(200)) as provider:
        call = place.call(phone, user="lobby")
        call.dial()
        call.answered()
        call.hang_up()
        expected = site_address(place) | ({"FLR": "2", "ROOM": "2-Z"} if at == "second_phone" else {})
        assert_carries_location(
            provider.messages("INVITE")[0],
            parse(call.invite()),
            place,
            expected=expected,
            method="Wiremap",
            callback=place.site_callback,
        )


def test_a_changed_address_reaches_the_next_calls_without_a_restart(stage: Stage) -> None:
    place = stage.world["moved"]
    header, row = DEVICE_COLUMNS, place.row().replace(f",{place.room}", ",Attic")
    with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)) as provider:

        def room() -> str:
            """Where the next call says the phone is."""
            call = place.call(phone)
            call.dial()
            call.answered()
            call.hang_up()
            return civic(location_part(provider.messages("INVITE", call_id=call.call_id)[0]))["ROOM"]

        assert room() == place.room
        stage.world.router.import_devices(f"{header}\n{row}\n")
        deadline = time.monotonic() + 10
        while room() != "Attic":
            assert time.monotonic() < deadline, "the change did not reach calls"
            time.sleep(0.05)


# --- from where -----


def dial_from(place: Place, at: Endpoint, router: Endpoint, uri: str) -> Message:
    """The refusal of a call from a given address."""
    with Peer(at) as caller:
        call = Call(peer=caller, router=router, user=place.device, uri=uri)
        call.dial()
        return call.refused(403)


def test_911_from_an_unlisted_source_is_refused_and_told(stage: Stage) -> None:
    place = stage.world["sources"]
    before = stage.world.router.metrics()
    refusal = dial_from(place, place.street["stranger"], place.router, f"sip:911@{place.router}")
    assert not refusal.all("retry-after")
    (notice,) = place.notices()
    assert "REFUSED" in notice
    assert place.street["stranger"].address in notice
    assert stage.world.router.metrics() != before
    (record,) = stage.world.router.records(refusal.call_id)
    assert record["refused_because"] == "from-unlisted-source"
    assert record["outcome"] == "refused"


def test_911_from_a_provider_is_refused_and_told(stage: Stage) -> None:
    place = stage.world["sources"]
    already = len(place.desk.posts(place.name))
    dial_from(place, place.street["provider_b"], place.router, f"sip:911@{place.router}")
    assert "REFUSED" in place.notices(already + 1)[-1]


def test_an_ordinary_call_from_an_unlisted_source_is_refused(stage: Stage) -> None:
    place = stage.world["sources"]
    refusal = dial_from(place, place.street["stranger"], place.router, f"sip:+12125550177@{place.router}")
    assert stage.carrier.messages("INVITE", call_id=refusal.call_id) == []


# --- covers -----


def test_a_place_goes_to_the_provider_that_covers_it(stage: Stage) -> None:
    for name, taking, skipped in (("quebec", "provider_b", "provider_a"), ("new-york", "provider_a", "provider_b")):
        place = stage.world[name]
        with (
            place.peer("phone") as phone,
            place.peer(taking, rule=answers(200)) as provider,
            place.peer(skipped, rule=answers(200)) as other,
        ):
            call = place.call(phone, user=place.unregistered)
            call.dial()
            call.answered()
            call.hang_up()
            assert other.messages("INVITE") == []
            arrived = provider.messages("INVITE")[0]
        assert_pidf_lo(arrived, site_address(place), "Default")
        if name == "quebec":
            (record,) = stage.world.router.records(call.call_id)
            steps = {step["route"]: step for step in record["routes"]}
            assert steps["provider-a"]["outcome"] == "skipped"
            assert steps["provider-a"]["reason"]
            (notice,) = place.notices()
            assert "Le 911 a été composé" in notice
            assert "Montréal" in notice


def test_a_place_that_nobody_covers_goes_basic_911(stage: Stage) -> None:
    place = stage.world["ontario"]
    with (
        place.peer("phone") as phone,
        place.peer("relay", rule=answers(200)) as relay,
        place.peer("provider_a", rule=answers(200)) as first,
        place.peer("provider_b", rule=answers(200)) as second,
    ):
        call = place.call(phone, user=place.unregistered)
        call.dial()
        call.answered()
        call.hang_up()
        assert first.messages("INVITE") == second.messages("INVITE") == []
        assert_no_location(relay.messages("INVITE")[0])


# --- large requests (RFC 3261 18.1.1) -----


@pytest.mark.parametrize(
    ("name", "listening", "expected"),
    [("tcp-and-udp", True, "tcp"), ("only-udp", False, "udp"), ("never-tcp", True, "udp")],
)
def test_a_large_invite_to_a_udp_trunk(stage: Stage, name: str, listening: bool, expected: str) -> None:
    place = stage.world[name]
    with (
        place.peer("phone") as phone,
        place.peer("provider_a", rule=answers(200), tcp=listening) as provider,
        place.peer("provider_b", rule=answers(200)) as second,
    ):
        for _ in range(2):
            call = place.call(phone)
            call.dial()
            call.answered()
            call.hang_up()
            arrived = {one.raw: one for one in provider.messages("INVITE", call_id=call.call_id)}
            (invite,) = arrived.values()
            assert len(invite.raw) > 1300
            assert invite.transport == expected
            assert f"SIP/2.0/{expected.upper()} " in invite.vias[0]
            assert_carries_location(invite, parse(call.invite()), place)
        if expected == "udp" and listening:
            assert all(one.transport == "udp" for one in provider.messages()), "large_messages: udp never tries TCP"
        assert second.messages("INVITE") == []


# --- not SIP, or not quite -----


def broken(at: Endpoint, router: Endpoint) -> list[bytes]:
    """Datagrams that are not messages, and messages that are not whole."""
    invite = (
        f"INVITE sip:911@{router} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKbroken\r\nMax-Forwards: 70\r\n"
        f"From: <sip:4102@pbx.example.com>;tag=b\r\nTo: <sip:911@pbx.example.com>\r\nCall-ID: broken@{at}\r\n"
        f"CSeq: 1 INVITE\r\nContact: <sip:4102@{at}>\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    return [
        b"\x00\xff" * 700,
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"SIP/2.0 999 What\r\n\r\n",
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKnobody\r\n\r\n",
        b"A" * 65000,
        *(invite[:cut] for cut in range(10, len(invite) - 4, 37)),
        invite.replace(b"Content-Length: 0", b"Content-Length: 99999"),
        invite.replace(b"Content-Length: 0", b"Content-Length: -1"),
        invite.replace(b"CSeq: 1 INVITE", b"CSeq: 1 BYE"),
        invite.replace(b"Max-Forwards: 70", b"Max-Forwards: many"),
        invite.replace(b"Via: SIP/2.0/UDP", b"Via: nonsense"),
    ]


def test_garbage_is_counted_and_harms_nobody(stage: Stage) -> None:
    place = stage.world["odd"]
    before = stage.world.router.metrics()
    with place.peer("second_phone") as sender:
        for datagram in broken(sender.at, place.router):
            sender.send(datagram, place.router)
    with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)) as provider:
        call = place.call(phone)
        call.dial()
        call.answered()
        call.hang_up()
        assert_carries_location(provider.messages("INVITE", call_id=call.call_id)[0], parse(call.invite()), place)
    after = stage.world.router.metrics()
    dropped = {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if "reason=" in name and value > before.get(name, 0)
    }
    assert sum(dropped.values()) >= 10, f"what was dropped has no name: {dropped}"
    assert len(dropped) >= 3, f"different faults have the same name: {dropped}"
    assert stage.world.router.alive


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b" SIP/2.0\r\nVia", b" SIP/3.0\r\nVia"), 505),
        ((b"Max-Forwards: 70", b"Max-Forwards: 0"), 483),
        ((b"CSeq: 1 INVITE", b"CSeq: 1 OPTIONS"), 400),
    ],
)
def test_a_request_that_cannot_be_forwarded_is_answered_as_rfc_3261_says(
    stage: Stage, change: tuple[bytes, bytes], status: int
) -> None:
    place = stage.world["odd"]
    with place.peer("second_phone") as phone:
        call = place.call(phone, uri=f"sip:+12125550177@{place.router}")
        call.send(call.invite().replace(*change))
        answer = phone.take(
            status, call_id=call.call_id, method=change[1].decode()[8:] if status == 400 else "INVITE"
        )
        assert answer.message.call_id == call.call_id


def test_a_wrong_content_length_on_tcp_ends_that_connection_only(stage: Stage) -> None:
    place = stage.world["odd"]
    with (
        place.peer("phone") as phone,
        place.peer("second_phone") as good,
        place.peer("provider_a", rule=answers(200)),
    ):
        bad = place.call(phone, transport="tcp")
        bad.send(bad.invite().replace(b"Content-Length: ", b"Content-Length: x"))
        call = place.call(good, transport="tcp")
        call.dial()
        call.answered()
        call.hang_up()
    assert stage.world.router.alive


def test_a_message_may_come_in_pieces_over_tcp(stage: Stage) -> None:
    place = stage.world["odd"]
    with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)) as provider:
        call = place.call(phone, transport="tcp")
        whole = call.invite()
        for start in range(0, len(whole), 100):
            call.send(whole[start : start + 100])
        call.answered()
        call.hang_up()
        assert_carries_location(provider.messages("INVITE", call_id=call.call_id)[0], parse(whole), place)
