"""More comes than a router can treat: seen on the wire of a running one."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import pytest

from router.network.trust import verifying_context
from sip.framing import StreamFramer
from tests.support.certificates import Authority
from tests.support.ports import Endpoint
from tests.support.raw_sip import Peer, answers
from tests.support.sip_text import Message, parse
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

            def flood(first: int, count: int) -> None:
                for number in range(first, first + count):
                    one = invite.replace(b"branch=z9hG4bK", b"branch=z9hG4bKf%d" % number)
                    flooder.sendto(one.replace(b"Call-ID: ", b"Call-ID: f%d-" % number), place.router.pair)

            os.kill(router.sip_pid(), signal.SIGSTOP)
            flood(0, FLOOD)
            emergency = place.call(phone)
            emergency.dial()
            # Read while they come: the 100 of those that are served would fill the socket before the 503 of others.
            with ThreadPoolExecutor(1) as reader:
                reading = reader.submit(answered_with, flooder, b"SIP/2.0 503")
                os.kill(router.sip_pid(), signal.SIGCONT)
                provider.respond(provider.take("INVITE"), 200)
                before = len(carrier.messages("INVITE"))
                emergency.answered()
                assert before < FLOOD / 2, "it did not wait for all before it"
                # A quick machine has treated the first of them before one is late: more come until it is too many.
                for again in range(1, 20):
                    if router.metric("edge911_dropped_total", reason="overloaded"):
                        break
                    flood(again * FLOOD, FLOOD)
                refusals = reading.result()
        assert refusals, "who cannot be served is told so"
        for raw in refusals[:20]:
            refusal = parse(raw)
            assert "overloaded" in refusal.get("warning")
            assert not refusal.all("retry-after"), "a client would hold back its 911 calls too (RFC 3261 21.5.4)"
        assert router.metric("edge911_dropped_total", reason="overloaded") >= len(refusals)
        assert router.metric("edge911_events_total", event="overloads") >= 1
        assert router.answers_options(timeout=5.0)


@pytest.mark.long
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_911_overtakes_what_its_own_connection_brought_before_it(tmp_path: Path, transport: str) -> None:
    """A trunk of the PBX carries thousands of ordinary calls, and then one to 911."""
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("router", "DNS:edge.example.com")
    files = {"edge.crt": pair.certificate.read_text(), "edge.key": pair.key.read_text()}
    tls = {"certificate": "edge.crt", "private_key": "edge.key"}
    with world(tmp_path, {"flooded": Plan()}, files=files, tls=tls) as built:
        place, router = built["flooded"], built.router
        to = built.secure if transport == "tls" else place.router
        with (
            place.peer("phone", tcp=False) as phone,
            place.peer("provider_a") as provider,
            # Its 100 ends retransmissions, which would keep this machine busy for half a minute.
            Peer(built.street["carrier"], rule=answers(100)) as carrier,
            Trunk(to, phone.at.address, authority if transport == "tls" else None) as trunk,
        ):
            name = transport.upper().encode()
            ordinary = (
                place.call(phone, uri=f"sip:+12125550177@{to}").invite().replace(b"SIP/2.0/UDP", b"SIP/2.0/" + name)
            )
            emergency = place.call(phone, uri=f"sip:911@{to}")
            os.kill(router.sip_pid(), signal.SIGSTOP)
            trunk.send(
                b"".join(
                    ordinary.replace(b"branch=z9hG4bK", b"branch=z9hG4bKf%d" % number).replace(
                        b"Call-ID: ", b"Call-ID: f%d-" % number
                    )
                    for number in range(FLOOD)
                )
                + emergency.invite().replace(b"SIP/2.0/UDP", b"SIP/2.0/" + name)
            )
            os.kill(router.sip_pid(), signal.SIGCONT)
            provider.respond(provider.take("INVITE"), 200)
            before = len({one.call_id for one in carrier.messages("INVITE")})
            # Of TLS only what has been deciphered can be sorted, 16 KB at a time.
            assert before < (FLOOD if transport == "tls" else FLOOD / 2), "it did not wait for all before it"
            trunk.wait_for(lambda: 200 in trunk.answered.get(emergency.call_id, ()))
            # By a stream nobody sends again: each of them is answered, by 100 or by a refusal.
            trunk.wait_for(lambda: len(trunk.answered) == FLOOD + 1)
            # How many wait longer than 0.2 s depends on the machine: perhaps none.
            refusals = [one for one in trunk.came if one.status == 503]
        assert all("overloaded" in one.get("warning") and not one.all("retry-after") for one in refusals[:20])
        assert router.metric("edge911_dropped_total", reason="overloaded") >= len(refusals)
        assert router.answers_options(timeout=5.0)


class Trunk:
    """One connection of a PBX, by TCP or TLS; what comes back on it is kept."""

    def __init__(self, to: Endpoint, address: str, authority: Authority | None) -> None:
        self.came: list[Message] = []
        self.answered: dict[str, list[int]] = {}
        """Statuses by Call-ID."""
        self.framer = StreamFramer()
        plain = socket.create_connection(to.pair, timeout=60, source_address=(address, 0))
        with contextlib.suppress(PermissionError):
            plain.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_SNDBUFFORCE", 32), 16_000_000)
        self.socket = plain
        if authority is not None:
            context = verifying_context(str(authority.certificate))
            self.socket = context.wrap_socket(plain, server_hostname="edge.example.com")
        self._sender = threading.Thread(target=lambda: None)

    def send(self, data: bytes) -> None:
        """Into the buffers of the system; where they are too small for it, beside whoever calls."""
        self._sender = threading.Thread(target=self.socket.sendall, args=(data,), daemon=True)
        self._sender.start()
        self._sender.join(5)

    def wait_for(self, is_true: Callable[[], bool], timeout: float = 60) -> None:
        """Read until it is true."""
        deadline = time.monotonic() + timeout
        while not is_true():
            assert time.monotonic() < deadline, f"{len(self.came)} responses"
            for data in self.framer.feed(self.socket.recv(65_536)):
                self.came.append(one := parse(data))
                self.answered.setdefault(one.call_id, []).append(one.status)

    def __enter__(self) -> "Trunk":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.join(60)
        self.socket.close()


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
