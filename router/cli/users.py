"""`edge911 users`: who may log in to the console."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.common import ConfigOption, fail, load_or_exit
from router.cli.table import print_table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from config.load import LoadedConfig
    from router.store.users import Role

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="User name, in any case.")]
RoleOption = Annotated[
    str, typer.Option("--role", metavar="ROLE", help="viewer, desk, engineer or admin; each may do more.")
]
SiteOption = Annotated[
    list[str] | None, typer.Option("--site", metavar="ID", help="Sees this site only; may be given several times.")
]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking for it.")
]

_HELP = """Who may log in to the web console.

\b
  viewer    sees calls, locations and states
  desk      acknowledges calls, sends test notices
  engineer  changes locations and plans, sees the audit trail
  admin     changes users and tokens as well
"""


def register(app: typer.Typer) -> None:
    """Add the `users` command and its subcommands."""
    users = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)
    users.command("add")(_add)
    users.command("list")(_list)
    users.command("role")(_role)
    users.command("password")(_password)
    users.command("remove")(_remove)
    app.add_typer(users, name="users")


def _add(
    name: NameArgument,
    role: RoleOption = "viewer",
    site: SiteOption = None,
    password_stdin: StdinOption = False,
    config: ConfigOption = None,
) -> None:
    """Add a user; asks for the password. The first one should be an admin: `edge911 users add alice --role admin`."""
    from router.console.passwords import hash_password
    from router.store.audit import command_line_author
    from router.store.users import User, add_user, check_new_password, check_sites, user_name

    loaded = load_or_exit(config)
    with _told():
        chosen = role_named(role)
        username = user_name(name)
        user = User(username=username, role=chosen, sites=check_sites(chosen, known_sites(loaded, site)))
        password = _read_password(password_stdin)
        check_new_password(password, username)
        with writing_store(loaded) as conn:
            add_user(conn, user, hash_password(password), command_line_author())
    typer.echo(f"{username}: {chosen.value}, {shown_sites(user.sites)}")


def _list(config: ConfigOption = None) -> None:
    """List the users."""
    from datetime import UTC, datetime

    from router.store.users import all_users

    loaded = load_or_exit(config)
    with writing_store(loaded) as conn:
        found = all_users(conn)
    if not found:
        typer.echo("no users; `edge911 users add NAME --role admin` makes the first")
        return
    rows = [
        (
            user.username,
            user.role.value,
            shown_sites(user.sites),
            user.source,
            datetime.fromtimestamp(user.last_login_at, UTC).strftime("%Y-%m-%d %H:%M") if user.last_login_at else "",
        )
        for user in found
    ]
    print_table(("Name", "Role", "Sites", "Password", "Last login (UTC)"), rows, cut=("Sites", "Name"))


def _role(name: NameArgument, role: RoleOption, site: SiteOption = None, config: ConfigOption = None) -> None:
    """Give a user another role; without --site they see all sites. It counts from their next click."""
    from router.store.audit import command_line_author
    from router.store.users import change_user

    loaded = load_or_exit(config)
    with _told(), writing_store(loaded) as conn:
        user = change_user(conn, name, command_line_author(), role=role_named(role), sites=known_sites(loaded, site))
    typer.echo(f"{user.username}: {user.role.value}, {shown_sites(user.sites)}")


def _password(name: NameArgument, password_stdin: StdinOption = False, config: ConfigOption = None) -> None:
    """Give a user another password; all their sessions end."""
    from router.console.passwords import hash_password
    from router.store.audit import command_line_author
    from router.store.users import check_new_password, set_password_hash, user_name

    loaded = load_or_exit(config)
    with _told():
        username = user_name(name)
        password = _read_password(password_stdin)
        check_new_password(password, username)
        with writing_store(loaded) as conn:
            set_password_hash(conn, username, hash_password(password), command_line_author())
    typer.echo(f"{username}: password changed")


def _remove(name: NameArgument, config: ConfigOption = None) -> None:
    """Take a user away; all their sessions end."""
    from router.store.audit import command_line_author
    from router.store.users import remove_user

    loaded = load_or_exit(config)
    with _told(), writing_store(loaded) as conn:
        remove_user(conn, name, command_line_author())
    typer.echo(f"{name.strip().lower()}: removed")


def role_named(text: str) -> "Role":
    """The role of that name. Raises UserError."""
    from router.store.users import Role, UserError

    try:
        return Role(text.strip().lower())
    except ValueError:
        raise UserError("role", f"{text!r} is not a role; write {', '.join(Role)}") from None


def known_sites(loaded: "LoadedConfig", sites: list[str] | None) -> list[str] | None:
    """The sites, all of the configuration; None for all. Raises UserError for one that is not."""
    from config.messages import did_you_mean
    from router.store.users import UserError

    known = {site.id: None for site in loaded.config.sites}
    for site in sites or ():
        if site not in known:
            raise UserError("site", f"no site is called {site!r}{did_you_mean(site, known)}")
    return sites or None


def shown_sites(sites: tuple[str, ...] | None) -> str:
    """Sites on one line."""
    return "all sites" if sites is None else ", ".join(sites)


@contextmanager
def writing_store(loaded: "LoadedConfig") -> "Iterator[Connection]":
    """A transaction in the store; ends the command where it cannot be had."""
    from router.store.engine import StoreError, open_store, writing

    try:
        engine = open_store(loaded.database_url)
        try:
            with writing(engine) as conn:
                yield conn
        finally:
            engine.dispose()
    except StoreError as error:
        fail(str(error))


@contextmanager
def _told() -> Iterator[None]:
    """End the command with what is wrong with its input."""
    from router.store.users import UserError

    try:
        yield
    except UserError as error:
        fail(f"{error.field}: {error}")


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        fail("no terminal to ask for the password; use --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="Once more"))
