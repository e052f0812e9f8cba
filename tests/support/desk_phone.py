"""A SIP phone on a desk, as bytes on a UDP socket: it answers as a test tells it to, and keeps what it got."""

import hashlib
import re
import socket
import struct
import threading
import time
from types import TracebackType

from tests.support.ports import Endpoint, endpoint


class DeskPhone:
    """behaviour: `answers`, `busy`, `rings` (never picked up), `silent`, `challenges` (401 first), `forks`
    (a second phone answers too), `moved: CONTACT` (302), or a status."""

    def __init__(self, address: str = "127.0.0.1", behaviour: str = "answers", *, password: str = "") -> None:
        self.endpoint: Endpoint = endpoint(address)
        self.behaviour = behaviour
        self.password = password
        self.requests: list[str] = []
        self.packets: list[bytes] = []
        self.peer: tuple[str, int] | None = None
        self.invite = ""
        self._sip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sip.bind(self.endpoint.pair)
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind((address, 0))
        self._arrived = threading.Condition()
        self._stop = False
        self._threads = [threading.Thread(target=self._serve), threading.Thread(target=self._listen)]
        for one in (self._sip, self._rtp):
            one.settimeout(0.1)

    def __enter__(self) -> "DeskPhone":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()
        self._sip.close()
        self._rtp.close()

    def wait_for(self, method: str, count: int = 1, timeout: float = 20) -> str:
        """The last request of that method, as soon as there are `count`."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while len(found := [one for one in self.requests if one.startswith(f"{method} ")]) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(found)} of {count} {method} within {timeout} s: {self.requests}"
                self._arrived.wait(min(left, 0.2))
        return found[-1]

    def wait_for_sound(self, packets: int = 20, timeout: float = 20) -> bytes:
        """The µ-law that came, as soon as there are so many packets."""
        deadline = time.monotonic() + timeout
        while len(self.packets) < packets:
            assert time.monotonic() < deadline, f"{len(self.packets)} of {packets} RTP packets within {timeout} s"
            time.sleep(0.02)
        return b"".join(packet[12:] for packet in self.packets)

    def press(self, key: int) -> None:
        """A key as telephone-events (RFC 4733): three packets, and three times the end."""
        host = re.search(r"c=IN IP4 (\S+)", self.invite)
        port = re.search(r"m=audio (\d+)", self.invite)
        assert host
        assert port
        for number in range(6):
            end = 0x80 if number > 2 else 0
            head = struct.pack("!BBHII", 0x80, (0x80 if number == 0 else 0) | 101, number, 4000, 7)
            event = struct.pack("!BBH", key, end | 10, 160 * min(number + 1, 3))
            self._rtp.sendto(head + event, (host[1], int(port[1])))

    def ask(self, method: str, content_type: str = "", body: str = "", number: int | None = None) -> int:
        """A request in the dialog: BYE, INFO, INVITE, ACK; the number in its CSeq."""
        assert self.peer is not None
        number = len(self.requests) if number is None else number
        contact = self._field(self.invite, "Contact").strip("<>")
        lines = [
            f"{method} {contact} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.endpoint};branch=z9hG4bK{method}{len(self.requests)}",
            "Max-Forwards: 70",
            f"From: {self._field(self.invite, 'To')};tag=desk",
            f"To: {self._field(self.invite, 'From')}",
            f"Call-ID: {self._field(self.invite, 'Call-ID')}",
            f"CSeq: {number} {method}",
            *([f"Contact: <sip:100@{self.endpoint}>"] if method == "INVITE" else []),
            *([f"Content-Type: {content_type}"] if content_type else []),
            f"Content-Length: {len(body)}",
        ]
        self._sip.sendto(("\r\n".join(lines) + "\r\n\r\n" + body).encode(), self.peer)
        return number

    def hold(self, direction: str, address: str = "") -> str:
        """A re-INVITE with this direction (and address, where not its own); the answer to it."""
        host, port = self._rtp.getsockname()
        body = (
            f"v=0\r\no=- 1 2 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {address or host}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na={direction}\r\n"
        )
        number = self.ask("INVITE", "application/sdp", body)
        deadline = time.monotonic() + 20
        while not (
            found := [one for one in self.requests if f"\nCSeq: {number} INVITE" in one and " 100 " not in one]
        ):
            assert time.monotonic() < deadline, "no answer to a re-INVITE"
            time.sleep(0.02)
        self.ask("ACK", number=number)
        return found[0]

    def _serve(self) -> None:
        while not self._stop:
            try:
                data, peer = self._sip.recvfrom(65536)
            except (TimeoutError, ConnectionError):
                continue
            text = data.decode()
            self.peer = peer
            with self._arrived:
                is_again = text in self.requests
                self.requests.append(text)
                self._arrived.notify_all()
            method = text.split(" ")[0]
            if self.behaviour == "silent" or method in ("ACK", "SIP/2.0") or (is_again and method != "INVITE"):
                continue
            self._answer(text, method)

    def _answer(self, text: str, method: str) -> None:
        if method == "CANCEL":
            self._reply(text, "200 OK")
            self._reply(self.invite, "487 Request Terminated")
            return
        if self.behaviour == "challenges" and not self._is_authorized(text, method):
            challenge = 'WWW-Authenticate: Digest realm="pbx", nonce="n1", algorithm=MD5, qop="auth"'
            self._reply(text, "401 Unauthorized", challenge)
        elif method in ("INVITE", "MESSAGE") and self.behaviour.startswith("moved: "):
            self._reply(text, "302 Moved Temporarily", f"Contact: {self.behaviour.removeprefix('moved: ')}")
        elif method == "INVITE":
            self.invite = text
            self._take_call(text)
        elif method == "MESSAGE" and self.behaviour not in ("answers", "challenges"):
            self._reply(text, self.behaviour)
        else:
            self._reply(text, "200 OK")

    def _take_call(self, text: str) -> None:
        if self.behaviour == "busy":
            self._reply(text, "486 Busy Here")
            return
        self._reply(text, "180 Ringing")
        if self.behaviour == "rings":
            return
        host, port = self._rtp.getsockname()
        body = (
            f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n"
            "a=rtpmap:101 telephone-event/8000\r\n"
        )
        fields = (f"Contact: <sip:100@{self.endpoint}>", "Content-Type: application/sdp")
        self._reply(text, "200 OK", *fields, body=body)
        if self.behaviour == "forks":
            time.sleep(0.3)
            self._reply(text, "200 OK", *fields, body=body, tag="other")

    def _is_authorized(self, text: str, method: str) -> bool:
        field = self._field(text, "Authorization")
        if not field:
            return False
        values = dict(re.findall(r'(\w+)="?([^",]+)"?', field))
        hashed = lambda value: hashlib.md5(value.encode()).hexdigest()  # noqa: E731 - short, and used twice
        secret = hashed(f"{values['username']}:pbx:{self.password}")
        request = hashed(f"{method}:{values['uri']}")
        wanted = hashed(f"{secret}:n1:{values['nc']}:{values['cnonce']}:auth:{request}")
        return values["response"] == wanted

    def _reply(self, request: str, status: str, *extra: str, body: str = "", tag: str = "desk") -> None:
        assert self.peer is not None
        to = self._field(request, "To")
        lines = [
            f"SIP/2.0 {status}",
            *(f"{name}: {self._field(request, name)}" for name in ("Via", "From", "Call-ID", "CSeq")),
            f"To: {to if 'tag=' in to else to + ';tag=' + tag}",
            *extra,
            f"Content-Length: {len(body)}",
        ]
        self._sip.sendto(("\r\n".join(lines) + "\r\n\r\n" + body).encode(), self.peer)

    def _listen(self) -> None:
        while not self._stop:
            try:
                data = self._rtp.recv(2048)
            except (TimeoutError, ConnectionError):
                continue
            self.packets.append(data)

    @staticmethod
    def _field(text: str, name: str) -> str:
        match = re.search(rf"^{name}: (.*?)\r$", text, re.MULTILINE | re.IGNORECASE)
        return match[1] if match else ""
