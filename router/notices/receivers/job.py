"""What a channel is given to send, and what it must be able to do."""

from dataclasses import dataclass
from typing import Any, Protocol

from router.notices.outbox import Attempt

FOLLOW_UPS = ("answered", "basic", "ended", "abandoned")
"""What is told of a call after its notice, on the same thread where the channel can."""
CALLBACK, ALARM = "callback", "alarm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One notice to be sent over one channel. `token` comes back with the report."""

    token: Any
    url: str
    subject: str
    body: str
    notify_type: str = "warning"
    """Apprise's: info, success, warning or failure."""
    is_retry: bool = False
    call: str = ""
    """Record id: what is sent about one call is one thread."""
    kind: str = "call"
    contact: str = ""
    site: str = ""
    language: str = "en"

    @property
    def is_follow_up(self) -> bool:
        """True where another notice went before it."""
        return base_kind(self.kind) in (*FOLLOW_UPS, CALLBACK)


class Way(Protocol):
    """One channel as one thread uses it."""

    def send(self, job: Job) -> Attempt:
        """Send it; takes as long as it takes."""

    def close(self) -> None:
        """Let go of connections."""


def base_kind(kind: str) -> str:
    """The kind of what was folded or passed on, or is one of several (`callback-2`, `alarm-…`)."""
    kind = kind.removeprefix("folded-")
    first = kind.partition("-")[0]
    return first if first in (CALLBACK, ALARM) else kind
