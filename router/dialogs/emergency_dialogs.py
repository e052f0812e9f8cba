"""Emergency dialogs, followed by Call-ID and tags: for phones that do not follow them themselves.

A phone that ignores Record-Route sends ACK, re-INVITE and BYE without the Route that would bring them to the PSAP, or
with a To tag of its own invention, or to the number it dialled. What the PSAP's 2xx said is kept here, and such a
request is made into the one that RFC 3261 section 12.2.1.1 asks for; everything else then works as for any other.
A request that carries our Route is never looked up. Nothing that begins a call is taken for part of one: an INVITE
without To tag is a new call, whatever its Call-ID (docs/decisions/0013-dialogs-of-careless-phones.md).
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from e911.record import CallFinished, DialogFormed
from router.dialogs.hangup import uri_of_contact
from router.journal.event_lines import decode_event
from router.journal.segments import segment_path, segments
from sip.errors import Reason, RemoteError
from sip.fields import value_of
from sip.forwarding import max_forwards
from sip.headers import split_values, tag_of
from sip.message import Edits, Request, Response
from sip.routing import RouteDecision

log = logging.getLogger(__name__)

DIALOGS_LIMIT = 10_000
"""Beyond it the oldest is forgotten: its phone must then follow the Route, as phones do."""
DIALOG_SECONDS = 12 * 3600.0
"""A call whose BYE never came is forgotten after so long."""
_TOKEN = b";t="
"""How a Route value of ours is told from one that a phone was configured with."""

Key = tuple[bytes, bytes]
"""Call-ID and the caller's tag."""


class EmergencyDialogs:
    """The answered emergency calls of this process, oldest first. clock: seconds since 1970; steady: seconds that no
    setting of the clock moves, for how long a dialog has been up."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.steady = steady
        self._dialogs: dict[Key, DialogFormed] = {}
        self._since: dict[Key, float] = {}
        """Steady time at which each was formed, or heard of again."""

    def __len__(self) -> int:
        return len(self._dialogs)

    def __bool__(self) -> bool:
        return bool(self._dialogs)

    def form(
        self, call: str, invite: Request, response: Response, uri: bytes, source: str, answered_by: str = ""
    ) -> DialogFormed:
        """An emergency call was answered: remember its dialog, and give what is to be journalled of it.

        invite: as the caller sent it; response: the 2xx as it came, our Via on top; uri: the Request-URI that it
        answers; source: the address that the INVITE came from; answered_by: see DialogFormed.
        """
        # For each answered call: nothing is parsed here that only a careless phone will need.
        call_id, from_tag = invite.call_id, invite.from_tag
        dialog = DialogFormed(
            id=call,
            at=self.clock(),
            call_id=call_id.decode("latin-1"),
            from_tag=from_tag.decode("latin-1"),
            cseq=invite.cseq,
            to=(response.first("to") or b"").decode("latin-1"),
            contact=(response.first("contact") or b"").decode("latin-1"),
            uri=uri.decode("latin-1"),
            routes=tuple([line.decode("latin-1") for line in response.lines("record-route")]),
            source=source,
            answered_by=answered_by,
            caller=(invite.first("contact") or b"").decode("latin-1"),
        )
        self._remember((call_id, from_tag), dialog)
        return dialog

    def add(self, dialog: DialogFormed) -> None:
        """Remember a dialog from before a restart."""
        self._remember(_key(dialog), dialog, max(0.0, self.clock() - dialog.at))

    def _remember(self, key: Key, dialog: DialogFormed, age: float = 0.0) -> None:
        dialogs, since, now = self._dialogs, self._since, self.steady()
        self._forget(key)
        dialogs[key] = dialog
        since[key] = now - age
        while len(dialogs) > DIALOGS_LIMIT or since[next(iter(since))] < now - DIALOG_SECONDS:
            self._forget(next(iter(dialogs)))

    def _forget(self, key: Key) -> DialogFormed | None:
        self._since.pop(key, None)
        return self._dialogs.pop(key, None)

    def restore(self, events: Iterable[DialogFormed], ended: Iterable[str]) -> list[DialogFormed]:
        """Take what the journal says was up before a restart; those still remembered, oldest first.

        ended: record ids of calls whose BYE was seen.
        """
        over = set(ended)
        oldest = self.clock() - DIALOG_SECONDS
        for event in sorted(events, key=lambda event: event.at):
            if event.at >= oldest and event.id not in over:
                self.add(event)
        return list(self._dialogs.values())

    def end(self, request: Request) -> str:
        """A BYE passes, from either side: the record id of its call, or "" where it is of no dialog here."""
        call_id = request.call_id
        ended = self._forget((call_id, request.from_tag)) or self._forget((call_id, request.to_tag))
        return ended.id if ended is not None else ""

    def of(self, request: Request) -> DialogFormed | None:
        """The dialog that a request of either side belongs to."""
        found = self._dialogs.get((request.call_id, request.from_tag))
        return found or self._dialogs.get((request.call_id, request.to_tag))

    def meant_for_far_end(
        self, request: Request, decision: RouteDecision, is_own: Callable[[bytes], bool]
    ) -> RouteDecision:
        """A request of either side that names us is meant for the other side: a provider that takes a private Contact
        for a phone behind NAT puts our address there, a phone keeps to what it dialled, also where a PSAP gave no
        Contact."""
        uri = decision.uri
        if decision.next_hop is not None or b";e9=" in uri:
            return decision
        by_caller = self._find(request)
        dialog = by_caller or self._dialogs.get((request.call_id, request.to_tag))
        if dialog is None or not is_own(uri):
            return decision
        if by_caller is not None:
            meant = _target(dialog)
        else:
            meant = uri_of_contact((split_values(dialog.caller.encode("latin-1")) or [b""])[0])
        return replace(decision, uri=meant) if meant and not is_own(meant) else decision

    def taken_over(self, request: Request) -> DialogFormed | None:
        """The dialog whose far end is asked to go on with whoever sends this INVITE: named by Replaces (RFC 3891) or
        Join (RFC 3911), the tag of the PSAP's side as the one that the request goes to."""
        named = request.first("replaces") or request.first("join")
        if named is None:
            return None
        call_id, *parameters = named.split(b";")
        tags = {name.strip().lower(): tag.strip() for name, _, tag in (one.partition(b"=") for one in parameters)}
        dialog = self._dialogs.get((call_id.strip(), tags.get(b"from-tag", b"")))
        if dialog is None or tags.get(b"to-tag") != tag_of(dialog.to.encode("latin-1")):
            return None
        return dialog

    def is_from(self, request: Request, address: str) -> bool:
        """True where a request belongs to a dialog whose INVITE came from the same address."""
        dialog = self._find(request)
        return dialog is not None and dialog.source == address

    def forgives(self, request: Request, error: RemoteError) -> bool:
        """True for the ACK of a followed dialog whose CSeq names another method (aiosip: `1 INVITE`)."""
        if request.method != b"ACK" or error.reason is not Reason.CSEQ_METHOD_MISMATCH:
            return False
        dialog = self._find(request)
        return dialog is not None and dialog.cseq == request.cseq

    def repaired(self, request: Request) -> Request:
        """The request as it would be had the phone followed its dialog; the same one where it did, or has none."""
        try:
            max_forwards(request)
        except RemoteError:
            if self.of(request) is not None:
                request = request.edited(Edits(replace={"max-forwards": ()}))  # as in its INVITE: it begins anew
        route = request.first("route")
        if route is not None and _TOKEN in route:
            return request
        if request.method == b"INVITE" and not request.to_tag:
            return request
        dialog = self._find(request)
        if dialog is None:
            return request
        if request.method == b"INVITE":
            dialog = self._renewed(dialog, request.cseq)
        routes = [value for line in dialog.routes for value in split_values(value_of(line.encode("latin-1")))]
        edits = Edits(uri=_target(dialog))
        if routes or route is not None:
            edits.replace["route"] = [b"Route: " + value for value in reversed(routes)]
        to = dialog.to.encode("latin-1")
        if request.to_tag != tag_of(to):
            edits.replace["to"] = (b"To: " + to,)
        if Reason.CSEQ_METHOD_MISMATCH in request.oddities:
            edits.replace["cseq"] = (b"CSeq: %d %b" % (request.cseq, request.method),)
        return request.edited(edits)

    def refreshed(self, request: Request, response: Response) -> DialogFormed | None:
        """A 2xx to a re-INVITE or UPDATE of either side: the dialog with the PSAP's new Contact, to be journalled;
        None where it stays where it was."""
        key, contact = (request.call_id, request.from_tag), response.first("contact")
        if key not in self._dialogs:
            key, contact = (request.call_id, request.to_tag), request.first("contact")
        dialog = self._dialogs.get(key)
        if dialog is None or not contact:
            return None
        far_tag = response.to_tag if key[1] == request.from_tag else request.from_tag
        text = contact.decode("latin-1")
        if text == dialog.contact or far_tag != tag_of(dialog.to.encode("latin-1")):
            return None
        renewed = self._dialogs[key] = replace(dialog, contact=text, at=self.clock())
        return renewed

    def _find(self, request: Request) -> DialogFormed | None:
        return self._dialogs.get((request.call_id, request.from_tag))

    def _renewed(self, dialog: DialogFormed, cseq: int) -> DialogFormed:
        """The dialog after a re-INVITE: its ACK has that number."""
        renewed = dialog.with_cseq(cseq)
        self._dialogs[_key(dialog)] = renewed
        return renewed


def _target(dialog: DialogFormed) -> bytes:
    values = split_values(dialog.contact.encode("latin-1"))
    return (uri_of_contact(values[0]) if values else b"") or dialog.uri.encode("latin-1")


def _key(dialog: DialogFormed) -> Key:
    return dialog.call_id.encode("latin-1"), dialog.from_tag.encode("latin-1")


SEGMENTS_READ = 3
"""Of the journal, the newest ones, at a start: up to 48 MiB."""


def journalled_dialogs(directory: Path) -> tuple[list[DialogFormed], list[str]]:
    """The dialogs that a journal tells of, and the record ids of calls that ended; never raises."""
    formed: list[DialogFormed] = []
    ended: list[str] = []
    for number in segments(directory)[-SEGMENTS_READ:]:
        try:
            lines = segment_path(directory, number).read_bytes().split(b"\n")
        except OSError as error:
            log.warning("dialogs-not-read %s: calls from before the start need phones that keep their Route", error)
            continue
        for line in lines:
            # Of the many lines only these are decoded.
            if not line.startswith((b'{"type":"dialog"', b'{"type":"finished"')):
                continue
            try:
                event = decode_event(line)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue  # torn by the crash that this start follows
            if isinstance(event, DialogFormed):
                formed.append(event)
            elif isinstance(event, CallFinished):
                ended.append(event.id)
    return formed[-DIALOGS_LIMIT:], ended
