"""Running one actor by itself, from the command line: `python -m simulations.psap --listen 127.0.0.1:5070`."""

import argparse
import asyncio
import contextlib
import signal
import time

from simulations.actor import Actor, Seen
from simulations.callee import Script
from sip.message import Request, Response


def host_and_port(text: str) -> tuple[str, int]:
    """`127.0.0.1:5070` or `[::1]:5070`. Raises ArgumentTypeError with the remedy."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:5070")
    return host.strip("[]"), int(port)


def add_listen(parser: argparse.ArgumentParser, default: str) -> None:
    """The option every actor has."""
    parser.add_argument(
        "--listen",
        type=host_and_port,
        default=default,
        metavar="HOST:PORT",
        help="address, UDP and TCP; port 0 picks one (default: %(default)s)",
    )


def add_script(parser: argparse.ArgumentParser) -> None:
    """The options of actors that take calls."""
    parser.add_argument("--ring-after", type=float, default=0.1, metavar="SECONDS", help="(%(default)s)")
    parser.add_argument("--answer-after", type=float, default=2.0, metavar="SECONDS", help="(%(default)s)")
    parser.add_argument("--hang-up-after", type=float, metavar="SECONDS", help="after the ACK; else the caller does")
    parser.add_argument("--refuse", type=int, default=0, metavar="STATUS", help="refuse every call: 503, 424, 486")


def script_of(options: argparse.Namespace) -> Script:
    """What those options say."""
    return Script(
        ring_after=options.ring_after,
        answer_after=options.answer_after,
        hang_up_after=options.hang_up_after,
        refuse=options.refuse,
    )


def describe(message: Request | Response | None) -> str:
    """A message in a few words."""
    if message is None:
        return "unreadable"
    return message.start_line().decode("latin-1").removesuffix(" SIP/2.0").removeprefix("SIP/2.0 ")


def show(seen: Seen) -> None:
    """Print one line for a message."""
    arrow = "-->" if seen.sent else "<--"
    clock = time.strftime("%H:%M:%S")
    print(
        f"{clock} {seen.actor} {arrow} {seen.transport} {seen.peer[0]}:{seen.peer[1]}  {describe(seen.message)}",
        flush=True,
    )


def serve(actor: Actor) -> int:
    """Run an actor until Ctrl-C or SIGTERM, printing a line for each message."""
    actor.listeners.insert(0, show)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await actor.start()
        print(f"{actor.name} listens on udp and tcp {actor.hostport}; Ctrl-C ends it", flush=True)
        try:
            await stop.wait()
        finally:
            await actor.stop()

    with contextlib.suppress(KeyboardInterrupt):
        try:
            asyncio.run(run())
        except OSError as error:
            print(f"cannot listen on {actor.hostport}: {error.strerror}; is something else there?")
            return 1
    return 0
