"""What a CallRouter is made of: one configuration, and the journal and sockets around it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from router.dialogs.token_keys import TokenKeys
from router.emergency.rules import Rules
from router.network.listening import ListeningPoints
from router.network.sources import Sources
from router.network.trunks import Trunks
from sip.flow import Flow

log = logging.getLogger(__name__)


class Journal(Protocol):
    """Where events of emergency calls are written."""

    def append_lines(self, lines: list[bytes]) -> bool:
        """Append events, each a line (router.journal.event_lines), with one write; False where any could not be
        written."""

    def note_not_encodable(self, error: Exception) -> None:
        """Count an event that could not be made a line, and is lost."""


class Edge(Protocol):
    """What the router needs of the sockets."""

    def flush(self) -> None:
        """Send what the stack has ready; needed where no message or timer of the edge's own is being treated."""

    def distrust(self, flow: Flow) -> None:
        """Use a new connection to this address next time."""

    def renew(self, flow: Flow) -> None:
        """The same, but use the old one until the new one stands."""

    def line_seconds(self, flow: Flow) -> float:
        """How much of the time to an answer the line takes, as far as that is known."""

    def connect(self, flow: Flow, told: Callable[[str], None]) -> None:
        """Find out whether a connection can be had; told an empty string, or the name of what stopped it."""

    def is_connected(self, connection: int) -> bool:
        """True while the connection of this number lives."""

    def shun(self, flow: Flow, seconds: float) -> None:
        """Drop what comes from this flow's address and port unread, for so long."""

    def hold(self, flow: Flow, seconds: float) -> None:
        """Keep a connection for so long although nobody uses it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything made from one configuration; swapped whole on reload."""

    rules: Rules
    sources: Sources
    trunks: Trunks
    points: ListeningPoints
    token_keys: TokenKeys | None = None
    """None: the one derived from the node's key."""
