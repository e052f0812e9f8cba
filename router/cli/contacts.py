"""`edge911 contacts`: who is told of 911 calls, over which channels, and whether those work."""

import getpass
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.common import ConfigOption, fail, load_or_exit, note_change
from router.cli.table import print_table
from router.process.printable import printable

if TYPE_CHECKING:
    from config.load import LoadedConfig
    from router.notices.confirmations import ChannelOutcome

TEST_SECONDS = 100.0
"""So long a test waits for what comes of it: a phone may ring for a while."""
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def register(app: typer.Typer) -> None:
    """Add `contacts list`, `contacts test` and `contacts templates` to the command."""
    contacts = typer.Typer(help="Who is told of 911 calls, and whether their channels work.", no_args_is_help=True)

    @contacts.callback()
    def before(context: typer.Context, config: ConfigOption = None) -> None:
        context.find_root().obj = config or context.find_root().obj

    @contacts.command("list")
    def list_command(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Contacts, their channels, and when each last delivered."""
        _list(load_or_exit(config), as_json=as_json)

    @contacts.command("test")
    def test_command(
        name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a contact.")],
        channel: Annotated[int, typer.Option("--channel", min=0, help="Only its Nth channel; 0: all.")] = 0,
        by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who tries; default: your login.")] = "",
        config: ConfigOption = None,
    ) -> None:
        """Send a trial notice to a contact."""
        _test(load_or_exit(config), name, channel, by)

    @contacts.command("templates")
    def templates_command(
        folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write them.")],
    ) -> None:
        """Write the supplied templates, to be changed."""
        from router.notices.templates import export

        try:
            written = export(folder)
        except OSError as error:
            fail(f"{folder}: {error.strerror or error}")
        typer.echo(f"{len(written)} templates in {folder}; name it in contacts.NAME.templates")

    app.add_typer(contacts, name="contacts")


def _proofs(loaded: "LoadedConfig") -> "dict[tuple[str, str], ChannelOutcome]":
    """What came of channels last. Raises StoreError."""
    from router.store.confirmations import all_proofs
    from router.store.engine import open_store, reading

    engine = open_store(loaded.database_url, create=False, wait=2.0)
    try:
        with reading(engine) as conn:
            return {(proof.contact, proof.channel): proof for proof in all_proofs(conn)}
    finally:
        engine.dispose()


def _channels(loaded: "LoadedConfig") -> list[tuple[str, str, str]]:
    """Contact, `#1 mailto://mail.example.com` (number and URL without passwords), and which channel that is."""
    from router.notices.channel_identity import channel_id
    from router.notices.receivers.apprise_way import privacy_url

    return [
        (name, f"#{number + 1} {privacy_url(url)}", channel_id(url))
        for name, contact in loaded.config.contacts.items()
        for number, url in enumerate(contact.send)
    ]


def _list(loaded: "LoadedConfig", *, as_json: bool) -> None:
    from router.store.errors import StoreError

    try:
        proofs = _proofs(loaded)
    except StoreError as error:
        typer.echo(f"edge911: {error}; what came of the channels is not known", err=True)
        proofs = {}
    rows = [(name, shown, proofs.get((name, channel))) for name, shown, channel in _channels(loaded)]
    if as_json:
        import orjson

        found: list[dict[str, Any]] = [
            {
                "contact": name,
                "channel": channel,
                "last_proven": proof.proven_at if proof else None,
                "last_tried": proof.at if proof else None,
                "is_delivered": proof.is_delivered if proof else None,
                "reason": proof.reason if proof else "",
                "words": proof.words if proof else "",
            }
            for name, channel, proof in rows
        ]
        typer.echo(orjson.dumps({"channels": found}, option=orjson.OPT_INDENT_2).decode())
        return
    if not rows:
        typer.echo("No contacts.")
        return
    print_table(
        ("Contact", "Channel", "Last proven", "Last outcome"),
        [(name, printable(channel), *_outcome(proof)) for name, channel, proof in rows],
        cut=("Last outcome",),
    )


def _outcome(proof: "ChannelOutcome | None") -> tuple[str, str]:
    if proof is None:
        return "never", "never tried"
    proven = _when(proof.proven_at) if proof.proven_at else "never"
    if proof.is_delivered:
        return proven, "delivered"
    return proven, printable(f"{proof.reason} {_when(proof.at)}: {proof.words}")


def _when(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _test(loaded: "LoadedConfig", name: str, channel: int, by: str) -> None:
    from router.notices.contact_tests import request_test
    from router.store.errors import StoreError

    contact = loaded.config.contacts.get(name)
    if contact is None:
        fail(f"no contact is called {name}; `edge911 contacts list` shows them")
    if channel > len(contact.send):
        fail(f"{name} has {len(contact.send)} channels")
    began = time.time()
    try:
        by = by or getpass.getuser()
        for url in contact.send[channel - 1 : channel] if channel else contact.send:
            request_test(loaded.state_directory, name, url, by)
    except (OSError, KeyError) as error:
        fail(f"{error}; run this on the router's node, as a user who may write its state directory")
    note_change(loaded, "test", f"contact:{name}", {}, {"channel": channel or "all"}, by)
    wanted = [(shown, identity) for owner, shown, identity in _channels(loaded) if owner == name]
    if channel:
        wanted = [wanted[channel - 1]]
    deadline = time.monotonic() + TEST_SECONDS
    failed = False
    while wanted and time.monotonic() < deadline:
        try:
            proofs = _proofs(loaded)
        except StoreError as error:
            fail(f"asked for, but what comes of it cannot be seen: {error}")
        for shown, identity in list(wanted):
            proof = proofs.get((name, identity))
            if proof is not None and proof.at >= began - 1.0:
                wanted.remove((shown, identity))
                failed = failed or not proof.is_delivered
                result = "delivered" if proof.is_delivered else f"NOT delivered, {proof.reason}"
                typer.echo(printable(f"{shown}: {result}: {proof.words}"))
        time.sleep(0.2)
    if wanted:
        names = ", ".join(shown for shown, _ in wanted)
        fail(f"nothing came of {names} within {TEST_SECONDS:.0f} s; does the router run on this node?")
    if failed:
        raise typer.Exit(1)
