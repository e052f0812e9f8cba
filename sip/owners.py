"""Who is told of what happens to transactions."""

from typing import TYPE_CHECKING, Protocol

from sip.errors import RemoteError
from sip.flow import Flow
from sip.message import Request, Response

if TYPE_CHECKING:
    from sip.machines import ClientTransaction, ServerTransaction


class ClientOwner(Protocol):
    """Who sent a request, and hears what became of it."""

    def on_response(self, client: "ClientTransaction", response: Response, now: float) -> None:
        """A response that the transaction passes up (every 1xx and 2xx, the first other final)."""

    def on_timeout(self, client: "ClientTransaction", now: float) -> None:
        """Timer B or F: no answer."""

    def on_transport_error(self, client: "ClientTransaction", now: float) -> None:
        """The request could not be delivered. Of an INVITE in Proceeding: the connection by which it went has
        ended, or sending it again failed; answers may still come."""


class TimerOwner(Protocol):
    """Who set a timer of its own."""

    def on_timer(self, name: str, now: float) -> None:
        """The timer of this name fired."""


class TransactionUser(Protocol):
    """The core above the transaction layer (RFC 3261 section 5)."""

    def on_request(self, server: "ServerTransaction", request: Request, now: float) -> None:
        """A new request; for an INVITE, 100 Trying has gone already."""

    def on_ack(self, request: Request, flow: Flow, invite: "ServerTransaction | None", now: float) -> None:
        """An ACK that belongs to no failed INVITE: the one for a 2xx."""

    def on_cancel(self, invite: "ServerTransaction", request: Request, now: float) -> None:
        """A CANCEL for a transaction that has no final answer yet; the CANCEL is answered already."""

    def on_forked_success(self, response: Response, flow: Flow, now: float) -> None:
        """A second 2xx of one forwarded INVITE, with another To tag; it is forwarded already. flow: of the INVITE."""

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response that fits no transaction of ours."""

    def on_stray_cancel(self, request: Request, flow: Flow, now: float) -> "ServerTransaction | None":
        """A CANCEL of an INVITE that is not known; the TU may know better, and say which, or adopt it. flow: where
        answers go."""

    def refuses(self, request: Request, flow: Flow) -> RemoteError | None:
        """Asked before a transaction is made: a reason to refuse the request, or None."""

    def on_malformed(self, request: Request, error: RemoteError, flow: Flow) -> None:
        """A request was refused without a transaction, and answered. request: as far as it could be read."""

    def forgives(self, request: Request, error: RemoteError, flow: Flow) -> bool:
        """True where a malformed request is to be served all the same (an emergency call)."""
