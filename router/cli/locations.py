"""edge911 locations: the registered devices, on the database that the configuration names."""

import getpass
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.common import ConfigOption, fail, load_or_exit
from router.cli.post_forms import forms
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
from router.cli.validate import validate

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from e911.location import Device
    from router.locations.import_plan import ImportPlan
    from router.locations.location_cells import Places
    from router.store.devices import Value

_LONG_FILE = 2000
"""Rows from which on an import shows how far it is."""
_NICENESS = 10
"""Of a long import: calls on the same machine go first."""
_CHUNK = 1000
_HELP = """The registered devices: which phone is where.

And which number calls it back. A running router takes every change into account within a second.
"""


def register(app: typer.Typer) -> None:
    """Add the `locations` command and its subcommands."""
    locations = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)
    locations.command("import")(_import)
    locations.command("list")(_list)
    locations.command("export")(_export)
    locations.command("set")(_set)
    locations.command("remove")(_remove)
    locations.command("validate")(validate)
    locations.command("forms")(forms)
    locations.command("unknown")(_unknown)
    locations.command("link")(_link)
    app.add_typer(locations, name="locations")


def _import(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV or YAML file; - reads standard input.")],
    plan: Annotated[bool, typer.Option("--plan", help="Show what would change; change nothing.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also take away every device that is not in the file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    form: FormatOption = None,
    config: ConfigOption = None,
) -> None:
    """Add devices from a CSV or YAML file, or change them. All or nothing: one wrong row, and nothing changes.

    \b
    For example:
      device,name,site,zone,floor,room,callback
      4012,Reception,hq,hq-1,1,Lobby,+12125550112
      alice@example.com,Alice Roy (softphone),hq,,,,

    \b
    Columns, in any order, of which only `device` must be there:
      device               number, user or address of record, as the phone calls itself
      name                 who is there; the PSAP and the front desk see it
      kind                 fixed, nomadic, softphone or off-premises
      aor, number, username, mac
                           what else the phone is known by: another address of record, number, user, MAC address
      callback             the number a PSAP calls back: +12125550112
      language, email      of the person whose phone it is: en or fr; where a link to say where it is is sent
      site, zone           as in edge911.yaml; a zone needs its site
      elin_zone            the zone whose ELIN it is lent, where that is another one
      country, state, county, city, pre_directional, street, street_suffix,
      post_directional, house_number, house_number_suffix, postal_code,
      building, floor, unit, room, landmark, additional
                           the address, where it is not the site's or goes beyond it
      latitude, longitude  degrees, WGS 84, such as 40.7484,-73.9857; both or none
      confirmed_at, confirmed_by
                           when somebody last said that it is there, and who; a location that is given is confirmed
      expires_at           until when that holds: 2027-11-22 or 2027-11-22T21:36:12Z; empty: always
      location_id, endpoint_id
                           the provider's ids of the place and the device; they end with the place or callback number,
                           unless others are given with it

    A column that the file does not have keeps the value each device has. An empty cell clears it. A device
    that is not in the file stays as it is; --replace takes it away, and so does `edge911 locations remove`.

    YAML: a list `devices`, each item a map with these columns as its keys; FILE.yaml, or --format yaml.

    UTF-8, or UTF-16 as Excel saves it; comma, semicolon or tab between the cells. Every mistake is told as
    FILE:LINE:COLUMN: what, where COLUMN counts cells (in YAML: characters).
    """
    from e911.dispatchable import device_problems
    from router.emergency import rules
    from router.locations.location_cells import places_of
    from router.locations.location_plan import KEPT_BY_US, import_plan
    from router.locations.locations_csv import merged_problems, read_rows
    from router.locations.locations_yaml import read_yaml_rows
    from router.locations.shared_names import with_shared_names
    from router.process.csv_table import CsvError
    from router.store.devices import (
        COLUMNS,
        all_devices,
        current_revision,
        get_devices,
        remove_devices,
        take_turn,
        write_devices,
    )
    from router.store.engine import reading, writing

    loaded = load_or_exit(config)
    places = places_of(loaded.config)
    sites = rules.places_of(loaded.config)
    name = "<stdin>" if file == "-" else file
    read = read_yaml_rows if is_yaml(file, form) else read_rows
    data = read_file(file)
    lines = data.count(b"\n")
    if lines >= _LONG_FILE:
        os.nice(_NICENESS)
    now, by = time.time(), _who()
    with _progress(lines) as shown:
        try:
            rows = read(data, places, progress=shown("checking"))
        except CsvError as error:
            refuse_file(name, error)

        def judged(device: "Device") -> tuple[str, ...]:
            return device_problems(device, sites, now)

        def compared(conn: "Connection") -> "ImportPlan[Device]":
            if replace:
                known = {device.device: device for device in all_devices(conn)}
            else:
                known = get_devices(conn, (row.device for row in rows))
            if problems := merged_problems(rows, known, places):
                refuse_file(name, CsvError(problems))
            found = import_plan(rows, known, judged, replace=replace, now=now, by=by, progress=shown("comparing"))
            return with_shared_names(conn, found, judged) if plan or as_json else found

        with open_or_exit(loaded.database_url) as engine:
            # Before others have to wait, for it takes as long as to store; again where they changed something.
            with reading(engine) as conn:
                revision = current_revision(conn)
                planned = compared(conn)
            if not plan:
                with writing(engine) as conn:
                    take_turn(conn)
                    if current_revision(conn) != revision:
                        planned = compared(conn)
                    advance = shown("storing")
                    writes = planned.writes
                    for start in range(0, len(writes), _CHUNK):
                        write_devices(conn, writes[start : start + _CHUNK], now=now, by=by)
                        advance(rows[-1].line * (start + _CHUNK) // len(writes))
                    remove_devices(conn, planned.removed)
    tell_import(
        planned,
        _devices(len(rows)),
        "device",
        COLUMNS,
        only_planned=plan,
        with_removed=replace,
        as_json=as_json,
        own=KEPT_BY_US,
    )
    if as_json:
        return
    are_new = planned.of("added") or planned.of("changed")
    if loaded.config.locations.lvf is not None and not plan and are_new and sys.stderr.isatty():
        typer.echo("new addresses are not validated yet; `edge911 locations validate` asks now", err=True)
    if planned.lacking:
        reasons = Counter(reason for found in planned.lacking.values() for reason in found)
        why = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common())
        if plan or sys.stderr.isatty():
            typer.echo(f"{_devices(len(planned.lacking))} without a dispatchable location: {why}", err=not plan)


def _list(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Only devices in which this text stands somewhere.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only the devices of this site.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show the registered devices."""
    loaded = load_or_exit(config)
    everything = _all(loaded.database_url)
    found = [device for device in everything if _fits(device, text, site)]
    from e911.dispatchable import device_problems
    from router.emergency.rules import places_of

    now, sites = time.time(), places_of(loaded.config)
    lacks = [device_problems(device, sites, now) for device in found]
    if as_json:
        import orjson

        from router.store.devices import columns_of, state_of

        documents = [
            columns_of(device) | state_of(device) | {"not_dispatchable": why}
            for device, why in zip(found, lacks, strict=True)
        ]
        typer.echo(orjson.dumps(documents, option=orjson.OPT_INDENT_2).decode())
        return
    if found:
        told = loaded.config.provisioning  # nobody is told of them otherwise
        print_table(
            ("Device", "Name", "Kind", "Callback", "Site", "Zone", "Address", "Point", "State", "Validation")
            + (("Provider",) if told else ()),
            [
                _row(device, why) + ((device.provisioning,) if told else ())
                for device, why in zip(found, lacks, strict=True)
            ],
            cut=("Address", "Name", "Site", "Zone", "State", "Provider"),
            drop=("Point", "Kind", "Zone"),
        )
    of_all = f" of {len(everything):,}" if len(found) != len(everything) else ""
    typer.echo(f"{_devices(len(found))}{of_all}")


def _export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to write; - is standard output.")] = "-",
    form: FormatOption = None,
    config: ConfigOption = None,
) -> None:
    """Write all devices as CSV or YAML.

    Sorted by device; `edge911 locations import` reads it back as it is.
    """
    from router.locations.locations_csv import written_rows
    from router.locations.locations_yaml import written_yaml

    write = written_yaml if is_yaml(file, form) else written_rows
    loaded = load_or_exit(config)
    devices = _all(loaded.database_url)
    write_file(file, write(devices), lambda: _devices(len(devices)))


def _set(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Number, user or address of record.")],
    pairs: Annotated[list[str], typer.Argument(metavar="KEY=VALUE", help="Columns as `import --help` lists them.")],
    config: ConfigOption = None,
) -> None:
    """Change one device, or add it.

    A key that is not given keeps its value; KEY= clears it.

    \b
    For example:
      edge911 locations set 4012 site=hq floor=3 room="East wing"
      edge911 locations set 4012 room=
    """
    from router.locations.location_cells import places_of, unfitting_after
    from router.store.devices import get_device, take_turn, upsert_devices
    from router.store.engine import writing

    loaded = load_or_exit(config)
    places = places_of(loaded.config)
    values, problems = _values(device, pairs, places)
    if problems:
        refuse_row(device, problems)
    with open_or_exit(loaded.database_url) as engine, writing(engine) as conn:
        take_turn(conn)
        known = get_device(conn, str(values["device"]))
        if unfitting := unfitting_after(known, values, places):
            refuse_row(device, [f"{name}: {what}" for name, what in unfitting])
        count = upsert_devices(conn, [values], by=_who())
    outcome = "new" if count.new else "changed" if count.changed else "unchanged"
    typer.echo(f"{values['device']}: {outcome}")


def _remove(
    devices: Annotated[list[str], typer.Argument(metavar="DEVICE", help="Numbers, users or addresses of record.")],
    config: ConfigOption = None,
) -> None:
    """Take devices away. Where one of them is not registered, none is removed."""
    from e911.devices import device_key
    from router.store.devices import get_devices, remove_devices, take_turn
    from router.store.engine import writing

    loaded = load_or_exit(config)
    with open_or_exit(loaded.database_url) as engine, writing(engine) as conn:
        take_turn(conn)
        known = get_devices(conn, devices)
        if unknown := [name for name in devices if device_key(name) not in known]:
            for name in unknown:
                typer.echo(f"edge911: {name}: no such device{_nearest(conn, name)}", err=True)
            fail("nothing was removed")
        gone = remove_devices(conn, devices)
    typer.echo(f"{_devices(len(gone))} removed")


def _unknown(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Only phones in whose name, network or User-Agent it stands.")
    ] = None,
    forget: Annotated[
        list[str] | None, typer.Option("--forget", metavar="PHONE", help="Take a phone out of the list.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    config: ConfigOption = None,
) -> None:
    """List the phones that were seen without a location.

    Each phone that registers or calls and that neither a registration nor a network places. One that is given a
    location leaves the list: `edge911 locations set PHONE site=hq floor=3`.
    """
    from router.process.printable import age_text
    from router.store.engine import reading, writing
    from router.store.phones import forget_phones, phones_without_location

    loaded = load_or_exit(config)
    with open_or_exit(loaded.database_url) as engine:
        if forget:
            with writing(engine) as conn:
                forget_phones(conn, forget)
        with reading(engine) as conn:
            found = phones_without_location(conn, text=text or "")
    if as_json:
        import orjson

        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    now = time.time()
    if found:
        print_table(
            ("Phone", "Last seen", "First seen", "Network", "User-Agent", "By", "Address"),
            [
                (
                    one.phone,
                    age_text(max(now - one.last_seen, 0.0)),
                    age_text(max(now - one.first_seen, 0.0)),
                    one.network,
                    one.user_agent,
                    one.method,
                    one.address,
                )
                for one in found
            ],
            cut=("User-Agent", "Phone"),
            drop=("Address", "By", "First seen"),
        )
    typer.echo(f"{len(found):,} phone{'' if len(found) == 1 else 's'} without a location")


def _link(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Number, user or address of record.")],
    config: ConfigOption = None,
) -> None:
    """Print the link for the user of a device.

    On it they say where it is, without an account. Needs the console."""
    from router.locations.self_service import link_to
    from router.notices.links import base_url, secrets_of
    from router.store.devices import get_device
    from router.store.engine import reading

    loaded = load_or_exit(config)
    with open_or_exit(loaded.database_url) as engine, reading(engine) as conn:
        found = get_device(conn, device)
        if found is None:
            fail(f"{device}: no such device{_nearest(conn, device)}")
    base = base_url(loaded.config)
    if not base:
        fail("there is no console; configure `console: {listen: …}`, which serves the page")
    secret = secrets_of(loaded.state_directory, loaded.config.node)[0]
    until = time.time() + loaded.config.locations.unconfirmed.link_days * 86_400.0
    typer.echo(link_to(base, secret, found, until))


def _values(device: str, pairs: Sequence[str], places: "Places") -> "tuple[dict[str, Value], list[str]]":
    """The row that KEY=VALUE pairs make, and what is wrong with them."""
    from router.locations.location_cells import cell_value, column_named

    values: dict[str, Value] = {}
    problems: list[str] = []
    for pair in (f"device={device}", *pairs):
        key, equals, value = pair.partition("=")
        try:
            if not equals:
                raise ValueError("write KEY=VALUE")
            name = column_named(key)
            if name in values:
                raise ValueError("given twice" if name != "device" else "a device keeps its name; add another")
            values[name] = cell_value(name, value, places)
        except ValueError as error:
            problems.append(f"{key}: {error}")
    return values, problems


def _all(url: str) -> "list[Device]":
    from router.store.devices import all_devices
    from router.store.engine import reading

    with open_or_exit(url) as engine, reading(engine) as conn:
        return sorted(all_devices(conn), key=lambda device: device.device)


def _who() -> str:
    """Who gives this command: the name of their account on this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command line"


def _devices(number: int) -> str:
    return f"{number:,} device{'' if number == 1 else 's'}"


def _fits(device: "Device", text: str | None, site: str | None) -> bool:
    from router.store.devices import columns_of

    if site is not None and device.site != site:
        return False
    if not text:
        return True
    wanted = text.casefold()
    return any(isinstance(value, str) and wanted in value.casefold() for value in columns_of(device).values())


def _nearest(conn: "Connection", name: str) -> str:
    from difflib import get_close_matches

    from e911.devices import device_key
    from router.store.devices import all_devices

    near = get_close_matches(device_key(name), [device.device for device in all_devices(conn)], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _row(device: "Device", lacks: Sequence[str]) -> tuple[str, ...]:
    """lacks: why help could not be sent to its location by that alone."""
    from e911.lost import validation_words

    point = f"{device.point.latitude}, {device.point.longitude}" if device.point else ""
    who = (device.device, device.name, device.kind.value, device.callback)
    validated = validation_words(device.validation, device.validated_at)
    return (*who, device.site, device.zone, _address(device), point, _state(lacks), validated)


def _state(lacks: Sequence[str]) -> str:
    """How far its location is to be relied on: `expired`, `unconfirmed`, or what it lacks."""
    return ", ".join(reason.removeprefix("location-") for reason in lacks)


def _address(device: "Device") -> str:
    """The address on one line, as people write it."""
    civic = device.civic
    number = civic.house_number + civic.house_number_suffix
    street = (number, civic.pre_directional, civic.street, civic.street_suffix, civic.post_directional)
    finer = [f"{name} {value}" for name in ("building", "floor", "unit", "room") if (value := getattr(civic, name))]
    parts = (
        " ".join(filter(None, street)),
        *finer,
        civic.landmark,
        civic.additional,
        civic.city,
        civic.county,
        " ".join(filter(None, (civic.state, civic.postal_code))),
        civic.country,
    )
    return ", ".join(filter(None, parts))


@contextmanager
def _progress(lines: int) -> Iterator[Callable[[str], Callable[[int], None]]]:
    """shown(what) gives a function that is told the line reached; a long file shows it on a terminal."""
    if lines < _LONG_FILE or not sys.stderr.isatty():
        yield lambda _what: lambda _line: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:

        def shown(what: str) -> Callable[[int], None]:
            task = progress.add_task(what, total=lines)
            return lambda line: progress.update(task, completed=line)

        yield shown
