"""What people on site are told: everything the law wants, readable, in their language, in one glance."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.location import CivicAddress, GeoPoint
from e911.notice import FOLDED_LINES, Notice, NoticeKind, address_lines, write_notice
from e911.record import Caller, CallIntent, CallRefused
from tests.e911.test_provider import DESK
from tests.e911.worlds import TRUNK, decide

AT = 1_893_485_045.0  # 2030-01-01 03:04:05 in New York
DECISION = decide(DESK, user="4102", address=TRUNK)
CALLER = Caller(number="4102", display_name="Anne", device="4102", device_name="Front desk", callback="+12125550100")
CALL = CallIntent(
    id="abc123",
    at=AT,
    node="hq-1",
    kind="emergency",
    call_id="1@x",
    from_tag="t",
    dialled="911",
    caller=CALLER,
    site="hq",
    zone="hq-3e",
    location=DECISION.location,
    location_sent=True,
    sources=DECISION.answers,
    first_route="primary",
    contacts=("front-desk",),
)
TEST = replace(CALL, kind="test", dialled="933")
REFUSED = CallRefused(
    id="r1",
    at=AT,
    node="hq-1",
    call_id="2@x",
    dialled="911",
    caller=Caller(number="4102", source_address="192.0.2.66"),
    reason="from-unlisted-source",
    status=403,
)


def notice(
    kind: NoticeKind = NoticeKind.CALL, event: CallIntent | CallRefused = CALL, language: str = "en", **more: object
) -> Notice:
    values: dict[str, object] = {
        "site_name": "Head office",
        "zone_name": "3rd floor east",
        "timezone": "America/New_York",
    }
    return write_notice(kind, event, language=language, **(values | more))  # type: ignore[arg-type]  # by name


def test_call_notice_as_a_whole() -> None:
    assert notice() == Notice(
        subject="911 dialled: Front desk (4102), Head office, 3rd floor east",
        body=(
            "911 was dialled by Front desk (4102), Head office, 3rd floor east.\n"
            "Help may be on its way: be ready to let it in and to show the way.\n"
            "\n"
            "When: 2030-01-01 03:04:05 EST (America/New_York)\n"
            "Dialled: 911\n"
            "Device: Front desk (4102)\n"
            "Callback number: +12125550100\n"
            "Location given to 911:\n"
            "    Head office\n"
            "    350 5th AVE\n"
            "    New York, NY 10118, US\n"
            "    Floor: 3\n"
            "    Room: 312\n"
            "    Coordinates: 40.748400, -73.985660\n"
            "Location from: the registered devices\n"
            "Site: Head office\n"
            "Zone: 3rd floor east\n"
            "Route: primary\n"
            "Call record: abc123\n"
        ),
    )


def test_french_notice_is_french() -> None:
    made = notice(language="fr", timezone="America/Toronto")
    assert made.subject == "911 composé : Front desk (4102), Head office, 3rd floor east"
    for line in (
        "Heure : 2030-01-01 03:04:05 EST (America/Toronto)",
        "Appareil : Front desk (4102)",
        "Numéro de rappel : +12125550100",
        "Emplacement transmis au 911 :",
        "    Étage : 3",
        "    Pièce : 312",
        "Emplacement selon : les appareils inscrits",
        "Route : primary",
    ):
        assert line in made.body.splitlines()
    for english in ("When", "Floor", "Location", "dialled"):
        assert english not in made.body


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (NoticeKind.TEST, TEST),
        (NoticeKind.CALL, TEST),
        (NoticeKind.FAILED, TEST),
        (NoticeKind.FOLDED, TEST),
        (NoticeKind.REFUSED, replace(REFUSED, kind="test", dialled="933")),
    ],
)
def test_of_a_test_the_first_word_is_test(kind: NoticeKind, event: CallIntent | CallRefused, language: str) -> None:
    for made in (notice(kind, event, language), notice(kind, event, language, folded=[event] * 2)):
        assert made.subject.split()[0].strip(":") == "TEST"
        assert made.body.split()[0].strip(":") == "TEST"


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("kind", NoticeKind)
def test_a_911_call_is_never_announced_as_a_test(kind: NoticeKind, language: str) -> None:
    event = REFUSED if kind is NoticeKind.REFUSED else CALL
    made = notice(kind, event, language, folded=[CALL, TEST], folded_count=2)
    assert "TEST" not in made.subject
    assert "911" in made.subject
    assert "911" in made.body.splitlines()[0]
    assert "TEST" not in made.body.splitlines()[0]


@pytest.mark.parametrize(("language", "loud"), [("en", "did NOT go through"), ("fr", "n'a PAS abouti")])
def test_failure_says_so_first(language: str, loud: str) -> None:
    made = notice(NoticeKind.FAILED, language=language, status=503)
    assert loud in made.body.splitlines()[0]
    assert loud.upper() in made.subject
    assert "503" in made.body
    assert "+12125550100" in made.body
    assert "Front desk (4102)" in made.body.splitlines()[0]


def test_refusal_says_why_and_from_where() -> None:
    made = notice(NoticeKind.REFUSED, REFUSED, site_name="")
    assert made.subject == "911 CALL REFUSED: 4102, 192.0.2.66"
    assert "REFUSED" in made.body.splitlines()[0]
    for line in (
        "Came from address: 192.0.2.66",
        "Why: its source address is in none of the listed networks",
        "Answered with: 403",
        "Callback number: none known",
    ):
        assert line in made.body.splitlines()
    assert "outside" in notice(NoticeKind.REFUSED, replace(REFUSED, reason="from-outside")).body
    assert "Why: something-new" in notice(NoticeKind.REFUSED, replace(REFUSED, reason="something-new")).body


def test_unknown_location_and_basic_911_are_said() -> None:
    unknown = notice(event=replace(CALL, location=None, location_sent=False)).body
    assert "Location given to 911: NONE" in unknown
    basic = notice(event=replace(CALL, location_sent=False)).body
    assert "NOT given to 911" in basic
    assert "    Room: 312" in basic
    assert "Location given to 911" not in basic


def test_age_of_a_registered_location() -> None:
    assert DECISION.location
    old = replace(DECISION.location, updated_at=AT - 86400)
    assert "(last changed 2029-12-31 03:04:05 EST" in notice(event=replace(CALL, location=old)).body


def test_storm_is_one_notice() -> None:
    calls = [
        replace(CALL, id=str(number), at=AT + number, caller=replace(CALLER, device=f"41{number:02}"))
        for number in range(60)
    ]
    made = notice(NoticeKind.FOLDED, folded=calls, folded_count=75)
    assert made.subject == "75 more 911 calls: Head office"
    lines = made.body.splitlines()
    assert len([line for line in lines if line.startswith("2030-01-01 03:")]) == FOLDED_LINES
    assert "Front desk (4149)" in made.body
    assert "Front desk (4150)" not in made.body
    assert "350 5th AVE" in made.body
    assert lines[-1] == "and 25 more: see the call records"
    alone = notice(NoticeKind.FOLDED, folded=calls[:3])
    assert alone.subject == "3 more 911 calls: Head office"
    assert "and " not in alone.body.splitlines()[-1]


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("reason", ["malformed", "blocked"])
def test_a_call_refused_for_another_cause_than_its_network_does_not_send_people_to_the_networks(
    reason: str, language: str
) -> None:
    cases: list[dict[str, object]] = [{}, {"folded": [REFUSED] * 2, "folded_count": 3}]
    for more in cases:
        by_network = notice(NoticeKind.REFUSED, REFUSED, language, **more)
        assert "networks: inside" in by_network.body
        otherwise = notice(NoticeKind.REFUSED, replace(REFUSED, reason=reason), language, **more)
        assert "networks" not in otherwise.body
        assert otherwise.subject == by_network.subject


@pytest.mark.parametrize(
    ("language", "failed", "refused"),
    [
        ("en", "30 more 911 CALLS DID NOT GO THROUGH: Head office", "30 more 911 CALLS REFUSED: Head office"),
        (
            "fr",
            "30 autres APPELS AU 911 N'ONT PAS ABOUTI : Head office",
            "30 autres APPELS AU 911 REFUSÉS : Head office",
        ),
    ],
)
def test_alarms_of_a_storm_say_what_happened_and_who_needs_help(language: str, failed: str, refused: str) -> None:
    calls = [replace(CALL, id=str(number), caller=replace(CALLER, device=f"41{number:02}")) for number in range(3)]
    made = notice(NoticeKind.FAILED, language=language, folded=calls, folded_count=30)
    assert made.subject == failed
    first = made.body.splitlines()[0]
    assert "30" in first
    assert "NOT" in first or "PAS" in first
    assert "Front desk (4102)" in made.body
    assert "+12125550100" in made.body
    assert "350 5th AVE" in made.body
    assert "27" in made.body.splitlines()[-1]
    unsent = notice(NoticeKind.FAILED, folded=[replace(CALL, location_sent=False)] * 2)
    assert "350 5th AVE" in unsent.body, "where to go, also where the PSAP was not told"
    made = notice(NoticeKind.REFUSED, REFUSED, language, folded=[REFUSED] * 3, folded_count=30)
    assert made.subject == refused
    assert REFUSED.caller.source_address in made.body


@pytest.mark.parametrize(
    ("timezone", "expected"),
    [
        ("America/Toronto", "03:04:05 EST"),
        ("UTC", "08:04:05 UTC\n"),
        ("No/Where", "08:04:05 UTC\n"),
        ("", "08:04:05 UTC\n"),
        ("../../etc/passwd", "08:04:05 UTC\n"),
        ("America", "08:04:05 UTC\n"),
    ],
)
def test_time_zone(timezone: str, expected: str) -> None:
    assert f"When: 2030-01-01 {expected}" in notice(timezone=timezone).body


def test_unknown_language_is_english() -> None:
    assert notice(language="de") == notice()


@pytest.mark.parametrize(
    ("civic", "lines"),
    [
        (
            CivicAddress(house_number="12", house_number_suffix="A", pre_directional="N", street="Main", city="X"),
            ["12A N Main", "X"],
        ),
        (CivicAddress(house_number="12", house_number_suffix="1/2", street="Main"), ["12 1/2 Main"]),
        (CivicAddress(county="Kings", state="NY"), ["Kings, NY"]),
        (CivicAddress(landmark="Gate 4", additional="by the lift"), ["Landmark: Gate 4", "Also: by the lift"]),
        (CivicAddress(), []),
    ],
)
def test_address_lines(civic: CivicAddress, lines: list[str]) -> None:
    assert address_lines(civic) == lines


ANY_TEXT = st.text(st.characters(exclude_categories=[])) | st.just("x\r\nBcc: evil@example.com")


@given(
    kind=st.sampled_from([NoticeKind.CALL, NoticeKind.FAILED, NoticeKind.FOLDED, NoticeKind.REFUSED]),
    name=ANY_TEXT,
    number=ANY_TEXT,
    room=ANY_TEXT,
    site=ANY_TEXT,
    at=st.floats(),
    language=st.sampled_from(["en", "fr"]),
)
def test_no_text_breaks_a_line(
    kind: NoticeKind, name: str, number: str, room: str, site: str, at: float, language: str
) -> None:
    caller = Caller(number=number, device_name=name, callback=number, source_address=number)
    assert CALL.location
    place = replace(CALL.location, civic=CivicAddress(room=room, city=site), point=GeoPoint(latitude=0, longitude=0))
    event: CallIntent | CallRefused = replace(CALL, caller=caller, location=place, at=at, dialled=number)
    if kind is NoticeKind.REFUSED:
        event = replace(REFUSED, caller=caller, at=at, reason=name)
    made = notice(kind, event, language, site_name=site, zone_name=room)
    plain = notice(kind, REFUSED if kind is NoticeKind.REFUSED else CALL, language)
    assert made.subject.isprintable()
    assert all(line.isprintable() for line in made.body.split("\n"))
    assert len(made.body.split("\n")) <= len(plain.body.split("\n"))
