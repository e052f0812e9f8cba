"""Bounds on the connections of the reference server: who opens many, or keeps one without asking, takes none away
from those who ask.
"""

import asyncio
from collections import Counter
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_OF_ONE_ADDRESS: Final = 64
"""Connections at a time."""
LONGEST_CONNECTION: Final = 30.0
"""Seconds; one that is older is closed, whatever it does. A location is fetched in one."""
_open: Counter[str] = Counter()
"""Connections by address, of this process."""


class BoundedConnection(H11Protocol):
    """One connection."""

    _host = ""
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its own class has it
        super().connection_made(transport)
        self._host = str((transport.get_extra_info("peername") or ("",))[0])
        _open[self._host] += 1
        if _open[self._host] > MOST_OF_ONE_ADDRESS:
            transport.abort()
            return
        self._end = asyncio.get_running_loop().call_later(LONGEST_CONNECTION, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        _open[self._host] -= 1
        if _open[self._host] <= 0:
            del _open[self._host]
        super().connection_lost(exc)
