"""The trace process: `python -m router.trace.export --config FILE`, started by `edge911 run` where `trace` asks for
it.

Follows the messages of the call process as `edge911 trace` does, writes captures and sends HEP. A process of its
own, so that neither a disk, a collector nor the work of redaction can ever take time from a call. It may be killed
at any moment.
"""

import logging
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import orjson

from config.load import ConfigError, LoadedConfig, load_config
from e911.numbers import EmergencyNumbers
from router.process.child_process import begin
from router.process.signs_of_life import Heartbeat, release_signals
from router.process.telemetry import DeferredLog, configure_logging, say
from router.trace.filter import TraceFilter, Wanted
from router.trace.hep import HepSender
from router.trace.messages import FrameReader, Traced, connect
from router.trace.pcap import PcapFiles
from router.trace.redaction import Redaction

STATUS = "trace-export.json"
CONNECT_AGAIN_SECONDS = 0.2
LAST_WORDS_SECONDS = 1.0
SAY_AGAIN_SECONDS = 60.0
_CHUNK = 1024 * 1024
_PROBLEMS = {"pcap": "pcap-not-written", "hep": "hep-not-sent"}

log = logging.getLogger("router.trace_export")
_say = partial(say, log)


@dataclass(slots=True)
class _Output:
    """One place messages go to."""

    name: str
    """`pcap` or `hep`."""
    filter: TraceFilter
    is_redacted: bool
    sink: PcapFiles | HepSender
    said: int = 0
    """How many messages were lost when that was said last, and when it was."""
    said_at: float = -SAY_AGAIN_SECONDS


def outputs_of(loaded: LoadedConfig) -> list[_Output]:
    """The places that the configuration names."""
    config = loaded.config
    numbers = EmergencyNumbers(
        emergency=frozenset(config.emergency.numbers), test=frozenset(config.emergency.test_numbers)
    )

    def output(name: str, calls: str, redact: bool | None, sink: PcapFiles | HepSender) -> _Output:
        wanted = Wanted(emergency_only=calls == "emergency")
        return _Output(name, TraceFilter(wanted, numbers), config.log.redact if redact is None else redact, sink)

    found: list[_Output] = []
    pcap, hep = config.trace.pcap, config.trace.hep
    if pcap is not None:
        files = PcapFiles(loaded.path(pcap.directory), config.node, file_size=pcap.file_size, files=pcap.files)
        found.append(output("pcap", pcap.calls, pcap.redact, files))
    if hep is not None:
        sender = HepSender(hep.host, hep.port, capture_id=hep.capture_id, password=hep.password, node=config.node)
        found.append(output("hep", hep.calls, hep.redact, sender))
    return found


class TraceExport:
    """The whole process: one thread, one socket to read from."""

    def __init__(self, config_file: Path, loaded: LoadedConfig, heartbeat: Heartbeat) -> None:
        self._config_file = config_file
        self._heartbeat = heartbeat
        self._logs: DeferredLog
        self._use(loaded)
        self._reader = FrameReader()
        self._listener: socket.socket | None = None
        self._connect_at = 0.0
        self._missed = 0
        self._missed_said = 0
        self._stop = False
        self._reload = False

    def _use(self, loaded: LoadedConfig) -> None:
        config = loaded.config
        self._logs = configure_logging(config.log, process="trace", node=config.node)
        self._status_file = loaded.state_directory / STATUS
        self._state_directory = loaded.state_directory
        self._outputs = outputs_of(loaded)
        self._redaction = Redaction(
            EmergencyNumbers(
                emergency=frozenset(config.emergency.numbers), test=frozenset(config.emergency.test_numbers)
            )
        )

    def run(self, parent: int) -> int:
        """Until SIGTERM, until there is nothing to do, or until the process that started us is gone."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        release_signals()
        _say(logging.INFO, "trace-export-started", pid=os.getpid(), outputs=[one.name for one in self._outputs])
        next_second = 0.0
        while not self._stop and self._outputs and os.getppid() == parent:
            if self._reload:
                self._reload = False
                self._reread()
            self._read(0.2)
            now = time.monotonic()
            if now >= next_second:
                next_second = now + 1.0
                self._every_second(now)
        # The calls have ended before us: what they said last is waiting.
        end = time.monotonic() + LAST_WORDS_SECONDS
        while self._outputs and self._listener is not None and time.monotonic() < end and self._read(0.05):
            pass
        self._close()
        self._status_file.unlink(missing_ok=True)
        self._logs.finish()
        return 0

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stop = True

    def _reread(self) -> None:
        try:
            loaded = load_config(self._config_file)
        except ConfigError:
            return  # the call process says what is wrong with it; the old one stays here, too
        self._close()
        self._logs.finish()
        self._use(loaded)
        _say(logging.INFO, "configuration-reloaded")

    def _close(self) -> None:
        for output in self._outputs:
            output.sink.close()

    # ---- messages ----

    def _read(self, seconds: float) -> bool:
        """Take what the call process sends, waiting so long at the most; False where nothing came."""
        if self._listener is None and not self._connect():
            time.sleep(min(seconds, CONNECT_AGAIN_SECONDS))
            return False
        assert self._listener is not None
        ready, _, _ = select.select([self._listener], [], [], seconds)
        if not ready:
            return False
        try:
            data = self._listener.recv(_CHUNK)
        except OSError:
            data = b""
        if not data:
            self._listener.close()
            self._listener = None
            return False
        for traced in self._reader.feed(data):
            self._take(traced)
        return True

    def _connect(self) -> bool:
        now = time.monotonic()
        if now < self._connect_at:
            return False
        self._connect_at = now + CONNECT_AGAIN_SECONDS
        try:
            self._listener = connect(self._state_directory)
        except OSError:
            return False  # not up yet, or being started again
        self._missed += self._reader.lost
        self._reader = FrameReader()
        return True

    def _take(self, traced: Traced) -> None:
        redacted: dict[int, Traced] = {}
        for output in self._outputs:
            for wanted in output.filter.feed(traced):
                shown = wanted
                if output.is_redacted:
                    shown = redacted.get(id(wanted)) or wanted.replaced(self._redaction.message(wanted.data))
                    redacted[id(wanted)] = shown
                if isinstance(output.sink, PcapFiles):
                    output.sink.write(shown)
                else:
                    output.sink.send(shown)

    # ---- beside it ----

    def _every_second(self, now: float) -> None:
        self._heartbeat.beat()
        for output in self._outputs:
            if isinstance(output.sink, PcapFiles):
                output.sink.flush()
            lost = output.sink.lost
            if lost > output.said and now >= output.said_at + SAY_AGAIN_SECONDS:
                _say(logging.WARNING, _PROBLEMS[output.name], reason=output.sink.problem, lost=lost - output.said)
                output.said, output.said_at = lost, now
        missed = self._missed + self._reader.lost
        if missed > self._missed_said:
            _say(logging.WARNING, "trace-messages-missed", count=missed - self._missed_said)
            self._missed_said = missed
        self._write_status(missed)
        self._logs.render()

    def _write_status(self, missed: int) -> None:
        status: dict[str, float] = {"at": time.time(), "missed_total": missed}
        for output in self._outputs:
            if isinstance(output.sink, PcapFiles):
                status |= {"pcap_written_total": output.sink.written, "pcap_lost_total": output.sink.lost}
            else:
                status |= {"hep_sent_total": output.sink.sent, "hep_lost_total": output.sink.lost}
        try:
            temporary = self._status_file.with_suffix(".new")
            temporary.write_bytes(orjson.dumps(status))
            temporary.replace(self._status_file)
        except OSError:
            return  # the metrics are older then, and say so themselves


def main(arguments: list[str] | None = None) -> int:
    """Entry point. 0 where there is nothing (more) to do, 1 where the configuration is no good."""
    options = begin("router.trace.export", __doc__, arguments)
    try:
        loaded = load_config(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return TraceExport(options.config, loaded, options.heartbeat).run(options.parent)


if __name__ == "__main__":
    sys.exit(main())
