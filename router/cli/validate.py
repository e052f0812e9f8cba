"""edge911 locations validate: addresses of devices and sites against the location validation function (LVF)."""

import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.common import EXIT_FAILED, ConfigOption, fail, load_or_exit

if TYPE_CHECKING:
    from router.locations.validation import Run

_SHOWN = 20
"""Devices named for people; --json names them all."""


def validate(
    devices: Annotated[
        list[str] | None, typer.Argument(metavar="[DEVICE]…", help="Only these; default: all that are due.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those validated not long ago, as after a change of a site's address.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    config: ConfigOption = None,
) -> None:
    """Validate the addresses of devices and sites by LoST.

    RFC 5222; result and date are kept. Asked about are devices whose location changed since, or was validated longer
    ago than locations.lvf.every_days; and in the same way the street addresses of sites, which most calls carry,
    unless devices are named.
    `invalid: A3, HNO` names what the server does not know (RFC 5139): A1 state, A3 city, RD street, STS its suffix,
    HNO house number, PC postal code. `unknown: HNO`: it did not check that. Where the server does not answer, nothing
    of what was known changes, and the command ends with an error.
    """
    from e911.devices import device_key
    from router.emergency.rules import places_of
    from router.locations.lvf_client import LvfClient
    from router.locations.validation import Run, due_seconds, is_due, validate_devices, validate_places
    from router.store.devices import all_devices, get_devices
    from router.store.engine import StoreError, open_store, reading

    loaded = load_or_exit(config)
    section = loaded.config.locations.lvf
    if section is None:
        fail("no location validation function is configured; write locations: {lvf: https://…}")
    tls = loaded.config.tls
    now = time.time()
    try:
        engine = open_store(loaded.database_url, wait=30.0)
        try:
            with reading(engine) as conn:
                if devices:
                    known = get_devices(conn, devices)
                    if missing := [name for name in devices if device_key(name) not in known]:
                        fail(f"no such device: {', '.join(missing)}; nothing was asked")
                    wanted = list(known.values())
                else:
                    every = due_seconds(loaded.config)
                    wanted = [one for one in all_devices(conn) if everything or is_due(one, every, now)]
            wanted.sort(key=lambda device: device.device)
            with (
                LvfClient(section, lambda text: str(loaded.path(text)), tls.ca if tls else None) as client,
                _progress(len(wanted)) as advance,
            ):
                places = places_of(loaded.config)
                run = validate_devices(engine, wanted, places, client.validate, progress=advance)
                of_places = Run()
                if not devices and not run.gave_up:
                    every = due_seconds(loaded.config)
                    of_places = validate_places(engine, places, client.validate, every, everything=everything)
        finally:
            engine.dispose()
    except StoreError as error:
        fail(str(error))
    except (OSError, ssl.SSLError) as error:
        fail(f"locations.lvf: a file of its certificate, key or CA cannot be used: {error}")
    if as_json:
        _print_json(run, of_places)
    else:
        _print(run, "device")
        if not devices:
            _print(of_places, "address of a site", "addresses of sites")
    if run.failures or of_places.failures:
        raise typer.Exit(EXIT_FAILED)


def _print_json(run: "Run", of_places: "Run") -> None:
    import orjson

    typer.echo(orjson.dumps(_document(run) | {"sites": _document(of_places)}, option=orjson.OPT_INDENT_2).decode())


def _document(run: "Run") -> dict[str, Any]:
    return {
        "validated": len(run.results),
        "counts": dict(run.counts),
        "results": run.results,
        "skipped": run.skipped,
        "failures": dict(run.failures),
        "words": run.words,
        "left": run.left,
        "warnings": dict(run.warnings),
    }


def _print(run: "Run", one: str, many: str = "") -> None:
    wrong = [f"{name}: {text}" for name, text in run.results.items() if text != "valid"]
    wrong += [f"{name}: not asked about: {why}" for name, why in run.skipped.items()]
    for line in wrong[:_SHOWN]:
        typer.echo(line)
    if len(wrong) > _SHOWN:
        typer.echo(f"… and {len(wrong) - _SHOWN:,} more; --json names them all")
    counts = run.counts
    said = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in ("valid", "invalid", "unknown"))
    number = len(run.results)
    skipped = f"; {len(run.skipped):,} not asked about" if run.skipped else ""
    typer.echo(f"{number:,} {one if number == 1 else many or one + 's'} validated: {said}{skipped}")
    for warning, number in run.warnings.most_common(5):
        typer.echo(f"the server warned {number:,} times: {warning}", err=True)
    if run.failures:
        reasons = ", ".join(f"{reason} ({number})" for reason, number in run.failures.most_common())
        typer.echo(
            f"edge911: the LVF gave no answer: {reasons}: {run.words}; {run.left:,} left as they were", err=True
        )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Told how many are done; shows it on a terminal."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("validating", total=total)
        yield lambda done: progress.update(task, completed=done)
