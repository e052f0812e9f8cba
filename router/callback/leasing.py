"""Leases at the time of a call: under which number a 911 caller is shown, and by which way they are called back.

`lend` decides and lends nothing: `explain` asks it too. What it decided becomes a lease with `Callbacks.give`, in the
same breath as the intent is journalled.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from config.schema import Config
from e911.elin import Lease, LeaseKind, Leases, Pool, Pools, WayBack, pool_name
from e911.locate import CallerIdentity, LocationDecision
from e911.numbers import CallKind, dialable, dialled
from router.network.sources import Side, Source
from sip.errors import RemoteError
from sip.flow import Flow
from sip.headers import parse_name_addr
from sip.message import Request
from sip.uri import parse_sip_uri, scheme_of

TEST_SECONDS = 600.0
"""So long a lease of a test call lasts: enough to have the callback tried, and not what 911 calls need."""
NUMBER_SOURCES = ("device", "caller")
"""Where a callback number comes from that is the phone's own."""
ELIN_SOURCE = "elin"
LONGEST_NAME = 200
"""Characters of what a phone calls itself that are remembered: it may write 60,000, and a hundred thousand leases are
kept."""
LONGEST_KEPT = 256
"""Bytes of a Request-URI whose number is kept; longer ones are read each time."""


class Lending(NamedTuple):
    """What `lend` needs to know beside the decision."""

    leases: Leases
    at: float
    """Now, seconds since 1970."""
    node: str
    prefers: Callable[[str], bool] = lambda _: False
    """Which ELINs this node takes first, of several nodes."""
    on_fault: Callable[[str], None] = lambda _: None
    """Told of a fault of ours that was caught."""


def prefers_of(pools: Pools, nodes: Sequence[str], node: str) -> Callable[[str], bool]:
    """Nodes that share a pool begin at different places of it, so that two do not lend the same ELIN before they hear
    of each other (docs/decisions/0048-elins-of-several-nodes.md)."""
    if len(nodes) < 2 or node not in nodes:
        return lambda _: True
    own, count = nodes.index(node), len(nodes)
    positions = {number: position for pool in pools.all for position, number in enumerate(pool.numbers)}

    def prefers(number: str) -> bool:
        position = positions.get(number)
        return position is None or position % count == own

    return prefers


def pools_of(config: Config) -> Pools:
    """The ELINs of a configuration; those that nobody could call back are left out, a duplicate stays where it is
    first (`check` warns of both)."""
    taken: set[str] = {*config.emergency.numbers, *config.emergency.test_numbers}
    pools = []
    for site in config.sites:
        for zone, written in (("", site.elins), *((zone.id, zone.elins) for zone in site.zones)):
            numbers = []
            for text in written:
                number = dialable(text)
                if number and number not in taken and text not in taken:
                    taken.add(number)
                    numbers.append(number)
            pools.append(Pool(name=pool_name(site.id, zone), site=site.id, zone=zone, numbers=tuple(numbers)))
    of_all = [number_in(text) for site in config.sites for text in (site.callback, site.desk) if text]
    return Pools(pools, filter(None, of_all))


def number_in(text: str) -> str:
    """The number that a number or URI of the configuration is, +E.164; empty where it is none."""
    return number_of(text.encode("latin-1", "replace")) if ":" in text else dialable(text)


def lend(
    lending: Lending,
    config: Config,
    request: Request,
    source: Source,
    source_address: str,
    identity: CallerIdentity,
    decision: LocationDecision,
    kind: CallKind,
    call: str,
) -> Lease | None:
    """The lease that a call gets, its way back still empty; None where a callback is an ordinary call.

    Where an ELIN is lent it becomes the decision's callback number. A number that only a phone itself says is its own
    is shown, and not lent: whoever writes another's number into From must not get that person's calls.
    """
    now = lending.at
    site = decision.site.id if decision.site else ""
    zone = decision.zone.id if decision.zone else ""
    device = decision.device
    if device is not None and device.elin_zone and device.site == site:
        zone = device.elin_zone
    caller = caller_key(request, source_address, identity, decision)
    is_own = bool(decision.callback) and decision.callback_source in NUMBER_SOURCES
    is_believed = answers_for_phones(source)
    if not is_believed:
        known = lending.leases.of(decision.callback, caller) if is_own else lending.leases.elin_of(caller)
        if known is not None and known.is_vouched and known.is_live(now):
            # A PBX said that this caller was there: who says so from elsewhere gets no calls back to that phone.
            caller = f"{caller} {source_address}"
    is_test = kind is not CallKind.EMERGENCY
    seconds = config.emergency.callback_window
    if is_test:
        seconds = min(seconds, TEST_SECONDS)
    if is_own:
        if is_test or decision.callback in lending.leases.pools.of_all:
            return None  # everybody's number, not that phone's: a call to it is an ordinary one
        if not is_vouched(request, source, identity, decision):
            return None
        number, pool, reason, since = decision.callback, "", "", now
        lease_kind = LeaseKind.OWN
    else:
        choice = lending.leases.choose(site, zone, caller, now, is_test=is_test, prefers=lending.prefers)
        if choice is None:
            return None
        number, pool, reason, since = choice
        decision.callback, decision.callback_source = number, ELIN_SOURCE
        lease_kind = LeaseKind.ELIN
    until = now + seconds
    before = lending.leases.of(number, caller)
    if before is not None and before.is_live(now):
        since, until = before.since, max(until, before.until)
        is_test = is_test and before.is_test
    device = decision.device
    return Lease(
        number=number,
        caller=caller,
        call=call,
        kind=lease_kind,
        pool=pool,
        who=(device.name or device.device) if device else identity.user[:LONGEST_NAME],
        site=site,
        zone=zone,
        node=lending.node,
        since=since,
        until=until,
        is_test=is_test,
        is_vouched=is_believed,
        reason=reason,
        contacts=decision.contacts,
    )


def answers_for_phones(source: Source) -> bool:
    """True for a PBX (an inside trunk), and for a source whose identities are believed."""
    return source.trust_identity or (source.is_trunk_address and source.side is Side.INSIDE)


def is_vouched(request: Request, source: Source, identity: CallerIdentity, decision: LocationDecision) -> bool:
    """True where more than the phone itself says that the callback number is its own: it is the registered device's,
    or a PBX or a source whose identities are believed says so, and says so for this phone alone."""
    if source.side is Side.UNLISTED:
        return False
    device = decision.device
    if device is not None:
        named = (device.number, device.device.partition("@")[0])
        if decision.callback_source == "device" or decision.callback in [dialable(text) for text in named if text]:
            return True
    if not answers_for_phones(source):
        return False
    if device is None and identity.source == "p-asserted-identity":
        # A PBX may assert one number for all: then who it was stands in From.
        user = user_in(_text(request, "from"))
        return not user or user.lower() == "anonymous" or dialable(user) == decision.callback
    return True


def caller_key(request: Request, source_address: str, identity: CallerIdentity, decision: LocationDecision) -> str:
    """What a caller is known again by: its registered device, else its user part and the address (its own or its
    PBX's) it calls from, else its Contact."""
    if decision.device is not None:
        return decision.device.device
    if identity.user and identity.user.lower() != "anonymous":
        return f"{identity.user[:LONGEST_NAME]}@{source_address}"
    contact = request.first("contact") or b""
    return f"{contact.partition(b';')[0].decode('latin-1')[:200]} {source_address}"


def way_back_of(request: Request, flow: Flow, trunk: str, user: str, process: int, at: float) -> WayBack:
    """By which way a call or registration came. user: what the caller is called at the PBX; one that no PBX can have
    is left out. at: now, seconds since 1970."""
    base = flow.point.base
    sender = _text(request, "from")
    return WayBack(
        trunk=trunk,
        user=user if len(user) <= LONGEST_NAME else "",
        aor=sender.rpartition(";tag=")[0] or sender,
        contact=_text(request, "contact"),
        transport=base.transport,
        host=flow.host,
        port=flow.port,
        point_host=base.host,
        point_port=base.port,
        process=process if flow.connection else 0,
        connection=flow.connection,
        noted_at=at,
    )


def _text(request: Request, key: str) -> str:
    return (request.first(key) or b"").decode("latin-1")[:1000]


def user_at_pbx(request: Request, identity: CallerIdentity, *, is_registered: bool) -> str:
    """What a caller is called at the PBX its call came from: the identity believed; but the extension in From where
    the PBX asserts a number that is no registered device's, for it may be one for all."""
    if identity.source == "p-asserted-identity" and not is_registered:
        user = user_in((request.first("from") or b"").decode("latin-1"))
        if user and user.lower() != "anonymous" and not dialable(user):
            return user
    return identity.user


def user_in(value: str) -> str:
    """The user part of a From, To or Contact value; empty where there is none, or it cannot be read."""
    try:
        uri = parse_name_addr(value.encode("latin-1")).uri
        if scheme_of(uri) == "tel":
            return uri[4:].partition(b";")[0].decode("latin-1")
        return parse_sip_uri(uri).user.decode("latin-1")
    except (RemoteError, UnicodeEncodeError):
        return ""


def address_of_record(value: str) -> str:
    """USER@HOST of a From or To value, host in lower case; empty where it cannot be read."""
    try:
        uri = parse_name_addr(value.encode("latin-1")).sip_uri()
    except (RemoteError, UnicodeEncodeError):
        return ""
    return f"{uri.user.decode('latin-1')}@{uri.host}" if uri.user else ""


def instance_of(contact: str) -> str:
    """The +sip.instance of a Contact value (RFC 5626), or empty."""
    try:
        parameters: Mapping[str, bytes] = parse_name_addr(contact.encode("latin-1")).parameters
    except (RemoteError, UnicodeEncodeError):
        return ""
    return parameters.get("+sip.instance", b"").decode("latin-1").strip('"<>')


def number_of(uri: bytes) -> str:
    """The number that a Request-URI (sip, sips, tel) is for, +E.164 whatever its spelling; empty where it is none."""
    return _kept_number_of(uri) if len(uri) <= LONGEST_KEPT else _number_of(uri)


def _number_of(uri: bytes) -> str:
    if scheme_of(uri) not in ("sip", "sips", "tel"):
        return ""
    user = dialled(uri.decode("latin-1"))
    number = dialable(user) or dialable("+" + user)
    if number:
        return number
    context = _CONTEXT.search(uri)
    return dialable(context[1].decode("ascii") + user) if context is not None else ""


_CONTEXT = re.compile(rb";phone-context=(\+[0-9().-]{1,20})(?=[;@?>]|$)", re.IGNORECASE)
"""What a local number is local to, where that is a prefix of numbers (RFC 3966 section 5.1.5)."""
_kept_number_of = lru_cache(maxsize=4096)(_number_of)
