"""Copies of one emergency INVITE: a PBX that forks sends the same call to us by several ways at once.

To us each copy is a transaction of its own, to the PSAP all of them are one call. Were each taken for a call, two
dispatchers would answer one caller; were the second refused (482, RFC 3261 section 8.2.2.2), a PBX that turned to its
second way because the first is broken would lose its call. So a copy joins the call: it hears what the call hears.
See docs/decisions/0029-copies-of-a-call.md.
"""

from collections.abc import Sequence
from typing import Protocol

from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Edits, Request, Response
from sip.owners import ClientOwner
from sip.stack import Stack


class Call(Protocol):
    """What a copy needs of the call it joined."""

    @property
    def stack(self) -> Stack:
        """The transaction layer."""

    def on_copy_cancelled(self, request: Request, now: float) -> None:
        """A copy was cancelled and is answered."""


class Copy:
    """One more way by which the caller's INVITE arrived."""

    __slots__ = ("call", "request", "server")

    def __init__(self, call: Call, server: ServerTransaction, request: Request) -> None:
        self.call = call
        self.server = server
        self.request = request

    def forward(self, response: Response, now: float) -> None:
        """Send a response of the PSAP's side by this way; nothing happens where it is answered already."""
        data = with_vias_of(self.request, response, is_stream=self.server.flow.point.reliable)
        self.call.stack.respond(self.server, response.status, data, now)

    def answer(self, status: int, now: float) -> None:
        """Send a final response of our own by this way."""
        self.call.stack.answer(self.server, status, now)

    def on_cancel(self, request: Request, now: float) -> None:
        """This way is given up. The call goes on while another is open."""
        self.answer(487, now)
        self.call.on_copy_cancelled(request, now)


class CopiesRelay:
    """Sends further copies of a 2xx by every way; owner is who had them sent by the first one."""

    __slots__ = ("copies", "owner")

    def __init__(self, owner: ClientOwner, copies: Sequence[Copy]) -> None:
        self.owner = owner
        self.copies = copies

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        self.owner.on_response(client, response, now)
        if 200 <= response.status < 300:
            for copy in self.copies:
                copy.forward(response, now)

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        self.owner.on_timeout(client, now)

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        self.owner.on_transport_error(client, now)


def is_copy(request: Request, other: Request) -> bool:
    """True where two INVITEs are copies of one: the same caller, and the same place for the PSAP's voice to go to.

    Call-ID, tag and CSeq alone do not do: phones of one kind have been seen to begin with the same.
    """
    return (
        request.body == other.body
        and request.first("from") == other.first("from")
        and request.first("contact") == other.first("contact")
    )


def with_vias_of(request: Request, response: Response, *, is_stream: bool) -> bytes:
    """A response as it goes back to whoever sent this request."""
    fields = [("via", line) for line in request.lines("via")]
    fields += [field for field in response.fields if field[0] != "via"]
    made = Response(response.status, response.reason, fields, response.body, response.cseq, response.method)
    if is_stream and not made.has("content-length"):
        made = made.edited(Edits(append=(b"Content-Length: %d" % len(made.body),)))
    return made.to_bytes()
