"""Trunks that are given by name: their addresses, asked for at a start, and kept for a start without DNS."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path

from config.load import LoadedConfig
from router.network.known_names import read_answers, write_answers
from router.network.lookups import Resolver
from router.network.trunks import known_addresses, names_of
from sip.locating import Located, Where

log = logging.getLogger("edge911.calls")

Addresses = dict[str, tuple[tuple[str, int], ...]]
"""Trunk name → its IP addresses and ports."""


class TrunkNames:
    """What DNS says of trunks. begin: runs a coroutine beside the calls."""

    def __init__(
        self,
        resolver: Resolver,
        state_directory: Path,
        begin: Callable[[Coroutine[object, object, None]], None],
    ) -> None:
        self.resolver = resolver
        self._state_directory = state_directory
        self._begin = begin
        resolver.preload(read_answers(state_directory))
        self._written = 0

    def addresses(self, loaded: LoadedConfig) -> Addresses:
        """The trunks' addresses as far as they are known now."""
        return known_addresses(loaded.config.trunks, self.resolver.known)

    async def resolve(self, loaded: LoadedConfig, seconds: float) -> None:
        """Ask for the addresses of all trunks; wait so long at the most."""
        waiting = [self._resolved(where) for where in dict.fromkeys(names_of(loaded.config.trunks))]
        if waiting:
            await asyncio.wait(waiting, timeout=seconds)

    def _resolved(self, where: Where) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(_: Located) -> None:
            if not done.done():
                done.set_result(None)

        self.resolver.ask(where, told)
        return done

    def keep(self) -> None:
        """Write down what DNS says of trunks, where it says something new: for a start without DNS."""
        if self.resolver.changes != self._written:
            self._written = self.resolver.changes
            self._begin(self._write())

    async def _write(self) -> None:
        try:
            await asyncio.to_thread(write_answers, self._state_directory, self.resolver.answers())
        except OSError as error:
            log.warning("what DNS said of trunks cannot be kept for a start without DNS: %s", error)
