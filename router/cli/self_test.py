"""`edge911 self-test`: place 933 test calls now, and see what came of those before."""

import time
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.common import EXIT_FAILED, ConfigOption, fail, load_or_exit
from router.cli.table import print_table

if TYPE_CHECKING:
    from config.load import LoadedConfig
    from router.store.self_tests import SelfTest

SiteOption = Annotated[str, typer.Option("--site", metavar="ID", help="Of this site only.")]
RouteOption = Annotated[str, typer.Option("--route", metavar="NAME", help="By this route only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]

_VERDICTS = ("self-test-passed", "self-test-failed")

_HELP = """Test calls to 933, judged by what is heard.

Each is placed by edge911 itself. It passes where the route that is tried answers and a voice is heard; silence, busy,
reorder and other tones fail.
The router must run on this host. With `self_test:` in the configuration they are placed every night.

\b
For example:
  edge911 self-test run                 every site by every E911 route, a few at a time
  edge911 self-test run --site hq --route primary
  edge911 self-test list                what came of them, newest first
"""


def register(app: typer.Typer) -> None:
    """Add the command and its subcommands."""
    tests = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)
    tests.command("run")(_run)
    tests.command("list")(_list)
    app.add_typer(tests, name="self-test")


def _run(
    site: SiteOption = "",
    route: RouteOption = "",
    as_json: JsonOption = False,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who asks; default: you.", hidden=True)] = "",
    config: ConfigOption = None,
) -> None:
    """Place test calls now, a few at a time by one trunk. Ends with 1 where one fails."""
    import json
    import logging
    import secrets

    from router.notices.receivers.sip_agent import SipAgent
    from router.self_test.run import NotPossibleError, run_test
    from router.self_test.schedule import routes_of, trunk_of
    from router.self_test.several import Several
    from router.store.audit import command_line_author
    from router.store.self_tests import SelfTest

    loaded = load_or_exit(config)
    # What is printed below says it better; what could not be stored or told is said all the same.
    logging.getLogger("router.self_test").addFilter(lambda line: line.getMessage() not in _VERDICTS)
    settings = loaded.config
    pairs = [(one, name) for one, name in routes_of(settings, []) if site in ("", one.id) and route in ("", name)]
    if not pairs:
        fail(_nothing(loaded, site, route))
    done: dict[int, SelfTest] = {}
    problems: list[BaseException] = []
    several = Several()

    def place(number: int, of_site: str, by_route: str) -> None:
        agent = SipAgent(name=settings.node)
        try:
            test = SelfTest(
                id=f"{of_site}.{by_route}.{secrets.token_hex(6)}",
                node=settings.node,
                site=of_site,
                route=by_route,
                by=by or command_line_author().who,
                started_at=time.time(),
            )
            ended = run_test(loaded, agent, test)
            assert ended is not None
            done[number] = ended
            if not as_json:
                typer.echo(f"{len(done)}/{len(pairs)}  {of_site}  {by_route}  {_verdict(ended)}")
        except BaseException as error:
            problems.append(error)
        finally:
            agent.close()

    limit = settings.self_test.at_once if settings.self_test is not None else 2
    for number, (of_site, by_route) in enumerate(pairs):
        trunk = trunk_of(settings, of_site, by_route)
        several.wait(partial(several.has_room, trunk, limit))
        if problems:
            break
        several.begin(trunk, partial(place, number, of_site.id, by_route))
    several.wait(lambda: not len(several))
    for problem in problems:
        if isinstance(problem, NotPossibleError):
            fail(str(problem))
        raise problem
    if as_json:
        typer.echo(
            json.dumps({"tests": [asdict(done[number]) for number in sorted(done)]}, indent=2, ensure_ascii=False)
        )
    if not all(one.has_passed for one in done.values()):
        raise typer.Exit(EXIT_FAILED)


def _list(
    site: SiteOption = "",
    route: RouteOption = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """What came of test calls, newest first."""
    import json

    from router.store.engine import open_store, reading
    from router.store.errors import StoreError
    from router.store.self_tests import list_tests

    loaded = load_or_exit(config)
    try:
        engine = open_store(loaded.database_url, create=False)
        try:
            with reading(engine) as conn:
                found = list_tests(conn, site=site, route=route, limit=limit)
        finally:
            engine.dispose()
    except StoreError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps({"tests": [asdict(one) for one in found]}, indent=2, ensure_ascii=False))
        return
    if not found:
        typer.echo("No test call yet: `edge911 self-test run` places some.")
        return
    print_table(
        ("When", "Site", "Route", "Result", "Heard", "By"),
        [
            (
                f"{datetime.fromtimestamp(one.started_at):%Y-%m-%d %H:%M:%S}",
                one.site,
                one.route,
                _verdict(one),
                f"{one.heard} {one.voice_seconds:.1f} s" if one.heard else "",
                one.by,
            )
            for one in found
        ],
        cut=("Result",),
        drop=("By",),
    )


def _verdict(test: "SelfTest") -> str:
    if not test.verdict:
        return "is under way"
    took = f" in {test.ended_at - test.started_at:.1f} s" if test.ended_at else ""
    if test.has_passed:
        return f"passed{took}: answered by {test.answered_route or test.route}, a voice was heard"
    words = f" ({test.words})" if test.words else ""
    return f"FAILED{took}: {test.reason}{words}"


def _nothing(loaded: "LoadedConfig", site: str, route: str) -> str:
    if site and site not in {one.id for one in loaded.config.sites}:
        return f"--site {site}: there is no such site; `sites` has {', '.join(one.id for one in loaded.config.sites)}"
    if route:
        return f"--route {route}: no E911 route of that name serves this site"
    return "no site with an E911 route: nothing to test"
