"""Where a request goes next: Route processing of a proxy (RFC 3261 sections 16.4 and 16.6 step 6)."""

from collections.abc import Callable
from dataclasses import dataclass

from sip.errors import RemoteError
from sip.headers import parse_name_addr
from sip.message import Request
from sip.uri import SipUri, parse_sip_uri


@dataclass(slots=True)
class RouteDecision:
    """What Route processing found.

    uri: the Request-URI to forward with. routes: the Route values that stay, as written; None where nothing
    changes in them. own: our own Route URIs that were taken off, the topmost first (two where the request
    crosses transports). next_hop: the URI that says where to send, None where no Route is left.
    """

    uri: bytes
    routes: list[bytes] | None
    own: list[SipUri]
    next_hop: bytes | None


def process_routes(request: Request, is_own: Callable[[SipUri], bool]) -> RouteDecision:
    """Take our own values off the Route set, repair strict routing, and find the next hop.

    Raises RemoteError where a Route value cannot be read.
    """
    values = request.values("route") if "route" in request._first else []
    uri = request.uri
    if b"=" in uri and b"maddr=" in uri.lower():
        uri = _without_own_maddr(uri, is_own)
    if not values:
        return RouteDecision(uri, None, [], None)
    own: list[SipUri] = []
    first = _own_uri(uri, is_own) if b"lr" in uri.lower() else None
    if first is not None and "lr" in first.parameters:
        # 16.4: a strict router before us put our Record-Route URI into the Request-URI.
        uri = parse_name_addr(values.pop()).uri
        own.append(first)
    while values:
        ours = _own_uri(parse_name_addr(values[0]).uri, is_own)
        if ours is None:
            break
        own.append(ours)
        del values[0]
    if not values:
        return RouteDecision(uri, [], own, None)
    top = parse_name_addr(values[0]).uri
    if "lr" not in parse_sip_uri(top).parameters:
        # 16.6 step 6: the next hop is a strict router.
        values = [*values[1:], b"<" + uri + b">"]
        return RouteDecision(top, values, own, top)
    return RouteDecision(uri, values if own else None, own, top)


def _without_own_maddr(uri: bytes, is_own: Callable[[SipUri], bool]) -> bytes:
    """16.4, last paragraph: a maddr that names us goes, and port and transport with it; any other URI stays."""
    try:
        parsed = parse_sip_uri(uri)
    except RemoteError:
        return uri
    maddr = parsed.parameters.get("maddr", b"").decode("latin-1").strip("[]").lower()
    if not maddr or not is_own(parsed._replace(host=maddr)):
        return uri
    head, *parameters = uri[uri.rfind(b"@") + 1 :].split(b";")
    kept = [item for item in parameters if item.partition(b"=")[0].strip().lower() not in (b"maddr", b"transport")]
    host = head if parsed.port is None else head.rpartition(b":")[0]
    return uri[: uri.rfind(b"@") + 1] + b";".join([host, *kept])


def strictly_routed_uri(request: Request, is_own: Callable[[SipUri], bool]) -> bytes | None:
    """What a new request is really for where its Request-URI only names us: the last Route value, which a strict
    router or a phone that has us as one put there (16.4); else None."""
    here = _own_uri(request.uri, is_own)
    if here is None or here.user:
        return None
    try:
        return parse_name_addr(request.values("route")[-1]).uri
    except (RemoteError, IndexError):
        return None


def _own_uri(uri: bytes, is_own: Callable[[SipUri], bool]) -> SipUri | None:
    try:
        parsed = parse_sip_uri(uri)
    except RemoteError:
        return None
    return parsed if is_own(parsed) else None
