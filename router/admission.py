"""Admission: who is served at all, and whose mistakes are forgiven. Asked before a transaction is made."""

from collections.abc import Callable

from e911.numbers import CallKind
from router.decision import Rules
from router.sources import Side, Source
from sip.errors import Reason, RemoteError
from sip.flow import UNCERTIFIED, Flow
from sip.message import Request

INSIDE_ONLY = "emergency calls are served from inside networks only"

FORGIVEN = frozenset(
    {
        Reason.BAD_FIELD_LINE,
        Reason.BODY_INCOMPLETE,
        Reason.BAD_CONTENT_LENGTH,
        Reason.BAD_START_LINE,
        Reason.BAD_VIA,
        Reason.BAD_ADDRESS,
    }
)
"""What does not stop an emergency INVITE: broken lines go as they came, a cut body as far as it came (its length is
what came), the Request-URI is replaced anyway, and a Via need only be readable."""


def refusal(
    rules: Rules,
    request: Request,
    flow: Flow,
    source: Source,
    *,
    draining: bool,
    has_token: Callable[[Request], bool],
    note_refused: Callable[[CallKind], None],
) -> RemoteError | None:
    """Why a request is not served, or None: sources that are not listed, clients without the certificate
    asked for, and new calls while draining.

    note_refused is told of an emergency call that is refused.
    """
    is_new_call = request.method == b"INVITE" and not request.to_tag
    if is_new_call:
        kind = rules.kind_of(request, source)
        if kind is not CallKind.ORDINARY:
            if source.side is Side.UNLISTED and rules.config.emergency.from_unlisted != "accept":
                # Without a transaction: a stranger with a forged address is sent one answer, not twelve.
                note_refused(kind)
                return RemoteError(Reason.SOURCE_NOT_LISTED, 403, INSIDE_ONLY)
            return None
    if source.side is Side.UNLISTED and request.method != b"CANCEL" and not has_token(request):
        return RemoteError(Reason.SOURCE_NOT_LISTED, 403, f"{flow.host} is in no listed network")
    if flow.peer is UNCERTIFIED and request.method != b"CANCEL" and not has_token(request):
        return RemoteError(Reason.NO_CLIENT_CERTIFICATE, 403, "without a client certificate only 911 is served")
    if draining and is_new_call:
        return RemoteError(Reason.SHUTTING_DOWN, 503, "no new calls, 911 excepted")
    return None


def forgives(rules: Rules, request: Request, error: RemoteError) -> bool:
    """True where this mistake of a request is passed over; each of its others must be, too. An emergency call that is
    malformed only where it does not matter still goes out, and so does all that follows it in its dialog."""
    if request.to_tag or request.method == b"CANCEL":
        return error.reason in (Reason.BAD_FIELD_LINE, Reason.BAD_ADDRESS)
    if request.method != b"INVITE" or rules.kind_of(request) is CallKind.ORDINARY:
        return False
    if error.reason is Reason.REPEATED_FIELD:
        return error.detail in ("max-forwards", "content-length")
    return error.reason in FORGIVEN and _has_readable_via(request)


def _has_readable_via(request: Request) -> bool:
    try:
        return bool(request.via)
    except RemoteError:
        return False
