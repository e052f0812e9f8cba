"""`edge911 tokens`: tokens of the REST API."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from router.cli.common import ConfigOption, fail, load_or_exit
from router.cli.table import print_table
from router.cli.users import SiteOption, known_sites, shown_sites, writing_store

_HELP = """Tokens of the REST API.

A program sends its own as `Authorization: Bearer TOKEN`.

\b
  read   sees devices, sites, calls, trunks, the audit trail
  write  changes devices as well
  admin  changes users as well
"""
_DAY = 86_400.0


def register(app: typer.Typer) -> None:
    """Add the `tokens` command and its subcommands."""
    tokens = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)
    tokens.command("add")(_add)
    tokens.command("list")(_list)
    tokens.command("remove")(_remove)
    app.add_typer(tokens, name="tokens")


def _add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who holds it; stands in the audit trail.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="read, write or admin.")] = "read",
    site: SiteOption = None,
    days: Annotated[int | None, typer.Option("--days", min=1, max=36_500, help="Ends after so many days.")] = None,
    config: ConfigOption = None,
) -> None:
    """Make a token. It is shown this once; only its hash is kept."""
    from router.store.audit import command_line_author
    from router.store.tokens import TokenRole, add_token
    from router.store.users import UserError

    loaded = load_or_exit(config)
    try:
        if role not in set(TokenRole):
            raise UserError("role", f"{role!r} is not a role of a token; write {', '.join(TokenRole)}")
        with writing_store(loaded) as conn:
            _, text = add_token(
                conn,
                name,
                TokenRole(role),
                command_line_author(),
                sites=known_sites(loaded, site),
                expires_at=time.time() + days * _DAY if days else None,
            )
    except UserError as error:
        fail(f"{error.field}: {error}")
    typer.echo(text)


def _list(config: ConfigOption = None) -> None:
    """List the tokens, without their secrets."""
    from router.store.tokens import all_tokens

    loaded = load_or_exit(config)
    with writing_store(loaded) as conn:
        found = all_tokens(conn)
    if not found:
        typer.echo("no tokens")
        return
    rows = [
        (
            token.id,
            token.name,
            token.role.value,
            shown_sites(token.sites),
            token.created_by,
            _moment(token.expires_at),
            _moment(token.last_used_at),
        )
        for token in found
    ]
    print_table(
        ("Id", "Name", "Role", "Sites", "Made by", "Ends", "Last used (UTC)"),
        rows,
        cut=("Sites", "Name"),
        drop=("Made by",),
    )


def _remove(
    token: Annotated[str, typer.Argument(metavar="ID", help="As `edge911 tokens list` shows it.")],
    config: ConfigOption = None,
) -> None:
    """Take a token away; it opens nothing from now on."""
    from router.store.audit import command_line_author
    from router.store.tokens import remove_token
    from router.store.users import UserError

    loaded = load_or_exit(config)
    try:
        with writing_store(loaded) as conn:
            removed = remove_token(conn, token, command_line_author())
    except UserError as error:
        fail(f"{error.field}: {error}")
    typer.echo(f"{removed.id} ({removed.name}): removed")


def _moment(at: float | None) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M") if at else ""
