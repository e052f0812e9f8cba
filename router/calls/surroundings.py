"""What a call needs of the process around it. CallRouter gives it; the calls know nothing else of CallRouter."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from e911.record import CallOutcome, JournalEvent
from router.dialogs.emergency_dialogs import EmergencyDialogs
from router.dialogs.path import Paths
from router.emergency.from_uri import FromRewriting
from router.emergency.identity import Trust
from router.emergency.rules import Rules
from router.network.sources import Sources
from router.network.trunks import Trunks
from router.references.issuing import References
from sip.flow import Flow, ListeningPoint
from sip.message import Request, Response
from sip.stack import Stack

if TYPE_CHECKING:
    from router.callback.callbacks import Callbacks
    from router.locations.phone_notes import PhoneNotes


class Surroundings(Protocol):
    """The process as one call sees it. Times called `now` are the loop's, seconds; clock() is seconds since 1970."""

    @property
    def stack(self) -> Stack:
        """The transaction layer."""

    @property
    def key(self) -> bytes:
        """The node's key."""

    @property
    def node(self) -> str:
        """The node's name."""

    @property
    def rules(self) -> Rules:
        """The configuration's rules as of now."""

    @property
    def trunks(self) -> Trunks:
        """The configuration's trunks as of now."""

    @property
    def counts(self) -> Counter[str]:
        """Counters of events, by name."""

    @property
    def now(self) -> Callable[[], float]:
        """The loop's clock."""

    @property
    def clock(self) -> Callable[[], float]:
        """The wall clock."""

    @property
    def sources(self) -> Sources:
        """Who is who on the wire."""

    @property
    def dialogs(self) -> EmergencyDialogs:
        """The emergency dialogs that are followed."""

    @property
    def from_rewriting(self) -> FromRewriting:
        """The parameter that brings a rewritten From back."""

    @property
    def references(self) -> References:
        """References of ours to locations."""

    @property
    def callbacks(self) -> "Callbacks":
        """Leases of callback numbers, and calls to them."""

    @property
    def phones(self) -> "PhoneNotes":
        """What is noted of phones."""

    @property
    def paths(self) -> Paths:
        """The ways back to phones."""

    def registrar_mode(self, trunk: str, flow: Flow) -> str:
        """What the trunk (its name may be empty) at a place does about Path: `path`, `contact` or `none`."""

    def hold(self, flow: Flow, seconds: float) -> None:
        """A phone is reached by this connection: keep it for so long although nobody uses it."""

    def record_routes(
        self,
        out: ListeningPoint,
        arrived: Flow,
        request: Request,
        parameters: bytes = b"",
        *,
        keeps_uri: bool = True,
        out_flow: bytes = b"",
    ) -> Sequence[bytes]:
        """Our Record-Route lines for a request that arrived by a flow and leaves by a listening point."""

    def identity_trust(self, flow: Flow) -> Trust:
        """Whether the peer of this flow is in our trust domain (RFC 3325)."""

    def is_own_uri(self, uri: bytes) -> bool:
        """True where a URI names this router."""

    def flush(self) -> None:
        """Send what is ready: for what goes on after an answer of DNS, which no message and no timer brought."""

    def connect(self, flow: Flow, told: Callable[[str], None]) -> None:
        """Find out whether a connection can be had; told an empty string, or the name of what stopped it."""

    def distrust(self, flow: Flow) -> None:
        """Nothing came back over the connection to this address: use a new one next time."""

    def line_seconds(self, flow: Flow) -> float:
        """How much of the time to an answer the line to this address takes, as far as that is known."""

    def write(self, event: JournalEvent) -> None:
        """Append to the journal before anything more is sent."""

    def write_later(self, event: JournalEvent) -> None:
        """Append to the journal soon."""

    def watch_ack(self, response: Response, flow: Flow, uri: bytes, now: float, *, is_shared: bool) -> None:
        """See whether the caller acknowledges a second 2xx, which came from flow; end it otherwise.

        is_shared: it has the To tag of the first.
        """

    def set_up(self, key: tuple[bytes, bytes, int]) -> None:
        """The setting-up of the emergency call with this Call-ID, caller's tag and CSeq has ended."""

    def follow(
        self, call: str, invite: Request, response: Response, uri: bytes, source_address: str, answered_by: str
    ) -> None:
        """An emergency call was answered by this 2xx, for a request to uri: its dialog is followed from now on.
        answered_by: see DialogFormed."""

    def await_ack(self, call_id: bytes, to_tag: bytes) -> None:
        """An emergency call was answered: this process stays until its ACK has passed."""

    def first_seen(self, call: str) -> float:
        """When the call of this record id came in first, seconds since 1970: now, or before a restart."""

    def log_call_end(self, kind: str, call: str, outcome: CallOutcome, status: int, route: str) -> None:
        """One log line for how the setting-up of an emergency call ended."""

    def on_fault(self, doing: str) -> None:
        """A fault of edge911 itself was caught; the call goes on."""
