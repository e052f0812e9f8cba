"""The ladder as it is drawn live: lanes, arrows, times, and lines that fit."""

import pytest

from router.trace.ladder_view import LiveLadder
from router.trace.messages import Traced
from router.trace.view import PeerNames, document_of, line_of
from tests.router.traces import EDGE, PHONE, PROVIDER, answer, invite, received, request, sent

NAMES = PeerNames({"ers-a": [PROVIDER], "pbx": [("10.0.0.10", 5060)]})
START = 1_000_000_000.0


def drawn(messages: list[Traced], width: int = 100) -> list[str]:
    ladder = LiveLadder(NAMES, width)
    return [line.text for message in messages for line in ladder.feed(message)]


CALL = [
    received(invite(), at=START),
    sent(answer("100 Trying"), at=START + 0.0004),
    sent(invite(body=b"application/pdf", more=b""), PROVIDER, at=START + 0.001),
    received(answer("180 Ringing"), PROVIDER, at=START + 0.25),
    sent(answer("180 Ringing"), at=START + 0.2504),
    sent(answer("180 Ringing"), at=START + 1.5),
]


def test_a_call() -> None:
    lines = drawn(CALL)
    assert lines[0].startswith("  1 ")
    assert lines[0].endswith("INVITE sip:911@10.0.0.5:5060  Call-ID call-1")
    rows = [line for line in lines if "│" in line]
    assert [row.split("│")[0].split()[1] for row in rows] == [
        "+0.0000", "+0.0004", "+0.0010", "+0.2500", "+0.2504", "+1.5000",
    ]  # fmt: skip
    assert "INVITE 911" in rows[0]
    assert rows[0].index("│") < rows[0].index("INVITE") < rows[0].index("▶")
    assert rows[1].index("◀") < rows[1].index("100 Trying")
    assert rows[3].rindex("│") > rows[3].index("180 Ringing") > rows[3].index("◀")
    assert "180 Ringing again" in rows[5]
    assert not any("again" in row for row in rows[:5])
    # The heading comes again with the provider's lane: name over address.
    headings = [line for line in lines if "seconds" in line]
    assert [heading.split()[2:] for heading in headings] == [
        [PHONE[0], EDGE[0]],
        [PHONE[0], EDGE[0], PROVIDER[0]],
    ]
    assert any(line.split() == ["edge911", "ers-a"] for line in lines)


def test_calls_at_the_same_time_have_numbers() -> None:
    second = received(invite(call_id="call-2", user="4013"), ("10.1.9.9", 5060), at=START + 0.002)
    lines = drawn([CALL[0], second, CALL[1], sent(answer(call_id="call-2"), ("10.1.9.9", 5060), at=START + 0.5)])
    numbered = [line.split()[:2] for line in lines if "│" in line]
    assert numbered == [["1", "+0.0000"], ["2", "+0.0000"], ["1", "+0.0004"], ["2", "+0.4980"]]


@pytest.mark.parametrize("width", [60, 80, 81, 100, 120, 200])
def test_every_line_fits_whatever_the_width_and_the_peers(width: int) -> None:
    peers = [(f"203.0.113.{number}", 5060 + number) for number in range(101, 109)]
    peers += [("2001:db8:1234:5678:9abc:def0:1234:5678", 5060)]
    messages = [received(invite(), at=START)]
    for number, peer in enumerate(peers * 2):
        messages.append(sent(invite(), peer, at=START + number))
        messages.append(received(answer("503 Service Unavailable"), peer, at=START + number + 0.5))
    for line in drawn(messages, width):
        assert len(line) <= width
        if "│" in line:
            assert ("▶" in line) != ("◀" in line)
            assert "INVITE" in line or "503" in line


def test_a_call_of_four_peers_has_four_lanes_on_80_columns() -> None:
    messages = [
        received(invite(), at=START),
        sent(invite(), PROVIDER, at=START),
        sent(invite(), ("203.0.113.32", 5060), at=START),
        sent(answer("180 Ringing"), at=START),
    ]
    lines = drawn(messages, 80)
    assert [line for line in lines if "seconds" in line][-1].split()[2:] == [
        PHONE[0], EDGE[0], PROVIDER[0], "203.0.113.32",
    ]  # fmt: skip
    assert "180 Ringing" in lines[-1]


def test_the_heading_comes_again_on_long_ladders() -> None:
    lines = drawn([sent(request("OPTIONS"), PROVIDER, at=START + number) for number in range(100)])
    assert sum("seconds" in line for line in lines) == 3


def test_what_cannot_be_read_is_drawn_too() -> None:
    lines = drawn([received(b"GET /\x1b[31m HTTP/1.0\r\n\r\n", at=START)])
    assert "unreadable" in lines[-1]
    assert "\x1b" not in "".join(lines)


def test_an_answer_to_a_request_without_cseq_names_no_method() -> None:
    refused = b"\r\n".join(line for line in answer("400 Bad Request").split(b"\r\n") if not line.startswith(b"CSeq"))
    assert line_of(sent(refused, at=START), NAMES).endswith("udp  400 Bad Request  call-1")
    assert "()" not in "".join(drawn([CALL[0], sent(refused, at=START)]))


def test_one_line_and_one_object_for_a_message() -> None:
    line = line_of(received(answer("486 Busy Here"), PROVIDER, at=START, transport="tls"), NAMES)
    assert "ers-a 203.0.113.31:5060 → edge911" in line
    assert line.endswith("tls  486 Busy Here (INVITE)  call-1")
    document = document_of(sent(invite(), PROVIDER, at=START), NAMES)
    assert document["direction"] == "out"
    assert document["trunk"] == "ers-a"
    assert document["method"] == "INVITE"
    assert document["request_uri"] == "sip:911@10.0.0.5:5060"
    assert document["from"] == "sip:4012@pbx.example.com"
    assert document["time"] == "2001-09-09T01:46:40.000000Z"
    assert document["message"].encode() == invite()
    unreadable = document_of(received(b"\xff\xfe", at=START), NAMES)
    assert (unreadable["method"], unreadable["call_id"]) == (None, "")


def test_a_trunk_is_known_by_its_port_on_udp_and_by_its_address_on_streams() -> None:
    assert NAMES.trunk(PROVIDER, "udp") == "ers-a"
    assert NAMES.trunk((PROVIDER[0], 40_000), "udp") == ""
    assert NAMES.trunk((PROVIDER[0], 40_000), "tcp") == "ers-a"
    shared = PeerNames({"a": [("127.0.0.1", 5070)], "b": [("192.0.2.1", 5060)], "c": [("192.0.2.1", 5070)]})
    assert shared.trunk(("127.0.0.1", 40_000), "tcp") == ""
    assert shared.trunk(("192.0.2.1", 40_000), "tls") == ""
    assert shared.trunk(("192.0.2.1", 5070), "tls") == "c"
