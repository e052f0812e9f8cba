"""The ladder of a call's kept messages."""

from lxml import etree

from router.reports.ladder import ladder_of, ladder_svg, ladder_text
from router.trace.messages import Traced

EDGE, PHONE, PROVIDER = ("192.0.2.1", 5060), ("192.0.2.50", 5070), ("203.0.113.31", 5060)


def traced(
    at: float, sent: bool, peer: tuple[str, int], start: str, method: str = "INVITE", extra: str = ""
) -> Traced:
    text = (
        f"{start}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{at}\r\nFrom: <sip:4102@example.com>;tag=a\r\n"
        f"To: <sip:911@example.com>\r\nCall-ID: c@h\r\nCSeq: 1 {method}\r\n{extra}Content-Length: 0\r\n\r\n"
    )
    return Traced(
        at=at,
        sent=sent,
        transport="udp",
        source=EDGE if sent else peer,
        destination=peer if sent else EDGE,
        data=text.encode(),
    )


def call() -> list[tuple[Traced, str]]:
    invite = traced(10.0, False, PHONE, "INVITE sip:911@example.com SIP/2.0")
    return [
        (invite, ""),
        (traced(10.001, True, PHONE, "SIP/2.0 100 Trying"), ""),
        (traced(10.002, True, PROVIDER, "INVITE sip:911@203.0.113.31 SIP/2.0"), "ers-a"),
        (invite, ""),
        (traced(10.5, False, PROVIDER, "SIP/2.0 180 Ringing"), "ers-a"),
        (traced(10.5, False, PROVIDER, "SIP/2.0 503 <b>no</b> & such"), "ers-a"),
        (traced(11.0, False, PROVIDER, "SIP/2.0 200 OK"), "ers-a"),
    ]


def test_lanes_and_arrows() -> None:
    ladder = ladder_of(call())
    assert ladder.lanes == ("192.0.2.50:5070", "edge911", "ers-a")
    assert ladder.addresses == ("192.0.2.50:5070", "192.0.2.1:5060", "203.0.113.31:5060")
    assert [(a.start, a.end, a.kind, a.again) for a in ladder.arrows] == [
        ("192.0.2.50:5070", "edge911", "invite", False),
        ("edge911", "192.0.2.50:5070", "progress", False),
        ("edge911", "ers-a", "invite", False),
        ("192.0.2.50:5070", "edge911", "invite", True),
        ("ers-a", "edge911", "progress", False),
        ("ers-a", "edge911", "failure", False),
        ("ers-a", "edge911", "success", False),
    ]


def test_the_picture_is_one_and_holds_no_markup_of_others() -> None:
    picture = etree.fromstring(ladder_svg(ladder_of(call()), 'Ladder "of" <call>', "again").encode())
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f".//{space}polygon")) == 7
    assert not picture.findall(f".//{space}b")
    texts = [element.text for element in picture.iter(f"{space}text")]
    assert any("503" in (text or "") for text in texts)
    assert any("(again)" in (text or "") for text in texts)
    assert [link.get("href") for link in picture.iter(f"{space}a")][:2] == ["#message-0", "#message-1"]


def test_as_text() -> None:
    lines = ladder_text(ladder_of(call()))
    assert all(line.isascii() and len(line) <= 78 for line in lines)
    assert "ers-a" in lines[0]
    assert len(lines) == 8


def test_nothing_kept_is_no_ladder() -> None:
    assert ladder_of([]).arrows == ()
    assert ladder_text(ladder_of([])) == []
