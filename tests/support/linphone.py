"""Linphone's console (linphonec) as a phone: headless, a tone for a voice, what it heard kept as samples.

It asks the machine for its address, so its media may be at an outside address of the machine; they do not leave it.
"""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

from tests.support.ports import Endpoint, free_port
from tests.support.sound import read, write_tone

_RC = """[sip]
default_proxy=0
sip_port={at.port}
sip_tcp_port={at.port}
sip_tls_port={tls_port}
bind_address={at.address}
use_ipv6=0
ipv6_migration_done=1
verify_server_certs=1
root_ca={ca}
guess_hostname=0
contact="Lin" <sip:{user}@{at.address}>
[rtp]
audio_rtp_port={rtp}
[proxy_0]
reg_proxy=<sip:{proxy};transport={transport}>
reg_route=<sip:{proxy};transport={transport};lr>
reg_identity="Lin" <sip:{user}@{domain}>
reg_expires=60
reg_sendregister={registers}
publish=0
[video]
enabled=0
capture=0
display=0
automatically_initiate=0
automatically_accept=0
"""


class Linphone:
    """One linphonec; a context manager that leaves no process behind."""

    def __init__(
        self,
        folder: Path,
        *,
        at: Endpoint,
        user: str,
        hertz: float,
        proxy: str,
        transport: str = "udp",
        domain: str | None = None,
        registers: bool = False,
        ca: Path | None = None,
        seconds: float = 60,
    ) -> None:
        """proxy: HOST:PORT that everything goes to. domain: of its address, where that is not the proxy.

        ca: who may sign the proxy's certificate (TLS), which Linphone checks by its host name, never by address.
        """
        assert shutil.which("linphonec"), "no linphonec on the PATH (package linphone-cli)"
        self.folder, self.proxy = folder, proxy
        (folder / "home/.local/share/linphone").mkdir(parents=True)
        write_tone(folder / "voice.wav", hertz, seconds)
        (folder / "rc").write_text(
            _RC.format(
                at=at,
                tls_port=free_port(at.address),
                rtp=free_port(at.address) // 2 * 2,
                user=user,
                proxy=proxy,
                domain=domain or proxy,
                registers=int(registers),
                transport=transport,
                ca=ca or "/nonexistent",
            )
        )

    @property
    def log(self) -> str:
        """What it said, its own log behind it."""
        files = (self.folder / "output", self.folder / "log")
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def __enter__(self) -> "Linphone":
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                ["linphonec", "-c", str(self.folder / "rc"), "-d", "5", "-l", str(self.folder / "log")],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder / "home")},
                start_new_session=True,
            )
        self.wait_for("linphonec>")
        self.say("soundcard use files")
        self.say("autoanswer enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin
        try:
            self.say("quit")
            self.process.wait(3)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait(5)
        finally:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def say(self, line: str) -> None:
        """Type a line at its prompt."""
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Until it has said `text`."""
        deadline = time.monotonic() + timeout
        while text not in self.log:
            assert self.process.poll() is None, f"linphonec ended:\n{self.log[-6000:]}"
            assert time.monotonic() < deadline, f"no {text!r} within {timeout} s:\n{self.log[-6000:]}"
            time.sleep(0.05)

    def dial(self, number: str) -> None:
        """Dial through the proxy."""
        self.say(f"call sip:{number}@{self.proxy}")

    def talk(self) -> None:
        """Begin to play its tone and to keep what it hears; once the call is answered."""
        self.say(f"play {self.folder}/voice.wav")
        self.say(f"record {self.folder}/heard.wav")

    def hang_up(self) -> None:
        """End the call."""
        self.say("terminate")

    def heard(self) -> list[int]:
        """What came out of its loudspeaker, 16-bit samples at 8 kHz; whole once the call has ended."""
        return read(self.folder / "heard.wav")
