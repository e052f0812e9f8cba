"""`edge911 trace`: the SIP messages of the running router, as they come and go."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from socket import SHUT_WR
from types import FrameType
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from router.cli.common import EXIT_USAGE, ConfigOption, fail, load_or_exit

if TYPE_CHECKING:
    from socket import socket

    from router.trace.filter import Wanted
    from router.trace.ladder_view import Drawn
    from router.trace.messages import FrameReader, Hello, Traced
    from router.trace.view import PeerNames

RECONNECT_SECONDS = 15.0
"""So long the router may be away (it is being started again) until a trace ends."""
LAST_WORDS_SECONDS = 2.0
"""So long what the router still has for us may take to come, at the end."""
PIPE_WIDTH = 110
"""Columns of a ladder where nobody says how wide the paper is."""
_CHUNK = 1024 * 1024

Many = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def trace(
        config: ConfigOption = None,
        emergency: Annotated[bool, typer.Option("--emergency", "-e", help="911 and test calls only.")] = False,
        call_id: Annotated[Many, typer.Option(metavar="TEXT", help="Only the call with this Call-ID.")] = None,
        number: Annotated[
            Many,
            typer.Option(
                metavar="NUMBER",
                help="Only calls with this number in Request-URI, From, To, P-Asserted-Identity or the like. "
                "Any spelling; * stands for any digits.",
            ),
        ] = None,
        host: Annotated[
            Many, typer.Option(metavar="ADDRESS[/LENGTH]", help="Only calls that this address takes part in.")
        ] = None,
        method: Annotated[
            Many,
            typer.Option(
                metavar="NAME", help="Only requests of this method and the answers to them; INVITE,BYE for several."
            ),
        ] = None,
        ladder: Annotated[
            bool, typer.Option("--ladder", "-l", help="A lane for each peer, an arrow for each message.")
        ] = False,
        messages: Annotated[bool, typer.Option("--messages", "-m", help="Every message in full.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object to a line.")] = False,
        pcap: Annotated[
            str, typer.Option(metavar="FILE", help="Write them to a capture, too; - is standard output.")
        ] = "",
        read: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE", exists=True, dir_okay=False, help="Show the SIP in a pcap file; no router is needed."
            ),
        ] = None,
        count: Annotated[
            int, typer.Option(min=0, metavar="N", show_default=False, help="End after so many messages.")
        ] = 0,
        seconds: Annotated[
            float, typer.Option(min=0, metavar="N", show_default=False, help="End after so many seconds.")
        ] = 0,
        unredacted: Annotated[
            bool, typer.Option("--unredacted", help="Show numbers, names and locations, also where log.redact is on.")
        ] = False,
    ) -> None:
        """Follow the SIP messages of the running router.

        Decrypted, until Ctrl-C. One line for a message: time, from, to, transport, what, Call-ID. Filters may be
        repeated (any of the values) and combined (all of the kinds); a call is shown as a whole, from its first
        message on, whichever of its messages fits. Numbers, names and locations are shown as xxxx, length for
        length, unless log.redact is off or --unredacted is given. The router does nothing for it while nobody
        follows, and loses no call for who does.

        \b
        edge911 trace --emergency --ladder
        edge911 trace --number 4012 --messages
        edge911 trace --pcap - | wireshark -k -i -
        """
        from router.trace.messages import Hello

        if ladder + messages + as_json > 1:
            fail("one of --ladder, --messages and --json", EXIT_USAGE)
        wanted = _wanted(call_id, number, host, method, emergency=emergency)
        until = time.monotonic() + seconds if seconds else None
        capture = _capture(pcap)
        if read is not None:
            source: Iterator[tuple[Hello, Traced | None]] = ((Hello(), traced) for traced in _from_file(read))
            lost: Callable[[], int] = lambda: 0  # noqa: E731  what a file lost nobody knows
        else:
            live = _Live(load_or_exit(config).state_directory, wanted, until)
            source, lost = live.messages(), lambda: live.lost
        kind = "ladder" if ladder else "messages" if messages else "json" if as_json else "lines"
        follower = _Follower(wanted, "none" if pcap == "-" else kind, capture, most=count, unredacted=unredacted)
        try:
            for hello, traced in source:
                if traced is None:
                    follower.flush()
                elif not follower.take(hello, traced):
                    break
            follower.flush()
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            # Whoever read our output has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        follower.finish(lost())


def _wanted(call_ids: Many, numbers: Many, hosts: Many, methods: Many, *, emergency: bool) -> "Wanted":
    from router.trace.filter import Wanted, parse_network

    networks = []
    for text in hosts or ():
        try:
            networks.append(parse_network(text))
        except ValueError:
            fail(f"--host {text}: write an address or a network, such as 10.1.2.3 or 10.1.0.0/16", EXIT_USAGE)
    return Wanted(
        call_ids=tuple(call_ids or ()),
        numbers=tuple(numbers or ()),
        networks=tuple(networks),
        methods=tuple(one.strip().upper() for text in methods or () for one in text.split(",")),
        emergency_only=emergency,
    )


def _capture(name: str) -> BinaryIO | None:
    if not name:
        return None
    if name == "-":
        return sys.stdout.buffer
    try:
        return open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    except OSError as error:
        fail(f"--pcap {name}: {error.strerror}")


def _from_file(path: Path) -> "Iterator[Traced]":
    from router.trace.pcap_reader import PcapError, read_pcap

    try:
        yield from read_pcap(path)
    except (OSError, PcapError) as error:
        fail(f"--read {path}: {getattr(error, 'strerror', None) or error}")


class _Live:
    """The running router's messages; None now and then where there are none."""

    def __init__(self, state_directory: Path, wanted: "Wanted", until: float | None) -> None:
        self._state_directory = state_directory
        # The one filter that the router itself can apply at next to no cost.
        alone = len(wanted.call_ids) == 1 and not wanted.numbers and not wanted.networks
        self._contains = wanted.call_ids[0] if alone else ""
        self._until = until
        self._lost_before = 0
        self._reader: FrameReader | None = None
        self._is_ending = False
        self._listener = self._connect()
        signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """The first Ctrl-C: no more; what the router has for us by now still comes. The second ends it at once."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._end()

    def _end(self) -> None:
        self._is_ending = True
        self._until = time.monotonic() + LAST_WORDS_SECONDS
        with suppress(OSError):
            self._listener.shutdown(SHUT_WR)

    @property
    def lost(self) -> int:
        """Messages that the router left out."""
        return self._lost_before + (self._reader.lost if self._reader else 0)

    def messages(self) -> "Iterator[tuple[Hello, Traced | None]]":
        """Until the time is over, or the router is away for good."""
        from router.trace.messages import FrameReader, Hello

        hello = Hello()
        self._reader = FrameReader()
        while True:
            left = self._left()
            if left <= 0 and self._is_ending:
                return
            if left <= 0:
                self._end()
                continue
            ready, _, _ = select.select([self._listener], [], [], min(left, 0.5))
            if not ready:
                yield hello, None
                continue
            try:
                data = self._listener.recv(_CHUNK)
            except OSError:
                data = b""
            if not data:
                self._lost_before += self._reader.lost
                self._reader = FrameReader()
                if self._is_ending or not self._connect_again():
                    return
                continue
            for traced in self._reader.feed(data):
                hello = self._reader.hello or hello
                yield hello, traced
            yield hello, None

    def _left(self) -> float:
        return float("inf") if self._until is None else self._until - time.monotonic()

    def _connect(self) -> "socket":
        from router.trace.messages import SOCKET, connect

        path = self._state_directory / SOCKET
        try:
            return connect(self._state_directory, self._contains)
        except PermissionError:
            fail(f"{path}: it belongs to another user; run this as the user that edge911 runs as")
        except OSError as error:
            fail(
                f"no router answers at {path} ({error.strerror}); is `edge911 run` serving with this configuration? "
                "(EDGE911_STATE_DIRECTORY names another state directory)"
            )

    def _connect_again(self) -> bool:
        """The router is gone: wait for it, as it may be started again."""
        from router.trace.messages import connect

        typer.echo("edge911: the router has ended; waiting for it to come back", err=True)
        end = min(time.monotonic() + RECONNECT_SECONDS, self._until or float("inf"))
        while time.monotonic() < end and not self._is_ending:
            try:
                self._listener = connect(self._state_directory, self._contains)
            except OSError:
                time.sleep(0.1)
            else:
                typer.echo("edge911: it is back", err=True)
                return True
        if self._until is None or time.monotonic() < self._until:
            fail(f"the router did not come back within {RECONNECT_SECONDS:.0f} s")
        return False


class _Follower:
    """What becomes of each message: filtered, redacted, shown, written to a capture."""

    def __init__(self, wanted: "Wanted", kind: str, capture: BinaryIO | None, *, most: int, unredacted: bool) -> None:
        from router.trace.pcap import PcapEncoder, file_header

        self._wanted, self._kind, self._capture = wanted, kind, capture
        self._most, self._unredacted = most, unredacted
        self._encoder = PcapEncoder()
        if capture is not None:
            capture.write(file_header())
            capture.flush()
        self._calls: set[str] = set()
        self.shown = 0
        self._begun: tuple[Callable[[Traced], Iterator[Traced]], Callable[[Traced], None]] | None = None
        self._names: PeerNames

    def take(self, hello: "Hello", traced: "Traced") -> bool:
        """One message; False where it was the last that is wanted."""
        if self._begun is None:
            self._begun = self._begin(hello)
        admitted, show = self._begun
        for one in admitted(traced):
            self.shown += 1
            self._calls.add(one.call_id)
            show(one)
            if self._most and self.shown >= self._most:
                return False
        return True

    def flush(self) -> None:
        """Let it be seen."""
        if self._capture is not None:
            self._capture.flush()
        sys.stdout.flush()

    def finish(self, lost: int) -> None:
        """The last words, beside the output."""
        self.flush()
        text = (
            f"{self.shown} message{'s' * (self.shown != 1)}, {len(self._calls)} call{'s' * (len(self._calls) != 1)}"
        )
        if lost:
            text += f"; {lost} messages were missed, as they came faster than they could be shown"
        typer.echo(f"edge911: {text}", err=True)

    def _begin(self, hello: "Hello") -> "tuple[Callable[[Traced], Iterator[Traced]], Callable[[Traced], None]]":
        from router.trace.filter import TraceFilter
        from router.trace.redaction import Redaction
        from router.trace.view import PeerNames

        chosen = TraceFilter(self._wanted, hello.numbers)
        redaction = None if self._unredacted or not hello.redact else Redaction(hello.numbers)
        view = self._view(PeerNames(hello.trunks))

        def show(traced: "Traced") -> None:
            shown = traced if redaction is None else traced.replaced(redaction.message(traced.data))
            if self._capture is not None:
                self._capture.write(self._encoder.records(shown))
            view(shown)

        return chosen.feed, show

    def _view(self, names: "PeerNames") -> "Callable[[Traced], None]":
        from router.process.printable import printable
        from router.trace.view import document_of, line_of, style_of

        if self._kind == "none":
            return lambda traced: None
        if self._kind == "json":
            import orjson

            return lambda traced: typer.echo(orjson.dumps(document_of(traced, names)).decode())
        write, width = _screen()
        if self._kind == "ladder":
            from router.trace.ladder_view import LiveLadder

            live = LiveLadder(names, width)

            def draw(traced: "Traced") -> None:
                for drawn in live.feed(traced):
                    write(drawn)

            return draw

        from router.trace.ladder_view import Drawn

        def lines(traced: "Traced") -> None:
            write(Drawn(text=line_of(traced, names), style=style_of(traced.message)))
            if self._kind == "messages":
                text = printable(traced.data.decode("utf-8", "replace").replace("\r\n", "\n"))
                for line in text.rstrip("\n").split("\n"):
                    write(Drawn(text=f"    {line}".rstrip()))
                write(Drawn(text=""))

        return lines


def _screen() -> "tuple[Callable[[Drawn], None], int]":
    """How to write a line, and how many columns there are."""
    import shutil

    from router.trace.ladder_view import ASCII

    encoding = sys.stdout.encoding or "ascii"
    try:
        "─▶→".encode(encoding)
        is_unicode = True
    except (UnicodeEncodeError, LookupError):
        is_unicode = False

    def plain(drawn: "Drawn") -> None:
        text = drawn.text if is_unicode else drawn.text.translate(ASCII)
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")

    if not sys.stdout.isatty():
        return plain, shutil.get_terminal_size((PIPE_WIDTH, 24)).columns
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)

    def coloured(drawn: "Drawn") -> None:
        text = drawn.text if is_unicode else drawn.text.translate(ASCII)
        console.print(Text(text, style=drawn.style))

    return coloured, console.width
