"""A notice of the outbox as a job of the channels, and what came of each channel last."""

import time

from config.schema import Config, Contact
from router.network.sources import parse_address
from router.notices.channel_identity import channel_id, url_of
from router.notices.channels import Job
from router.notices.confirmations import ChannelOutcome
from router.notices.contact_tests import KIND as TEST_KIND
from router.notices.outbox import Entry, NoticeState
from router.notices.receivers.job import base_kind

PROOF_SECONDS = 0.5
"""Between two writings of what came of channels."""
_NOTIFY_TYPES = {
    TEST_KIND: "info",
    "call": "warning",
    "test": "info",
    "failed": "failure",
    "refused": "warning",
    "escalated": "warning",
    "untold": "failure",
    "alarm": "failure",
    "answered": "info",
    "ended": "info",
}


def job_of(entry: Entry, contact: Contact) -> Job | None:
    """What a channel of the contact is to deliver; None where the contact has it no more."""
    url = url_of(entry.target, entry.channel, contact.send)
    if not url:
        return None
    return Job(
        token=entry.key,
        url=url,
        subject=entry.subject,
        body=entry.body,
        notify_type=_NOTIFY_TYPES.get(base_kind(entry.kind), "warning"),
        is_retry=entry.attempts > 0,
        call=entry.call,
        kind=entry.kind,
        contact=entry.contact,
        site=entry.site,
        language=contact.language,
    )


def is_inside(config: Config, host: str) -> bool:
    """Whether a host is an address of `networks.inside`; a name is none."""
    address = parse_address(host)
    return address is not None and any(address in network for network in config.networks.inside)


class Proofs:
    """What came of each channel last, for those who ask whether it works."""

    def __init__(self) -> None:
        self._of_channels: dict[tuple[str, str], ChannelOutcome] = {}
        self._next = 0.0

    def note(self, entry: Entry, contact: Contact | None, started_at: float) -> None:
        """An attempt was settled. contact: None where the configuration has it no more."""
        url = url_of(entry.target, entry.channel, contact.send) if contact is not None else ""
        if not url:
            return
        delivered = entry.state is NoticeState.DELIVERED
        key = (entry.contact, channel_id(url))
        known = self._of_channels.get(key)
        self._of_channels[key] = ChannelOutcome(
            contact=key[0],
            channel=key[1],
            at=started_at,
            is_delivered=delivered,
            proven_at=started_at if delivered else (known.proven_at if known else None),
            reason="" if delivered else entry.reason,
            words=entry.words,
            by="test" if entry.kind == TEST_KIND else "",
        )

    def due(self) -> dict[tuple[str, str], ChannelOutcome]:
        """Those to be stored now, none of them given again."""
        if not self._of_channels or time.monotonic() < self._next:
            return {}
        self._next = time.monotonic() + PROOF_SECONDS
        found, self._of_channels = self._of_channels, {}
        return found
