"""Kamailio as any host of a test: a routing script and modules in, a running process out."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.support.ports import Endpoint

_MODULES = "/usr/lib/x86_64-linux-gnu/kamailio/modules/"
LOADED = ("tm", "sl", "rr", "pv", "maxfwd", "textops", "siputils", "xlog", "sanity", "sdpops")
_HEAD = """#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
tcp_source_ipv4={at.address}
listen=udp:{at}
listen=tcp:{at}
mpath="{modules}"
{load}
"""


class KamailioProcess:
    """Kamailio on one endpoint, UDP and TCP; a context manager. `log` is what it said (xlog at L_ALERT is shown)."""

    def __init__(self, folder: Path, at: Endpoint, script: str, modules: Sequence[str] = LOADED) -> None:
        """`script`: modparams and routes, as they stand in kamailio.cfg."""
        assert shutil.which("kamailio"), "no kamailio on the PATH (package kamailio)"
        self.folder, self.at = folder, at
        (folder / "run").mkdir(parents=True)
        load = "\n".join(f'loadmodule "{name}.so"' for name in modules)
        (folder / "kamailio.cfg").write_text(_HEAD.format(at=at, modules=_MODULES, load=load) + script)

    @property
    def log(self) -> str:
        """Standard error so far."""
        return (self.folder / "log").read_text(errors="replace")

    def said(self, *words: str) -> list[str]:
        """The lines of the log that hold every one of these words."""
        return [line for line in self.log.splitlines() if all(word in line for word in words)]

    def wait_for(self, *words: str, timeout: float = 10) -> str:
        """The first such line, as soon as there is one."""
        deadline = time.monotonic() + timeout
        while not (found := self.said(*words)):
            assert time.monotonic() < deadline, f"no line with {words} from Kamailio:\n{self.log[-4000:]}"
            time.sleep(0.02)
        return found[0]

    def __enter__(self) -> "KamailioProcess":
        run, pid = self.folder / "run", self.folder / "run" / "pid"
        command = ["kamailio", "-DD", "-E", "-f", str(self.folder / "kamailio.cfg"), "-m", "32", "-M", "8"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-P", str(pid), "-Y", str(run), "-w", str(run)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while not pid.exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        time.sleep(0.3)  # its children begin to read a moment after the file is there
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
