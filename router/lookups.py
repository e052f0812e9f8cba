"""Questions to the outside: host names (A and AAAA). Answers are kept; an old answer beats none."""

import asyncio
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from router.sources import parse_address

log = logging.getLogger(__name__)

REFRESH_SECONDS = 60.0
DEADLINE_SECONDS = 2.0
KNOWN_LIMIT = 10_000
"""Names whose addresses are kept; the one not asked for longest goes first."""

Told = Callable[[tuple[str, ...]], None]


@dataclass(slots=True)
class _Known:
    addresses: tuple[str, ...]
    at: float


class Resolver:
    """Host names to addresses. Nothing here blocks the loop; the system's resolver runs in worker threads.

    The threads are this Resolver's own: a name server that hangs occupies them, and a second Resolver's names do
    not wait for it. None are started before the first name is asked for.
    """

    def __init__(self, *, threads: int = 4) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, list[Told]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(threads, "resolver")

    def known(self, host: str) -> tuple[str, ...]:
        """The addresses of a host as far as they are known now; an IP address is its own."""
        address = parse_address(host)
        if address is not None:
            return (str(address),)
        found = self._find(host)
        if found is None or time.monotonic() - found.at > REFRESH_SECONDS:
            self.ask(host, lambda _: None)
        return found.addresses if found else ()

    def ask(self, host: str, told: Told) -> None:
        """Find the addresses, then call told; with the last known ones, or none, where no answer comes in time.

        Without a running loop nothing is asked and told is not called: explain and check do not ask the network.
        """
        address = parse_address(host)
        if address is not None:
            told((str(address),))
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        waiting = self._asking.get(host)
        if waiting is not None:
            waiting.append(told)
            return
        self._asking[host] = [told]
        task = loop.create_task(self._ask(host))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Start no more look-ups; those under way are left to end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, host: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                addresses = await asyncio.get_running_loop().run_in_executor(self._threads, look_up, host)
            self._keep(host, addresses)
        except Exception as error:  # whatever it is, who waits for the answer must be told
            log.warning(
                "no address for %s: %s; the last known one is used, if any", host, error or "no answer in time"
            )
        finally:
            waiting = self._asking.pop(host, [])
        found = self._find(host)
        for told in waiting:
            try:
                told(found.addresses if found else ())
            except Exception:  # the others wait for the same answer
                log.exception("fault in edge911 itself, after the addresses of a host were found")

    def _find(self, host: str) -> _Known | None:
        found = self._known.get(host)
        if found is not None:
            self._known.move_to_end(host)
        return found

    def _keep(self, host: str, addresses: tuple[str, ...]) -> None:
        self._known[host] = _Known(addresses, time.monotonic())
        self._known.move_to_end(host)
        while len(self._known) > KNOWN_LIMIT:
            self._known.popitem(last=False)


def look_up(host: str) -> tuple[str, ...]:
    """The addresses of a host, as the system's resolver gives them; blocks. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return tuple(dict.fromkeys(str(item[4][0]) for item in found))


def resolve_now(host: str) -> tuple[str, ...]:
    """The addresses of a host for commands without a loop; blocks as long as the system's resolver does."""
    address = parse_address(host)
    if address is not None:
        return (str(address),)
    try:
        return look_up(host)
    except (OSError, UnicodeError):
        return ()
