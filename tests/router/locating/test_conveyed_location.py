"""A caller's own location, towards an ESInet and towards other providers: what the next hop receives."""

import base64
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e911.conveyed import ReferenceAnswer
from e911.record import CallEnded, CallIntent
from router.emergency.explain import SaidOfPlace, explain
from tests.e911.pidf_documents import GOOD, POINT
from tests.support.call_world import (
    CONFIG,
    PROVIDER_A,
    PROVIDER_B,
    SDP,
    CallWorld,
    Sent,
    cancel_of,
    invite,
    of,
    one,
    response,
)
from tests.support.sip_text import Message

CALLER_CID = "<cid:caller@phone.example.com>"
SOURCES = {"sources": ["conveyed", "registered", "network", "site"]}


def emergency(profile: str = "i3", **changes: Any) -> dict[str, Any]:
    route = {"name": "primary", "trunk": "ers-a", "profile": profile, "timeout": "2s", "progress_timeout": "6s"}
    return {**CONFIG["emergency"], "routes": [{**route, **changes}]}


class References:
    """Remembers what was asked, and answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.waiting: list[Callable[[ReferenceAnswer], None]] = []

    def __call__(self, uri: str, caller_address: str, told: Callable[[ReferenceAnswer], None]) -> None:
        self.asked.append((uri, caller_address))
        self.waiting.append(told)


def world_of(folder: Path, **sections: Any) -> tuple[CallWorld, References]:
    world = CallWorld(folder, **{"emergency": emergency(), "locations": SOURCES, **sections})
    references = References()
    world.router.ask_reference = references
    return world, references


def with_location(document: bytes, *extra: str, content_id: str = "caller@phone.example.com") -> bytes:
    body = (
        b"--c\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--c\r\nContent-Type: application/pidf+xml\r\n"
        b"Content-ID: <"
        + content_id.encode()
        + b">\r\n\r\n"
        + document
        + b"\r\n--c\r\nContent-Type: text/plain\r\n\r\n"
        b"as it came\r\n--c--\r\n"
    )
    return invite(extra=extra, body=body, content_type="multipart/mixed;boundary=c")


def geolocations(message: Message) -> list[str]:
    return [value.strip() for line in message.all("geolocation") for value in line.split(",")]


def part_named(message: Message, content_id: str) -> bytes:
    (body,) = [part.body for part in message.parts if part.all("content-id") == [f"<{content_id}>"]]
    return body


def body_of(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


# By value


def test_a_good_one_stays_top_most_and_nothing_is_added(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)
    raw = with_location(GOOD, f"Geolocation: {CALLER_CID}", "Geolocation-Routing: no")
    sent = one(world.receive(raw), "INVITE").message
    assert sent.start == "INVITE urn:service:sos SIP/2.0"
    assert geolocations(sent) == [CALLER_CID]
    assert sent.all("geolocation-routing") == ["no"], "all other fields are kept"
    assert body_of(sent.raw) == body_of(raw)
    intent = world.events(CallIntent)[0]
    assert intent.location.civic.street == "Lake"
    assert intent.location_sent
    assert (intent.sources[0].source, intent.sources[0].reason) == ("conveyed", "conveyed-by-value")


def test_one_that_is_over_by_its_own_word_is_not_routed_by(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)
    policy = b"urn:ietf:params:xml:ns:pidf:geopriv10:basicPolicy"
    until = (
        b'<gp:usage-rules><b:retention-expiry xmlns:b="%s">2020-01-01T00:00:00Z</b:retention-expiry></gp:usage-rules>'
    )
    over = GOOD.replace(b"<gp:usage-rules/>", until % policy)
    raw = with_location(over, f"Geolocation: {CALLER_CID}")
    sent = one(world.receive(raw), "INVITE").message
    shown = geolocations(sent)
    assert shown[1:] == [CALLER_CID]
    assert b"<ca:RD>5th</ca:RD>" in part_named(sent, shown[0].removeprefix("<cid:").removesuffix(">"))
    assert part_named(sent, "caller@phone.example.com") == over
    said = world.events(CallIntent)[0].sources[0]
    assert (said.source, said.outcome, said.lost, said.confidence) == ("conveyed", "knew", "in-doubt", "low")


def as_it_stands(end: str, part: bytes) -> bytes:
    """A body of SDP and one more part, whose closing delimiter is `end`."""
    return b"--c\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--c\r\n" + part + end.encode()


NAMED = b"Content-Type: application/pidf+xml\r\nContent-ID: <caller@phone.example.com>\r\n"
HARD_TO_READ = {
    "packed": as_it_stands("\r\n--c--\r\n", NAMED + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(GOOD)),
    "encoded": as_it_stands(
        "\r\n--c--\r\n", NAMED + b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(GOOD)
    ),
    "not closed": as_it_stands("", NAMED + b"\r\n" + GOOD),
    "bare line feeds": as_it_stands("\r\n--c--\r\n", NAMED + b"\r\n" + GOOD).replace(b"\r\n", b"\n"),
}


@pytest.mark.parametrize("profile", ["i3", "pidf-lo"])
@pytest.mark.parametrize("name", HARD_TO_READ)
def test_what_the_provider_may_not_be_able_to_read_goes_along_once_more(
    tmp_path: Path, name: str, profile: str
) -> None:
    world, _ = world_of(tmp_path, emergency=emergency(profile))
    body = HARD_TO_READ[name]
    raw = invite(extra=(f"Geolocation: {CALLER_CID}",), body=body, content_type="multipart/mixed;boundary=c")
    sent = one(world.receive(raw), "INVITE").message
    assert world.events(CallIntent)[0].sources[0].reason == "conveyed-by-value"
    assert body.removesuffix(b"--c--\r\n") in body_of(sent.raw), "as it came"
    shown = geolocations(sent)
    assert shown[0] == CALLER_CID
    assert part_named(sent, shown[1].removeprefix("<cid:").removesuffix(">")) == GOOD


@pytest.mark.parametrize(
    ("document", "reason"),
    [(b"<broken", "location-not-xml"), (b"<presence/>", "location-empty")],
)
def test_an_unreadable_one_counts_as_none(tmp_path: Path, document: bytes, reason: str) -> None:
    world, _ = world_of(tmp_path)
    raw = with_location(document, f"Geolocation: {CALLER_CID}", "X-Kept:  as  it came")
    sent = one(world.receive(raw), "INVITE").message
    shown = geolocations(sent)
    assert shown[1:] == [CALLER_CID], "the original is kept, after ours"
    ours = shown[0].removeprefix("<cid:").removesuffix(">")
    assert b"<ca:RD>5th</ca:RD>" in part_named(sent, ours)
    kept = body_of(raw).removesuffix(b"--c--\r\n")
    assert body_of(sent.raw).startswith(kept), "every part of the caller's as it came"
    assert b"X-Kept:  as  it came" in sent.raw
    assert world.events(CallIntent)[0].sources[0].reason == reason


def test_none_at_all(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)
    sent = one(world.receive(invite()), "INVITE").message
    assert len(geolocations(sent)) == 1
    assert sent.all("geolocation-routing") == ["yes"]


def test_with_another_profile_ours_goes_last(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path, emergency=emergency("pidf-lo"))
    sent = one(world.receive(with_location(b"<broken", f"Geolocation: {CALLER_CID}")), "INVITE").message
    assert geolocations(sent)[0] == CALLER_CID
    assert len(geolocations(sent)) == 2


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ([f"<cid:none@x>, {CALLER_CID};x=y"], [f"{CALLER_CID};x=y", "<cid:none@x>"]),
        (["<cid:none@x>", CALLER_CID], [CALLER_CID, "<cid:none@x>"]),
        (["<sip:loc@lis.example.com>", f"<cid:none@x> , {CALLER_CID}"], None),
        (["<cid:none@x>"], [CALLER_CID, "<cid:none@x>"]),
    ],
)
def test_a_good_one_goes_before_what_is_of_no_use(tmp_path: Path, lines: list[str], shown: list[str] | None) -> None:
    """An ESInet routes by the top-most value; a location part that no value names is named."""
    world, _ = world_of(tmp_path)
    raw = with_location(GOOD, *(f"Geolocation: {line}" for line in lines))
    sent = one(world.receive(raw), "INVITE").message
    assert geolocations(sent) == (shown or [CALLER_CID, "<sip:loc@lis.example.com>", "<cid:none@x>"])
    assert body_of(sent.raw) == body_of(raw)
    assert world.events(CallIntent)[0].location.civic.street == "Lake"


def test_with_another_profile_the_callers_values_keep_their_order(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path, emergency=emergency("pidf-lo"))
    raw = with_location(GOOD, f"Geolocation: <cid:none@x>, {CALLER_CID}")
    assert geolocations(one(world.receive(raw), "INVITE").message) == ["<cid:none@x>", CALLER_CID]


def test_a_good_one_goes_before_what_is_of_no_use_also_where_another_source_decides(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path, locations={"sources": ["registered", "conveyed"]})
    raw = with_location(POINT, f"Geolocation: <cid:none@x>, {CALLER_CID}")
    assert geolocations(one(world.receive(raw), "INVITE").message)[:2] == [CALLER_CID, "<cid:none@x>"]


def test_a_good_one_stays_top_most_also_where_another_source_decides(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path, locations={"sources": ["registered", "conveyed"]})
    sent = one(world.receive(with_location(POINT, f"Geolocation: {CALLER_CID}")), "INVITE").message
    assert geolocations(sent)[0] == CALLER_CID
    assert len(geolocations(sent)) == 2


def test_a_part_that_nothing_names_gets_its_name(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)
    raw = with_location(GOOD, content_id="a+b@phone.example.com")
    sent = one(world.receive(raw), "INVITE").message
    assert geolocations(sent) == ["<cid:a+b@phone.example.com>"]


def test_an_answer_about_the_callers_own_part_is_not_about_ours(tmp_path: Path) -> None:
    backup = {"name": "backup", "trunk": "ers-b", "profile": "i3"}
    routes = [*emergency()["routes"], backup]
    world, _ = world_of(tmp_path, emergency=emergency() | {"routes": routes})
    first = one(world.receive(with_location(GOOD, f"Geolocation: {CALLER_CID}")), "INVITE")
    again = of(world.receive(response(first.message, 424), first.to), "INVITE")
    assert [sent.to for sent in again] == [PROVIDER_B], "the next route, not the same one without the caller's part"


# add_location: never


def test_never_where_the_next_hop_does_that(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path, emergency=emergency(add_location="never"))
    sent = one(world.receive(invite()), "INVITE").message
    assert geolocations(sent) == []
    assert body_of(sent.raw) == SDP
    assert not world.events(CallIntent)[0].location_sent


def test_never_needs_no_location(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path, emergency=emergency(add_location="never"), locations={"sources": ["conveyed"]})
    assert one(world.receive(invite()), "INVITE").to == PROVIDER_A


def test_never_keeps_the_callers(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path, emergency=emergency(add_location="never"))
    raw = with_location(b"<broken", f"Geolocation: {CALLER_CID}")
    sent = one(world.receive(raw), "INVITE").message
    assert geolocations(sent) == [CALLER_CID]
    assert body_of(sent.raw) == body_of(raw)


# The border function's other work


def test_identifiers_and_priority_are_added_beside_what_is_there(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)
    sent = one(
        world.receive(invite(extra=("Resource-Priority: ets.0", "Call-Info: <https://example.com/a>;purpose=icon"))),
        "INVITE",
    ).message
    assert sent.all("resource-priority") == ["ets.0", "esnet.1"]
    infos = sent.all("call-info")
    assert infos[0] == "<https://example.com/a>;purpose=icon"
    assert [info.rpartition(";")[2] for info in infos[1:]] == [
        "purpose=emergency-CallId",
        "purpose=emergency-IncidentId",
    ]
    assert all(info.partition(">")[0].endswith(":edge.example.com") for info in infos[1:])


def test_what_is_there_already_stays_alone(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)
    extra = (
        "Call-Info: <urn:emergency:uid:callid:abc1234567:bcf.example.net>;purpose=emergency-CallId, "
        "<urn:emergency:uid:incidentid:abc1234567:bcf.example.net>;purpose=emergency-IncidentId",
        "Resource-Priority: esnet.1",
        "Privacy: id",
    )
    sent = one(world.receive(invite(extra=extra)), "INVITE").message
    for line in extra:
        name, _, value = line.partition(": ")
        assert sent.all(name) == [value]


def test_a_trusted_identity_is_kept_as_it_came(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)
    pbx = ("10.0.0.10", 5060)
    identity = '"Ana  S" <sip:4102@pbx.example.com;user=phone>'
    sent = one(world.receive(invite(extra=(f"P-Asserted-Identity: {identity}",), source=pbx), pbx), "INVITE").message
    assert sent.all("p-asserted-identity") == [identity]


# References


def test_the_call_waits_for_its_reference(tmp_path: Path) -> None:
    world, references = world_of(tmp_path)
    out = world.receive(invite(extra=("Geolocation: <https://lis.example.com/7>",)))
    assert not of(out, "INVITE")
    assert one(out, 100)
    assert references.asked == [("https://lis.example.com/7", "10.1.3.7")]
    references.waiting.pop()(ReferenceAnswer(document=GOOD))
    sent = one(world.sent(), "INVITE").message
    assert geolocations(sent) == ["<https://lis.example.com/7>"], "who routes asks it again"
    assert body_of(sent.raw) == SDP
    assert world.edge.flushed
    assert world.events(CallIntent)[0].location.civic.street == "Lake"


def test_towards_others_its_document_goes_along(tmp_path: Path) -> None:
    world, references = world_of(tmp_path, emergency=emergency("pidf-lo"))
    world.receive(invite(extra=("Geolocation: <https://lis.example.com/7>",)))
    references.waiting.pop()(ReferenceAnswer(document=GOOD))
    sent = one(world.sent(), "INVITE").message
    assert geolocations(sent)[0] == "<https://lis.example.com/7>"
    ours = geolocations(sent)[1].removeprefix("<cid:").removesuffix(">")
    assert part_named(sent, ours) == GOOD


def test_the_deadline_counts_as_no_answer(tmp_path: Path) -> None:
    world, references = world_of(tmp_path, locations={**SOURCES, "reference_timeout": "250ms"})
    world.receive(invite(extra=("Geolocation: <https://lis.example.com/7>",)))
    assert not world.advance(0.24)
    sent = one(world.advance(0.02), "INVITE").message
    assert geolocations(sent)[1:] == ["<https://lis.example.com/7>"]
    assert world.events(CallIntent)[0].sources[0].reason == "reference-late"
    references.waiting.pop()(ReferenceAnswer(document=GOOD))
    assert not world.sent(), "too late is too late: the call is decided once"
    assert len(world.events(CallIntent)) == 1


def test_a_reference_that_fails_ends_the_wait(tmp_path: Path) -> None:
    world, references = world_of(tmp_path)
    world.receive(invite(extra=("Geolocation: <https://lis.example.com/7>",)))
    references.waiting.pop()(ReferenceAnswer(reason="reference-unreachable"))
    sent = one(world.sent(), "INVITE").message
    assert len(geolocations(sent)) == 2
    assert not world.advance(0.5) or not of(world.advance(0.0), "INVITE")


def test_a_call_cancelled_while_it_waits_goes_nowhere(tmp_path: Path) -> None:
    world, references = world_of(tmp_path)
    raw = invite(extra=("Geolocation: <https://lis.example.com/7>",))
    world.receive(raw)
    assert one(world.receive(cancel_of(raw)), 487)
    references.waiting.pop()(ReferenceAnswer(document=GOOD))
    assert not of(world.sent() + world.advance(1.0), "INVITE")
    (intent,), (ended,) = world.events(CallIntent), world.events(CallEnded)
    assert (ended.id, ended.outcome, ended.status) == (intent.id, "cancelled", 487), "it is on record"
    assert intent.first_route == "", "no route saw it"
    assert intent.sources[0].reason == "reference-late"


def test_asking_that_breaks_stops_no_call(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)

    def broken(uri: str, caller_address: str, told: Callable[[ReferenceAnswer], None]) -> None:
        raise RuntimeError("on purpose")

    world.router.ask_reference = broken
    assert one(world.receive(invite(extra=("Geolocation: <https://lis.example.com/7>",))), "INVITE")
    assert world.router.counts["faults"] == 1


@pytest.mark.parametrize("value", ["<sip:loc@lis.example.com>", "<pres:loc@lis.example.com>"])
def test_nothing_else_is_waited_for(tmp_path: Path, value: str) -> None:
    world, references = world_of(tmp_path)
    sent = one(world.receive(invite(extra=(f"Geolocation: {value}",))), "INVITE").message
    assert geolocations(sent)[1:] == [value]
    assert not references.asked


def test_a_source_that_decides_nothing_is_not_waited_for(tmp_path: Path) -> None:
    world, references = world_of(tmp_path, locations={"sources": ["registered", "site"]})
    assert one(world.receive(invite(extra=("Geolocation: <https://lis.example.com/7>",))), "INVITE")
    assert not references.asked


# all_calls_from


def first_invite(out: list[Sent]) -> Sent:
    return one(out, "INVITE")


@pytest.mark.parametrize(
    "networks", [{"inside": ["10.0.0.0/8"]}, {"inside": ["10.0.0.0/8"], "outside": ["192.0.2.0/24"]}]
)
def test_every_call_from_there_is_an_emergency(tmp_path: Path, networks: dict[str, Any]) -> None:
    world, _ = world_of(tmp_path, networks=networks, emergency=emergency() | {"all_calls_from": ["192.0.2.0/24"]})
    out = world.receive(invite("sip:+12125550199@10.0.0.5", source=("192.0.2.9", 5060)), ("192.0.2.9", 5060))
    sent = first_invite(out)
    assert sent.to == PROVIDER_A
    assert sent.message.start == "INVITE urn:service:sos SIP/2.0"
    other = first_invite(world.receive(invite("sip:+12125550199@10.0.0.5")))
    assert other.to != PROVIDER_A, "an ordinary call from elsewhere"


@pytest.mark.parametrize(
    ("spoilt", "reason"), [((b"Via: ", b"X broken line\r\nVia: "), "bad-field-line"), ((b";tag=", b";;tag="), "")]
)
def test_every_call_from_there_is_forgiven_what_does_not_matter(
    tmp_path: Path, spoilt: tuple[bytes, bytes], reason: str
) -> None:
    """As a 911 call from any other phone is."""
    world, _ = world_of(tmp_path, emergency=emergency() | {"all_calls_from": ["10.1.0.0/16"]})
    raw = invite("sip:+12125550199@10.0.0.5").replace(*spoilt, 1)
    assert first_invite(world.receive(raw)).to == PROVIDER_A
    if reason:
        elsewhere = ("10.2.0.9", 5060)
        other = invite("sip:+12125550199@10.0.0.5", source=elsewhere).replace(*spoilt, 1)
        assert one(world.receive(other, elsewhere), 400)


def test_a_test_call_from_there_stays_a_test(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path, emergency=emergency() | {"all_calls_from": ["10.1.0.0/16"]})
    sent = first_invite(world.receive(invite("sip:933@10.0.0.5")))
    assert sent.message.start == "INVITE sip:933@203.0.113.31:5060 SIP/2.0"


# Basic entries with a profile


def test_a_basic_entry_with_a_profile_needs_no_number(tmp_path: Path) -> None:
    basic = [{"name": "esinet", "trunk": "ers-b", "profile": "i3"}]
    world, _ = world_of(tmp_path, emergency=emergency() | {"basic": basic})
    first = first_invite(world.receive(invite()))
    second = first_invite(world.receive(response(first.message, 503), first.to))
    assert second.to == PROVIDER_B
    assert second.message.start == "INVITE urn:service:sos SIP/2.0"
    assert len(geolocations(second.message)) == 1


def test_a_basic_entry_with_a_profile_is_there_for_calls_without_a_location(tmp_path: Path) -> None:
    basic = [{"name": "esinet", "trunk": "ers-b", "profile": "i3"}]
    world, _ = world_of(tmp_path, emergency=emergency() | {"basic": basic}, locations={"sources": ["conveyed"]})
    sent = first_invite(world.receive(invite()))
    assert sent.to == PROVIDER_B
    assert geolocations(sent.message) == []


def test_a_number_beside_a_profile_is_dialled(tmp_path: Path) -> None:
    basic = [{"name": "relay", "trunk": "ers-b", "profile": "pidf-lo", "number": "+12125550140"}]
    world, _ = world_of(tmp_path, emergency=emergency() | {"routes": [], "basic": basic})
    sent = first_invite(world.receive(invite()))
    assert sent.message.start == "INVITE sip:+12125550140@203.0.113.32:5060 SIP/2.0"
    assert len(geolocations(sent.message)) == 1


# explain


def explained(world: CallWorld, **sent: Any) -> dict[str, Any]:
    setup = world.router.setup
    return explain(setup.rules, setup.sources, world.devices, "4102", "911", "10.1.3.7", said=SaidOfPlace(**sent))


def test_explain_shows_what_the_callers_location_decides(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)
    found = explained(world, document=GOOD)
    assert found["location"]["source"] == "conveyed"
    first = found["location_sources"][0]
    assert (first["source"], first["outcome"], first["reason"]) == ("conveyed", "won", "conveyed-by-value")
    assert first["said"]["street"] == "Lake"
    assert found["location_sources"][1]["outcome"] == "knew"
    assert found["routes"][0]["carries_location"]
    assert found["routes"][0]["body_parts"] == ["application/sdp", "application/pidf+xml"]


def test_explain_asks_nobody(tmp_path: Path) -> None:
    world, references = world_of(tmp_path)
    found = explained(world, reference="https://lis.example.com/7")
    assert found["location_sources"][0]["reason"] == "reference-not-asked"
    assert found["location"]["source"] == "registered"
    assert not references.asked
