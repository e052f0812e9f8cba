"""What DNS last said of trunks' names, in a file of this node: what a start finds them by while DNS is down."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sip.locating import Naptr, Question, Record, Srv

FILE_NAME: Final = "names.json"
_FORMAT: Final = 1
_KINDS: Final = ("NAPTR", "SRV", "A", "AAAA")


def read_answers(directory: Path) -> dict[Question, tuple[Record, ...]]:
    """The answers kept; none where there is no file or it is not ours. Never raises."""
    try:
        document = json.loads((directory / FILE_NAME).read_bytes())
        if document["edge911 names"] != _FORMAT:
            return {}
        return {
            Question(str(name), kind): tuple(_record(kind, data) for data in records)
            for name, kind, records in document["answers"]
            if kind in _KINDS
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def write_answers(directory: Path, answers: Mapping[Question, tuple[Record, ...]]) -> None:
    """Write the file anew; a crash leaves the old one or the new one. Raises OSError."""
    document = {
        "edge911 names": _FORMAT,
        "answers": [[name, kind, records] for (name, kind), records in sorted(answers.items())],
    }
    path = directory / FILE_NAME
    written = path.with_suffix(".new")
    with open(written, "wb", opener=_private) as file:
        file.write(json.dumps(document).encode())
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)


def _record(kind: str, data: Any) -> Record:
    """Raises ValueError or TypeError where this is no such record."""
    if kind == "NAPTR":
        order, preference, flags, service, replacement = data
        return Naptr(int(order), int(preference), str(flags), str(service), str(replacement))
    if kind == "SRV":
        priority, weight, port, target = data
        return Srv(int(priority), int(weight), int(port), str(target))
    if not isinstance(data, str):
        raise TypeError("an address is a text")
    return data


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
