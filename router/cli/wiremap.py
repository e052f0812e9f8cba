"""edge911 wiremap: which place each access point and switch port serves, on the database of the configuration."""

from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.common import ConfigOption, fail, load_or_exit
from router.cli.stored_rows import (
    FormatOption,
    is_yaml,
    open_or_exit,
    read_file,
    refuse_file,
    refuse_row,
    tell_import,
    write_file,
)
from router.cli.table import print_table

if TYPE_CHECKING:
    from e911.wiremap import WiremapEntry
    from router.store.devices import Value

_HELP = """The wiremap: which place an access point or a switch port serves.

Phones say what they are attached to (P-Access-Network-Info, or the fields of locations.wiremap in the
configuration). A running router takes every change into account within a second.
"""


def register(app: typer.Typer) -> None:
    """Add the `wiremap` command and its subcommands."""
    wiremap = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)
    wiremap.command("import")(_import)
    wiremap.command("list")(_list)
    wiremap.command("export")(_export)
    wiremap.command("set")(_set)
    wiremap.command("remove")(_remove)
    app.add_typer(wiremap, name="wiremap")


def _import(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV or YAML file; - reads standard input.")],
    plan: Annotated[bool, typer.Option("--plan", help="Show what would change; change nothing.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also take away every row that is not in the file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    form: FormatOption = None,
    config: ConfigOption = None,
) -> None:
    """Add access points and switch ports from a CSV or YAML file, or change them. All or nothing.

    \b
    For example:
      bssid,chassis,port,name,site,zone,floor,room
      00:1b:2c:3d:4e:50,,,AP 4-2,hq,hq-4,,
      ,00:1b:54:aa:bb:cc,GigabitEthernet1/0/14,outlet 312-2,hq,hq-3e,,312
      ,sw-3-east.example.com,,closet 3 east,hq,hq-3e,,

    \b
    Columns, in any order:
      bssid                address of an access point, in any spelling
      chassis, port        LLDP chassis ID and port ID; without a port: the whole switch
      name                 for people
      site, zone           as in edge911.yaml; a zone needs its site
      country, state, county, city, pre_directional, street, street_suffix,
      post_directional, house_number, house_number_suffix, postal_code,
      building, floor, unit, room, landmark, additional
                           the address, where it is not the site's or goes beyond it
      latitude, longitude  degrees, WGS 84; both or none

    A column that the file does not have keeps the value each row has. An empty cell clears it. Rows that
    are not in the file stay; --replace takes them away, and so does `edge911 wiremap remove`. Every mistake is
    told as FILE:LINE:COLUMN: what, where COLUMN counts cells (in YAML: characters).

    YAML: a list `wiremap`, each item a map with these columns as its keys; FILE.yaml, or --format yaml.
    """
    from e911.dispatchable import wiremap_problems
    from router.emergency import rules
    from router.locations.location_cells import places_of
    from router.locations.wiremap_csv import merged_problems, read_wiremap
    from router.locations.wiremap_edit import write_trail
    from router.locations.wiremap_plan import wiremap_plan
    from router.locations.wiremap_yaml import read_wiremap_yaml
    from router.process.csv_table import CsvError
    from router.store.audit import command_line_author
    from router.store.engine import reading, writing
    from router.store.wiremap import COLUMNS, all_entries, get_entries, remove_entries, take_turn, upsert_entries

    loaded = load_or_exit(config)
    places, sites = places_of(loaded.config), rules.places_of(loaded.config)
    name = "<stdin>" if file == "-" else file
    try:
        rows = (read_wiremap_yaml if is_yaml(file, form) else read_wiremap)(read_file(file), places)
    except CsvError as error:
        refuse_file(name, error)
    with open_or_exit(loaded.database_url) as engine, (reading if plan else writing)(engine) as conn:
        if not plan:
            take_turn(conn)
        known = get_entries(conn, (row.key for row in rows))
        if replace:
            known |= {entry.key: entry for entry in all_entries(conn)}
        if problems := merged_problems(rows, known, places):
            refuse_file(name, CsvError(problems))
        planned = wiremap_plan(rows, known, lambda entry: wiremap_problems(entry, sites), replace=replace)
        if not plan:
            before = {item.name: item.was for item in planned.changes if item.was is not None}
            after = {item.name: item.becomes for item in planned.changes if item.becomes is not None}
            upsert_entries(conn, list(after.values()), before)
            remove_entries(conn, planned.removed)
            write_trail(conn, command_line_author(), before, after)
    tell_import(planned, _rows(len(rows)), "row", COLUMNS, only_planned=plan, with_removed=replace, as_json=as_json)


def _list(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Only rows in which this text stands somewhere.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only the rows of this site.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show the access points and switch ports."""
    loaded = load_or_exit(config)
    everything = _all(loaded.database_url)
    found = [entry for entry in everything if _fits(entry, text, site)]
    if as_json:
        import orjson

        from router.store.wiremap import columns_of

        documents = [{**columns_of(entry), "updated_at": entry.updated_at} for entry in found]
        typer.echo(orjson.dumps(documents, option=orjson.OPT_INDENT_2).decode())
        return
    if found:
        print_table(
            ("What", "Name", "Site", "Zone", "Address"),
            [_row(entry) for entry in found],
            cut=("Address", "Name", "Site", "Zone"),
            drop=("Name", "Zone"),
        )
    of_all = f" of {len(everything):,}" if len(found) != len(everything) else ""
    typer.echo(f"{_rows(len(found))}{of_all}")


def _export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to write; - is standard output.")] = "-",
    form: FormatOption = None,
    config: ConfigOption = None,
) -> None:
    """Write all rows as CSV or YAML; `edge911 wiremap import` reads it back as it is."""
    from router.locations.wiremap_csv import written_wiremap
    from router.locations.wiremap_yaml import written_wiremap_yaml

    loaded = load_or_exit(config)
    entries = _all(loaded.database_url)
    write = written_wiremap_yaml if is_yaml(file, form) else written_wiremap
    write_file(file, write(entries), lambda: _rows(len(entries)))


def _set(
    what: Annotated[str, typer.Argument(metavar="BSSID|CHASSIS[,PORT]", help="Access point, or switch and port.")],
    pairs: Annotated[list[str], typer.Argument(metavar="KEY=VALUE", help="Columns as `import --help` lists them.")],
    config: ConfigOption = None,
) -> None:
    """Change one row, or add it. A key that is not given keeps its value; KEY= clears it.

    \b
    For example:
      edge911 wiremap set 00:1b:2c:3d:4e:50 site=hq zone=hq-4 name="AP 4-2"
      edge911 wiremap set 00:1b:54:aa:bb:cc,Gi1/0/14 site=hq zone=hq-3e room=312
      edge911 wiremap set sw-3-east.example.com, site=hq zone=hq-3e
    """
    from router.locations.location_cells import places_of
    from router.locations.wiremap_csv import column_named, merged, row_key, unfitting, wiremap_value
    from router.locations.wiremap_edit import write_trail
    from router.store.audit import command_line_author
    from router.store.engine import writing
    from router.store.wiremap import columns_of, get_entries, take_turn, upsert_entries

    loaded = load_or_exit(config)
    places = places_of(loaded.config)
    values: dict[str, Value] = {**_named(what)}
    problems: list[str] = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            if not equals:
                raise ValueError("write KEY=VALUE")
            name = column_named(key)
            if name in values:
                raise ValueError("names the row; add another row, and remove this one")
            values[name] = wiremap_value(name, value, places)
        except ValueError as error:
            problems.append(f"{key}: {error}")
    if problems:
        refuse_row(what, problems)
    key = row_key(values)
    with open_or_exit(loaded.database_url) as engine, writing(engine) as conn:
        take_turn(conn)
        known = get_entries(conn, [key])
        stored = known.get(key)
        after = {**(columns_of(stored) if stored else {}), **values}
        if wrong := unfitting(after, places):
            refuse_row(what, [f"{name}: {text}" for name, text in wrong])
        entry = merged(values, stored)
        count = upsert_entries(conn, [entry], known)
        write_trail(conn, command_line_author(), known, {key: entry})
    typer.echo(f"{key}: {'new' if count.new else 'changed' if count.changed else 'unchanged'}")


def _remove(
    named: Annotated[list[str], typer.Argument(metavar="BSSID|CHASSIS[,PORT]", help="Access points, switch ports.")],
    config: ConfigOption = None,
) -> None:
    """Take rows away. Where one of them is not there, none is removed."""
    from router.locations.wiremap_csv import row_key
    from router.locations.wiremap_edit import write_trail
    from router.store.audit import command_line_author
    from router.store.engine import writing
    from router.store.wiremap import get_entries, remove_entries, take_turn

    loaded = load_or_exit(config)
    keys = {text: row_key(_named(text)) for text in named}
    with open_or_exit(loaded.database_url) as engine, writing(engine) as conn:
        take_turn(conn)
        known = get_entries(conn, keys.values())
        if unknown := [text for text, key in keys.items() if key not in known]:
            for text in unknown:
                typer.echo(f"edge911: {text}: no such row ({keys[text]})", err=True)
            fail("nothing was removed")
        gone = remove_entries(conn, keys.values())
        write_trail(conn, command_line_author(), known, {})
    typer.echo(f"{_rows(len(gone))} removed")


def _named(text: str) -> dict[str, str]:
    """The row that a BSSID, or CHASSIS[,PORT], names. Ends the command where it is neither."""
    from e911.wiremap import read_identifiers

    try:
        bssid, chassis, port = read_identifiers(text)
    except ValueError as error:
        fail(str(error))
    return {"bssid": bssid, "chassis": chassis, "port": port}


def _all(url: str) -> "list[WiremapEntry]":
    from router.store.engine import reading
    from router.store.wiremap import all_entries

    with open_or_exit(url) as engine, reading(engine) as conn:
        return all_entries(conn)


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"


def _fits(entry: "WiremapEntry", text: str | None, site: str | None) -> bool:
    from router.store.wiremap import columns_of

    if site is not None and entry.site != site:
        return False
    if not text:
        return True
    wanted = text.casefold()
    texts = [entry.what, *(value for value in columns_of(entry).values() if isinstance(value, str))]
    return any(wanted in value.casefold() for value in texts)


def _row(entry: "WiremapEntry") -> tuple[str, ...]:
    from e911.notice import address_lines

    parts = address_lines(entry.civic)
    if entry.point:
        parts.append(f"{entry.point.latitude}, {entry.point.longitude}")
    return entry.what, entry.name, entry.site, entry.zone, ", ".join(parts)
