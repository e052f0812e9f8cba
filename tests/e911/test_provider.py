"""What a provider profile makes of a call: edits that are right, and that nothing from the wire can break."""

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.locate import LocationDecision
from e911.location import CivicAddress, Device
from e911.numbers import CallKind, classify
from e911.pidf_reader import read_civic, read_pidf_lo
from e911.provider import (
    ExistingFields,
    ProviderRequest,
    basic_request,
    provider_request,
)
from e911.provider_profile import (
    CallerLocation,
    LocationConveyance,
    ProviderProfile,
)
from tests.e911.worlds import ALL_SOURCES, NUMBERS, TRUNK, decide, places

DESK = Device(device="4102", name="Front desk", site="hq", zone="hq-3e", civic=CivicAddress(room="312"))
KNOWN = decide(DESK, user="4102", address=TRUNK)
UNKNOWN = decide(among=places(default=None))
PIDF_LO = ProviderProfile(name="pidf-lo")
I3 = ProviderProfile(name="i3", request_uri="urn:service:sos")
NUMBER = ProviderProfile(name="number", location=LocationConveyance.NONE, needs_location=False)
WINNER_ONLY = ProviderProfile(name="w", caller_location=CallerLocation.WINNER_ONLY)
CALL_ID = "0123456789abcdef0123456789abcdef"
DOMAIN = "hq-1.example.com"


def request(
    profile: ProviderProfile = PIDF_LO,
    *,
    kind: CallKind = CallKind.EMERGENCY,
    decision: LocationDecision = KNOWN,
    name: str = "Front desk",
    call_id: str = CALL_ID,
    domain: str = DOMAIN,
    with_location: bool = True,
    existing: ExistingFields | None = None,
) -> ProviderRequest:
    return provider_request(
        profile,
        kind=kind,
        host="203.0.113.31:5060",
        decision=decision,
        caller_display_name=name,
        call_id=call_id,
        domain=domain,
        timestamp=1_893_456_245.0,
        with_location=with_location,
        existing=existing or ExistingFields(),
    )


def performed(made: ProviderRequest, existing: ExistingFields | None = None) -> dict[str, list[str]]:
    """The values of each field after the edits, in order, as the router would have them."""
    found = {
        "Geolocation": list(existing.geolocation if existing else ()),
        "Call-Info": list(existing.call_info if existing else ()),
        "Resource-Priority": list(existing.resource_priority if existing else ()),
        "Priority": list(existing.priority if existing else ()),
        "Privacy": ["id"],
        "P-Asserted-Identity": ["<sip:theirs@pbx.example>"],
        "Geolocation-Routing": ["no"],
    }
    assert not set(made.remove_fields) & {name for name, _ in made.set_fields}
    for name in made.remove_fields:
        found[name] = []
    for name, value in made.set_fields:
        found[name] = [value]
    for name, value in made.add_fields:
        found[name].append(value)
    return found


def test_pidf_lo_profile() -> None:
    made = request()
    fields = performed(made)
    assert made.request_uri == "sip:911@203.0.113.31:5060"
    assert fields == {
        "Geolocation": [f"<cid:{CALL_ID}@{DOMAIN}>"],
        "Geolocation-Routing": ["yes"],
        "Call-Info": [
            f"<urn:emergency:uid:callid:{CALL_ID}:{DOMAIN}>;purpose=emergency-CallId",
            f"<urn:emergency:uid:incidentid:{CALL_ID}:{DOMAIN}>;purpose=emergency-IncidentId",
        ],
        "Resource-Priority": ["esnet.1"],
        "Priority": [],
        "Privacy": [],
        "P-Asserted-Identity": [f'"Front desk" <sip:+12125550100@{DOMAIN};user=phone>'],
        "P-Preferred-Identity": [],
    }
    assert made.location_part
    assert made.location_part.content_id == f"{CALL_ID}@{DOMAIN}"
    assert KNOWN.location
    assert read_civic(made.location_part.body) == KNOWN.location.civic
    found = read_pidf_lo(made.location_part.body)
    assert found
    assert (found.method, found.provided_by) == ("Manual", DOMAIN)
    assert found.entity == f"sip:+12125550100@{DOMAIN}"


def test_i3_profile_calls_the_service() -> None:
    assert request(I3).request_uri == "urn:service:sos"
    assert request(I3).location_part == request().location_part


def test_number_profile_sends_no_location() -> None:
    made = request(NUMBER)
    assert made.location_part is None
    assert performed(made)["Geolocation"] == []
    assert performed(made)["Geolocation-Routing"] == ["no"]
    assert performed(made)["P-Asserted-Identity"]


@pytest.mark.parametrize("made", [request(with_location=False), request(decision=UNKNOWN)])
def test_without_location_nothing_names_one(made: ProviderRequest) -> None:
    assert made.location_part is None
    assert not any(name.startswith("Geolocation") for name, _ in made.set_fields + made.add_fields)
    assert performed(made)["Resource-Priority"] == ["esnet.1"]


def test_unknown_callback_leaves_the_callers_identity() -> None:
    assert UNKNOWN.callback == ""
    assert performed(request(decision=UNKNOWN))["P-Asserted-Identity"] == ["<sip:theirs@pbx.example>"]
    assert performed(request(decision=UNKNOWN))["Privacy"] == []


THEIRS = ("<cid:phone@192.0.2.1>;x=\u00e9", "<https://lis.example/a,b>,  <sips:lis@example>")


def test_keep_leaves_the_callers_geolocation_first() -> None:
    existing = ExistingFields(geolocation=THEIRS)
    assert performed(request(existing=existing), existing)["Geolocation"] == [*THEIRS, f"<cid:{CALL_ID}@{DOMAIN}>"]


def test_winner_only_shows_ours_alone() -> None:
    existing = ExistingFields(geolocation=THEIRS)
    assert performed(request(WINNER_ONLY, existing=existing), existing)["Geolocation"] == [
        f"<cid:{CALL_ID}@{DOMAIN}>"
    ]
    without = request(WINNER_ONLY, existing=existing, with_location=False)
    assert performed(without, existing)["Geolocation"] == list(THEIRS)


@pytest.mark.parametrize(
    ("call_info", "added"),
    [
        ((), ["emergency-CallId", "emergency-IncidentId"]),
        (("<urn:emergency:uid:callid:abc:x.example>;purpose=emergency-CallId",), ["emergency-IncidentId"]),
        (('<urn:nena:uid:callid:abc:x.example> ; PURPOSE = "nena-CallId"',), ["emergency-IncidentId"]),
        (
            ("<http://a.example/i.png>;purpose=icon, <urn:x:incidentid:1:y>;purpose=emergency-incidentid",),
            ["emergency-CallId"],
        ),
        (("<urn:a>;purpose=emergency-CallId,<urn:b>;purpose=emergency-IncidentId",), []),
        (("<urn:a>;purpose=emergency-CallIdentity",), ["emergency-CallId", "emergency-IncidentId"]),
    ],
)
def test_call_info_is_added_where_absent(call_info: tuple[str, ...], added: list[str]) -> None:
    existing = ExistingFields(call_info=call_info)
    after = performed(request(existing=existing), existing)["Call-Info"]
    assert tuple(after[: len(call_info)]) == call_info
    assert [value.partition("purpose=")[2] for value in after[len(call_info) :]] == added


@pytest.mark.parametrize(
    ("values", "is_added"),
    [((), True), (("esnet.1",), False), (("q735.0, ESNET.1",), False), (("esnet.0", "q735.1"), True)],
)
def test_resource_priority_is_added_where_absent(values: tuple[str, ...], is_added: bool) -> None:
    existing = ExistingFields(resource_priority=values)
    assert performed(request(existing=existing), existing)["Resource-Priority"] == [
        *values,
        *(["esnet.1"] if is_added else []),
    ]


def test_profile_switches_off_what_it_does_not_want() -> None:
    bare = ProviderProfile(name="bare", geolocation_routing="", call_info=False, resource_priority="")
    fields = performed(request(bare))
    assert (fields["Call-Info"], fields["Resource-Priority"], fields["Geolocation-Routing"]) == ([], [], ["no"])


# Tests never are emergencies, emergencies never tests

PROFILES = st.builds(
    ProviderProfile,
    name=st.just("any"),
    request_uri=st.sampled_from(["sip:911@{host}", "urn:service:sos", "sip:+911@{host}", "tel:911"]),
    test_number=st.sampled_from(["933", "922", "711", "+1933"]),
    location=st.sampled_from(LocationConveyance),
    caller_location=st.sampled_from(CallerLocation),
    call_info=st.booleans(),
    resource_priority=st.sampled_from(["", "esnet.1", "esnet.0"]),
)
EXISTING = st.builds(
    ExistingFields,
    call_info=st.lists(
        st.sampled_from(
            [
                "<urn:emergency:uid:callid:a:b>;purpose=emergency-CallId",
                '<http://x/a,b>;purpose=icon, <urn:x>;purpose="emergency-IncidentId";x=y',
                '"a, <b>" <urn:c>;purpose=card',
            ]
        )
    ).map(tuple),
    resource_priority=st.lists(st.sampled_from(["esnet.1", "q735.1,ESNET.0", "q735.2", ""])).map(tuple),
    priority=st.lists(st.sampled_from(["emergency", " Emergency", "urgent"]), max_size=1).map(tuple),
)
DECISIONS = st.sampled_from([KNOWN, UNKNOWN, decide(address="10.1.3.7"), decide(sources=ALL_SOURCES[:1])])


@given(PROFILES, EXISTING, DECISIONS, st.booleans())
def test_no_test_call_says_emergency(
    profile: ProviderProfile, existing: ExistingFields, decision: LocationDecision, with_location: bool
) -> None:
    made = request(profile, kind=CallKind.TEST, existing=existing, decision=decision, with_location=with_location)
    assert classify(made.request_uri, NUMBERS) is not CallKind.EMERGENCY
    assert not re.search("911|sos", made.request_uri)
    fields = performed(made, existing)
    said = " ".join(fields["Call-Info"] + fields["Resource-Priority"] + fields["Priority"]).lower()
    assert "emergency" not in said
    assert "esnet" not in said
    # What says nothing of an emergency is still there.
    for harmless in ("<http://x/a,b>;purpose=icon", '"a, <b>" <urn:c>;purpose=card', "q735.1", "q735.2", "urgent"):
        before = " ".join(existing.call_info + existing.resource_priority + existing.priority)
        after = " ".join(fields["Call-Info"] + fields["Resource-Priority"] + fields["Priority"])
        assert before.count(harmless) == after.count(harmless)


@given(PROFILES, EXISTING, DECISIONS)
def test_no_emergency_call_goes_to_the_test_number(
    profile: ProviderProfile, existing: ExistingFields, decision: LocationDecision
) -> None:
    made = request(profile, existing=existing, decision=decision)
    assert classify(made.request_uri, NUMBERS) is CallKind.EMERGENCY


def test_test_call_takes_its_location_along() -> None:
    assert request(kind=CallKind.TEST).request_uri == "sip:933@203.0.113.31:5060"
    assert request(I3, kind=CallKind.TEST).request_uri == "sip:933@203.0.113.31:5060"
    assert request(kind=CallKind.TEST).location_part == request().location_part


@pytest.mark.parametrize(
    "changes",
    [
        {"test_number": "911"},
        {"test_number": "9911"},
        {"test_number": ""},
        {"test_number": "933@evil"},
        {"request_uri": "sip:933@{host}"},
        {"request_uri": "911"},
        {"request_uri": "sip:911@{host}\r\nX: y"},
        {"geolocation_routing": "maybe"},
        {"resource_priority": "esnet.1\r\nX: y"},
    ],
)
def test_dangerous_profile_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        ProviderProfile(name="bad", **changes)  # type: ignore[arg-type]  # keywords by name


def test_basic_request() -> None:
    made = basic_request(
        number="+12125550140",
        host="203.0.113.40",
        decision=KNOWN,
        caller_display_name="Desk",
        domain=DOMAIN,
        existing=ExistingFields(),
    )
    assert made == ProviderRequest(
        request_uri="sip:+12125550140@203.0.113.40",
        set_fields=(("P-Asserted-Identity", f'"Desk" <sip:+12125550100@{DOMAIN};user=phone>'),),
        remove_fields=("Privacy", "P-Preferred-Identity"),
    )
    starred = basic_request(
        number="#9*1",
        host="h",
        decision=UNKNOWN,
        caller_display_name="",
        domain=DOMAIN,
        existing=ExistingFields(remote_party_id=("<sip:1@x>;privacy=full",)),
    )
    assert starred.request_uri == "sip:%239*1@h"
    assert starred.set_fields == ()
    assert starred.remove_fields == ("Privacy",), "where we have no number to show, the caller's own stays"


# Nothing from the wire breaks out of a header

WIRE_TEXT = st.text(st.characters(exclude_categories=[])) | st.sampled_from(
    ['a"; <sip:evil@x>', "a\\", "a\r\nVia: x", '\\"', "a>b", "Hélène", "\x00", "救急"]
)
QUOTED_IDENTITY = re.compile(r'(?:"(?:[ !#-\[\]-~]|\\["\\])*" )?<sip:\+[0-9]{8,15}@[A-Za-z0-9.-]+;user=phone>')


@given(name=WIRE_TEXT, call_id=WIRE_TEXT, domain=WIRE_TEXT, callback=WIRE_TEXT)
def test_wire_text_stays_within_its_field(name: str, call_id: str, domain: str, callback: str) -> None:
    decision = replace(KNOWN, callback=callback if len(callback) % 2 else KNOWN.callback)
    made = request(name=name, call_id=call_id, domain=domain, decision=decision)
    assert made.location_part
    for field, value in made.set_fields + made.add_fields:
        assert value.isascii()
        assert value.isprintable()
        if field == "P-Asserted-Identity":
            assert QUOTED_IDENTITY.fullmatch(value)
    assert re.fullmatch(r"[A-Za-z0-9]{10,32}@[A-Za-z0-9.-]+", made.location_part.content_id)
    assert made == request(name=name, call_id=call_id, domain=domain, decision=decision)


def test_accents_are_dropped_rather_than_the_name() -> None:
    assert '"Helene" <' in performed(request(name="Hélène"))["P-Asserted-Identity"][0]
    assert performed(request(name="救急"))["P-Asserted-Identity"][0].startswith("<sip:")
    assert '"Front desk" <' in performed(request(name=""))["P-Asserted-Identity"][0]


@pytest.mark.parametrize("piece", ['"\\', "<", ",", '"', '"\\"'])
def test_a_long_call_info_costs_no_time(piece: str) -> None:
    """Quadratic matching takes many seconds here, and would hold up every other call."""
    existing = ExistingFields(call_info=(piece * (60_000 // len(piece)),))
    started = time.process_time()
    assert request(kind=CallKind.TEST, existing=existing).request_uri.startswith("sip:933@")
    assert time.process_time() - started < 5
