"""Notices to phones that other people wrote: baresip is sent a message and called, hears it, and presses a key."""

import queue
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.notices.channels import Channels, Job
from router.notices.receivers.speech import installed
from tests.router.notices_runner import wait_until
from tests.support.baresip import Baresip
from tests.support.ports import endpoint
from tests.support.sound import best

BODY = "911 was dialled by Front désk, 3ᵉ étage. The callback number is 2 1 2 5 5 5 0 1 2 3."

pytestmark = pytest.mark.peers("baresip", "espeak-ng")


@pytest.fixture
def keys() -> "queue.Queue[tuple[Any, str]]":
    return queue.Queue()


@pytest.fixture
def channels(keys: "queue.Queue[tuple[Any, str]]") -> Iterator[Channels]:
    found = Channels(on_key=lambda token, key: keys.put((token, key)))
    yield found
    found.close()


def byes(phone: Baresip) -> int:
    """Requests to end a call, and answers to these."""
    return len(re.findall(r"^CSeq: \d+ BYE", phone.log, re.MULTILINE))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_desk_reads_hears_and_confirms(
    tmp_path: Path, channels: Channels, keys: "queue.Queue[tuple[Any, str]]", transport: str
) -> None:
    assert installed(), "no speech program"
    at = endpoint("127.0.0.1")
    parameter = "" if transport == "udp" else f";transport={transport}"
    with Baresip(tmp_path / "desk", at=at, user="100", hertz=440, transport=transport, answers=True) as phone:
        for scheme in ("sip", "sip-call"):
            channels.send(Job(token=scheme, url=f"{scheme}:100@{at}{parameter}", subject="911", body=BODY))
            report = channels.reports.get(timeout=60)
            assert report.attempt.delivered, report.attempt.words
        assert keys.get(timeout=30) == ("sip-call", "")
        phone.wait_for("CALL_ESTABLISHED")
        phone.seconds_heard(5)
        phone.command("sndcode", "5")
        assert keys.get(timeout=30) == ("sip-call", "5")
        phone.wait_for("CALL_CLOSED")
        assert BODY in phone.log
        heard = phone.heard()
        # Hung up on, it is over at once: what is said into it from then on would count as heard.
        for token in ("2nd", "3rd"):
            channels.send(Job(token=token, url=f"sip-call:100@{at}{parameter}", subject="911", body=BODY))
            assert channels.reports.get(timeout=60).attempt.words == "SIP 200 OK: answered"
            assert keys.get(timeout=30) == (token, "")
            said = byes(phone)
            phone.command("hangup")
            wait_until(lambda said=said: byes(phone) >= said + 2, "its BYE is answered")
    assert best(heard, 853, 1600) > 0.2, "the attention tone"
    spoken = heard[8000 * 2 :]
    assert max(abs(sample) for sample in spoken) > 2000, "speech after the tone"
    assert best(heard[-8000:], 880, 1600) > 0.3, "the thanks for the key"
