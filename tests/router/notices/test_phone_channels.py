"""SIP messages to phones and calls to desks, against a phone made of bytes; baresip is in tests/interop."""

import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from router.notices.channels import Channels, Job, Report
from router.notices.receivers import desk_call, outgoing_call, speech
from router.notices.receivers.audio import pressed_key, to_mulaw, to_telephone, tone
from router.notices.receivers.sdp import read_audio
from router.notices.receivers.speech import announce, clips, speakable
from tests.support.desk_phone import DeskPhone
from tests.support.sound import best
from tests.support.tone import linear, ulaw

BODY = "911 was dialled by Front désk (4102).\nCallback number: 1 2 1 2 5 5 5 0 1 2 3\n"


class Desk:
    """Channels, and the keys that were pressed."""

    def __init__(self) -> None:
        self.keys: queue.Queue[tuple[Any, str]] = queue.Queue()
        self.inside: set[str] = set()
        self.channels = Channels(
            on_key=lambda token, key: self.keys.put((token, key)), is_inside=lambda host: host in self.inside
        )

    def send(self, url: str, token: str = "n1") -> None:
        self.channels.send(Job(token=token, url=url, subject="911", body=BODY))

    def report(self) -> Report:
        return self.channels.reports.get(timeout=30)

    def key(self) -> tuple[Any, str]:
        return self.keys.get(timeout=30)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(speech, "installed", tuple)  # tones and clips: the same on every machine
    found = Desk()
    yield found
    found.channels.close()


def test_a_message_says_the_notice_to_a_phone(desk: Desk) -> None:
    with DeskPhone() as phone:
        desk.send(f"sip:100@{phone.endpoint}")
        attempt = desk.report().attempt
        request = phone.wait_for("MESSAGE")
    assert (attempt.delivered, attempt.words) == (True, "SIP 200 OK")
    head, _, body = request.partition("\r\n\r\n")
    assert head.startswith(f"MESSAGE sip:100@{phone.endpoint} SIP/2.0\r\n")
    assert "Content-Type: text/plain;charset=UTF-8" in head
    assert f"Content-Length: {len(body.encode())}" in head
    assert body == BODY.strip()


def test_a_message_that_is_cut_keeps_the_link_at_its_end(desk: Desk) -> None:
    link = "Confirmer : http://127.0.0.1:8911/ack/call-1/desk/6a/x"
    with DeskPhone() as phone:
        desk.channels.send(
            Job(token="n1", url=f"sip:100@{phone.endpoint}", subject="911", body="Étage : 3\n" * 100 + link)
        )
        assert desk.report().attempt.delivered
        _, _, body = phone.wait_for("MESSAGE").partition("\r\n\r\n")
    assert 900 < len(body.encode()) <= 1000
    assert body.startswith("Étage : 3\nÉtage : 3\n")
    assert body.endswith(f"\n{link}")


def test_a_phone_that_asks_who_we_are_is_told(desk: Desk) -> None:
    with DeskPhone(behaviour="challenges", password="s3cret-x") as phone:
        desk.send(f"sip:100@{phone.endpoint}?username=edge911&password=s3cret-x")
        assert desk.report().attempt.delivered
        desk.send(f"sip:100@{phone.endpoint}?username=edge911&password=wrong-one")
        attempt = desk.report().attempt
        assert (attempt.delivered, attempt.permanent, attempt.words) == (False, True, "SIP 401 Unauthorized")
        desk.send(f"sip-call:100@{phone.endpoint}?username=edge911&password=s3cret-x", "call")
        assert desk.report().attempt.delivered
        phone.wait_for("ACK", 1)
        phone.press(1)
        assert [desk.key(), desk.key()] == [("call", ""), ("call", "1")]


@pytest.mark.parametrize(
    ("answer", "permanent"), [("486 Busy Here", False), ("480 Later", False), ("404 Not Found", True)]
)
def test_a_phones_no_is_kept_in_its_words(desk: Desk, answer: str, permanent: bool) -> None:
    with DeskPhone(behaviour=answer) as phone:
        desk.send(f"sip:100@{phone.endpoint}")
        attempt = desk.report().attempt
    assert (attempt.delivered, attempt.reason, attempt.permanent) == (False, "refused", permanent)
    assert attempt.words == f"SIP {answer}"


def test_whoever_picks_up_hears_it_and_confirms_with_a_key(desk: Desk) -> None:
    with DeskPhone() as phone:
        desk.send(f"sip-call:100@{phone.endpoint}")
        report = desk.report()
        assert (report.attempt.delivered, report.attempt.words) == (True, "SIP 200 OK: answered")
        assert desk.key() == ("n1", "")
        sound = phone.wait_for_sound(60)
        phone.press(5)
        assert desk.key() == ("n1", "5")
        phone.wait_for("BYE")
        assert phone.invite.count("m=audio") == 1
    heard = [linear(code) for code in sound]
    assert best(heard, 853, 1600) > 0.2, "the attention tone"
    assert best(heard, 960, 1600) > 0.2
    assert desk.keys.empty(), "six packets of one key are one key"


def test_a_key_by_info_counts_too(desk: Desk) -> None:
    with DeskPhone() as phone:
        desk.send(f"sip-call:100@{phone.endpoint}")
        assert desk.key() == ("n1", "")
        phone.wait_for("ACK")
        phone.ask("INFO", "application/dtmf-relay", "Signal=9\r\nDuration=160\r\n")
        assert desk.key() == ("n1", "9")
        phone.wait_for("BYE")


def test_hung_up_without_a_key_confirms_nothing(desk: Desk) -> None:
    with DeskPhone() as phone:
        desk.send(f"sip-call:100@{phone.endpoint}")
        assert desk.key() == ("n1", "")
        phone.wait_for("ACK")
        phone.wait_for_sound(5)
        phone.ask("BYE")
        phone.wait_for("SIP/2.0")
        # Another call goes out: the first is over.
        desk.send(f"sip-call:100@{phone.endpoint}", "n2")
        assert desk.key() == ("n2", "")
    assert desk.keys.empty()


def test_it_ends_by_itself_when_it_was_said_often_enough(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_call, "announce", lambda *_: tone((700.0,), 0.2))
    monkeypatch.setattr(desk_call, "PAUSE_SECONDS", 0.1)
    with DeskPhone() as phone:
        desk.send(f"sip-call:100@{phone.endpoint}?repeat=2")
        assert desk.report().attempt.delivered
        phone.wait_for("BYE")
        heard = [linear(code) for code in b"".join(packet[12:] for packet in phone.packets)]
    loud = [max(abs(sample) for sample in heard[start : start + 400]) > 1000 for start in range(0, len(heard), 400)]
    assert sum(1 for before, now in zip([False, *loud], loud, strict=False) if now and not before) == 2


def test_a_second_notice_is_said_in_the_call_that_is_up(desk: Desk) -> None:
    with DeskPhone() as phone:
        url = f"sip-call:100@{phone.endpoint}"
        desk.send(url, "n1")
        assert desk.key() == ("n1", "")
        desk.send(url, "n2")
        assert desk.key() == ("n2", "")
        reports = {desk.report().job.token for _ in range(2)}
        phone.wait_for("ACK")
        phone.press(11)
        assert {desk.key(), desk.key()} == {("n1", "#"), ("n2", "#")}
        assert sum(1 for one in phone.requests if one.startswith("INVITE ")) == 1
    assert reports == {"n1", "n2"}


def test_what_is_new_is_said_whole_also_where_texts_are_said_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks off what is being said: that was the one round, and the call ended without a word of it."""
    monkeypatch.setattr(desk_call, "announce", lambda *_: tone((700.0,), 1.0))
    monkeypatch.setattr(desk_call, "PAUSE_SECONDS", 0.1)
    with DeskPhone() as phone:
        url = f"sip-call:100@{phone.endpoint}?repeat=1"
        desk.send(url, "n1")
        assert desk.key() == ("n1", "")
        phone.wait_for_sound(30)
        desk.send(url, "n2")
        assert [desk.report().attempt.delivered for _ in range(2)] == [True, True]
        phone.wait_for("BYE")
        assert sum(1 for one in phone.requests if one.startswith("INVITE ")) == 1
        assert len(phone.packets) > 100, "both, and the beginning that was broken off"


def test_each_of_many_texts_is_said_to_its_end_before_the_call_ends(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is broken off by the third, and there is room for two in a round."""
    hertz = {"1": 500.0, "2": 700.0, "3": 1100.0}
    monkeypatch.setattr(desk_call, "announce", lambda text, *_: tone((hertz[text],), 0.5))
    monkeypatch.setattr(desk_call, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(desk_call, "SAID_TEXTS", 2)
    with DeskPhone() as phone:
        url = f"sip-call:100@{phone.endpoint}?repeat=1"
        for text in hertz:
            desk.channels.send(Job(token=text, url=url, subject="911", body=text))
            assert desk.report().attempt.delivered
            assert desk.key() == (text, "")
        phone.wait_for("BYE")
        heard = [linear(code) for code in b"".join(packet[12:] for packet in phone.packets)]
    windows = [heard[start : start + 800] for start in range(0, len(heard) - 800, 800)]
    for frequency in hertz.values():
        assert sum(best(window, frequency, 800) > 0.1 for window in windows) >= 4, f"{frequency} Hz was broken off"


def test_nothing_is_said_to_a_desk_that_vanished_in_the_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unplugged, or restarted: it hung up on nobody."""
    monkeypatch.setattr(desk_call, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(outgoing_call, "BYE_SECONDS", 0.1)
    with DeskPhone() as phone:
        url = f"sip-call:100@{phone.endpoint}"
        desk.send(url, "n1")
        assert desk.report().attempt.delivered
        assert desk.key() == ("n1", "")
        phone.wait_for("ACK")
        phone.behaviour = "silent"
        desk.send(url, "n2")
        attempt = desk.report().attempt
        assert (attempt.delivered, attempt.reason) == (False, "hung-up")
        phone.behaviour = "answers"
        desk.send(url, "n2")
        assert desk.report().attempt.words == "SIP 200 OK: answered"
        assert desk.key() == ("n2", "")
        assert sum(1 for one in phone.requests if one.startswith("INVITE ")) == 2


@pytest.mark.parametrize(
    ("direction", "address", "answer"),
    [("sendonly", "", "recvonly"), ("inactive", "", "inactive"), ("sendrecv", "0.0.0.0", "sendrecv")],
)
def test_a_desk_that_holds_hears_it_from_the_beginning_when_it_is_back(
    desk: Desk, direction: str, address: str, answer: str
) -> None:
    with DeskPhone() as phone:
        desk.send(f"sip-call:100@{phone.endpoint}")
        assert desk.key() == ("n1", "")
        phone.wait_for("ACK")
        phone.wait_for_sound(5)
        held = phone.hold(direction, address)
        assert f"a={answer}\r\n" in held
        # What comes meanwhile rings anew: nobody hears this call.
        desk.send(f"sip-call:100@{phone.endpoint}", "n2")
        phone.invite = ""
        phone.wait_for("INVITE", 2)
        assert desk.key() == ("n2", "")


def test_a_desk_that_holds_is_sent_nothing_and_hung_up_on_when_it_does_not_come_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DeskPhone() as phone:
        desk.send(f"sip-call:100@{phone.endpoint}")
        phone.wait_for_sound(5)
        phone.hold("sendonly")
        before = len(phone.packets)
        assert "a=sendrecv\r\n" in phone.hold("sendrecv")
        sound = phone.wait_for_sound(before + 60)[160 * (before + 5) :]
        assert best([linear(code) for code in sound], 853, 1600) > 0.2, "the attention tone again"
        monkeypatch.setattr(desk_call, "HELD_SECONDS", 0.2)
        phone.hold("inactive")
        phone.wait_for("BYE")


def test_of_two_phones_that_pick_up_one_is_talked_to_and_the_other_hung_up_on(desk: Desk) -> None:
    with DeskPhone(behaviour="forks") as phone:
        desk.send(f"sip-call:100@{phone.endpoint}")
        assert desk.key() == ("n1", "")
        bye = phone.wait_for("BYE")
        assert ";tag=other" in bye
        acks = [one for one in phone.requests if one.startswith("ACK ")]
        assert [sum(f";tag={tag}\r\n" in one for one in acks) for tag in ("desk", "other")] == [1, 1]
        phone.wait_for_sound(20)
        phone.press(1)
        assert desk.key() == ("n1", "1")
        assert ";tag=desk" in phone.wait_for("BYE", 2)


@pytest.mark.parametrize("scheme", ["sip", "sip-call"])
def test_a_connection_that_ends_under_a_request_is_noticed_and_the_next_goes_by_another(
    desk: Desk, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        url = f"{scheme}:100@127.0.0.1:{listener.getsockname()[1]};transport=tcp"
        for token in ("n1", "n2"):
            desk.send(url, token)
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(65536).startswith((b"MESSAGE ", b"INVITE "))
            report = desk.report()
            assert (report.job.token, report.attempt.reason) == (token, "unreachable")


@pytest.mark.parametrize("scheme", ["sip", "sip-call"])
def test_a_desk_that_is_forwarded_for_the_night_is_followed_among_ours(desk: Desk, scheme: str) -> None:
    elsewhere = DeskPhone("127.0.0.2")
    with DeskPhone() as mobile, elsewhere, DeskPhone() as phone:
        phone.behaviour = f"moved: <sip:9@192.0.2.1>, <sip:200@{mobile.endpoint}>;q=0.5"
        desk.send(f"{scheme}:100@{phone.endpoint}")
        attempt = desk.report().attempt
        assert attempt.delivered, attempt.words
        assert f"sent on to sip:200@{mobile.endpoint}" in attempt.words
        if scheme == "sip-call":
            mobile.wait_for("ACK")
            mobile.press(4)
            assert [desk.key(), desk.key()] == [("n1", ""), ("n1", "4")]
        phone.behaviour = f"moved: <sip:200@{elsewhere.endpoint}>"
        desk.send(f"{scheme}:100@{phone.endpoint}", "n2")
        attempt = desk.report().attempt
        assert (attempt.delivered, attempt.words) == (False, "SIP 302 Moved Temporarily"), "who is not one of ours"
        assert elsewhere.requests == []
        phone.behaviour = f"moved: <sip:100@{phone.endpoint}>"
        desk.send(f"{scheme}:100@{phone.endpoint}", "n3")
        assert not desk.report().attempt.delivered, "round and round"
        phone.behaviour = f"moved: <sip:200@{elsewhere.endpoint}>"
        desk.inside.add("127.0.0.2")
        desk.send(f"{scheme}:100@{phone.endpoint}", "n4")
        assert desk.report().attempt.delivered


def test_busy_is_a_temporary_no(desk: Desk) -> None:
    with DeskPhone(behaviour="busy") as phone:
        desk.send(f"sip-call:100@{phone.endpoint}")
        attempt = desk.report().attempt
        phone.wait_for("ACK")
    assert (attempt.delivered, attempt.permanent, attempt.words) == (False, False, "SIP 486 Busy Here")


def test_nobody_picks_up_and_the_phone_stops_ringing(desk: Desk) -> None:
    with DeskPhone(behaviour="rings") as phone:
        desk.send(f"sip-call:100@{phone.endpoint}?ring=1s")
        attempt = desk.report().attempt
        phone.wait_for("CANCEL")
        phone.wait_for("ACK")
    assert (attempt.delivered, attempt.reason) == (False, "no-answer")
    assert desk.keys.empty()


def test_a_phone_that_hangs_delays_no_other(desk: Desk) -> None:
    with DeskPhone(behaviour="silent") as hanging, DeskPhone() as phone:
        desk.send(f"sip:100@{hanging.endpoint}", "hangs")
        desk.send(f"sip-call:100@{hanging.endpoint}", "hangs")
        desk.send(f"sip:100@{phone.endpoint}", "n1")
        assert desk.report().job.token == "n1"


def test_names_that_dns_does_not_answer_delay_no_phone_given_by_address(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, over, asked = socket.getaddrinfo, threading.Event(), threading.Semaphore(0)

    def hanging(host: str, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(".example.com"):
            asked.release()
            over.wait(60)
        return real("127.0.0.1" if str(host).endswith(".example.com") else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    try:
        for number in range(40):
            desk.send(f"sip:100@desk{number}.example.com", f"hangs{number}")
        assert asked.acquire(timeout=30)
        with DeskPhone() as phone:
            desk.send(f"sip-call:100@{phone.endpoint}", "call")
            report = desk.report()
            assert (report.job.token, report.attempt.delivered) == ("call", True)
            assert phone.wait_for_sound(5), "speech is made by others than those who wait for names"
    finally:
        over.set()


def test_mu_law_is_that_of_the_standard() -> None:
    samples = list(range(-32768, 32768, 37))
    ours = to_mulaw(samples)
    for sample, code in zip(samples, ours, strict=True):
        # The lowest two bits do not count, which moves some samples to the neighbouring step.
        assert abs(linear(code) - linear(ulaw(sample))) <= max(abs(sample) // 8, 16)


def test_sound_of_another_rate_keeps_its_pitch() -> None:
    import array
    import math

    at_22k = array.array("h", (int(12000 * math.sin(2 * math.pi * 500 * n / 22050)) for n in range(22050)))
    heard = [linear(code) for code in to_telephone(at_22k, 22050)]
    assert 7900 < len(heard) <= 8000
    assert best(heard, 500) > 0.9


@pytest.mark.parametrize("language", ["en", "fr"])
def test_without_a_speech_program_the_clips_say_the_number(monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    monkeypatch.setattr(speech, "installed", tuple)
    without, with_number = announce("text", language), announce("text", language, "+12125550123")
    assert len(with_number) > len(without) + 8000 * 2
    assert max(abs(linear(code)) for code in clips(language)) > 5000


def test_markup_reaches_no_speech_program() -> None:
    text = speakable('-v evil <speak>[[h@]] "Éva" & $(rm) `x` | \\ 3ᵉ étage; call +1 212_555</speak>')
    assert not set('<>[]"&$`|\\_@') & set(text)
    assert not text.startswith("-")
    assert "Éva" in text
    assert "3ᵉ étage; call +1 212 555" in text
    assert len(speakable("x" * 5000)) <= speech.LONGEST_TEXT


@pytest.mark.parametrize(
    ("sdp", "wanted"),
    [
        ("v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\n", ("10.0.0.1", 4000, 0, None)),
        (
            "c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 8 96 97\r\nc=IN IP4 10.0.0.2\r\na=rtpmap:96 PCMU/8000\r\n"
            "a=rtpmap:97 telephone-event/8000\r\nm=video 1 RTP/AVP 0\r\nc=IN IP4 10.0.0.3\r\n",
            ("10.0.0.2", 4000, 96, 97),
        ),
        ("c=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 8 18\r\n", None),
        ("c=IN IP4 10.0.0.1\r\nm=audio 0 RTP/AVP 0\r\n", None),
        ("c=\r\nm=audio\r\nm=audio x RTP/AVP 0\r\na=rtpmap:\r\n", None),
        ("", None),
    ],
)
def test_an_answer_is_read(sdp: str, wanted: tuple[object, ...] | None) -> None:
    audio = read_audio(sdp.encode())
    assert (audio and (audio.host, audio.port, audio.payload_type, audio.keys_type)) == wanted


@pytest.mark.parametrize(
    "packet", [b"", b"\x80\x65", b"\x80\x65" + b"\0" * 13, b"\x9f\x65" + b"\0" * 20, b"\xff" * 40]
)
def test_broken_packets_are_no_keys(packet: bytes) -> None:
    assert pressed_key(packet, 101) is None
