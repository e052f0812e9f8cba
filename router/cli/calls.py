"""`edge911 calls`: the records of emergency calls, from the database or, where that is down, from the journal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from e911.record import NO_TEXT_SERVICE
from router.cli.common import ConfigOption, fail, load_or_exit
from router.cli.table import print_table
from router.process.printable import age_text, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.text import Text

    from config.load import LoadedConfig
    from e911.location import DispatchableLocation
    from e911.record import CallbackEvent, SourceAnswer
    from router.notices.outbox import Entry
    from router.records.record import CallRecord, CallSummary

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many calls, newest first.")]
SiteOption = Annotated[str, typer.Option("--site", metavar="ID", help="Only calls of this site.")]
SinceOption = Annotated[
    str, typer.Option("--since", metavar="TIME", help="Only calls since: 2h, 3d, 2026-11-22 or 2026-11-22T14:30.")
]

_WHOLE = ("After", "Contact", "Attempts", "Last attempt")
"""Columns that are not broken into lines where there is no room."""
SHORT_ID = 8
"""Characters of a record id that are shown where there is no room for all."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_GOOD = {"answered", "delivered", "won", "folded"}
_BAD = {"failed", "refused", "unreachable", "timeout", "progress-timeout", "given-up", "in-doubt"}


_HELP = """Records of 911 calls: list them, or show one.

Without a command: the newest 20. A record says who called, which location was sent and why, every route that was
tried, and what became of each notice.
"""


def register(app: typer.Typer) -> None:
    """Add `calls`, `calls list`, `calls show` and `calls ack` to the command."""
    calls = typer.Typer(help=_HELP, invoke_without_command=True)

    @calls.callback()
    def calls_alone(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        if context.invoked_subcommand is None:
            _list(load_or_exit(config), as_json=as_json, limit=20, site="", since="")
        else:
            context.find_root().obj = config or context.find_root().obj

    @calls.command("list")
    def list_command(
        config: ConfigOption = None,
        as_json: JsonOption = False,
        limit: LimitOption = 20,
        site: SiteOption = "",
        since: SinceOption = "",
    ) -> None:
        """List calls, newest first."""
        _list(load_or_exit(config), as_json=as_json, limit=limit, site=site, since=since)

    @calls.command("show")
    def show_command(
        call: Annotated[str, typer.Argument(metavar="ID", help="Record id, or its beginning.")],
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show everything about one call."""
        # As copied from a list that had no room for all of it.
        _show(load_or_exit(config), call.rstrip("…"), as_json=as_json)

    @calls.command("ack")
    def ack_command(
        call: Annotated[str, typer.Argument(metavar="ID", help="Record id, or its beginning.")],
        by: Annotated[
            str, typer.Option("--by", metavar="NAME", help="Who acknowledges; default: the user of the system.")
        ] = "",
        config: ConfigOption = None,
    ) -> None:
        """Acknowledge a call: nobody else is told of it."""
        _acknowledge(load_or_exit(config), call.rstrip("…"), by)

    app.add_typer(calls, name="calls")


def parse_since(text: str, now: datetime) -> float | None:
    """Seconds since 1970 of `2h`, `3d`, `15m`, a date or a date and time (local); None for an empty text.

    Raises ValueError for anything else.
    """
    if not text:
        return None
    if text[-1] in _UNITS and text[:-1].isdigit():
        return (now - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})).timestamp()
    return datetime.fromisoformat(text).timestamp()


def _list(loaded: "LoadedConfig", *, as_json: bool, limit: int, site: str, since: str) -> None:
    try:
        start = parse_since(since, datetime.now(UTC))
    except (ValueError, OverflowError):
        fail(f"--since {since}: write 2h, 3d, 2026-11-22 or 2026-11-22T14:30")
    with _source(loaded) as source:
        found = source.list_calls(limit, site, start)
    if as_json:
        _print_json({"source": source.name, "calls": [asdict(call) for call in found]})
        return
    if not found:
        typer.echo("No calls." if not (site or since) else "No such calls.")
        return
    print_table(
        ("When", "Site", "Caller", "Dialled", "How it ended", "Route", "Id"),
        [_list_row(call, _zone(loaded, call.site)) for call in found],
        cut=("Id", "Site", "How it ended"),
        drop=("Route",),
        text=_text,
    )


def _show(loaded: "LoadedConfig", call: str, *, as_json: bool) -> None:
    with _source(loaded) as source:
        found = source.find(call)
        if not found:
            fail(f"no call {call}; `edge911 calls` lists them")
        if len(found) > 1 and call not in found:
            fail(f"{call} is the beginning of several calls: {', '.join(found)}")
        record = source.get(call if call in found else found[0])
    if record is None:
        fail(f"no call {call}; `edge911 calls` lists them")
    if as_json:
        _print_json({"source": source.name, "call": record.as_document()})
        return
    _print_record(_console(), record, loaded)


def _acknowledge(loaded: "LoadedConfig", call: str, by: str) -> None:
    import getpass

    from router.notices.confirmations import Confirmation, Step, confirm

    with _source(loaded) as source:
        found = source.find(call)
    if not found:
        fail(f"no call {call}; `edge911 calls` lists them")
    if len(found) > 1 and call not in found:
        fail(f"{call} is the beginning of several calls: {', '.join(found)}")
    name = call if call in found else found[0]
    at = datetime.now(UTC).timestamp()
    try:
        by = by or getpass.getuser()
        confirm(
            loaded.state_directory,
            Confirmation(call=name, step=Step.ACKNOWLEDGED, by=by, how="command", at=at),
        )
    except (OSError, KeyError) as error:
        fail(
            f"not acknowledged: {error}; run this on the router's node, as a user that may write its state directory"
        )
    typer.echo(f"{name} is acknowledged by {printable(by)}.")


class _Source:
    """Where records are read from: three questions, answered by the database or by the journal."""

    def __init__(
        self,
        name: str,
        list_calls: "Callable[[int, str, float | None], Sequence[CallSummary]]",
        find: "Callable[[str], Sequence[str]]",
        get: "Callable[[str], CallRecord | None]",
    ) -> None:
        self.name = name
        self.list_calls = list_calls
        self.find = find
        self.get = get


@contextmanager
def _source(loaded: "LoadedConfig") -> Iterator[_Source]:
    from router.store import records
    from router.store.engine import StoreError, open_store, reading

    try:
        engine = open_store(loaded.database_url, create=False, wait=2.0)
    except StoreError as error:
        typer.echo(f"edge911: {error}", err=True)
        typer.echo("edge911: showing what this node's journal still holds; notices are not in it", err=True)
        yield _journal_source(loaded)
        return
    try:
        with reading(engine) as conn:
            yield _Source(
                "database",
                lambda limit, site, since: records.list_calls(conn, limit=limit, site=site, since=since),
                lambda prefix: records.find_calls(conn, prefix),
                lambda call: records.get_call(conn, call),
            )
    except StoreError as error:
        fail(str(error))
    finally:
        engine.dispose()


def _journal_source(loaded: "LoadedConfig") -> _Source:
    from router.records.record import record_from_lines
    from router.store.records import lines_by_call, summary_of

    lines = lines_by_call(loaded.state_directory / "journal")

    def list_calls(limit: int, site: str, since: float | None) -> "Sequence[CallSummary]":
        found = [summary_of(of_call) for of_call in lines.values()]
        wanted = [
            call for call in found if (not site or call.site == site) and (since is None or call.started_at >= since)
        ]
        return sorted(wanted, key=lambda call: -call.started_at)[:limit]

    def get(call: str) -> "CallRecord | None":
        return record_from_lines(lines[call], ()) if call in lines else None

    return _Source("journal", list_calls, lambda prefix: [call for call in lines if call.startswith(prefix)], get)


def _list_row(call: "CallSummary", zone: tzinfo) -> tuple[str, ...]:
    cells = (
        _when(call.started_at, zone),
        call.site + (f" / {call.zone}" if call.zone else ""),
        call.device or call.number,
        f"{call.dialled} (TEST)" if call.kind == "test" else call.dialled,
        _outcome(call.outcome, call.status),
        call.route,
        call.id,
    )
    return tuple(printable(" ".join(cell.split()) or "-") for cell in cells)


def _print_record(console: "Console", record: "CallRecord", loaded: "LoadedConfig") -> None:
    zone = _zone(loaded, record.site)
    site = next((site for site in loaded.config.sites if site.id == record.site), None)
    what = "text" if record.refused_because == NO_TEXT_SERVICE else "call"
    title = f"TEST {what}" if record.kind == "test" else f"911 {what}"
    if record.refused_because:
        title = f"REFUSED {title}"
    console.print(f"[bold]{title}[/bold] {_escaped(record.id)}")
    _print_pairs(console, [("When", _when(record.started_at, zone)), ("How it ended", _end(record))])
    if record.text:
        _print_pairs(console, [("They wrote", record.text)])

    caller = record.caller
    _heading(console, "Who")
    _print_pairs(
        console,
        [
            ("Device", _joined(caller.device, caller.device_name) or f"not known{_because(caller.reason)}"),
            ("Number", _joined(caller.number, caller.display_name)),
            ("Callback", f"{caller.callback or 'none'}{_because(caller.callback_source)}"),
            ("Dialled", record.dialled),
            ("Came from", caller.source_address),
            ("Phone's address", caller.phone_address),
            ("Identity from", caller.identity_source),
            ("Privacy overridden", caller.privacy),
        ],
    )

    _heading(console, "Where")
    place = "none known" if record.location is None else _place(record)
    sent = "sent along" if record.location_sent else "not sent to the one who took the call"
    _print_pairs(
        console,
        [
            ("Location", place),
            ("", sent if record.location else ""),
            ("Site", _joined(record.site, site.name if site else "") or "none claims this caller"),
            ("Zone", record.zone),
        ],
    )
    _print_filled_rows(
        console,
        ("Source", "Answer", "Reason", "Asked with", "Why not", "Confidence", "Age", "It said"),
        [_answer_row(item, record) for item in record.sources],
    )

    _heading(console, "Routes tried")
    _print_rows(
        console,
        ("After", "Route", "Answer", "Reason"),
        [
            (
                f"{step.after * 1000:,.0f} ms",
                f"{step.route} ({step.kind}{f', try {step.attempt + 1}' if step.attempt else ''})",
                _outcome(step.outcome, step.status),
                step.reason,
            )
            for step in record.routes
        ],
    )

    if record.callbacks:
        _heading(console, "Called back")
        _print_rows(
            console,
            ("When", "Number", "By", "To", "What happened"),
            [_callback_row(event, zone) for event in record.callbacks],
        )

    _heading(console, "Notices")
    _print_rows(
        console,
        ("Contact", "Notice", "Outcome", "Attempts", "Last attempt"),
        [_notice_row(entry, record, zone) for entry in record.notices],
    )
    words = [(f"{entry.contact} #{entry.channel + 1}", entry.words) for entry in record.notices if entry.words]
    if words:
        _heading(console, "What the receivers said")
        _print_pairs(console, words)
    if record.confirmations:
        _heading(console, "Seen and acknowledged")
        _print_rows(
            console,
            ("When", "What", "By", "How", "Notice to"),
            [
                (
                    _when(one.at, zone),
                    one.step.value,
                    one.by,
                    one.how,
                    one.contact + (f" #{one.channel + 1}" if one.channel >= 0 else ""),
                )
                for one in record.confirmations
            ],
        )
    untold = [name for name in record.contacts if name not in {entry.contact for entry in record.notices}]
    if untold:
        console.print(f"  no notice is recorded for: {_escaped(', '.join(untold))}")


def _answer_row(answer: "SourceAnswer", record: "CallRecord") -> tuple[str, ...]:
    """What one location source said, and why it did not decide."""
    age = age_text(max(record.started_at - answer.as_of, 0.0)) if answer.as_of else ""
    said = ""
    if answer.location is not None and answer.lost:
        said = _place_of(answer.location).replace("\n", ", ")
    return (answer.source, answer.outcome, answer.reason, answer.detail, answer.lost, answer.confidence, age, said)


def _callback_row(event: "CallbackEvent", zone: tzinfo) -> tuple[str, ...]:
    what = _outcome(event.outcome.value, event.status) + (f": {event.reason}" if event.reason else "")
    caller = f"{event.caller or 'withheld'} ({event.trunk}{', PSAP' if event.is_psap else ''})"
    return (_when(event.at, zone), event.number, caller, _joined(event.to, event.place), what)


def _notice_row(entry: "Entry", record: "CallRecord", zone: tzinfo) -> tuple[str, ...]:
    outcome = entry.state.value
    if entry.folded_into:
        outcome = "folded"
    elif entry.reason and outcome != "delivered":
        outcome = f"{outcome}, {entry.reason}"
    kind = entry.kind if entry.call == record.id else f"{entry.kind} (of {entry.call[:SHORT_ID]})"
    return (
        f"{entry.contact} #{entry.channel + 1}",
        kind,
        outcome,
        str(entry.attempts) if entry.attempts else "",
        _when(entry.last_attempt_at, zone) if entry.last_attempt_at else "",
    )


def _end(record: "CallRecord") -> str:
    text = _outcome(record.outcome, record.status) or "not known (still being set up, or the router was killed)"
    if record.route:
        text += f" by {record.route}"
    if record.refused_because:
        text += f": {record.refused_because}"
    if record.setup_ended_at is not None:
        text += f", after {record.setup_ended_at - record.started_at:.3f} s"
    if record.finished_at is not None:
        talked = record.finished_at - (record.setup_ended_at or record.started_at)
        text += f"; {record.finished_by or 'somebody'} hung up after {timedelta(seconds=round(talked))}"
    return text


def _outcome(outcome: str, status: int) -> str:
    return f"{outcome} ({status})" if status else outcome


def _place(record: "CallRecord") -> str:
    from e911.lost import validation_words

    location = record.location
    if location is None:
        return ""
    finer = f", finer parts from {location.finer_from}" if location.finer_from else ""
    method = f" ({location.method})" if location.method else ""
    validated = validation_words(location.validation, location.validated_at)
    return f"{_place_of(location)}\nfrom {location.source.value}{method}{finer}; {validated}"


def _place_of(location: "DispatchableLocation") -> str:
    from e911.notice import address_lines

    lines = address_lines(location.civic)
    if location.point:
        lines.append(f"{location.point.latitude}, {location.point.longitude}{location.point.within}")
    return "\n".join(lines)


def _print_pairs(console: "Console", pairs: "Sequence[tuple[str, str]]") -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(min_width=18)
    table.add_column()
    for label, value in pairs:
        if value:
            table.add_row(f"  {label}", _text(value))
    console.print(table)


def _print_rows(console: "Console", headings: tuple[str, ...], rows: "Sequence[tuple[str, ...]]") -> None:
    from rich.table import Table

    if not rows:
        console.print("  none")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, heading in enumerate(headings):
        table.add_column(f"  {heading}" if number == 0 else heading, no_wrap=heading in _WHOLE)
    for row in rows:
        cells = [_text(str(value)) for value in row]
        cells[0] = _text(f"  {row[0]}")
        table.add_row(*cells)
    console.print(table)


def _print_filled_rows(console: "Console", headings: tuple[str, ...], rows: "Sequence[tuple[str, ...]]") -> None:
    """Without the columns in which nothing stands."""
    kept = [number for number in range(len(headings)) if number < 3 or any(row[number] for row in rows)]
    _print_rows(
        console,
        tuple(headings[number] for number in kept),
        [tuple(row[number] for number in kept) for row in rows],
    )


def _heading(console: "Console", text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def _style(value: str) -> str:
    word = value.split(" ", 1)[0].rstrip(",;:")
    return "green" if word in _GOOD else "bold red" if word in _BAD else ""


def _text(value: str) -> "Text":
    """Text for the screen, coloured by its first word."""
    from rich.text import Text

    return Text(printable(value), style=_style(value))


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


def _joined(first: str, second: str) -> str:
    return f"{first} ({second})" if first and second and first != second else first or second


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _zone(loaded: "LoadedConfig", site: str) -> tzinfo:
    name = next((item.timezone for item in loaded.config.sites if item.id == site), "UTC")
    return ZoneInfo(name)


def _when(at: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M:%S %Z}"


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False)
    # In a pipe there is no width to keep to; lines are left whole for grep.
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, 160))


def _print_json(document: dict[str, Any]) -> None:
    import orjson

    typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
