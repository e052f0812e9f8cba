"""The wiremap a page at a time, found by text and site: for people and programs that look at many rows."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, or_, select

from e911.attachment import normal_port
from e911.wiremap import WiremapEntry, entry_key, read_identifiers
from router.store.wiremap import KEY_COLUMNS, TEXT_COLUMNS, entries_of, wiremap

_HARDWARE: Final = re.compile(r"[0-9a-fA-F]+([:.-][0-9a-fA-F]+)+[:.-]?|[0-9a-fA-F]+[:.-]")
"""Part of a MAC address as people write it; rows hold its digits alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WiremapFilter:
    """Which rows are wanted; what is empty or None says nothing."""

    text: str = ""
    site: str = ""
    sites: Sequence[str] | None = None
    """Those that may be seen; None for all, also rows of no site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WiremapPage:
    """Rows in the order of their keys; `next` is `after` of the next page, or empty."""

    entries: list[WiremapEntry]
    total: int
    next: str


def wiremap_page(conn: Connection, wanted: WiremapFilter, *, after: str = "", limit: int = 50) -> WiremapPage:
    """One page, from the row behind the key `after` on."""
    conditions = _conditions(wanted)
    query = select(wiremap).where(*conditions, wiremap.c.key > after).order_by(wiremap.c.key).limit(limit + 1)
    found = [dict(row) for row in conn.execute(query).mappings()]
    total = conn.execute(select(func.count()).select_from(wiremap).where(*conditions)).scalar_one()
    shown = entries_of(found[:limit])
    return WiremapPage(entries=shown, total=total, next=shown[-1].key if len(found) > limit else "")


def _conditions(wanted: WiremapFilter) -> list[Any]:
    columns = wiremap.c
    found: list[Any] = []
    if text := wanted.text:
        alike = [columns[name].icontains(text, autoescape=True) for name in (*KEY_COLUMNS, *TEXT_COLUMNS)]
        if _HARDWARE.fullmatch(text):
            digits = re.sub("[:.-]", "", text)
            alike += [columns[name].icontains(digits, autoescape=True) for name in KEY_COLUMNS]
        if port := normal_port(text):
            alike.append(columns.port == port)
        with contextlib.suppress(ValueError):
            alike.append(columns.key == entry_key(*read_identifiers(text)))
        found.append(or_(*alike))
    if wanted.site:
        found.append(columns.site == wanted.site)
    if wanted.sites is not None:
        found.append(columns.site.in_(list(wanted.sites)))
    return found
