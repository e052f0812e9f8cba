"""baresip as a phone: headless, a tone for a voice, and what it heard kept as samples.

It is steered over its ctrl_tcp module: netstrings of JSON in and, unasked, events out.
"""

import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.ports import Endpoint, free_port, is_bound
from tests.support.sound import read, write_tone

_MODULES = ("g711", "aufile", "aubridge", "sndfile", "srtp")
_TEMPORARY = ("uuid", "account")
_APPLICATIONS = ("menu", "debug_cmd", "ctrl_tcp")
_CONFIG = """poll_method epoll
sip_listen {at}
{certificate}
net_interface {at.address}
call_local_timeout 30
call_max_calls 4
audio_source aufile,{folder}/voice.wav
audio_player aubridge,sink
audio_alert aubridge,sink
audio_path /nonexistent
ausrc_srate 8000
rtp_ports {rtp}-{rtp_end}
jitter_buffer_delay 1-5
rtp_stats yes
module_path /usr/lib/baresip/modules
{modules}
snd_path {folder}
ctrl_tcp_listen {control}
ringback_disabled yes
menu_bell no
statmode_default off
"""


class Baresip:
    """One baresip with one account; a context manager that leaves no process behind."""

    def __init__(
        self,
        folder: Path,
        *,
        at: Endpoint,
        user: str,
        hertz: float,
        outbound: Endpoint | None = None,
        transport: str = "udp",
        domain: str | None = None,
        registers: bool = False,
        encryption: str = "",
        answers: bool = False,
        certificate: Path | None = None,
        seconds: float = 60,
    ) -> None:
        """at: UDP and TCP; TLS listens on the next port. outbound: the proxy, by `transport`. domain: of its address,
        where that is not the proxy. encryption: of its media, such as `srtp-mand`. answers: picks up at once.
        certificate: certificate and key in one PEM file. seconds: how long its voice lasts, then it hangs up.
        """
        assert shutil.which("baresip"), "no baresip on the PATH (package baresip-core)"
        self.at, self.folder, self.domain = at, folder, domain or outbound
        folder.mkdir(parents=True)
        write_tone(folder / "voice.wav", hertz, seconds)
        self.control = Endpoint(address=at.address, port=free_port(at.address))
        rtp = free_port(at.address) // 2 * 2
        modules = [f"module {name}.so" for name in _MODULES]
        modules += [f"module_tmp {name}.so" for name in _TEMPORARY]
        modules += [f"module_app {name}.so" for name in _APPLICATIONS]
        (folder / "config").write_text(
            _CONFIG.format(
                at=at,
                certificate=f"sip_certificate {certificate}" if certificate else "",
                folder=folder,
                rtp=rtp,
                rtp_end=rtp + 19,
                modules="\n".join(modules),
                control=self.control,
            )
        )
        parameter = f";transport={transport}" if transport != "udp" else ""
        account = f'"Desk" <sip:{user}@{domain or outbound or at.address}{parameter}>;regint={60 if registers else 0}'
        if outbound:
            account += f';outbound="sip:{outbound}{parameter}"'
        if encryption:
            account += f";mediaenc={encryption}"
        if answers:
            account += ";answermode=auto"
        (folder / "accounts").write_text(account + "\n")
        (folder / "contacts").write_text("")
        self.events: list[dict[str, Any]] = []
        self._buffer = b""

    @property
    def log(self) -> str:
        """What it said, each SIP message among it."""
        return (self.folder / "log").read_text(errors="replace")

    def __enter__(self) -> "Baresip":
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["baresip", "-4", "-f", str(self.folder), "-t", "120", "-s"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while not (is_bound(self.control, "tcp") and is_bound(self.at)):
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        self._socket = socket.create_connection(self.control.pair, timeout=5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)

    def command(self, command: str, parameters: str = "") -> None:
        """Tell it something: `dial`, `hangup`, `hold`, `resume`."""
        text = json.dumps({"command": command, "params": parameters, "token": command}).encode()
        self._socket.sendall(b"%d:%s," % (len(text), text))

    def dial(self, number: str) -> None:
        """Dial through the outbound proxy."""
        self.command("dial", f"sip:{number}@{self.domain}")

    def registered(self, timeout: float = 60) -> None:
        """Wait until the registrar has said yes. (Read from the log: the event may come before anybody listens.)"""
        deadline = time.monotonic() + timeout
        while "200 OK" not in self.log or "[1 binding]" not in self.log:
            assert time.monotonic() < deadline, f"not registered within {timeout} s:\n{self.log[-5000:]}"
            time.sleep(0.02)

    def wait_for(self, event: str, timeout: float = 60) -> dict[str, Any]:
        """The first event of that type since the last one waited for, such as CALL_ESTABLISHED or CALL_CLOSED."""
        deadline = time.monotonic() + timeout
        while True:
            while self.events:
                one = self.events.pop(0)
                if one.get("type") == event:
                    return one
            left = deadline - time.monotonic()
            assert left > 0, f"no {event} within {timeout} s:\n{self.log[-5000:]}"
            self._receive(left)

    def _receive(self, timeout: float) -> None:
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return
        assert data, f"baresip is gone:\n{self.log[-5000:]}"
        self._buffer += data
        while b":" in self._buffer:
            length, _, rest = self._buffer.partition(b":")
            if len(rest) <= int(length):
                return
            said = json.loads(rest[: int(length)])
            self._buffer = rest[int(length) + 1 :]
            if said.get("event"):
                self.events.append(said)

    def seconds_heard(self, seconds: float, timeout: float = 40) -> None:
        """Wait until it has recorded so much."""
        deadline = time.monotonic() + timeout
        while not any(file.stat().st_size > 16_000 * seconds for file in self.folder.glob("dump-*-dec.wav")):
            assert time.monotonic() < deadline, f"less than {seconds} s heard within {timeout} s:\n{self.log[-5000:]}"
            time.sleep(0.05)

    def heard(self) -> list[int]:
        """What came out of its loudspeaker, 16-bit samples at 8 kHz; whole once the call has ended."""
        files = sorted(self.folder.glob("dump-*-dec.wav"))
        assert files, f"no call with media:\n{self.log[-5000:]}"
        return read(files[-1])
