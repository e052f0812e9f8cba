"""Admission: who is served at all, and whose mistakes are forgiven. Asked before a transaction is made."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from e911.numbers import CallKind, classify
from router.calls.limits import MOST_TRANSACTIONS, Rates, Strangers
from router.emergency.rules import Rules
from router.network.sources import Side, Source
from router.self_test.proof import asked_by
from sip.errors import Reason, RemoteError
from sip.flow import UNCERTIFIED, Flow
from sip.forgiving import meant_cseq, says_one_thing
from sip.message import Request
from sip.routing import process_routes, strictly_routed_uri

if TYPE_CHECKING:
    from router.calls.dispatch import CallRouter

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_UNLISTED = Side.UNLISTED

SHUNNED_SECONDS = 1.0
"""So long a stranger that floods is not even read."""
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
what came), the Request-URI is replaced anyway, and where a Via cannot be read the answer goes where the request came
from."""


class Admission:
    """Asked about each new request. router: the transaction user that asks."""

    def __init__(self, router: "CallRouter") -> None:
        self.router = router
        self.strangers = Strangers()
        self.rates = Rates(0)
        self.is_restricting = False
        """True where new ordinary requests are looked at more closely than who they are from."""
        self.is_shedding = False
        """True while a message is treated that waited too long in an overload."""
        self.is_full = False

    def use(self, per_source: float) -> None:
        """Take another configuration: most new ordinary requests a second of one source, 0 for any number."""
        if per_source != self.rates.per_second:
            self.rates = Rates(per_source)
        self.is_restricting = self.is_full or per_source > 0

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        """Before a transaction is made: requests of sources that are not listed, and new calls while draining."""
        router = self.router
        if request.has("route") and request.method == b"INVITE" and not request.to_tag:
            self._find_strictly_routed_call(request)
        source = router.sources.classify(flow.host, flow.port)
        is_usual = source.side is not _UNLISTED and flow.peer is None and not router.draining
        if is_usual and not self.is_restricting:
            return None  # spared the questions below
        error = refusal(
            router.rules,
            request,
            flow,
            source,
            draining=router.draining,
            has_token=lambda request: (
                router.has_token(request)
                or router.dialogs.is_from(request, flow.host)
                or self._is_own_message(request, flow)
            ),
            is_own_test=lambda request: asked_by(router.key, request, router.clock()) is not None,
            note_refused=lambda kind: router.emergency.note_refused(request, flow.host, source, kind),
        )
        if error is not None and error.reason is Reason.SHUTTING_DOWN and self._is_from_psap(request, flow, source):
            error = None  # a PSAP calls back somebody who dialled 911: served as 911 is
        if error is None:
            return self._restriction(request, flow, source) if self.is_restricting else None
        if error.reason is Reason.SOURCE_NOT_LISTED and not self.strangers.hears(flow.host, router.now()):
            # A flood: no more answers, and for a moment nothing more of it is even read.
            if router.edge is not None:
                router.edge.shun(flow, SHUNNED_SECONDS)
            return RemoteError(Reason.SOURCE_NOT_LISTED, 0, "too many of them to answer")
        return error

    def _is_own_message(self, request: Request, flow: Flow) -> bool:
        """A MESSAGE of the process beside this one to a phone that registered through us: from this machine, whose
        address may be in no network, and with the flow token that only registrars are told."""
        router = self.router
        if request.method != b"MESSAGE" or not request.has("route") or not router.points.is_local(flow.host):
            return False
        try:
            own = process_routes(request, router.next_hops.is_own).own
        except RemoteError:
            return False
        return bool(own) and router.paths.tokens.read(own[-1].user) is not None

    def _restriction(self, request: Request, flow: Flow, source: Source) -> RemoteError | None:
        """Why a new ordinary request is not served although its source is: too much of everything, or of it."""
        router = self.router
        if request.to_tag or request.method in (b"ACK", b"CANCEL"):
            return None
        may_be_emergency = request.method in (b"INVITE", b"MESSAGE") and source.side is not Side.OUTSIDE
        if may_be_emergency and router.rules.kind_of(request, source) is not CallKind.ORDINARY:
            return None
        if self._is_from_psap(request, flow, source):
            return None
        if self.is_shedding:
            return RemoteError(Reason.OVERLOADED, 503, "more calls than can be served; 911 goes first")
        if self.is_full:
            return RemoteError(Reason.OVERLOADED, 503, "too many requests at a time; 911 is served")
        most = self.rates.per_second
        if most and not source.is_trunk_address and not self.rates.allows(flow.host, router.now()):
            return RemoteError(Reason.RATE_LIMITED, 503, f"more than {most:g} new requests a second")
        return None

    def _is_from_psap(self, request: Request, flow: Flow, source: Source) -> bool:
        return (
            request.method == b"INVITE"
            and source.side is Side.OUTSIDE
            and self.router.callbacks.is_from_psap(request.uri, flow)
        )

    def refuse_if_new(self, take: Callable[[bytes, Flow], None], data: bytes, flow: Flow) -> None:
        """Treat a message that has waited too long: a new ordinary request is refused, anything else is served."""
        before = self.is_restricting
        self.is_restricting = self.is_shedding = True
        try:
            take(data, flow)
        finally:
            self.is_restricting, self.is_shedding = before, False

    def looks_like_emergency(self, method: bytes, uri: bytes, flow: Flow) -> bool:
        """True for the method and Request-URI of a new emergency call, as far as these tell; cheap."""
        router = self.router
        method = method.upper()
        if method not in (b"INVITE", b"MESSAGE"):
            return False
        source = router.sources.classify(flow.host, flow.port)
        if source.side is Side.OUTSIDE:
            return method == b"INVITE" and router.callbacks.is_from_psap(uri, flow)
        return (
            source.is_all_emergency or classify(uri.decode("latin-1"), router.rules.numbers) is not CallKind.ORDINARY
        )

    def look_at_limits(self) -> None:
        """Once a second: whether there is room for new ordinary requests."""
        self.is_full = len(self.router.stack.servers) >= MOST_TRANSACTIONS
        self.is_restricting = self.is_full or self.rates.per_second > 0

    def _find_strictly_routed_call(self, request: Request) -> None:
        """An emergency call is one also where a strict router moved its number to the end of the Route."""
        router = self.router
        uri = strictly_routed_uri(request, router.next_hops.is_own)
        if uri is not None and classify(uri.decode("latin-1"), router.rules.numbers) is not CallKind.ORDINARY:
            request.uri = uri  # the Route goes: this router chooses where an emergency call leads


def refusal(
    rules: Rules,
    request: Request,
    flow: Flow,
    source: Source,
    *,
    draining: bool,
    has_token: Callable[[Request], bool],
    note_refused: Callable[[CallKind], None],
    is_own_test: Callable[[Request], bool],
) -> RemoteError | None:
    """Why a request is not served, or None: sources that are not listed, clients without the certificate
    asked for, and new calls while draining.

    note_refused is told of an emergency call that is refused; is_own_test knows test calls of ours.
    """
    is_new_call = request.method == b"INVITE" and not request.to_tag
    if is_new_call:
        kind = rules.kind_of(request, source)
        if kind is not CallKind.ORDINARY:
            if kind is CallKind.TEST and is_own_test(request):
                return None
            if source.side is _UNLISTED and rules.config.emergency.from_unlisted != "accept":
                # Without a transaction: a stranger with a forged address is sent one answer, not twelve.
                note_refused(kind)
                return RemoteError(Reason.SOURCE_NOT_LISTED, 403, INSIDE_ONLY)
            return None
    if source.side is _UNLISTED and request.method != b"CANCEL" and not has_token(request):
        return RemoteError(Reason.SOURCE_NOT_LISTED, 403, f"{flow.host} is in no listed network")
    if flow.peer is UNCERTIFIED and request.method != b"CANCEL" and not has_token(request):
        return RemoteError(Reason.NO_CLIENT_CERTIFICATE, 403, "without a client certificate only 911 is served")
    if draining and is_new_call:
        return RemoteError(Reason.SHUTTING_DOWN, 503, "no new calls, 911 excepted")
    return None


def forgives(rules: Rules, request: Request, error: RemoteError, source: Source) -> bool:
    """True where this mistake of a request is passed over; each of its others must be, too. An emergency call that is
    malformed only where it does not matter still goes out, and so does all that follows it in its dialog."""
    if request.to_tag or request.method == b"CANCEL":
        return error.reason in (Reason.BAD_FIELD_LINE, Reason.BAD_ADDRESS)
    if request.method != b"INVITE" or rules.kind_of(request, source) is CallKind.ORDINARY:
        return False
    return does_not_matter(request, error)


def does_not_matter(request: Request, error: RemoteError) -> bool:
    """True for a mistake that stops no emergency call, whose later requests will have it, too: a phone that is served
    with it in its INVITE, and whose ACK is refused for it, loses the call that the PSAP has answered."""
    if error.reason is Reason.REPEATED_FIELD:
        return error.detail in ("max-forwards", "content-length") or says_one_thing(request, error.detail)
    if error.reason in (Reason.BAD_CSEQ, Reason.CSEQ_METHOD_MISMATCH):
        return meant_cseq(request) is not None
    return error.reason in FORGIVEN
