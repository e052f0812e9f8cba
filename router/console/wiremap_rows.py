"""Changing the wiremap, from a page or by the API: the same checks and words as the CSV import."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from sqlalchemy import Connection

from e911.wiremap import WiremapEntry
from router.console.device_edit import Editor, values_wrong
from router.console.problems import FieldProblem, RequestProblem
from router.locations.location_cells import Places
from router.locations.wiremap_csv import column_named, merged, row_key, unfitting, wiremap_value
from router.locations.wiremap_edit import write_trail
from router.store.audit import Author
from router.store.devices import Value
from router.store.wiremap import columns_of, get_entries, remove_entries, take_turn, upsert_entries


def etag_of(entry: WiremapEntry) -> str:
    """Another one after each change (RFC 9110 section 8.8.3)."""
    content = orjson.dumps([*columns_of(entry).values(), entry.updated_at])
    return f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'


def entry_of(written: Mapping[str, Any], places: Places) -> WiremapEntry:
    """The row that texts and numbers by column make, identifiers among them; what is not given is empty.

    Raises RequestProblem 422 with all that is wrong.
    """
    values: dict[str, Value] = {}
    problems: list[FieldProblem] = []
    for key, given in written.items():
        try:
            name = column_named(key)
            values[name] = wiremap_value(name, _text(given), places)
        except ValueError as error:
            problems.append(FieldProblem.of(key[:100], str(error)))
    try:
        if not problems:
            row_key(values)
    except ValueError as error:
        problems.append(FieldProblem.of("chassis" if values.get("port") else "bssid", str(error)))
    if not problems:
        problems = [FieldProblem.of(name, what) for name, what in unfitting(values, places)]
    if problems:
        raise values_wrong(problems)
    return merged(values, None)


def save_row(
    conn: Connection,
    entry: WiremapEntry,
    editor: Editor,
    *,
    instead_of: str = "",
    expected: Callable[[WiremapEntry | None, WiremapEntry | None], None] = lambda _was, _taken: None,
) -> bool:
    """Put a row, in this transaction: True where it is new. `instead_of`: the key of the row whose place it takes.

    `expected` is given the row `instead_of` and the one that has the new row's key, as they are stored, and may
    raise. Raises RequestProblem 404 for another's row, 422 for a site that is not theirs.
    """
    if not editor.may_see(entry.site):
        what = f"site {entry.site!r} is not yours; name one of yours" if entry.site else "no site; name one of yours"
        raise values_wrong([FieldProblem.of("site", what)])
    take_turn(conn)
    known = get_entries(conn, filter(None, (instead_of, entry.key)))
    if any(not editor.may_see(one.site) for one in known.values()):
        raise RequestProblem(404, "not-found")
    expected(known.get(instead_of), known.get(entry.key))
    upsert_entries(conn, [entry], known)
    if instead_of and instead_of != entry.key:
        remove_entries(conn, [instead_of])
    write_trail(conn, _author(editor), known, {entry.key: entry})
    return entry.key not in known


def remove_row(conn: Connection, key: str, editor: Editor) -> WiremapEntry:
    """Take a row away. Raises RequestProblem 404."""
    take_turn(conn)
    known = get_entries(conn, [key])
    if key not in known or not editor.may_see(known[key].site):
        raise RequestProblem(404, "not-found")
    remove_entries(conn, [key])
    write_trail(conn, _author(editor), known, {})
    return known[key]


def _author(editor: Editor) -> Author:
    return Author(who=editor.who, via=editor.via)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("neither a text nor a number; write it in quotes")
    return str(value)
