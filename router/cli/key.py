"""`edge911 key`: the keys of the tokens in Record-Route, Path and Contact."""

from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.common import ConfigOption, fail, load_or_exit

if TYPE_CHECKING:
    from pathlib import Path

    from router.dialogs.token_keys import TokenKey

_MEANING = {"now": "signs and verifies", "next": "verifies; will sign after `edge911 key rotate`", "old": "verifies"}


def register(app: typer.Typer) -> None:
    """Add `key`, `key list` and `key rotate` to the command."""
    key = typer.Typer(help="Keys of the tokens in Record-Route and Path.")

    @key.command("list")
    def list_command(config: ConfigOption = None) -> None:
        """List the keys by fingerprint; nodes that stand in for each other show the same ones."""
        for one in _read(config)[1]:
            typer.echo(f"{one.fingerprint}  {one.state:<5}{one.since or 'from the start':<16}{_MEANING[one.state]}")

    @key.command("rotate")
    def rotate_command(
        prepare: Annotated[
            bool,
            typer.Option(
                "--prepare",
                help="Only make the next key, which verifies and does not sign yet: the first step of two where "
                "several nodes share their keys.",
            ),
        ] = False,
        config: ConfigOption = None,
    ) -> None:
        """Sign with a new key; the one until now, and the one before, still verify.

        Calls and registrations made with them go on. A running router takes the change at its next reload (SIGHUP).
        """
        from datetime import UTC, datetime

        from router.dialogs.token_keys import TokenKeysError, prepared, rotated, write_token_keys

        directory, found = _read(config)
        change = prepared if prepare else rotated
        try:
            write_token_keys(directory, change(found, datetime.now(UTC).date().isoformat()))
        except TokenKeysError as error:
            fail(str(error))
        again = "copy token-keys to the other nodes, reload all, then `edge911 key rotate`"
        typer.echo(f"{directory / 'token-keys'} is written; {again if prepare else 'reload the router to use it'}")

    app.add_typer(key, name="key")


def _read(config: "Path | None") -> "tuple[Path, list[TokenKey]]":
    from router.dialogs.token_keys import TokenKeysError, read_token_keys
    from router.process.key import load_key

    loaded = load_or_exit(config)
    node_key, problem = load_key(loaded.state_directory, loaded.config.node)
    if problem:
        fail(problem)
    try:
        return loaded.state_directory, read_token_keys(loaded.state_directory, node_key)
    except TokenKeysError as error:
        fail(str(error))
