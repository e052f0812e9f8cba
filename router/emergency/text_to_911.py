"""MESSAGE to 911 (RFC 3428): there is no text service, so the sender is told to call, and people on site are told.

The MESSAGE is answered 202 (accepted, not delivered) and a bounce-back text goes to the sender the way the MESSAGE
came. Where none can go (an address that cannot be read, too many of them) the answer is 480, so that no sender is
left to believe that anybody reads it. Everything is derived: a MESSAGE repeated across a restart gets the same answer
and the same text.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable

from e911.numbers import CallKind
from e911.record import NO_TEXT_SERVICE, CallRefused
from e911.text_to_911 import bounce_back_text
from router.calls.refusals import RefusalLimit
from router.calls.surroundings import Surroundings
from router.emergency.decision import CallPlan
from sip.answers import warning_line
from sip.body import leaf_parts
from sip.errors import RemoteError
from sip.fields import key_of_line
from sip.forwarding import forward_bytes
from sip.headers import parse_name_addr
from sip.machines import ClientTransaction, ServerTransaction
from sip.message import Request, Response
from sip.uri import parse_sip_uri, scheme_of

log = logging.getLogger(__name__)

PER_SENDER = 20
"""Texts of one sender that are answered and told in a minute: more than a person in need writes."""
LONGEST_TEXT = 500
"""Characters of the text that people on site are shown."""
_WARNING = "there is no text service to 911; make a voice call"


class TextTo911:
    """Answers texts. around: the process; plan: decides who sent one, and who is told."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.limit = RefusalLimit(PER_SENDER)

    def receive(
        self, server: ServerTransaction, request: Request, kind: CallKind, plan: Callable[[], CallPlan], now: float
    ) -> None:
        """Answer one MESSAGE."""
        around = self.around
        around.counts["texts_to_911"] += 1
        sender = sender_of(request)
        call_id = request.call_id.decode("latin-1")
        # There are phones that give all texts of a conversation one Call-ID.
        text_id = f"{call_id} {request.cseq}"
        if not self.limit.allows(f"{server.flow.host} {sender!r}", text_id, now):
            around.counts["texts_to_911_limited"] += 1
            self._refuse(server, now)
            return
        if sender is None:
            self._refuse(server, now)
        else:
            around.stack.answer(server, 202, now, reason=b"Accepted")
        decided: CallPlan | None = None
        try:
            decided = plan()
        except Exception:
            around.on_fault("deciding about a text to 911")
        if sender is not None:
            self._bounce(server, request, sender, decided, now)
        if decided is None:
            return
        around.write(
            CallRefused(
                id=decided.id,
                at=around.clock(),
                node=around.node,
                call_id=call_id,
                dialled=decided.dialled,
                caller=decided.caller,
                reason=NO_TEXT_SERVICE,
                status=202 if sender is not None else 480,
                site=decided.decision.site.id if decided.decision.site else "",
                contacts=decided.decision.contacts,
                kind=kind.value,
                text=text_of(request),
            )
        )

    def _refuse(self, server: ServerTransaction, now: float) -> None:
        self.around.stack.answer(server, 480, now, extra=(warning_line(server.flow.point, _WARNING),))

    def _bounce(
        self, server: ServerTransaction, request: Request, sender: bytes, plan: CallPlan | None, now: float
    ) -> None:
        around = self.around
        site = plan.decision.site if plan is not None else None
        language = (request.first("accept-language") or b"").decode("latin-1")
        text = bounce_back_text(language, site.address.state if site else "").encode()
        message = bounce_back(request, sender, text, around.key, around.rules.domain)
        branch = b"z9hG4bKe9" + message.from_tag + b".m"
        data = forward_bytes(message, server.flow, branch)
        around.stack.send_request(b"MESSAGE", branch, data, server.flow, BounceBack(around.counts), now)


class BounceBack:
    """Owner of a bounce-back on its way: what became of it is counted."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        """The sender's phone took it, or refused it."""
        if response.status >= 200:
            self._end("taken" if response.status < 300 else "refused")

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        """No answer."""
        self._end("unanswered")

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        """It could not be sent."""
        self._end("unanswered")

    def _end(self, how: str) -> None:
        self.counts[f"bounce_backs_{how}"] += 1
        if how != "taken":
            log.warning("bounce-back %s: whoever sent a text to 911 may not know that nobody reads it", how)


def sender_of(request: Request) -> bytes | None:
    """The From URI, to which the answer goes; None where it is no sip, sips or tel URI that can be read."""
    try:
        uri = parse_name_addr(request.first("from") or b"").uri
        if scheme_of(uri) != "tel":
            parse_sip_uri(uri)
    except RemoteError:
        return None
    return uri if uri.split() == [uri] else None


def text_of(request: Request) -> str:
    """What was written, as far as it is plain text, control characters as blanks."""
    for part in leaf_parts(request):
        if part.content_type == b"text/plain":
            text = part.data.decode("utf-8", "replace")
            return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:LONGEST_TEXT]
    return ""


def bounce_back(request: Request, sender: bytes, text: bytes, key: bytes, domain: str) -> Request:
    """The MESSAGE that answers one: from whom it was sent to, to the sender; the same for the same MESSAGE."""
    seed = b"\0".join((request.call_id, request.from_tag, b"%d" % request.cseq))
    derived = hashlib.blake2b(seed, key=key, digest_size=10, person=b"bounce-back").hexdigest().encode()
    try:
        addressee = parse_name_addr(request.first("to") or b"").uri
        parse_sip_uri(addressee)
    except RemoteError:
        addressee = b"sip:911@" + domain.encode()
    lines = [
        b"Max-Forwards: 71",  # lowered like that of any request we send on
        b"From: <%b>;tag=%b" % (addressee, derived),
        b"To: <%b>" % sender,
        b"Call-ID: %b@%b" % (derived, domain.encode()),
        b"CSeq: 1 MESSAGE",
        b"In-Reply-To: " + request.call_id,
        b"Content-Type: text/plain;charset=UTF-8",
        b"Content-Length: %d" % len(text),
    ]
    return Request(b"MESSAGE", sender, [(key_of_line(line), line) for line in lines], text, 1)
