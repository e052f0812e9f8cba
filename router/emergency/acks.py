"""Who acknowledges an answer: second 2xx that nobody may take, and answers whose ACK has not passed yet."""

from collections import Counter
from collections.abc import Callable

from router.dialogs.hangup import contact_uri, end_answer
from sip.flow import Flow
from sip.message import Response
from sip.stack import Stack

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
        self.dialog = (response.call_id, response.to_tag)
        self.contact = contact_uri(response)

    def on_timer(self, name: str, now: float) -> None:
        self.acks.end(self, now)


class Acks:
    """ACKs of emergency calls that are awaited."""

    def __init__(self, stack: Stack, key: bytes, counts: Counter[str], is_own_uri: Callable[[bytes], bool]) -> None:
        self.stack = stack
        self.key = key
        self.counts = counts
        self.is_own_uri = is_own_uri
        self._watches: dict[tuple[bytes, bytes], dict[bytes, _Watch]] = {}
        """By Call-ID and To tag, then by Contact: two providers may give the same tag."""
        self._shared: set[tuple[bytes, bytes]] = set()
        """Watched dialogs whose tag another answer has too: there an ACK counts by its Request-URI."""
        self._unacknowledged: dict[tuple[bytes, bytes], float] = {}
        """Answered emergency calls whose ACK has not passed yet: Call-ID and To tag, and since when."""

    def watch(self, response: Response, flow: Flow, uri: bytes, now: float, *, is_shared: bool = False) -> None:
        """See whether somebody acknowledges a second 2xx, else end it; its copies start no second watch.

        is_shared: the answer that the call was given before has the same To tag.
        """
        watch = _Watch(self, response, flow, uri)
        watches = self._watches.setdefault(watch.dialog, {})
        if watch.contact in watches:
            return
        watches[watch.contact] = watch
        if is_shared or len(watches) > 1:
            self._shared.add(watch.dialog)
        self.stack.set_timer(watch, "ack", ACK_WAIT, now)

    def expect(self, call_id: bytes, to_tag: bytes, now: float) -> None:
        """An emergency call was answered."""
        if len(self._unacknowledged) >= UNACKNOWLEDGED_LIMIT:
            del self._unacknowledged[next(iter(self._unacknowledged))]  # phones that never acknowledge
        self._unacknowledged[call_id, to_tag] = now

    def passed(self, call_id: bytes, to_tag: bytes, uri: bytes) -> None:
        """An ACK to this Request-URI passed."""
        dialog = (call_id, to_tag)
        if self._unacknowledged:
            self._unacknowledged.pop(dialog, None)
        watches = self._watches.get(dialog) if self._watches else None
        if watches is None:
            return
        # An ACK goes to the Contact of what it acknowledges (section 12.2.1.1); where only one answer has the tag, an
        # ACK that goes elsewhere is meant for it too.
        taken = uri if dialog in self._shared else next(iter(watches))
        if self._forget(dialog, taken):
            self.counts["second_answers_acknowledged"] += 1

    def end(self, watch: _Watch, now: float) -> None:
        """Nobody took the answer: hang it up ourselves."""
        if self._forget(watch.dialog, watch.contact):
            self.counts["answers_ended_by_us"] += 1
            end_answer(self.stack, self.key, watch.response, watch.flow, watch.uri, self.is_own_uri, now)

    def _forget(self, dialog: tuple[bytes, bytes], contact: bytes) -> bool:
        """Drop a watch; False where there is none (any more)."""
        watches = self._watches.get(dialog, {})
        found = watches.pop(contact, None)
        if not watches:
            self._watches.pop(dialog, None)
            self._shared.discard(dialog)
        return found is not None

    def are_awaited(self, now: float) -> bool:
        """True while the ACK of an answered emergency call may still come."""
        oldest = now - UNACKNOWLEDGED_SECONDS
        for key in [key for key, since in self._unacknowledged.items() if since < oldest]:
            del self._unacknowledged[key]
        return bool(self._unacknowledged)
