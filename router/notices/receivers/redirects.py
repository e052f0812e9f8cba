"""A phone that sends elsewhere (3xx): a desk that is forwarded for the night. Pure; docs/decisions/0063."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace

from config.channel_urls import EMERGENCY, SipReceiver
from e911.numbers import CallKind, classify, dialled, near_miss
from sip.errors import RemoteError
from sip.headers import parse_name_addr, split_values
from sip.message import Response
from sip.uri import parse_sip_uri

REDIRECTS = frozenset({300, 301, 302})
MOST = 5
"""So often a notice is sent on."""


def redirected(
    response: Response, receiver: SipReceiver, tried: Collection[bytes], is_inside: Callable[[str], bool]
) -> SipReceiver | None:
    """Where a receiver says that it is to be found, its first Contact that may be asked; None where there is none.

    A notice says who called and from where, so it follows only where it stays among ours: through the proxy of the
    channel, to the host that was asked, or to an address of `networks.inside`. Never from TLS to anything else, and
    never to 911: a machine that calls a PSAP takes a line from somebody in need.
    """
    if response.status not in REDIRECTS or len(tried) > MOST or receiver.route:
        return None
    for value in (one for field in response.all("contact") for one in split_values(field)):
        with suppress(RemoteError):
            uri = parse_name_addr(value).uri
            parsed = parse_sip_uri(uri)
            is_there = bool(receiver.proxy) or parsed.host.lower() == receiver.parsed.host.lower()
            if uri in tried or not parsed.user or parsed.transport not in ("udp", "tcp", "tls"):
                continue
            text = uri.decode("latin-1")
            if classify(text, EMERGENCY) is not CallKind.ORDINARY or near_miss(dialled(text), EMERGENCY):
                continue
            if not (is_there or is_inside(parsed.host)):
                continue
            if receiver.parsed.transport == "tls" != parsed.transport:
                continue
            if is_there:
                return replace(receiver, uri=uri, parsed=parsed)
            # A password is for whom it was given to.
            return replace(receiver, uri=uri, parsed=parsed, username="", password="")
    return None
