"""LoST questions and answers: what is asked, what an answer means, and what hostile ones do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from e911.location import CIVIC_FIELDS, CivicAddress
from e911.lost import CIVIC, LOST, LostError, Validation, read_answer, validation_request, validation_words
from simulations.lost import errors, found, redirect

ALBANY = CivicAddress(
    country="us", state="NY", city="Albany", street="Lake", street_suffix="RD", house_number="1", floor="3"
)
KNOWN = ["country", "A1", "A3", "RD", "STS"]


def answer(lists: str, *, more: str = "") -> bytes:
    return (
        f'<findServiceResponse xmlns="{LOST}" xmlns:ca="{CIVIC}"><locationValidation>{lists}</locationValidation>'
        f"{more}</findServiceResponse>"
    ).encode()


def test_the_question_asks_for_validation_of_the_address() -> None:
    root = etree.fromstring(validation_request(ALBANY))
    assert (root.tag, root.get("validateLocation")) == (f"{{{LOST}}}findService", "true")
    location, service = root
    assert (location.get("profile"), service.text) == ("civic", "urn:service:sos")
    address = location[0]
    assert [(etree.QName(child).localname, child.text) for child in address] == [
        ("country", "US"),
        ("A1", "NY"),
        ("A3", "Albany"),
        ("RD", "Lake"),
        ("STS", "RD"),
        ("HNO", "1"),
        ("FLR", "3"),
    ]


@pytest.mark.parametrize(
    "civic", [CivicAddress(), CivicAddress(country="US", floor="3"), CivicAddress(city="Albany", street="Lake")]
)
def test_what_says_too_little_is_not_asked(civic: CivicAddress) -> None:
    with pytest.raises(ValueError, match=r"^no "):
        validation_request(civic)


@given(st.fixed_dictionaries({name: st.text(max_size=20) for name in CIVIC_FIELDS if name != "country"}))
def test_any_text_makes_a_document_that_says_it(values: dict[str, str]) -> None:
    civic = CivicAddress(country="CA", **{**values, "city": values["city"] or "x", "street": values["street"] or "x"})
    address = etree.fromstring(validation_request(civic))[0][0]
    assert address[0].text == "CA"
    assert all(child.text and len(child) == 0 for child in address)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (found([*KNOWN, "HNO"], [], ["FLR"]), "valid"),
        (found([*KNOWN, "HNO"], [], []), "valid"),
        (found(["country", "A1"], ["A3"], ["RD", "STS", "HNO"]), "invalid: A3"),
        (found(KNOWN, ["HNO", "FLR"], []), "invalid: HNO, FLR"),
        (found(KNOWN, [], ["HNO", "FLR"]), "unknown: HNO"),
        (found(KNOWN, [], []), "unknown: HNO"),
        (found([], [], []), "unknown: country, A1, A3, RD, STS, HNO"),
        (answer("<valid>ca:country\n ca:A1 ca:A3\tca:RD ca:STS ca:HNO</valid><invalid/>"), "valid"),
        (answer("<valid>country A1 A3 RD STS HNO</valid>"), "valid"),
        (
            answer("<valid>ca:country ca:A1 ca:A3 ca:RD ca:STS ca:HNO</valid><invalid>ca:HNO</invalid>"),
            "invalid: HNO",
        ),
        (errors("locationInvalid", "no such place"), "invalid"),
        (errors("notFound", "nothing for it"), "unknown"),
    ],
)
def test_what_an_answer_means(data: bytes, text: str) -> None:
    assert read_answer(data, ALBANY).text == text


def test_warnings_are_told() -> None:
    more = '<warnings><defaultMappingReturned message="a default&#10;PSAP"/></warnings>'
    data = answer("<valid>ca:country</valid>", more=more)
    assert read_answer(data, ALBANY).warnings == ("defaultMappingReturned: a default PSAP",)


BOMB = b'<!DOCTYPE a [<!ENTITY b "bbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
FILE = b'<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><findServiceResponse>&f;</findServiceResponse>'


@pytest.mark.parametrize(
    ("data", "reason", "named"),
    [
        (b"", "lvf-unreadable", "not XML"),
        (b"<html><body>Sign in</body></html>", "lvf-unreadable", "html"),
        (b"\xff\xfe\x00<", "lvf-unreadable", "not XML"),
        (BOMB, "lvf-unreadable", "DOCTYPE"),
        (FILE, "lvf-unreadable", "DOCTYPE"),
        (b"<a>" + b"x" * 70_000 + b"</a>", "lvf-too-large", "larger"),
        (b"<a>" * 200 + b"</a>" * 200, "lvf-too-large", "deeper"),
        (f'<findServiceResponse xmlns="{LOST}"/>'.encode(), "lvf-refused", "locationValidation"),
        (
            b"<findServiceResponse><locationValidation/></findServiceResponse>",
            "lvf-unreadable",
            "findServiceResponse",
        ),
        (answer("<valid>ca:RD &lt;b&gt;</valid>"), "lvf-unreadable", "valid: '<b>'"),
        (answer("<invalid>" + " ".join(f"ca:A{n}" for n in range(100)) + "</invalid>"), "lvf-unreadable", "invalid"),
        (answer("", more="<locationValidation/>"), "lvf-unreadable", "locationValidation: there are several"),
        (redirect("other.example.com"), "lvf-redirects", "other.example.com"),
        (errors("internalError", "disk full"), "lvf-refused", "internalError: disk full"),
        (errors("forbidden", "\x9b31mno"), "lvf-refused", "forbidden: 31mno"),
        (f'<errors xmlns="{LOST}"/>'.encode(), "lvf-unreadable", "errors: empty"),
    ],
)
def test_what_is_no_answer_says_why(data: bytes, reason: str, named: str) -> None:
    with pytest.raises(LostError) as raised:
        read_answer(data, ALBANY)
    assert raised.value.reason == reason
    assert named in raised.value.words


@given(st.one_of(st.binary(max_size=200), st.text(max_size=60).map(lambda text: answer(text))))
def test_nothing_else_is_raised_for_any_bytes(data: bytes) -> None:
    try:
        said = read_answer(data, ALBANY).text
    except LostError as error:
        said = error.reason
    assert said.startswith(("lvf-", "invalid", "unknown"))


NAMES = st.lists(st.sampled_from([*KNOWN, "HNO", "FLR", "PC"]), unique=True)


@given(NAMES, NAMES)
def test_valid_means_that_all_that_decides_is_valid_and_nothing_invalid(valid: list[str], invalid: list[str]) -> None:
    said = read_answer(found(valid, invalid, []), ALBANY)
    assert (said.text == "valid") == (not invalid and {*KNOWN, "HNO"} <= set(valid))
    assert said.text.startswith("invalid") == bool(invalid)


def test_words_for_people() -> None:
    assert validation_words("", 0.0) == "not validated"
    assert validation_words("valid", 1_795_737_600.0) == "valid on 2026-11-27"
    assert validation_words("invalid: A3, HNO", 1_795_737_600.0) == "invalid on 2026-11-27: A3, HNO"
    assert Validation().text == "unknown"
