"""Sending users the link on which to say where their phone is: as a SIP MESSAGE to the phone, and by mail."""

import logging
from collections.abc import Callable
from urllib.parse import quote

from config.channel_urls import SipReceiver
from config.schema import Config
from router.locations.phone_keeper import Invitation, invitation_text
from router.notices.outbox import Attempt
from router.notices.receivers.job import Job
from router.notices.receivers.ways import Ways
from sip.errors import RemoteError
from sip.uri import parse_sip_uri

log = logging.getLogger("edge911.phones")


class Invitations:
    """Sends invitations, one at a time, by the ways that notices go. settings: the configuration in use."""

    def __init__(self, settings: Callable[[], Config]) -> None:
        self._settings = settings
        self._ways: Ways | None = None

    def send(self, invitation: Invitation) -> bool:
        """By every way there is; what failed is logged. True where any delivered it. Never raises."""
        is_delivered = False
        config = self._settings()
        subject, body = invitation_text(config, invitation)
        urls = urls_for(config, invitation)
        if not urls:
            self._say("location-link-not-sent", invitation, "", "no-way", "no address, no mail")
        for way, url in urls:
            try:
                if self._ways is None:
                    self._ways = Ways(config.node, lambda _token, _key: None)
                self._ways.prepare([url])
                job = Job(
                    token=("", invitation.device.device, way, 0),
                    url=url,
                    subject=subject,
                    body=body,
                    notify_type="info",
                    language=invitation.device.language or "en",
                )
                attempt = _sent(self._ways, job, through_us(invitation) if way == "message" else None)
            except Exception as error:
                self._say("location-link-not-sent", invitation, way, type(error).__name__, str(error))
                continue
            if attempt.delivered:
                is_delivered = True
                self._say("location-link-sent", invitation, way, "", "")
            else:
                self._say("location-link-not-sent", invitation, way, attempt.reason, attempt.words)
        return is_delivered

    def close(self) -> None:
        """End the ways."""
        if self._ways is not None:
            self._ways.close()

    def _say(self, event: str, invitation: Invitation, way: str, reason: str, words: str) -> None:
        fields = {"device": invitation.device.device, "way": way, "reason": reason, "detail": words}
        level = logging.INFO if event == "location-link-sent" else logging.WARNING
        log.log(level, event, extra={"event_fields": fields})


def _sent(ways: Ways, job: Job, receiver: SipReceiver | None) -> Attempt:
    """By the way through us where there is one, and past us where we did not let it through."""
    if receiver is not None:
        attempt = ways.open_phone(receiver).send(job)
        if attempt.delivered or attempt.reason == "timeout":
            return attempt
    return ways.open(job.url).send(job)


def through_us(invitation: Invitation) -> SipReceiver | None:
    """The phone as it is reached through the call process, by the flow it registered by; None where that is not
    known. Behind a NAT nothing else reaches it, and many phones listen to nobody but whom they registered with."""
    if not (invitation.contact and invitation.route and invitation.proxy):
        return None
    uri = invitation.contact.encode()
    try:
        return SipReceiver(
            uri=uri, parsed=parse_sip_uri(uri), is_call=False, route=invitation.route, proxy=invitation.proxy
        )
    except RemoteError:
        return None


def urls_for(config: Config, invitation: Invitation) -> list[tuple[str, str]]:
    """(way, URL) for each way to the user."""
    policy = config.locations.unconfirmed
    found = []
    if policy.message and invitation.address:
        user = invitation.device.device.partition("@")[0]
        transport = f";transport={invitation.transport}" if invitation.transport in ("tcp",) else ""
        found.append(("message", f"sip:{quote(user, safe='+')}@{invitation.address}{transport}"))
    if policy.mail and invitation.device.email:
        joint = "&" if "?" in policy.mail else "?"
        found.append(("mail", f"{policy.mail}{joint}to={quote(invitation.device.email)}"))
    return found
