"""Syslog and SNMP against real receivers: sockets as RFC 5424's transports want them, and net-snmp's snmptrapd."""

import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.notices.channels import Channels, Job, Report
from router.notices.receivers import snmp
from router.notices.receivers.snmp import ROOT, engine_id_of
from tests.support.certificates import Authority
from tests.support.ports import Endpoint, endpoint, is_bound

SUBJECT = 'APPEL 911 : Accueil, 3ᵉ "étage" [4102] \\'
BODY = "Le 911 a été composé.\nRappel : +12125550123\n"
SYSLOG = re.compile(
    r"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\S+) edge911 (\d+) (\S+) "
    r'\[edge911@32473((?: \w+="[^"]*")*)\] '
    "\ufeff(.*)"
)


def send(url: str, kind: str = "call", count: int = 1) -> list[Report]:
    channels = Channels(node="hq-1")
    reports = []
    for number in range(count):
        channels.send(
            Job(
                token=f"n{number}",
                url=url,
                subject=SUBJECT,
                body=BODY,
                call=f"call-{number}",
                kind=kind,
                contact='desk"]',
                site="hq",
            )
        )
        reports.append(channels.reports.get(timeout=30))
    channels.close()
    return reports


class StreamReceiver:
    """Takes octet-counted messages (RFC 6587 section 3.4.1), over TLS where there is a certificate."""

    def __init__(self, context: ssl.SSLContext | None = None, *, closes: bool = False) -> None:
        self.messages: list[str] = []
        self.connections = 0
        self._closes = closes
        self._context = context
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._stop = False

    def _serve(self) -> None:
        self._server.settimeout(0.1)
        while not self._stop:
            try:
                plain, _ = self._server.accept()
            except TimeoutError:
                continue
            try:
                with self._context.wrap_socket(plain, server_side=True) if self._context else plain as connection:
                    self.connections += 1
                    self._read(connection)
            except OSError:
                plain.close()

    def _read(self, connection: socket.socket) -> None:
        connection.settimeout(0.1)
        buffer = b""
        while not self._stop:
            try:
                data = connection.recv(65536)
            except TimeoutError:
                continue
            if not data:
                return
            buffer += data
            while match := re.match(rb"(\d+) ", buffer):
                end = match.end() + int(match[1])
                if len(buffer) < end:
                    break
                self.messages.append(buffer[match.end() : end].decode())
                buffer = buffer[end:]
                if self._closes:
                    return

    def wait_for(self, count: int) -> list[str]:
        deadline = time.monotonic() + 20
        while len(self.messages) < count:
            assert time.monotonic() < deadline, f"{len(self.messages)} of {count}"
            time.sleep(0.01)
        return self.messages

    def __enter__(self) -> "StreamReceiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()
        self._server.close()


def check_syslog(text: str, severity: int) -> None:
    match = SYSLOG.fullmatch(text.replace('\\"', "'"))
    assert match, text
    assert int(match[1]) == 20 * 8 + severity
    assert 'call="call-0"' in match[6]
    assert 'contact="desk\'\\]"' in match[6]
    assert 'node="hq-1"' in match[6]
    assert match[7].startswith("APPEL 911 : Accueil, 3ᵉ")
    assert match[7].endswith("Le 911 a été composé. | Rappel : +12125550123")


@pytest.mark.parametrize(("kind", "severity"), [("call", 1), ("test", 5), ("refused", 4), ("ended", 5)])
def test_syslog_over_udp(kind: str, severity: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        (report,) = send(f"syslog://127.0.0.1:{receiver.getsockname()[1]}?facility=local4", kind)
        check_syslog(receiver.recv(65536).decode(), severity)
    assert report.attempt.delivered
    assert "syslog has no answer" in report.attempt.words


def test_syslog_over_tcp_keeps_its_connection() -> None:
    with StreamReceiver() as receiver:
        reports = send(f"syslog://127.0.0.1:{receiver.port}?transport=tcp&facility=local4", count=3)
        check_syslog(receiver.wait_for(3)[0], 1)
        assert receiver.connections == 1
    assert all(report.attempt.delivered for report in reports)


def test_syslog_over_tls_believes_only_its_authorities(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("syslog", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with StreamReceiver(context) as receiver:
        url = f"syslog://127.0.0.1:{receiver.port}?transport=tls&facility=local4"
        (trusted,) = send(f"{url}&ca={authority.certificate}")
        check_syslog(receiver.wait_for(1)[0], 1)
        (untrusted,) = send(url)
    assert trusted.attempt.delivered
    assert (untrusted.attempt.delivered, untrusted.attempt.reason) == (False, "unreachable")
    assert "certificate" in untrusted.attempt.words


def test_a_syslog_server_that_is_not_there_is_unreachable() -> None:
    nobody = endpoint("127.0.0.1")
    (report,) = send(f"syslog://{nobody}?transport=tcp")
    assert (report.attempt.delivered, report.attempt.reason) == (False, "unreachable")


@contextmanager
def snmptrapd(folder: Path) -> Iterator[tuple[Endpoint, Path]]:
    """net-snmp's trap receiver, without any MIB: it writes what it gets as numbers."""
    at, output = endpoint("127.0.0.1"), folder / "traps"
    users = f"createUser -e 0x{engine_id_of('hq-1')} watch SHA-256 auth-pass AES priv-pass\n"
    (folder / "snmptrapd.conf").write_text(f"authCommunity log public\nauthUser log watch priv\n{users}")
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["snmptrapd", "-f", "-Lo", "-C", "-c", "snmptrapd.conf", "-m", "", "-On", "-OQ", "-Oa", f"udp:{at}"],
            cwd=folder,
            stdout=file,
            stderr=file,
            env={"SNMP_PERSISTENT_DIR": str(folder), "PATH": "/usr/sbin:/usr/bin:/bin"},
        )
    try:
        deadline = time.monotonic() + 20
        while not is_bound(at):
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.02)
        yield at, output
    finally:
        process.terminate()
        process.wait(10)


def wait_for_trap(output: Path, count: int = 1) -> str:
    deadline = time.monotonic() + 20
    while (text := output.read_text(errors="replace")).count(f".{ROOT}.0.") < count:
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    return text


@pytest.mark.peers("snmptrapd")
@pytest.mark.parametrize(
    ("user", "options", "words"),
    [
        ("public", "", "a trap has no answer"),
        ("public", "?inform=yes", "the receiver has answered"),
        (
            "watch",
            "?version=3&auth=sha256&auth_password=auth-pass&privacy=aes&privacy_password=priv-pass",
            "a trap has no answer",
        ),
    ],
    ids=["v2c", "inform", "v3"],
)
def test_a_trap_says_the_notice(tmp_path: Path, user: str, options: str, words: str) -> None:
    assert shutil.which("snmptrapd")
    with snmptrapd(tmp_path) as (at, output):
        (report,) = send(f"snmp://{user}@{at}{options}")
        text = wait_for_trap(output)
    assert report.attempt.delivered
    assert words in report.attempt.words
    assert f".{ROOT}.0.1" in text
    assert f'.{ROOT}.1.1.0 = "call-0"' in text
    assert f'.{ROOT}.1.5.0 = "hq-1"' in text
    assert f".{ROOT}.1.6.0 = " in text
    assert "Rappel : +12125550123" in text


@pytest.mark.peers("snmptrapd")
def test_an_inform_that_nobody_answers_was_not_delivered() -> None:
    (report,) = send(f"snmp://public@{endpoint('127.0.0.1')}?inform=yes")
    assert (report.attempt.delivered, report.attempt.reason) == (False, "timeout")


def test_the_mib_says_what_traps_hold() -> None:
    """A manager that has loaded it checks sizes and names what comes."""
    mib = (Path(__file__).parents[3] / "docs" / "EDGE911-MIB.txt").read_text(encoding="utf-8")
    numbers = {int(number) for number in re.findall(r"::= \{ edge911Notices (\d+) \}", mib)}
    assert numbers == {*snmp.NOTIFICATIONS.values(), snmp.FOLLOW_UP}
    objects = dict(
        re.findall(r"^(edge911\w+) OBJECT-TYPE.*?::= \{ edge911Objects (\d+) \}", mib, re.MULTILINE | re.DOTALL)
    )
    assert list(objects.values()) == [str(number) for number in range(1, 8)]
    assert re.findall(r"SIZE \(0\.\.(\d+)\)", mib) == [str(snmp.LONGEST)]
    for named in re.findall(r"OBJECTS +\{ (edge911Call.*?) \}", mib):
        assert named.split(", ") == list(objects)
