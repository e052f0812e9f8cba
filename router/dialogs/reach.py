"""Who may go where: neither an open relay nor a BYE that is lost (docs/decisions/0027-in-dialog-access.md)."""

from collections.abc import Callable

from router.network.next_hop import NextHops
from router.network.sources import Side, Source
from sip.errors import Reason, RemoteError
from sip.message import Request

# Members of an enumeration are looked up slowly (0.16 µs); these once.
_INSIDE = Side.INSIDE
_UNLISTED = Side.UNLISTED

HasToken = Callable[[Request, str], bool]
"""True where a request carries its dialog's token; the text, where given, is an address the call began from."""


def check_reach(
    source: Source, host: str, request: Request, uri: bytes, next_hops: NextHops, has_token: HasToken
) -> None:
    """Raises RemoteError NO_ROUTE (403) where a source may not send a request to a URI.

    Inside goes anywhere. Outside reaches inside addresses and trunks, and with the token of a dialog what that
    dialog names. Where no list has the source (host), the token opens inside, trunks and listed networks only:
    anything else would make whoever overheard one call a user of ours, unless that call began at this very address.
    """
    if source.side is _INSIDE or next_hops.outside_may_reach(uri):
        return
    if not has_token(request, ""):
        raise RemoteError(Reason.NO_ROUTE, 403, "from outside only inside addresses and trunks can be reached")
    if source.side is _UNLISTED and not (next_hops.is_listed(uri) or has_token(request, host)):
        raise RemoteError(Reason.NO_ROUTE, 403, "a source in no listed network reaches only what is listed")
