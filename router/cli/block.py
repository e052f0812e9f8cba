"""`edge911 block`: refuse the 911 calls of one device or address for a while."""

from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.common import ConfigOption, fail, load_or_exit, note_change

if TYPE_CHECKING:
    from pathlib import Path

    from config.load import LoadedConfig
    from router.emergency.blocks import Block


def register(app: typer.Typer) -> None:
    """Add `block add`, `block list` and `block remove` to the command."""
    block = typer.Typer(
        help="Refuse the 911 calls of one device or address for a while. Nothing is ever blocked by itself."
    )

    @block.command("add")
    def add_command(
        who: Annotated[str, typer.Argument(metavar="DEVICE|NUMBER|IP", help="As `edge911 calls` shows the caller.")],
        duration: Annotated[str, typer.Option("--for", metavar="TIME", help="30m, 1h, …; 24h at the most.")],
        reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the record.")],
        config: ConfigOption = None,
    ) -> None:
        """Block from now on; a running router knows within a second. The calls are answered with 403 and recorded."""
        import time

        from config.values import parse_duration
        from router.emergency.blocks import Block, BlocksError, write_blocks

        try:
            seconds = parse_duration(duration)
        except ValueError as error:
            fail(f"--for {duration}: {error}")
        if not reason.strip():
            fail("--reason: say why; whoever reads the record must understand it")
        loaded, found = _read(config)
        now = time.time()
        made = Block(who=who, reason=reason.strip(), since=now, until=now + seconds)
        try:
            write_blocks(loaded.state_directory, [*(one for one in found if one.who != who), made], now)
        except BlocksError as error:
            fail(str(error))
        note_change(loaded, "block", f"caller:{who}", _shown(found, who), _texts(made))
        typer.echo(f"911 calls of {who} are refused until {_when(made.until)}; `edge911 block remove {who}` ends it")

    @block.command("list")
    def list_command(config: ConfigOption = None) -> None:
        """List the blocks in force."""
        import time

        now = time.time()
        found = [one for one in _read(config)[1] if one.until > now]
        for one in sorted(found, key=lambda one: one.until):
            typer.echo(f"{one.who}  until {_when(one.until)}  {one.reason}")
        if not found:
            typer.echo("nobody is blocked")

    @block.command("remove")
    def remove_command(
        who: Annotated[str, typer.Argument(metavar="DEVICE|NUMBER|IP", help="As `edge911 block list` shows it.")],
        config: ConfigOption = None,
    ) -> None:
        """Serve this caller's 911 calls again."""
        import time

        from router.emergency.blocks import BlocksError, write_blocks

        loaded, found = _read(config)
        left = [one for one in found if one.who != who]
        if len(left) == len(found):
            fail(f"{who} is not blocked; `edge911 block list` shows who is")
        try:
            write_blocks(loaded.state_directory, left, time.time())
        except BlocksError as error:
            fail(str(error))
        note_change(loaded, "unblock", f"caller:{who}", _shown(found, who), {})
        typer.echo(f"911 calls of {who} are served again")

    app.add_typer(block, name="block")


def _shown(found: "list[Block]", who: str) -> dict[str, str]:
    """A block as the audit trail shows it; empty where there is none."""
    return {name: text for one in found if one.who == who for name, text in _texts(one).items()}


def _texts(block: "Block") -> dict[str, str]:
    return {"reason": block.reason, "until": _when(block.until)}


def _read(config: "Path | None") -> "tuple[LoadedConfig, list[Block]]":
    from router.emergency.blocks import BlocksError, read_blocks

    loaded = load_or_exit(config)
    try:
        return loaded, read_blocks(loaded.state_directory)
    except BlocksError as error:
        fail(str(error))


def _when(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
