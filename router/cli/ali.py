"""edge911 ali: records for the database operator who has the addresses of our numbers (NENA 02-010, version 2.1)."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from router.cli.common import ConfigOption, fail, load_or_exit
from router.cli.table import print_table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from config.load import LoadedConfig
    from config.schema import Ali
    from e911.ali import AliRecord

_HELP = """Records for the operator of an ALI database.

NENA 2.1, 512 bytes each: the addresses of our numbers. `export` writes what changed since the last file that was
accepted, `accept` tells what the operator said to it.
"""


def register(app: typer.Typer) -> None:
    """Add the `ali` command and its subcommands."""
    ali = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)
    ali.command("export")(_export)
    ali.command("accept")(_accept)
    ali.command("ported")(_ported)
    ali.command("status")(_status)
    ali.command("read")(_read)
    app.add_typer(ali, name="ali")


def _export(
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where it goes; - is standard output.")] = "-",
    again: Annotated[bool, typer.Option("--again", help="Refused records too, though they did not change.")] = False,
    initial: Annotated[
        bool, typer.Option("--initial", help="Mark the records as an initial load (source C).")
    ] = False,
    cycle: Annotated[
        int | None, typer.Option("--cycle", metavar="N", help="Another cycle counter than the next.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write a file of what changed since the last accepted one; its records are pending until `accept`.

    Written again before that, it has the same cycle counter and takes the first one's place. A number whose
    address does not fit into a record is named on standard error, and stays with the operator as it is.
    """
    import time
    from collections import Counter

    from e911.ali import AliError, AliHeader, ali_text, format_file
    from router.provisioning.ali_records import wanted_records
    from router.store import ali as store
    from router.store.devices import all_devices
    from router.store.engine import StoreError, writing

    loaded, section = _section(config)
    now = time.time()
    try:
        with _store(loaded) as engine, writing(engine) as conn:
            wanted = wanted_records(loaded.config, all_devices(conn))
            number, entries = store.export(
                conn, section.company, wanted.records, wanted.problems, now, again=again, cycle=cycle
            )
            header = AliHeader(
                company=ali_text(section.company),
                cycle=number,
                date=time.strftime("%Y%m%d", time.localtime(now)),
                county_id=ali_text(section.county_id),
                state=section.state.upper(),
                general_use=ali_text(section.general_use),
                release=ali_text(section.release),
                format_version=ali_text(section.format_version),
            )
            text = ""
            if entries:
                fill = "0" if section.fill == "zeros" else " "
                source = "C" if initial else ""
                text = format_file(header, entries, variant=section.variant, fill=fill, source_id=source)
                _note(conn, "export", f"ali-file:{section.company}/{number}", {}, {"records": len(entries)})
                _write(out, text)  # within the transaction: what could not be written is not pending
    except (AliError, StoreError) as error:
        fail(str(error))
    for problem in wanted.problems.values():
        typer.echo(f"edge911: left out: {problem}", err=True)
    if not entries:
        typer.echo("nothing changed since the last accepted file", err=True)
        return
    counts = Counter(entry.function for entry in entries)
    said = ", ".join(f"{count} {code.name.lower()}" for code, count in sorted(counts.items()))
    typer.echo(f"cycle {number}: {len(entries)} records ({said}); `edge911 ali accept` when it was taken", err=True)


def _accept(
    cycle: Annotated[
        int | None, typer.Argument(metavar="[CYCLE]", help="Of the file; default: the last one.")
    ] = None,
    refused: Annotated[
        list[str] | None,
        typer.Option("--refused", metavar="NUMBER=WORDS", help="A record that was not taken, and why. Repeatable."),
    ] = None,
    answer: Annotated[
        Path | None,
        typer.Option(
            "--answer", metavar="FILE", help="Lines of NUMBER and the operator's words: what was not taken."
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """The operator took the file: its records are active, but for those that it refused."""
    import time

    from e911.ali import AliError
    from router.store import ali as store
    from router.store.engine import StoreError, writing

    loaded, section = _section(config)
    words = dict(_refusal(one, "=") for one in refused or ())
    if answer is not None:
        try:
            lines = answer.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            fail(f"{answer}: {error.strerror}")
        words |= dict(_refusal(line, None) for line in lines if line.strip())
    try:
        with _store(loaded) as engine, writing(engine) as conn:
            number = store.cycle_of(conn, section.company).sent
            taken, left = store.accept(conn, section.company, words, time.time(), cycle=cycle)
            _note(conn, "accept", f"ali-file:{section.company}/{number}", {}, {"accepted": taken, "refused": words})
    except (AliError, StoreError) as error:
        fail(str(error))
    typer.echo(f"{taken} records are as they should be, {left} refused")


def _note(conn: "Connection", action: str, subject: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """In the audit trail, as whoever runs this."""
    from router.store.audit import Change, command_line_author, record_changes

    record_changes(conn, command_line_author(), [Change(action=action, subject=subject, before=before, after=after)])


def _refusal(text: str, separator: str | None) -> tuple[str, str]:
    number, *rest = text.split(separator, 1)
    return _ten_digits(number), rest[0].strip() if rest else ""


def _ten_digits(written: str) -> str:
    from e911.numbers import dialable

    number = dialable(written.strip())
    if not number.startswith("+1"):
        fail(f"{written.strip()!r} is not a number of North America; write 2125550142")
    return number[2:]


def _ported(
    number: Annotated[str, typer.Argument(metavar="NUMBER")],
    where: Annotated[Literal["in", "out", "neither"], typer.Argument(metavar="in|out|neither")],
    config: ConfigOption = None,
) -> None:
    """A number came from another provider (in) or goes to one (out): its record is migrated (M) or unlocked (U)."""
    import time

    from router.store import ali as store
    from router.store.engine import StoreError, writing

    loaded, _ = _section(config)
    ten = _ten_digits(number)
    try:
        with _store(loaded) as engine, writing(engine) as conn:
            known = store.states(conn).get(ten)
            store.set_ported(conn, ten, "" if where == "neither" else where, time.time())
            before = known.ported if known is not None else ""
            _note(conn, "port", f"ali:{ten}", {"ported": before or "neither"}, {"ported": where})
    except StoreError as error:
        fail(str(error))
    typer.echo(
        f"{ten}: "
        + {"in": "migrated by", "out": "unlocked by", "neither": "nothing special in"}[where]
        + " the next file"
    )


def _status(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False, config: ConfigOption = None
) -> None:
    """What the operator has, what it was sent, and what it refused."""
    from router.store import ali as store
    from router.store.engine import StoreError, reading

    loaded, section = _section(config)
    try:
        with _store(loaded) as engine, reading(engine) as conn:
            found, counter = store.states(conn), store.cycle_of(conn, section.company)
    except StoreError as error:
        fail(str(error))
    if as_json:
        import orjson

        shown: dict[str, Any] = {
            "company": section.company,
            "cycle_accepted": counter.accepted,
            "cycle_sent": counter.sent,
            "records": [
                {
                    "number": one.number,
                    "state": one.state,
                    "function": one.function,
                    "cycle": one.cycle,
                    "words": one.words,
                    "ported": one.ported,
                    "address": _address(one.sent or one.accepted),
                }
                for one in found.values()
            ],
        }
        sys.stdout.buffer.write(orjson.dumps(shown, option=orjson.OPT_INDENT_2) + b"\n")
        return
    waiting = f", file {counter.sent} waits for an answer" if counter.sent != counter.accepted else ""
    typer.echo(f"{section.company}: last accepted file {counter.accepted or 'none'}{waiting}")
    if found:
        rows = [
            (
                one.number,
                one.state or (f"ported {one.ported}" if one.ported else "-"),
                one.function or "-",
                _address(one.sent or one.accepted),
                one.words,
            )
            for one in found.values()
        ]
        print_table(("Number", "State", "Sent", "Address", "The operator's words"), rows, cut=("Address",))


def _read(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An ALI file; - reads standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what stands in a file of NENA 2.1 records, ours or another's."""
    from dataclasses import asdict

    from e911.ali import AliError, read_file

    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    try:
        found = read_file(data.decode("latin-1"))
    except AliError as error:
        fail(f"{file}: {error}")
    if as_json:
        import orjson

        entries = [
            {"function": entry.function.value, **{k: v for k, v in asdict(entry.record).items() if v}}
            for entry in found.entries
        ]
        shown = {"header": asdict(found.header), "records": entries}
        sys.stdout.buffer.write(orjson.dumps(shown, option=orjson.OPT_INDENT_2) + b"\n")
        return
    header = found.header
    typer.echo(f"{header.company}, cycle {header.cycle}, {header.date}: {len(found.entries)} records")
    rows = [
        (e.function.value, e.record.number, _address(e.record), e.record.customer_name, e.record.class_of_service)
        for e in found.entries
    ]
    if rows:
        print_table(("", "Number", "Address", "Customer", "Class"), rows, cut=("Address", "Customer"))


def _address(record: "AliRecord | None") -> str:
    if record is None:
        return ""
    parts = (
        *(record.house_number, record.house_number_suffix, record.prefix_directional, record.street_name),
        *(record.street_suffix, record.post_directional),
    )
    street = " ".join(part for part in parts if part)
    return ", ".join(part for part in (street, record.location, record.community, record.state) if part)


def _section(config: Path | None) -> "tuple[LoadedConfig, Ali]":
    loaded = load_or_exit(config)
    if loaded.config.ali is None:
        fail('no `ali` in the configuration; add ali: {company: "Example Corp", company_id: EXMPL}')
    return loaded, loaded.config.ali


def _write(out: str, text: str) -> None:
    if out == "-":
        sys.stdout.buffer.write(text.encode("ascii"))
        return
    try:
        Path(out).write_bytes(text.encode("ascii"))
    except OSError as error:
        fail(f"{out}: {error.strerror}; nothing is pending")


def _store(loaded: "LoadedConfig") -> Any:
    from contextlib import contextmanager

    from router.store.engine import open_store

    @contextmanager
    def opened() -> Any:
        engine = open_store(loaded.database_url)
        try:
            yield engine
        finally:
            engine.dispose()

    return opened()
