"""Which rows of the outbox this node is about to say, in a file of its own: after a kill -9 they are due again at the
next start, and not only when their lease in the database ends, which is there for nodes that never come back.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import orjson

from router.store.provisioning import Told

FILE: Final = "provisioning-taken.json"


class TakenRows:
    """directory: the state directory; its lock sees to it that one process alone writes here. Never raises: what is
    not kept is due again when the lease ends."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    def keep(self, rows: Iterable[Told]) -> None:
        """These are taken; written before the database has it, for a row that it does not have so is left alone."""
        data = [(one.target, one.device, one.next_at) for one in rows]
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_bytes(orjson.dumps(data))
            os.replace(fresh, self._path)
        except OSError:
            return

    def left(self) -> list[Told]:
        """What was taken last, said or not."""
        try:
            rows = orjson.loads(self._path.read_bytes())
            return [Told(target=str(row[0]), device=str(row[1]), next_at=float(row[2])) for row in rows]
        except (OSError, ValueError, TypeError, LookupError):
            return []
