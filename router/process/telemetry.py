"""Logs and metrics of the call process, kept off the hot path.

A log call appends a record to a queue; the loop renders what waits ten times a second, and a thread writes it, so a
terminal or a disk that hangs delays no call. Metrics are plain counters, turned into Prometheus text when asked for.
"""

import json
import logging
import queue
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from config.schema import Log
from router.process.structured_log import structlog

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PENDING_LIMIT = 100_000
_NUMBER = re.compile(r"\+?\d[\d().\- ]{5,}\d")
_SHORTEST_NUMBER = 7
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_USER = re.compile(r"\b(sips?:)[^@\s;,<>\"']+@", re.IGNORECASE)
_TEL = re.compile(r"\b(tel:)[^\s;,<>\"']+", re.IGNORECASE)
_PLAIN_FIELDS = frozenset(
    {"timestamp", "level", "process", "node", "call", "sip_call_id", "source_address", "site", "route"}
)
_REDACTED_FIELDS = frozenset({"number", "callback", "caller", "address", "location", "display_name"})


Note = tuple[float, int, str, dict[str, Any]]
"""Seconds since 1970, level, event, fields: a log line of the hot path, a tenth of the cost of a LogRecord."""

Processor = Callable[[Any, str, MutableMapping[str, Any]], Any]


class DeferredLog(logging.Handler):
    """Keeps records until `render` is called; renders them, and hands the text to the writing thread."""

    def __init__(
        self, formatter: logging.Formatter, of_process: dict[str, str], renderer: Processor | None, *, redacts: bool
    ) -> None:
        """of_process: fields of every line; renderer: of lines of the hot path, None for JSON."""
        super().__init__()
        self.setFormatter(formatter)
        self._of_process = of_process
        self._renderer = renderer
        self._redacts = redacts
        self.pending: deque[logging.LogRecord | Note] = deque()
        self.lost = 0
        self.not_rendered = 0
        """Records that were replaced by a plain line, as they could not be rendered."""
        self._text: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.pending) >= PENDING_LIMIT:
            self.lost += 1
        else:
            self.pending.append(record)

    def note(self, level: int, event: str, fields: dict[str, Any]) -> None:
        """Keep a line of the hot path."""
        if level >= _ROOT.level:
            if len(self.pending) >= PENDING_LIMIT:
                self.lost += 1
            else:
                self.pending.append((time.time(), level, event, fields))

    def _note_text(self, note: Note) -> str:
        at, level, event, fields = note
        second = int(at)
        stamp = f"{_second_text(second)}.{int((at - second) * 1000):03d}Z"
        line = {"event": event, "level": _level_text(level), "timestamp": stamp, **fields, **self._of_process}
        if self._redacts:
            redact(None, "", line)
        return _json(line) if self._renderer is None else str(self._renderer(None, "", line))

    def render(self, most: int = 500) -> None:
        """Render up to so many records and have them written."""
        lines: list[str] = []
        while self.pending and len(lines) < most:
            lines.append(self._text_of(self.pending.popleft()))
        if not lines:
            return
        if self._text.qsize() > 1000:
            self.lost += len(lines)
            return
        self._text.put("\n".join(lines) + "\n")

    def _text_of(self, item: logging.LogRecord | Note) -> str:
        """One line; a plain one where a record cannot be rendered, for the others must not be lost with it."""
        try:
            return self._note_text(item) if isinstance(item, tuple) else self.format(item)
        except Exception as error:
            self.not_rendered += 1
            # Not what it says: it may be just that, or a number, that may not stand in a log.
            where = "a line of the hot path" if isinstance(item, tuple) else f"{item.pathname}:{item.lineno}"
            return f"log-line-not-rendered {where}: {type(error).__name__}"

    def finish(self) -> None:
        """Write what is left, within a second."""
        self.render(PENDING_LIMIT)
        self._text.put(None)
        self._writer.join(1.0)

    def _write(self) -> None:
        while (text := self._text.get()) is not None:
            try:
                sys.stderr.write(text)
                sys.stderr.flush()
            except Exception:
                continue  # nobody reads our standard error any more


_ROOT = logging.getLogger()


@lru_cache(maxsize=4)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=16)
def _level_text(level: int) -> str:
    return logging.getLevelName(level).lower()


def configure_logging(section: Log, *, process: str, node: str) -> DeferredLog:
    """Send everything logged in this process to standard error, as `log` in the configuration says."""
    # What a log line of ours never shows need not be found out for each one.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

    def name_process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        record = event.get("_record")
        if isinstance(record, logging.LogRecord):
            event.update(getattr(record, "event_fields", {}))
        event["process"] = process
        event["node"] = node
        return event

    processors: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
        structlog.processors.format_exc_info,  # a traceback is text from here on, and redacted like any other
    ]
    if section.redact:
        processors.append(redact)
    if section.format == "json":
        renderer: Any = structlog.processors.JSONRenderer(serializer=_json)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    handler = DeferredLog(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        ),
        {"process": process, "node": node},
        None if section.format == "json" else renderer,
        redacts=section.redact,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(section.level.upper())
    structlog.configure(
        processors=[*processors[:2], structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    for chatty in ("alembic", "sqlalchemy", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return handler


def say(log: logging.Logger, level: int, name: str, /, **fields: Any) -> None:
    """One line of the log: its name, and fields that are redacted where configured."""
    if log.isEnabledFor(level):
        log.log(level, name, extra={"event_fields": fields})


def _json(event: Any, **_: Any) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # lone surrogates (bytes from the wire), large whole numbers, keys that are no text
        return json.dumps(event, default=str)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Without telephone numbers, the users of SIP and tel URIs, and locations: in the event's text, in a traceback
    and in every field but those that name calls and places of the configuration."""
    for name, value in event.items():
        if name not in _PLAIN_FIELDS and not name.startswith("_"):
            event[name] = "[redacted]" if name in _REDACTED_FIELDS and value else _redacted(value)
    return event


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) < _SHORTEST_NUMBER and ":" not in value:
            return value
        return _redacted_text(value) if len(value) <= _LONGEST_KEPT else _redacted_anew(value)
    if isinstance(value, dict):
        return {name: _redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value


def _redacted_anew(value: str) -> str:
    value = _TEL.sub(r"\1[redacted]", _USER.sub(r"\1[redacted]@", value))
    return _NUMBER.sub(_redacted_number, value)


_LONGEST_KEPT = 64
_redacted_text = lru_cache(maxsize=1024)(_redacted_anew)
"""The same few words stand in line after line."""


def _redacted_number(found: re.Match[str]) -> str:
    """An IPv4 address looks like a number, and is none."""
    return found[0] if _ADDRESS.fullmatch(found[0].strip()) else "[redacted]"


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value read when metrics are asked for."""

    name: str
    help: str
    read: Callable[[], float]


@dataclass(frozen=True, slots=True)
class CounterGroup:
    """A dictionary of counters exported under one name, its keys as a label."""

    name: str
    help: str
    label: str
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class GaugeGroup:
    """Values of several things under one name, read when metrics are asked for; what they are of is a label."""

    name: str
    help: str
    label: str
    read: Callable[[], Mapping[str, float]]


class Metrics:
    """Collects our counters for Prometheus."""

    def __init__(
        self,
        groups: Iterable[CounterGroup],
        gauges: Iterable[Gauge],
        statuses: Mapping[str, Path],
        gauge_groups: Iterable[GaugeGroup] = (),
    ) -> None:
        self._groups = list(groups)
        self._gauges = list(gauges)
        self._gauge_groups = list(gauge_groups)
        self._statuses = dict(statuses)
        """Process → the file in which it says how it fares."""
        # Only the call process has metrics to give; the others need not load this.
        from prometheus_client import CollectorRegistry

        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """The metrics in Prometheus text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def collect(self) -> "Iterable[Metric]":
        """All families."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for group in self._groups:
            family = CounterMetricFamily(group.name, group.help, labels=[group.label])
            for key, value in sorted(group.values.items()):
                family.add_metric([key], value)
            yield family
        for gauge in self._gauges:
            yield GaugeMetricFamily(gauge.name, gauge.help, value=gauge.read())
        for several in self._gauge_groups:
            labelled = GaugeMetricFamily(several.name, several.help, labels=[several.label])
            for key, number in sorted(several.read().items()):
                labelled.add_metric([key], number)
            yield labelled
        for process, path in self._statuses.items():
            for key, value in read_status(path).items():
                if isinstance(value, bool | int | float):
                    name, text = f"edge911_{process}_{key}", f"{key} of the {process} process"
                    family_of = CounterMetricFamily if key.endswith("_total") else GaugeMetricFamily
                    yield family_of(name, text, value=float(value))


def read_status(path: Path) -> dict[str, Any]:
    """What another process last said of itself; empty where it has said nothing."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
