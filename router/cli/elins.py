"""edge911 elins: pools of ELINs, who has which, and ending a lease by hand."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.common import ConfigOption, fail, load_or_exit

if TYPE_CHECKING:
    from config.load import LoadedConfig
    from router.callback.known_leases import Known

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def register(app: typer.Typer) -> None:
    """Add `elins list`, `elins show` and `elins release` to the command."""
    elins = typer.Typer(help="Numbers lent to phones that dialled 911 (ELINs).")

    @elins.command("list")
    def list_command(as_json: JsonOption = False, config: ConfigOption = None) -> None:
        """List the pools: how many ELINs are free and lent, and numbers of phones that are kept for callbacks."""
        _list(load_or_exit(config), as_json=as_json)

    @elins.command("show")
    def show_command(
        what: Annotated[str, typer.Argument(metavar="POOL|NUMBER", help="As `edge911 elins list` shows it.")],
        as_json: JsonOption = False,
        config: ConfigOption = None,
    ) -> None:
        """Show who has each ELIN of a pool, or one number: until when, and by which way they are called back."""
        _show(load_or_exit(config), what, as_json=as_json)

    @elins.command("release")
    def release_command(
        number: Annotated[str, typer.Argument(metavar="NUMBER", help="An ELIN, or a phone's own number.")],
        as_json: JsonOption = False,
        config: ConfigOption = None,
    ) -> None:
        """End the leases of a number now: calls to an ELIN then go to the site's desk, to another number as ordinary
        calls. Running routers know within a second."""
        _release(load_or_exit(config), number, as_json=as_json)

    app.add_typer(elins, name="elins")


def _known(loaded: "LoadedConfig") -> "Known":
    from router.callback.known_leases import known_leases

    known = known_leases(loaded)
    if known.database != "ok":
        typer.echo(
            f"edge911: the database cannot be asked ({known.database}); showing what this node knows", err=True
        )
    return known


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def _list(loaded: "LoadedConfig", *, as_json: bool) -> None:
    import time

    from router.callback.elin_view import own_numbers, pool_rows
    from router.cli.table import print_table

    now = time.time()
    known = _known(loaded)
    pools, own = pool_rows(known.leases, now), own_numbers(known.leases, now)
    if as_json:
        _print_json({"database": known.database, "pools": pools, "own_numbers": own})
        return
    if not pools:
        typer.echo("No ELINs: sites have none (`sites.*.elins`, `sites.*.zones.*.elins`).")
    else:
        print_table(
            ("Pool", "ELINs", "Free", "Lent", "Shared", "State"),
            [
                (
                    row["pool"],
                    str(row["total"]),
                    str(row["free"]),
                    str(row["leased"]),
                    str(row["shared"]),
                    row["state"],
                )
                for row in pools
            ],
            cut=("Pool",),
        )
    if own:
        typer.echo("\nNumbers of phones that dialled 911, kept for callbacks:")
        _print_leases(own)


def _print_leases(rows: list[dict[str, Any]]) -> None:
    from router.cli.table import print_table
    from router.process.printable import printable

    print_table(
        ("Number", "Who", "Site", "Until", "Called back by", "Call"),
        [
            (
                row["number"],
                printable(row["who"] or row["caller"]) + (" (test)" if row["is_test"] else ""),
                row["site"] + (f" / {row['zone']}" if row["zone"] else ""),
                _when(row["until"]) + (f", {row['reason']}" if row["reason"] else ""),
                printable(_way(row["way_back"])),
                row["call"],
            )
            for row in rows
        ],
        cut=("Called back by", "Who", "Call"),
    )


def _way(way: dict[str, str]) -> str:
    if way["trunk"]:
        return f"{way['user']} at trunk {way['trunk']}"
    return f"{way['address_of_record']} by {way['flow']}"


def _show(loaded: "LoadedConfig", what: str, *, as_json: bool) -> None:
    import time

    from e911.numbers import dialable
    from router.callback.elin_view import lease_row, number_rows

    now = time.time()
    known = _known(loaded)
    leases = known.leases
    pool = next((pool for pool in leases.pools.all if pool.name == what), None)
    number = dialable(what)
    if pool is not None:
        rows = number_rows(leases, pool, now)
    elif number in leases.pools.by_number:
        rows = [row for row in number_rows(leases, leases.pools.by_number[number], now) if row["number"] == number]
    elif number and leases.live(number, now):
        live = [lease_row(lease) for lease in reversed(leases.live(number, now))]
        rows = [{"number": number, "pool": "", "last_used": now, "leases": live}]
    else:
        fail(f"{what} is neither a pool nor a number under lease; `edge911 elins list` shows them")
    if as_json:
        _print_json({"database": known.database, "numbers": rows})
        return
    for row in rows:
        if not row["leases"]:
            used = f"free, last used until {_when(row['last_used'])}" if row["last_used"] else "free"
            typer.echo(f"{row['number']}  {used}")
    lent = [lease for row in rows for lease in row["leases"]]
    if lent:
        _print_leases(lent)


def _release(loaded: "LoadedConfig", written: str, *, as_json: bool) -> None:
    import time

    from e911.numbers import dialable
    from router.callback.elin_view import lease_row, release_change
    from router.callback.known_leases import known_leases
    from router.store.audit import command_line_author, record_changes
    from router.store.engine import StoreError, open_store, writing
    from router.store.leases import release

    number = dialable(written)
    if not number:
        fail(f"{written} is not a number; write it as `edge911 elins list` shows it, such as +12125550191")
    now = time.time()
    known = known_leases(loaded)
    try:
        engine = open_store(loaded.database_url, create=False)
        try:
            with writing(engine) as conn:
                ended = release(conn, number, now, known.leases.live(number, now))
                record_changes(conn, command_line_author(), [release_change(lease) for lease in ended])
        finally:
            engine.dispose()
    except StoreError as error:
        fail(f"{error}; the lease stays, for the nodes hear of its end by the database")
    if as_json:
        _print_json({"released": [lease_row(lease) for lease in ended]})
    elif not ended:
        typer.echo(f"{number} is not lent")
    for lease in ended if not as_json else ():
        typer.echo(f"{number}: the lease of {lease.who or lease.caller} has ended")


def _when(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
