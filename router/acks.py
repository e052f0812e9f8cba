"""Who acknowledges an answer: second 2xx that nobody may take, and answers whose ACK has not passed yet."""

from collections import Counter
from collections.abc import Callable

from router.hangup import end_answer
from sip.message import Response
from sip.stack import Flow, Stack

ACK_WAIT = 2.0
"""Deviation (c): seconds in which the caller may acknowledge a second 2xx before we end that call ourselves."""
UNACKNOWLEDGED_SECONDS = 32.0
"""So long (64*T1) an answered emergency call may lack its ACK before nobody waits for it any more."""
UNACKNOWLEDGED_LIMIT = 10_000


class _Watch:
    """A second 2xx was forwarded; nobody may acknowledge it (deviation (c))."""

    def __init__(self, acks: "Acks", response: Response, flow: Flow, uri: bytes) -> None:
        self.acks = acks
        self.response = response
        self.flow = flow
        self.uri = uri
        self.key = (response.call_id, response.to_tag)

    def on_timer(self, name: str, now: float) -> None:
        self.acks.end(self, now)


class Acks:
    """ACKs of emergency calls that are awaited."""

    def __init__(self, stack: Stack, key: bytes, counts: Counter[str], is_own_uri: Callable[[bytes], bool]) -> None:
        self.stack = stack
        self.key = key
        self.counts = counts
        self.is_own_uri = is_own_uri
        self._watches: dict[tuple[bytes, bytes], _Watch] = {}
        self._unacknowledged: dict[tuple[bytes, bytes], float] = {}
        """Answered emergency calls whose ACK has not passed yet: Call-ID and To tag, and since when."""

    def watch(self, response: Response, flow: Flow, uri: bytes, now: float) -> None:
        """See whether somebody acknowledges a second 2xx, else end it; its copies start no second watch."""
        watch = _Watch(self, response, flow, uri)
        if watch.key not in self._watches:
            self._watches[watch.key] = watch
            self.stack.set_timer(watch, "ack", ACK_WAIT, now)

    def expect(self, call_id: bytes, to_tag: bytes, now: float) -> None:
        """An emergency call was answered."""
        if len(self._unacknowledged) < UNACKNOWLEDGED_LIMIT:
            self._unacknowledged[call_id, to_tag] = now

    def passed(self, call_id: bytes, to_tag: bytes) -> None:
        """An ACK passed."""
        dialog = (call_id, to_tag)
        if self._unacknowledged:
            self._unacknowledged.pop(dialog, None)
        if self._watches and self._watches.pop(dialog, None) is not None:
            self.counts["second_answers_acknowledged"] += 1

    def end(self, watch: _Watch, now: float) -> None:
        """Nobody took the answer: hang it up ourselves."""
        if self._watches.pop(watch.key, None) is not None:
            self.counts["answers_ended_by_us"] += 1
            end_answer(self.stack, self.key, watch.response, watch.flow, watch.uri, self.is_own_uri, now)

    def are_awaited(self, now: float) -> bool:
        """True while the ACK of an answered emergency call may still come."""
        oldest = now - UNACKNOWLEDGED_SECONDS
        for key in [key for key, since in self._unacknowledged.items() if since < oldest]:
            del self._unacknowledged[key]
        return bool(self._unacknowledged)
