"""Overload: more has come than can be treated at once. 911 goes first, what was begun goes on, new ordinary requests
wait, and are refused where they have waited too long.

While the edge treats what comes as it comes, none of this runs. Where it does not (datagrams are left unread, or
streams keep the loop busy without a pause), what waits is read into these queues and treated from here, a few
milliseconds at a time, so that an emergency call that comes meanwhile is at most that far from its turn:

- onward: responses, ACK, CANCEL and requests in dialogs. They finish what was begun, and come first: a call that was
  admitted and then fails is all work for nothing. They may not take all the time, or a flood of them would hold 911.
- urgent: what looks like a new emergency call. The newest first: its caller still waits, and has not sent it again.
  One that is sent again takes the place of its older copy, so nothing is treated twice.
- fresh: other new requests, the oldest first, in the time that is left. One that has waited FRESH_WAIT is refused
  with 503 and without Retry-After: the caller's next trunk may take it, and 911 is not to be held back.

So the load levels off: without it, what waits in the socket is older than T1, is sent again and adds to what waits.
Nothing here grows without end: where a queue is full, the oldest goes, counted; who sent it will send it again, or,
by a stream, is refused.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Callable

from sip.flow import Flow

TURN = 0.006
"""Seconds of one turn; then the sockets are read again, and timers run."""
ONWARD_SHARE = 0.7
"""Of a turn, where urgent ones wait too."""
FRESH_TURN = 0.002
"""Seconds of a turn that fresh ones get where others wait."""
FRESH_WAIT = 0.2
"""Seconds: less than half of T1, so that what is served late was not sent again meanwhile."""
MOST = {"onward": 20_000, "urgent": 5_000, "fresh": 5_000}
"""So many of each kind are kept."""
SAID_AGAIN = 60.0
"""Seconds after which an overload that goes on is said again."""

Waiting = OrderedDict[bytes, tuple[Flow, float]]
"""Message → where it came from and when, in the order of coming."""

_TO_TAG = re.compile(rb"\r\n(?:to|t)[ \t]*:[^\r\n]*;[ \t]*tag[ \t]*=", re.IGNORECASE)


class Overload:
    """The queues, and whose turn it is.

    is_emergency: for method, Request-URI and source of a request outside a dialog. take treats a message; refuse
    treats one too, but for a new ordinary request, which it refuses. now: the loop's clock, seconds. say is told,
    once a minute at the most, that there is an overload. counts: those of the router.
    """

    def __init__(
        self,
        is_emergency: Callable[[bytes, bytes, Flow], bool],
        take: Callable[[bytes, Flow], None],
        refuse: Callable[[bytes, Flow], None],
        now: Callable[[], float],
        counts: Counter[str],
        say: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_emergency = is_emergency
        self.take = take
        self.refuse = refuse
        self.now = now
        self.counts = counts
        self.say = say
        self.is_on = False
        self.onward: Waiting = OrderedDict()
        self.urgent: Waiting = OrderedDict()
        self.fresh: Waiting = OrderedDict()
        self._said_at = -SAID_AGAIN

    @property
    def is_urgent(self) -> bool:
        """True where an emergency call waits."""
        return bool(self.urgent)

    def __len__(self) -> int:
        return len(self.onward) + len(self.urgent) + len(self.fresh)

    def begin(self) -> None:
        """The sockets hold more than can be treated at once."""
        self.is_on = True
        self.counts["overloads"] += 1
        now = self.now()
        if now - self._said_at >= SAID_AGAIN:
            self._said_at = now
            self.say()

    def end(self) -> None:
        """All that waited has been treated, and the sockets are empty."""
        self.is_on = False

    def add(self, data: bytes, flow: Flow) -> None:
        """One message that was read, and waits for its turn."""
        name = self._kind_of(data, flow)
        queue: Waiting = getattr(self, name)
        if name == "urgent":
            queue.pop(data, None)  # sent again: it counts as new
        elif data in queue:
            return
        queue[data] = (flow, self.now())
        if len(queue) > MOST[name]:
            data, (flow, _) = queue.popitem(last=False)
            self.counts[f"overload_dropped_{name}"] += 1
            if flow.point.reliable and name == "fresh":
                self.refuse(data, flow)  # by a stream nobody sends again: silence would cost its caller half a minute

    def turn(self) -> bool:
        """Treat what is due, for about TURN seconds; True where something is left."""
        now = self.now
        began = now()
        until = began + (TURN * ONWARD_SHARE if self.urgent else TURN)
        onward, urgent, take = self.onward, self.urgent, self.take
        while onward and now() < until:
            data, (flow, _) = onward.popitem(last=False)
            take(data, flow)
        while urgent and now() < began + TURN:
            data, (flow, _) = urgent.popitem()
            take(data, flow)
        if self.fresh:
            self._fresh(now() + (FRESH_TURN if onward or urgent or now() - began > FRESH_TURN else TURN))
        return bool(onward or urgent or self.fresh)

    def _fresh(self, until: float) -> None:
        fresh = self.fresh
        while fresh:
            at = self.now()
            if at >= until:
                return
            data, (flow, since) = fresh.popitem(last=False)
            if at - since > FRESH_WAIT:
                self.refuse(data, flow)
            else:
                self.take(data, flow)

    def _kind_of(self, data: bytes, flow: Flow) -> str:
        method, _, rest = data[:2048].partition(b" ")
        if method in (b"SIP/2.0", b"ACK", b"CANCEL") or _TO_TAG.search(data):
            return "onward"
        return "urgent" if self.is_emergency(method, rest.partition(b" ")[0], flow) else "fresh"
