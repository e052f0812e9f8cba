"""Which messages belong to emergency calls, for those who want just these (the console).

A call is followed from the moment its intent is written. The messages just before, the INVITE and its 100, are in a
short memory of what passed last. In a storm none are followed: a message more or less costs a call nothing, thousands
a second would.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Iterator

from sip.flow import Flow

Seen = tuple[float, bytes, Flow, bool]
"""When (seconds since 1970), the message, where it came from or went to, and whether we sent it."""

REMEMBERED = 32
"""Messages that passed last, of whatever call."""
FOLLOWED = 200
"""Calls followed at a time; the oldest is given up for a new one."""
STORM = 25
"""From so many new emergency calls in one second on, none is followed…"""
STORM_SECONDS = 2.0
"""…for so long."""
FOLLOWED_SECONDS = 4 * 3600.0

_CALL_ID = re.compile(rb"\n(?:call-id|i)[ \t]*:[ \t]*([^\r\n]+)", re.IGNORECASE)


def call_id_of(data: bytes) -> bytes:
    """The Call-ID of a message, empty where there is none that can be read."""
    # As nearly everybody writes it: to search for both names costs ten times as much.
    begin = data.find(b"\nCall-ID: ")
    end = data.find(b"\n", begin + 1)
    if 0 <= begin < end:
        return data[begin + 10 : end].strip()
    found = _CALL_ID.search(data)
    return found.group(1).rstrip() if found else b""


class FollowedCalls:
    """Sorts out the messages of emergency calls as they pass."""

    def __init__(self) -> None:
        self.not_followed = 0
        """Calls whose messages are not kept, for a storm."""
        self._calls: OrderedDict[bytes, float] = OrderedDict()
        self._last: deque[Seen] = deque(maxlen=REMEMBERED)
        self._second = 0.0
        self._begun = 0
        self._storm_until = 0.0

    def feed(self, seen: Seen) -> bool:
        """A message passes. True where it is of a followed call."""
        if seen[0] < self._storm_until:
            return False
        self._last.append(seen)
        return bool(self._calls) and call_id_of(seen[1]) in self._calls

    def begin(self, call_id: bytes, at: float) -> Iterator[Seen]:
        """An emergency call begins: what passed of it already. Nothing, where it is not followed."""
        if at - self._second >= 1.0 or at < self._second:
            self._second, self._begun = at, 0
        self._begun += 1
        if self._begun > STORM:
            self._storm_until = at + STORM_SECONDS
            self._calls.clear()
            self._last.clear()
        if at < self._storm_until:
            self.not_followed += 1
            return
        is_new = call_id not in self._calls
        self._calls[call_id] = at
        self._calls.move_to_end(call_id)
        while len(self._calls) > FOLLOWED or at - next(iter(self._calls.values())) > FOLLOWED_SECONDS:
            self._calls.popitem(last=False)
        if is_new:
            yield from [seen for seen in self._last if call_id_of(seen[1]) == call_id]
