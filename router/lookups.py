"""Questions to the outside: host names (A and AAAA). Answers are kept; an old answer beats none."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from router.sources import parse_address

log = logging.getLogger(__name__)

REFRESH_SECONDS = 60.0
DEADLINE_SECONDS = 2.0


@dataclass(slots=True)
class _Known:
    addresses: tuple[str, ...]
    at: float


class Resolver:
    """Host names to addresses. Nothing here blocks the loop; the system's resolver runs in a worker thread."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, list[Callable[[tuple[str, ...]], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def known(self, host: str) -> tuple[str, ...]:
        """The addresses of a host as far as they are known now; an IP address is its own."""
        address = parse_address(host)
        if address is not None:
            return (str(address),)
        found = self._known.get(host)
        if found is None or time.monotonic() - found.at > REFRESH_SECONDS:
            self.ask(host, lambda _: None)
        return found.addresses if found else ()

    def ask(self, host: str, told: Callable[[tuple[str, ...]], None]) -> None:
        """Find the addresses, then call told; with the last known ones, or none, where no answer comes in time."""
        address = parse_address(host)
        if address is not None:
            told((str(address),))
            return
        waiting = self._asking.get(host)
        if waiting is not None:
            waiting.append(told)
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # no loop yet: explain and check do not ask the network
        self._asking[host] = [told]
        task = loop.create_task(self._ask(host))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, host: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
            addresses = tuple(dict.fromkeys(str(item[4][0]) for item in found))
            self._known[host] = _Known(addresses, time.monotonic())
        except (OSError, TimeoutError, UnicodeError) as error:
            log.warning(
                "no address for %s: %s; the last known one is used, if any", host, error or "no answer in time"
            )
        known = self._known.get(host)
        for told in self._asking.pop(host):
            told(known.addresses if known else ())


def resolve_now(host: str) -> tuple[str, ...]:
    """The addresses of a host for commands without a loop; blocks as long as the system's resolver does."""
    address = parse_address(host)
    if address is not None:
        return (str(address),)
    try:
        return tuple(
            dict.fromkeys(str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM))
        )
    except (OSError, UnicodeError):
        return ()
