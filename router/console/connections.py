"""Connections of the console: one that asks nothing makes room for one that does.

Nobody has to log in to open connections. As many as are served at once, held open and silent, would keep the people
at the desk out: where no room is left, the one that has been silent longest goes.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 20.0
"""How long a connection may be open until its first request is there, head and all."""


class AskingConnection(H11Protocol):
    """One connection."""

    _since = 0.0
    _end: asyncio.TimerHandle | None = None

    @property
    def is_silent(self) -> bool:
        """True where it has no request under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its own class has it
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._end = loop.call_later(REQUEST_SECONDS, self._give_up)
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        """Nothing came, or half a head."""
        asked: object = self.cycle  # its own class does not say that there is none at first
        if asked is None:
            self.transport.abort()

    def _make_room(self) -> None:
        silent = [
            one for one in self.connections if isinstance(one, AskingConnection) and one is not self and one.is_silent
        ]
        if silent:
            oldest = min(silent, key=lambda one: one._since)
            self.connections.discard(oldest)
            oldest.transport.abort()
