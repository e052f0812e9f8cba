"""Notices to a syslog server: RFC 5424 over UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425).

Syslog has no answer: over UDP a notice counts as delivered when it was sent, over a connection when that took it.
"""

import os
import select
import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime

from config.channel_urls import SyslogReceiver
from router.network.trust import verifying_context
from router.notices.outbox import Attempt
from router.notices.receivers.job import Job, base_kind

ENTERPRISE = 32473
"""The enterprise number that IANA keeps for examples (RFC 5612)."""
SECONDS = 5.0
UDP_BYTES = 2048
"""RFC 5426 section 3.2: what every receiver should take."""
_SEVERITIES = {"test": 5, "refused": 4}
_ALERT, _NOTICE = 1, 5


class SyslogWay:
    """One server, for use by one thread; a connection is kept."""

    def __init__(self, receiver: SyslogReceiver, node: str) -> None:
        self._receiver = receiver
        self._node = node
        self._socket: socket.socket | None = None

    def send(self, job: Job) -> Attempt:
        """One message."""
        line = message(job, self._receiver, self._node, time.time())
        where = f"{self._receiver.transport} {self._receiver.host}:{self._receiver.port}"
        try:
            if self._receiver.transport == "udp":
                self._send_datagram(line)
            else:
                self._send_framed(b"%d %b" % (len(line), line))
        except TimeoutError:
            self.close()
            return Attempt(delivered=False, reason="timeout", words=f"{where}: no connection in time")
        except (OSError, ssl.SSLError) as error:
            self.close()
            return Attempt(delivered=False, reason="unreachable", words=f"{where}: {error.strerror or error}"[:300])
        return Attempt(delivered=True, words=f"sent by {where}; syslog has no answer")

    def _send_datagram(self, line: bytes) -> None:
        if self._socket is None:
            found = socket.getaddrinfo(self._receiver.host, self._receiver.port, type=socket.SOCK_DGRAM)
            self._socket = socket.socket(found[0][0], socket.SOCK_DGRAM)
            # Connected, so that a port where nobody listens is heard of, with the next message at the latest.
            self._socket.connect(found[0][4])
        self._socket.send(line.decode("utf-8", "ignore").encode()[:UDP_BYTES])

    def _send_framed(self, data: bytes) -> None:
        if self._socket is not None and _has_ended(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connected()
        self._socket.sendall(data)

    def _connected(self) -> socket.socket:
        receiver = self._receiver
        plain = socket.create_connection((receiver.host, receiver.port), timeout=SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receiver.transport != "tls":
            return plain
        context = verifying_context(receiver.authorities or None)
        try:
            return context.wrap_socket(plain, server_hostname=receiver.host)
        except BaseException:
            plain.close()
            raise

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None


def message(job: Job, receiver: SyslogReceiver, node: str, at: float) -> bytes:
    """One syslog message (RFC 5424 section 6), without framing: structured data, then the text."""
    severity = _SEVERITIES.get(base_kind(job.kind), receiver.severity)
    if job.is_follow_up:
        severity = max(severity, _NOTICE)
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    pairs = {"call": job.call, "kind": job.kind, "contact": job.contact, "site": job.site, "node": node}
    data = " ".join(f'{name}="{_quoted(value)}"' for name, value in pairs.items() if value)
    head = (
        f"<{receiver.facility * 8 + severity}>1 {when} {_name(socket.gethostname(), 255)} edge911 {os.getpid()} "
        f"{_name(job.kind, 32)} [edge911@{ENTERPRISE}{' ' + data if data else ''}]"
    )
    text = " | ".join(line.strip() for line in (job.subject, *job.body.splitlines()) if line.strip())
    return f"{head} \ufeff{text}".encode()


def _quoted(value: str) -> str:
    plain = "".join(character if character.isprintable() else " " for character in value)
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _name(text: str, most: int) -> str:
    """Printable ASCII without blanks."""
    return "".join(one for one in text if 33 <= ord(one) <= 126)[:most] or "-"


def _has_ended(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
