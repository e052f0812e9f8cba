"""SIPp as a peer: runs the scenarios of simulations/sipp and gives back what it sent and received.

Each instance has its own loopback address for SIP, media and control, so instances never clash.
"""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.support.ports import Endpoint, is_bound
from tests.support.sip_text import Message, parse

SCENARIOS = Path(__file__).resolve().parents[2] / "simulations" / "sipp"
_TRACED = re.compile(
    rb"-{20,}\s+([0-9-]+\s[0-9:.]+)[^\n]*\n"
    rb"(UDP|TCP|TLS)[^\n]*? message (received|sent) [\[(](\d+)\]? bytes ?[):][^\n]*\n\n"
)


@dataclass(frozen=True, slots=True)
class Traced:
    """One message of SIPp's trace."""

    sent: bool
    message: Message
    at: float
    """Seconds since 1970."""


def read_trace(trace: bytes) -> list[Traced]:
    """The messages of a SIPp message trace, in order; an unfinished last one is left out."""
    found = []
    position = 0
    while match := _TRACED.search(trace, position):
        end = match.end() + int(match[4])
        raw = trace[match.end() : end]
        if len(raw) < int(match[4]):
            break
        position = end
        try:
            message = parse(raw, match[2].decode().lower())
        except ValueError:
            continue  # keep-alives and noise
        moment = datetime.fromisoformat(match[1].decode().replace("\t", " ")).timestamp()
        found.append(Traced(match[3] == b"sent", message, moment))
    return found


class Sipp:
    """One SIPp process."""

    def __init__(
        self,
        scenario: str,
        *,
        at: Endpoint,
        folder: Path,
        to: Endpoint | None = None,
        calls: int | None = 1,
        tcp: bool = False,
        dial: str = "911",
        keys: Mapping[str, str] | None = None,
        pause_ms: int = 0,
        rate: int = 10,
        timeout: float = 60,
    ) -> None:
        """`to` makes it a caller; without it, it waits for calls. `calls=None`: until it is stopped."""
        self.scenario, self.at, self.timeout = scenario, at, timeout
        folder.mkdir(parents=True, exist_ok=True)
        count = len(list(folder.glob(f"{scenario}-*.out")))
        stem = folder / f"{scenario}-{count}"
        self._trace, self._errors = Path(f"{stem}.messages"), Path(f"{stem}.errors")
        self._output = Path(f"{stem}.out")
        command = [shutil.which("sipp") or "sipp", *([str(to)] if to else [])]
        command += ["-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", at.address, "-p", str(at.port)]
        command += ["-mi", at.address, "-ci", at.address, "-t", "t1" if tcp else "u1", "-nostdin", "-aa"]
        command += ["-s", dial, "-d", str(pause_ms), "-r", str(rate), "-skip_rlimit"]
        command += ["-trace_msg", "-message_file", str(self._trace)]
        command += ["-trace_err", "-error_file", str(self._errors)]
        command += ["-timeout", str(int(timeout)), "-timeout_error"]
        if calls:
            command += ["-m", str(calls)]
        for name, value in (keys or {}).items():
            command += ["-key", name, value]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=folder, start_new_session=True
            )
        if to is None:
            self._wait_until_bound("tcp" if tcp else "udp")

    def _wait_until_bound(self, transport: str) -> None:
        deadline = time.monotonic() + 10
        while not is_bound(self.at, transport):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SIPp did not start: {self.describe()}")
            time.sleep(0.005)

    def describe(self) -> str:
        """Scenario, exit code, errors and the end of the trace, for a failed test's message."""
        parts = [f"scenario {self.scenario} at {self.at}, exit code {self.process.poll()}"]
        for path, size in ((self._errors, 2000), (self._output, 600), (self._trace, 6000)):
            if path.exists():
                parts.append(f"--- {path.name}\n{path.read_bytes()[-size:].decode('utf-8', 'replace')}")
        return "\n".join(parts)

    def wait(self) -> int:
        """The exit code; waits until SIPp's own timeout and a little longer."""
        try:
            return self.process.wait(self.timeout + 5)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"SIPp did not end: {self.describe()}") from None

    def succeed(self) -> "Sipp":
        """Wait, and demand that every call went as the scenario says."""
        code = self.wait()
        assert code == 0, self.describe()
        return self

    def stop(self) -> None:
        """End it: TERM, then KILL after 2 s."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)

    @property
    def trace(self) -> list[Traced]:
        """Every message so far."""
        return read_trace(self._trace.read_bytes()) if self._trace.exists() else []

    def _of(self, *, sent: bool, call_id: str | None) -> list[Message]:
        return [
            one.message
            for one in self.trace
            if one.sent == sent and (call_id is None or one.message.call_id == call_id)
        ]

    def requests(self, method: str | None = None, call_id: str | None = None) -> list[Message]:
        """Requests received, retransmissions included."""
        return [
            one for one in self._of(sent=False, call_id=call_id) if one.is_request and method in (None, one.method)
        ]

    def responses(self, method: str | None = None, call_id: str | None = None) -> list[Message]:
        """Responses received."""
        return [
            one
            for one in self._of(sent=False, call_id=call_id)
            if not one.is_request and method in (None, one.method)
        ]

    def first(self, what: str | int, *, sent: bool = False) -> float:
        """When the first request of a method, or response with a status, came (or left): seconds since 1970."""
        for one in self.trace:
            message = one.message
            fits = message.is_request and message.method == what if isinstance(what, str) else message.status == what
            if one.sent == sent and fits:
                return one.at
        raise AssertionError(f"no {what}\n{self.describe()}")

    def statuses(self, method: str = "INVITE") -> list[int]:
        """Status codes received for that method, in order, without repeated ones beside each other."""
        codes = [response.status for response in self.responses(method)]
        return [code for index, code in enumerate(codes) if index == 0 or codes[index - 1] != code]

    def sent(self, method: str | None = None) -> list[Message]:
        """Requests sent."""
        return [one for one in self._of(sent=True, call_id=None) if one.is_request and method in (None, one.method)]

    def request(self, method: str = "INVITE", call_id: str | None = None) -> Message:
        """The one request of that method received; retransmissions count as one."""
        found = {one.raw: one for one in self.requests(method, call_id)}
        assert len(found) == 1, f"{len(found)} different {method} requests arrived\n{self.describe()}"
        return next(iter(found.values()))

    def wait_for(self, method: str, timeout: float = 40, count: int = 1) -> list[Message]:
        """The requests of that method, as soon as `count` different ones have been received."""
        deadline = time.monotonic() + timeout
        while True:
            found = list({one.raw: one for one in self.requests(method)}.values())
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(found)} of {count} {method} requests arrived\n{self.describe()}")
            time.sleep(0.01)

    def wait_for_status(self, status: int, method: str = "INVITE", timeout: float = 40) -> Message:
        """The first response with that status."""
        deadline = time.monotonic() + timeout
        while True:
            found = [one for one in self.responses(method) if one.status == status]
            if found:
                return found[0]
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"no {status} arrived\n{self.describe()}")
            time.sleep(0.01)


@contextmanager
def running(*peers: Sipp) -> Iterator[tuple[Sipp, ...]]:
    """Peers that are stopped at the end, whatever happens."""
    try:
        yield peers
    finally:
        for peer in peers:
            peer.stop()
