"""More comes than a router can treat: seen on the wire of a running one."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.raw_sip import Peer
from tests.support.sip_text import parse
from tests.support.world import Plan, world

pytestmark = pytest.mark.peers

FLOOD = 3_000


def test_911_overtakes_a_flood_of_ordinary_calls_and_those_that_wait_too_long_get_503(tmp_path: Path) -> None:
    """All of them wait in the socket before the 911 call comes; the router has not seen one of them yet."""
    with world(tmp_path, {"flooded": Plan()}) as built:
        place, router = built["flooded"], built.router
        with (
            place.peer("phone") as phone,
            place.peer("provider_a") as provider,
            Peer(built.street["carrier"]) as carrier,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder,
        ):
            flooder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_000_000)
            flooder.bind((phone.at.address, 0))
            flooder.setblocking(False)
            template = place.call(phone, uri=f"sip:+12125550177@{place.router}")
            invite = template.invite()
            os.kill(router.sip_pid(), signal.SIGSTOP)
            for number in range(FLOOD):
                one = invite.replace(b"branch=z9hG4bK", b"branch=z9hG4bKf%d" % number)
                flooder.sendto(one.replace(b"Call-ID: ", b"Call-ID: f%d-" % number), place.router.pair)
            emergency = place.call(phone)
            emergency.dial()
            os.kill(router.sip_pid(), signal.SIGCONT)
            provider.respond(provider.take("INVITE"), 200)
            before = len(carrier.messages("INVITE"))
            emergency.answered()
            assert before < FLOOD / 2, "it did not wait for all that came before it"
            refusals = answered_with(flooder, b"SIP/2.0 503")
        assert refusals, "who cannot be served is told so"
        for raw in refusals[:20]:
            refusal = parse(raw)
            assert "overloaded" in refusal.get("warning")
            assert not refusal.all("retry-after"), "a client would hold back its 911 calls too (RFC 3261 21.5.4)"
        assert router.metric("edge911_dropped_total", reason="overloaded") >= len(refusals)
        assert router.metric("edge911_events_total", event="overloads") >= 1
        assert router.answers_options(timeout=5.0)


def answered_with(flooder: socket.socket, start: bytes) -> list[bytes]:
    """The responses that begin so, as soon as nothing more comes for two seconds."""
    found: list[bytes] = []
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 2.0:
        try:
            data = flooder.recv(65_535)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        quiet_since = time.monotonic()
        if data.startswith(start):
            found.append(data)
    return found
