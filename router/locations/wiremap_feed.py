"""The wiremap for the call process: a followed table, read whole when it changed, made ready beside the loop."""

import time
from collections.abc import Callable
from pathlib import Path

from e911.wiremap import WiremapTable
from router.locations.table_feed import Followed, Rows, TableFeed
from router.store.errors import StoreError
from router.store.wiremap import entries_of, wiremap_rows

_PAUSE = 0.001
"""Seconds for which the thread lets calls have the interpreter, now and then."""


def followed_wiremap(
    ignored_bits: Callable[[], int], use: Callable[[WiremapTable], None], *, is_kept: bool = True
) -> Followed[WiremapTable]:
    """The table as calls use it; ignored_bits: as configured at the moment."""

    def make(rows: Rows) -> WiremapTable:
        return WiremapTable(entries_of(rows, pause=lambda: time.sleep(_PAUSE)), ignored_bits())

    return Followed(table="wiremap", read=wiremap_rows, make=make, use=use, is_kept=is_kept)


def wiremap_now(url: str, directory: Path, ignored_bits: int) -> WiremapTable:
    """The wiremap for a command: the database's, else the last known good one, else an empty one. Makes no file."""
    found = [WiremapTable(ignored_bits=ignored_bits)]
    TableFeed(url, [followed_wiremap(lambda: ignored_bits, found.append)], directory=directory).load_kept()
    reading = TableFeed(
        url, [followed_wiremap(lambda: ignored_bits, found.append, is_kept=False)], directory=directory
    )
    try:
        reading.look()
    except StoreError:
        pass  # said of the devices, which are in the same database
    finally:
        reading.stop()
    return found[-1]
