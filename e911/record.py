"""What is written down about an emergency call: the journal's events, of which records and notices are made.

Every event is one JSON line in the journal, appended by the call process and read by the notices process.
`at` is seconds since 1970 (UTC). `id` is the call's record id: derived (keyed hash of Call-ID, From tag, CSeq, and
branch and sent-by of the caller's Via), so an INVITE retransmitted to a restarted router is the same call, the same
notice and the same record.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from e911.elin import Lease
from e911.location import DispatchableLocation

NO_TEXT_SERVICE = "no-text-service"
"""Why a text to 911 was not served."""


class SourceOutcome(StrEnum):
    """What one location source contributed."""

    WON = "won"
    KNEW = "knew"
    MISSED = "missed"


@dataclass(slots=True, kw_only=True, unsafe_hash=True)  # never changed; to freeze it triples the price of making one
class SourceAnswer:
    """One location source's answer and why it did or did not win (a reason such as `behind-pbx`)."""

    source: str
    outcome: SourceOutcome
    reason: str
    lost: str = ""
    """Of one that knew and did not decide: why (`later-in-order`, `finer-parts-taken`, ...)."""
    confidence: str = ""
    """How sure it is (e911.confidence), or empty where it knows nothing."""
    as_of: float = 0.0
    """From when its answer is, seconds since 1970; 0 where it does not say, or is asked anew each time."""
    detail: str = ""
    """What it was asked with: an address, a BSSID, a switch port."""
    location: DispatchableLocation | None = None
    """What it said."""


class RouteOutcome(StrEnum):
    """What became of one try of one route."""

    STARTED = "started"
    RINGING = "ringing"
    ANSWERED = "answered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    PROGRESS_TIMEOUT = "progress-timeout"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    POSTPONED = "postponed"
    """Its trunk is known to be down: it comes after the others of its kind."""
    RETRIED_WITHOUT_LOCATION = "retried-without-location"
    RETRIED_WITHOUT_DATA = "retried-without-data"
    RETRIED_WITH_CREDENTIALS = "retried-with-credentials"
    """It asked who we are (401 or 407), and was told."""
    IN_DOUBT = "in-doubt"
    """Its connection has gone, or its trunk is silent, while the call rang there: the provider is asked again."""
    CONFIRMED = "confirmed"
    """The provider answered that: it has the call."""
    STEPPED_DOWN = "stepped-down"
    """A transport of the route could not be had; the next one is tried."""


class CallOutcome(StrEnum):
    """How the setting-up of the call ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


# Events are made on every call and never changed. They are not frozen: that triples the price of making one.


@dataclass(slots=True, kw_only=True)
class Caller:
    """Who called: as found in the INVITE, and what it was matched to."""

    number: str = ""
    """The user part believed (P-Asserted-Identity where trusted, else From), as it came."""
    display_name: str = ""
    device: str = ""
    """The registered device it was matched to, or empty."""
    device_name: str = ""
    callback: str = ""
    """The number the PSAP is shown, +E.164, or empty where none is known."""
    callback_source: str = ""
    identity_source: str = ""
    source_address: str = ""
    """The IP address the INVITE came from."""
    phone_address: str = ""
    """The phone's own IP address, where a PBX lets it through (`trunks.*.location_from`)."""
    privacy: str = ""
    """The Privacy value that was overridden, or empty."""
    reason: str = ""
    """Why no device was matched, e.g. `ambiguous-device`, `unknown-device`."""


@dataclass(slots=True, kw_only=True)
class CallIntent:
    """Appended before the INVITE leaves: all that a notice and a record need."""

    type: str = "intent"
    id: str
    at: float
    node: str
    kind: str
    """`emergency` or `test` (e911.numbers.CallKind)."""
    call_id: str
    from_tag: str
    dialled: str
    caller: Caller
    site: str
    zone: str
    location: DispatchableLocation | None
    location_sent: bool
    """True where the first route carries the location; basic 911 does not."""
    sources: tuple[SourceAnswer, ...]
    first_route: str
    """Name of the route the INVITE leaves by, or empty where there is none."""
    contacts: tuple[str, ...]
    """Names of the contacts to be told."""
    lease: Lease | None = None
    """The number lent to the caller, or kept for callbacks; None where a callback is an ordinary call."""


@dataclass(slots=True, kw_only=True)
class CallLocating:
    """A caller's location is being asked for, and the call waits: for people who watch. No part of the record; an
    intent or a refusal with the same id follows, unless the call goes on by another way or this process ends."""

    type: str = "locating"
    id: str
    at: float
    node: str
    kind: str
    """`emergency` or `test` (e911.numbers.CallKind)."""
    caller: Caller
    site: str


@dataclass(slots=True, kw_only=True)
class RouteEvent:
    """One route's try, and each thing that happened to it."""

    type: str = "route"
    id: str
    at: float
    route: str
    kind: str
    """`e911` or `basic`."""
    attempt: int
    """0 for the first try of the route, 1 for the one without our location part."""
    outcome: RouteOutcome
    status: int = 0
    reason: str = ""
    with_location: bool = False
    label: str = ""
    """Route and attempt as they stand at the end of the derived branch."""
    sent_to: str = ""
    """Of a try that started: transport, address and port, with blanks between them."""
    request_uri: str = ""
    """Of a try that started: where its INVITE was for."""


@dataclass(slots=True, kw_only=True)
class CallEnded:
    """How the setting-up ended. `failed` alarms the contacts: the call did NOT go through."""

    type: str = "ended"
    id: str
    at: float
    outcome: CallOutcome
    status: int
    route: str = ""


@dataclass(slots=True, kw_only=True)
class CallFinished:
    """A BYE was seen for an answered call."""

    type: str = "finished"
    id: str
    at: float
    by: str
    """`caller` or `provider`."""


@dataclass(slots=True, kw_only=True)
class DialogFormed:
    """What the 2xx of an emergency call said, so that its dialog can be followed, also after a restart.

    No part of the record: it tells nothing of who called or from where that the intent does not.
    """

    type: str = "dialog"
    id: str
    at: float
    call_id: str
    from_tag: str
    """The caller's tag."""
    cseq: int
    """Of the last INVITE."""
    to: str
    """To as in the 2xx, with the PSAP's tag."""
    contact: str
    """The 2xx's Contact as it came: where requests in the dialog are addressed to."""
    uri: str
    """The Request-URI that the 2xx answers, for where that Contact cannot be read."""
    routes: tuple[str, ...]
    """The 2xx's Record-Route lines as they came."""
    source: str
    """The IP address the INVITE came from."""
    answered_by: str = ""
    """Transport, address and port that the 2xx came from, where the INVITE had gone."""
    caller: str = ""
    """The INVITE's Contact as it came: for providers that put our address into its place."""

    def with_cseq(self, cseq: int) -> "DialogFormed":
        """The same after another INVITE in it."""
        return replace(self, cseq=cseq)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRefused:
    """A 911 call that was not served because of where it came from or how it was written, or a text to 911; the
    contacts are told."""

    type: str = "refused"
    id: str
    at: float
    node: str
    call_id: str
    kind: str = "emergency"
    """`emergency` or `test` (e911.numbers.CallKind)."""
    dialled: str
    caller: Caller
    reason: str
    """`from-outside`, `from-unlisted-source`, `blocked`, `malformed`, or `no-text-service` for a text (MESSAGE)."""
    status: int
    text: str = ""
    """What somebody wrote who sent a text."""
    site: str = ""
    """The site whose contacts are told, or empty."""
    contacts: tuple[str, ...] = field(default_factory=tuple)


class CallbackOutcome(StrEnum):
    """What became of a call back to somebody who dialled 911, step by step."""

    RECEIVED = "received"
    """It came in; the contacts are told."""
    SENT = "sent"
    """Its INVITE went to the phone, or to the site's desk."""
    RINGING = "ringing"
    ANSWERED = "answered"
    NO_ANSWER = "no-answer"
    """The phone did not answer in time."""
    REFUSED = "refused"
    REDIRECTED = "redirected"
    """The PBX answered 3xx, which is not followed."""
    UNREACHABLE = "unreachable"
    CANCELLED = "cancelled"
    """Whoever called back has hung up."""
    FAILED = "failed"
    """Neither the phone nor the desk took it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackEvent:
    """Somebody calls back a number that dialled 911. Under the record id of that 911 call."""

    type: str = "callback"
    id: str
    at: float
    node: str
    callback: str
    """The callback's own id, derived as a record id is."""
    number: str
    """The number called, +E.164."""
    caller: str
    """The number that calls back, as it came; empty where it is withheld."""
    trunk: str
    """Name of the trunk it came by, or its address."""
    outcome: CallbackOutcome
    to: str = ""
    """`phone` or `desk`: who this step is about; of `received` whom it goes to first."""
    place: str = ""
    """Name of the trunk, or address, that its INVITE went to."""
    status: int = 0
    reason: str = ""
    """`lease-over` where the number is not lent any more; `way-lost` where nothing leads to the phone."""
    is_psap: bool = False
    """True where it is marked `Priority: psap-callback` (RFC 7090)."""
    is_test: bool = False
    who: str = ""
    """The phone that is called back, as people know it."""
    site: str = ""
    contacts: tuple[str, ...] = ()
    """Names of the contacts to be told; of `received` alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRaised:
    """Something that people must see to before the next 911 call; `id` is that of the call that showed it."""

    type: str = "alarm"
    id: str
    at: float
    node: str
    reason: str
    """`elin-pool-low`, `elin-pool-empty`, `elin-shared`."""
    subject: str
    """What it is about: the pool."""
    free: int = 0
    total: int = 0
    site: str = ""
    contacts: tuple[str, ...] = ()


JournalEvent = (
    CallIntent
    | CallLocating
    | RouteEvent
    | CallEnded
    | CallFinished
    | CallRefused
    | DialogFormed
    | CallbackEvent
    | AlarmRaised
)
