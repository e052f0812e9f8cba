"""`edge911 demo`: three 911 calls from start to finish, on this machine alone."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.common import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulations.demo import CallReport
    from simulations.demo_text import Line

TIME_LIMIT = 60.0


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on standard output; progress on standard error.")
        ] = False,
        time_limit: Annotated[
            float, typer.Option("--time-limit", metavar="SECONDS", min=0.1, help="Give up after so long.")
        ] = TIME_LIMIT,
        broken: Annotated[
            list[str] | None,
            typer.Option(
                "--break",
                metavar="PEER",
                help="Break a peer on purpose, to see it end with 1: provider, relay or desk.",
            ),
        ] = None,
    ) -> None:
        """Show three 911 calls, start to finish, on this machine.

        Takes less than 10 seconds. A real `edge911 run`, with an SQLite database in a temporary directory,
        stands between a PBX with its phones and two E911 providers, a basic-911 relay centre and a front desk
        with a real SMTP server, all simulated on 127.0.0.x. Nothing is sent beyond this machine, and nothing is
        left behind.

        \b
        The calls:
          1  911 from a registered phone: to the E911 provider, with its location
          2  911 from a phone whose location nobody knows: to the relay centre, by basic 911
          3  911 while the first provider is dead: to the second one, with its location

        \b
        Of each call it shows:
          the screen   callback number, name and address as the PSAP saw them: made of the INVITE that
                       arrived there (P-Asserted-Identity, PIDF-LO) and of nothing else
          the ladder   every SIP message of the call, with milliseconds since the phone dialled
          the notice   the mail that the front desk received (Kari's Law)
          PASS, FAIL   what must have happened, and whether it did

        Exit code 0: all three calls did what they should. 1: something is wrong, and it says what.
        """
        from simulations.demo_world import BREAKABLE

        peers = frozenset(broken or ())
        if unknown := sorted(peers - set(BREAKABLE)):
            raise typer.BadParameter(f"{', '.join(unknown)}: one of {', '.join(BREAKABLE)}", param_hint="--break")
        raise typer.Exit(_run(peers, as_json=as_json, time_limit=time_limit))


class _Screen:
    """Where text goes: standard output, or with --json only progress, on standard error."""

    def __init__(self, *, as_json: bool) -> None:
        from rich.console import Console

        self.as_json = as_json
        self.stream = sys.stderr if as_json else sys.stdout
        self.console = Console(stderr=as_json, highlight=False, soft_wrap=True)
        self.is_unicode = "utf" in (self.stream.encoding or "").lower()

    def progress(self, text: str) -> None:
        """One line on how far it is."""
        self.show([("dim", f"  … {text}")])

    def show(self, lines: "Iterable[Line]") -> None:
        """Lines, at once."""
        from rich.text import Text

        from router.trace.ladder_view import ASCII

        for style, line in lines:
            shown = line if self.is_unicode else line.translate(ASCII).encode("ascii", "replace").decode()
            self.console.print(Text(shown, style=style))
        self.stream.flush()


def _run(broken: frozenset[str], *, as_json: bool, time_limit: float) -> int:
    """Play, show, and say how it went."""
    import asyncio
    import time

    from simulations.demo_text import document, problems_of, summary_lines

    screen = _Screen(as_json=as_json)
    reports: list[CallReport] = []
    trouble: list[str] = []
    started = time.monotonic()
    number = asyncio.run(_play_all(screen, reports, trouble, broken, time_limit))
    seconds = time.monotonic() - started
    if number:
        return 128 + number  # as a shell counts a process that a signal ended
    problems = [*problems_of(reports), *trouble]
    if as_json:
        import orjson

        typer.echo(orjson.dumps(document(reports, problems, seconds), option=orjson.OPT_INDENT_2).decode())
    else:
        screen.show(summary_lines(reports, problems, seconds))
    return EXIT_FAILED if problems else EXIT_OK


async def _play_all(
    screen: _Screen,
    reports: "list[CallReport]",
    trouble: list[str],
    broken: frozenset[str],
    time_limit: float,
) -> int:
    """Fill reports and trouble; the number of the signal that ended it early, or 0."""
    import asyncio
    import signal
    import tempfile
    from pathlib import Path

    from simulations.demo import SCENES, Stage, play, read_records, running_world
    from simulations.demo_text import call_lines, record_lines
    from simulations.edge import EdgeError

    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    caught: list[int] = []

    def stop(number: int) -> None:
        caught.append(number)
        screen.progress(f"{signal.Signals(number).name}: ending the router and all peers")
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    stage = Stage(told=screen.progress)
    screen.show([("bold", "edge911 demo: three 911 calls, on this machine alone")])
    try:
        with tempfile.TemporaryDirectory(prefix="edge911-demo-", ignore_cleanup_errors=True) as folder:
            async with asyncio.timeout(time_limit), running_world(Path(folder), broken, stage) as world:
                for scene in SCENES:
                    report = await play(world, scene, stage)
                    reports.append(report)
                    if not screen.as_json:
                        screen.show(call_lines(report))
                await read_records(world, reports, stage)
                if not screen.as_json:
                    screen.show(record_lines(reports))
                stage.say("ending the router and all peers")
    except TimeoutError:
        trouble.append(f"not done within {time_limit:g} s; it was at: {stage.name}")
    except (EdgeError, OSError) as error:
        trouble.append(f"{stage.name}: {error}")
    except asyncio.CancelledError:
        if not caught:
            raise
    return caught[0] if caught else 0
