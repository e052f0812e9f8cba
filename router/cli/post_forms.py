"""edge911 locations forms: what the post writes otherwise."""

from typing import Annotated

import typer

from router.cli.common import ConfigOption, fail, load_or_exit

_SHOWN = 50
"""Devices named for people; --json names them all."""


def forms(
    devices: Annotated[
        list[str] | None, typer.Argument(metavar="[DEVICE]…", help="Only these; default: all devices.")
    ] = None,
    take: Annotated[bool, typer.Option("--take", help="Write these forms; default: only show them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show where the post writes an address otherwise.

    Street suffixes, directionals, states and postal codes as USPS and Canada Post write them: `Street` → `ST`. A
    location counts without them; providers and PSAPs match addresses by them. --take writes them over what is
    registered; that a phone is there is not confirmed by it. Columns that come from the site are the
    configuration's: they are not changed.
    """
    from e911.devices import device_key
    from router.cli.stored_rows import open_or_exit
    from router.emergency.rules import places_of
    from router.locations.post_forms import forms_of, take_forms
    from router.store.audit import command_line_author
    from router.store.devices import all_devices, get_devices
    from router.store.engine import reading, writing

    loaded = load_or_exit(config)
    places = places_of(loaded.config)
    with open_or_exit(loaded.database_url) as engine:
        with reading(engine) as conn:
            known = get_devices(conn, devices) if devices else {one.device: one for one in all_devices(conn)}
        if missing := [name for name in devices or () if device_key(name) not in known]:
            fail(f"no such device: {', '.join(missing)}; nothing was changed")
        found = {name: other for name in sorted(known) if (other := forms_of(known[name], places))}
        taken: list[str] = []
        if take and found:
            with writing(engine) as conn:
                author = command_line_author()
                taken = take_forms(conn, found, places, by=author.who, via=author.via)
    if as_json:
        import orjson

        document = {"applied": take, "forms": found}
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    for name in list(found)[:_SHOWN]:
        columns = (
            f"{column}: {getattr(known[name].civic, column) or '(empty)'} → {form}"
            for column, form in found[name].items()
        )
        typer.echo(f"{name}  {', '.join(columns)}")
    if len(found) > _SHOWN:
        typer.echo(f"… and {len(found) - _SHOWN:,} more; --json names them all")
    number = len(taken) if take else len(found)
    typer.echo(
        f"{number:,} device{'' if number == 1 else 's'} {'changed' if take else 'that the post writes otherwise'}"
    )
