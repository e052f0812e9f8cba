"""The wiremap for the call process: a followed table, read whole when it changed, made ready beside the loop."""

import time
from collections.abc import Callable
from pathlib import Path

from e911.wiremap import WiremapTable
from router.locations.table_feed import Followed, Rows, read_once
from router.store.wiremap import entries_of, wiremap_rows

_PAUSE = 0.001
"""Seconds for which the thread lets calls have the interpreter, now and then."""


def followed_wiremap(ignored_bits: Callable[[], int], use: Callable[[WiremapTable], None]) -> Followed[WiremapTable]:
    """The table as calls use it; ignored_bits: as configured at the moment."""

    def make(rows: Rows) -> WiremapTable:
        return WiremapTable(entries_of(rows, pause=lambda: time.sleep(_PAUSE)), ignored_bits())

    return Followed(table="wiremap", read=wiremap_rows, make=make, use=use)


def wiremap_now(url: str, directory: Path, ignored_bits: int) -> WiremapTable:
    """The wiremap for a command; empty where neither the database nor this node knows it. Makes no file."""
    table = followed_wiremap(lambda: ignored_bits, lambda _: None)
    return read_once(url, directory, table, WiremapTable(ignored_bits=ignored_bits))
