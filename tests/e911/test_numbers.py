"""What is an emergency call, and when two spellings are the same number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.numbers import CallKind, EmergencyNumbers, canonical_user, classify, dialable, dialled, near_miss

NUMBERS = EmergencyNumbers(emergency=frozenset({"911", "9911"}), test=frozenset({"933"}))

EMERGENCIES = {
    "sip:911@pbx.example": "911",
    "SIP:911@pbx.example": "911",
    "sips:911@pbx.example": "911",
    "sip:9911@pbx.example;user=phone": "9911",
    "sip:+911@pbx.example": "911",
    "sip:%2B911@pbx.example": "911",
    "sip:9-1-1@pbx.example": "911",
    "sip:9.1.1@pbx.example": "911",
    "sip:(911)@pbx.example": "911",
    "sip:9%201%201@pbx.example": "911",
    "sip:9%2D11@pbx.example": "911",
    "sip:%39%31%31@pbx.example": "911",
    "sip:911;phone-context=pbx.example@pbx.example": "911",
    "sip:911%3Bphone-context=x@pbx.example": "911",
    "sip:911:secret@pbx.example": "911",
    "sip:911@anything@at.all": "911",
    "sip:911@": "911",
    "sip:911": "911",
    "sip:911;user=phone": "911",
    "sip:911:5060;transport=tcp": "911",
    "sip:911?Subject=help": "911",
    "sip://911@pbx.example": "911",
    "tel:911": "911",
    "TEL:+911": "911",
    "tel:9-1-1;phone-context=+1": "911",
    "tel:9.1.1": "911",
    "911": "911",
    "9-911": "9911",
    "911@pbx.example": "911",
    "911@pbx.example:5060": "911",
    "<sip:911@pbx.example>": "911",
    "<SIP:911@pbx.example;user=phone>;x=y": "911",
    " sip:911@pbx.example ": "911",
    "urn:service:sos": "urn:service:sos",
    "URN:Service:SOS.Fire": "urn:service:sos.fire",
    "urn:service:sos.police;x=y": "urn:service:sos.police",
    "urn:service:sos?x": "urn:service:sos",
    "<urn:service:sos.animal-control>": "urn:service:sos.animal-control",
    "urn:service:s%6Fs": "urn:service:sos",
    "urn:service:sos.unheard-of": "urn:service:sos.unheard-of",
}
TESTS = {
    "sip:933@pbx.example": "933",
    "tel:9-3-3": "933",
    "sip:%2B933@pbx.example": "933",
    "urn:service:test.sos": "urn:service:test.sos",
    "URN:service:TEST.sos.fire": "urn:service:test.sos.fire",
}
ORDINARY = [
    "sip:+12129110123@pbx.example",
    "sip:+19115550123@pbx.example",
    "sip:9112@pbx.example",
    "sip:1911@pbx.example",
    "sip:+1911@pbx.example",
    "sip:99911@pbx.example",
    "sip:++911@pbx.example",
    "sip:911a@pbx.example",
    "sip:x911@pbx.example",
    "sip:911*@pbx.example",
    "sip:%2539%31%31@pbx.example",
    "sip:9%252D11@pbx.example",
    "sip:alice@911",
    "sip:911.example.com",
    "sip:911.example.com;x=a@b",
    "sip:9.1.1.0",
    "sip:9.9.1.1:5060",
    "sip:@911",
    "http://911@pbx.example",
    "mailto:911@pbx.example",
    "im:911@pbx.example",
    "urn:service:sosx",
    "urn:service:so",
    "urn:service:counseling.sos",
    "urn:service:test.sosx",
    "urn:service:test",
    "urn:service:testsos",
    "urn:nena:service:responder",
    "xurn:service:sos",
    "",
    ":",
    "@",
    "%",
    "+",
    "sip:",
    "sip:+@x",
    "<>",
    "sip:\u00b9\u00b2@x",
]


@pytest.mark.parametrize(("request_uri", "dial_string"), EMERGENCIES.items())
def test_emergency_is_caught_in_every_spelling(request_uri: str, dial_string: str) -> None:
    assert classify(request_uri, NUMBERS) is CallKind.EMERGENCY
    assert dialled(request_uri) == dial_string


@pytest.mark.parametrize(("request_uri", "dial_string"), TESTS.items())
def test_test_call_is_its_own_kind(request_uri: str, dial_string: str) -> None:
    assert classify(request_uri, NUMBERS) is CallKind.TEST
    assert dialled(request_uri) == dial_string


@pytest.mark.parametrize("request_uri", ORDINARY)
def test_what_merely_contains_911_is_ordinary(request_uri: str) -> None:
    assert classify(request_uri, NUMBERS) is CallKind.ORDINARY


@pytest.mark.parametrize(
    ("dial_string", "number"),
    {
        "911#": "911",
        "1911": "911",
        "*911": "911",
        "0911": "911",
        "9,911": "911",
        "99911": "9911",
        "9911#": "9911",
        "9119": "",
        "911911": "911",
        "19115550100": "",
        "4991112345": "",
        "2129110": "",
        "alice911": "",
        "": "",
    }.items(),
)
def test_what_may_be_meant_for_911_is_known(dial_string: str, number: str) -> None:
    assert near_miss(dial_string, NUMBERS) == number


def test_urn_needs_no_configured_number() -> None:
    nothing = EmergencyNumbers(emergency=frozenset(), test=frozenset())
    assert classify("urn:service:sos", nothing) is CallKind.EMERGENCY
    assert classify("urn:service:test.sos", nothing) is CallKind.TEST
    assert classify("sip:911@h", nothing) is CallKind.ORDINARY
    assert classify("", nothing) is CallKind.ORDINARY


def test_number_in_both_lists_is_an_emergency() -> None:
    both = EmergencyNumbers(emergency=frozenset({"911", "933"}), test=frozenset({"933"}))
    assert classify("sip:933@h", both) is CallKind.EMERGENCY


def test_configured_star_code_is_caught() -> None:
    star = EmergencyNumbers(emergency=frozenset({"911", "*911"}), test=frozenset({"#933"}))
    assert classify("sip:*911@h", star) is CallKind.EMERGENCY
    assert classify("sip:%23933@h", star) is CallKind.TEST


@given(st.text(), st.sampled_from(["", "sip:", "SIP:", "tel:", "urn:", "urn:service:", "<sip:", "sip:911"]))
def test_no_text_makes_it_raise(text: str, before: str) -> None:
    assert classify(before + text, NUMBERS) in CallKind
    canonical_user(text)
    dialable(text)


SEPARATORS = st.sampled_from(["", "-", ".", "(", ")", "%2D", "%20", "%28"])


@st.composite
def spelled(draw: st.DrawFn, number: str) -> str:
    """A Request-URI that dials `number`, with digits escaped and separated at random."""
    user = draw(st.sampled_from(["", "+", "%2B", "%2b"]))
    for digit in number:
        user += draw(SEPARATORS) + draw(st.sampled_from([digit, f"%{ord(digit):02X}"]))
    user += draw(SEPARATORS)
    user += draw(st.sampled_from(["", ";phone-context=+1", ";x=%40"]))
    scheme = draw(st.sampled_from(["sip:", "SIPS:", "Sip:", "tel:", "<sip:"]))
    if scheme == "tel:":
        return scheme + user
    host = draw(st.sampled_from(["@pbx.example", "@[2001:db8::1]:5061", "@911.example", "@192.0.2.1;user=phone"]))
    return scheme + user + host


@given(st.sampled_from(["911", "9911", "933"]).flatmap(lambda n: st.tuples(st.just(n), spelled(n))))
def test_spelling_never_changes_the_kind(number_and_uri: tuple[str, str]) -> None:
    number, uri = number_and_uri
    assert classify(uri, NUMBERS) is (CallKind.TEST if number == "933" else CallKind.EMERGENCY)
    assert dialled(uri) == number


@given(st.from_regex(r"[0-9]{1,15}", fullmatch=True).filter(lambda n: n not in {"911", "9911", "933"}))
def test_every_other_number_is_ordinary(number: str) -> None:
    assert classify(f"sip:{number}@pbx.example", NUMBERS) is CallKind.ORDINARY
    assert classify(f"sip:+{number}@pbx.example", NUMBERS) is CallKind.ORDINARY


@pytest.mark.parametrize(
    ("user", "key"),
    [
        ("2125550123", "+12125550123"),
        ("12125550123", "+12125550123"),
        ("+12125550123", "+12125550123"),
        ("(212) 555-0123", "+12125550123"),
        ("+1.212.555.0123;ext=7", "+12125550123"),
        ("%2B1212%35550123", "+12125550123"),
        ("+2125550123", "+2125550123"),  # a country code 21 number, not a New York one
        ("1125550123", "1125550123"),
        ("4102", "4102"),
        ("41-02", "4102"),
        ("+442071838750", "+442071838750"),
        ("Alice.B-C", "alice.b-c"),
        ("%41lice", "alice"),
        ("%2541lice", "%41lice"),
        ("*98", "*98"),
        ("4102+", "4102+"),
        ("--", "--"),
        ("", ""),
    ],
)
def test_canonical_user(user: str, key: str) -> None:
    assert canonical_user(user) == key


@pytest.mark.parametrize(
    ("number", "called_back_at"),
    [
        ("212-555-0123", "+12125550123"),
        ("+12125550123", "+12125550123"),
        ("+442071838750", "+442071838750"),
        ("442071838750", ""),
        ("911", ""),
        ("+911", ""),
        ("9115550123", ""),
        ("+19115550123", ""),
        ("+11125550123", ""),
        ("+121255501234", ""),
        ("+0123456789", ""),
        ("+1234567", ""),
        ("+1234567890123456", ""),
        ("4102", ""),
        ("alice", ""),
        ("+12125550123\r\nVia: x", ""),
    ],
)
def test_dialable(number: str, called_back_at: str) -> None:
    assert dialable(number) == called_back_at
