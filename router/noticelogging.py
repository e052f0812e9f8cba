"""Logs of the notices process: structlog on standard error, one line per event, redacted where configured."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from config.schema import Log

_NUMBER = re.compile(r"\+?\d[\d().\- ]{5,}\d")
"""What looks like a telephone number. Record ids and times have other shapes."""


def configure_logging(section: Log) -> None:
    """Send everything logged in this process to standard error, as `log` in the configuration says."""
    processors: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _reason_and_message,
    ]
    if section.redact:
        processors.append(_redacted)
    is_json = section.format == "json"
    renderer: Any = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer()
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [output]
    root.setLevel(section.level.upper())
    for chatty in ("alembic", "sqlalchemy", "urllib3", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _reason_and_message(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The first word of a line is its name: `notice-failed`, `database-failed`."""
    name, _, message = str(event.get("event", "")).partition(" ")
    event["process"] = "notices"
    event["event"] = name
    if message:
        event["message"] = message
    return event


def _redacted(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Without telephone numbers; locations are never logged by this process, except by a receiver's own words."""
    for name, value in event.items():
        if isinstance(value, str) and name not in ("timestamp", "event"):
            event[name] = _NUMBER.sub("[redacted]", value)
    return event
