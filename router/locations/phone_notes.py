"""What the call process notes of phones: those it sees without a location, and those that moved to another network.

A note is one line in files of its own beside the journal (`STATE/phones`); the notices process reads them
(router.locations.phone_keeper), stores what is new and asks users where they are. Here a request costs one look-up:
each phone is looked at once in some minutes, and what is remembered of phones has an end. Nothing here ever stops a
request.
"""

import re
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from e911.devices import DeviceMatch, names_of
from e911.location import Device, DeviceKind, LocationSource
from e911.numbers import canonical_user, dialled
from router.dialogs.bindings import is_bound
from router.dialogs.path import Paths
from router.emergency.caller_identity import identify
from router.journal.queued_lines import QueuedLines
from router.locating.hardware import hardware_address
from router.locating.phone_address import phone_address
from router.network.sources import Side, Source, parse_address
from router.process.printable import printable
from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.headers import parse_name_addr
from sip.message import Request, Response
from sip.uri import bracketed, parse_sip_uri

if TYPE_CHECKING:
    from router.calls.dispatch import CallRouter

AGAIN_AFTER: Final = 300.0
"""Seconds until the same phone is looked at again."""
MOVED_AFTER: Final = 60.0
"""Seconds between two notes of a phone on one network where it was on another between: one user may have two phones.
Where it still is there then, it is noted: it may not register again for an hour."""
MOST_PHONES: Final = 50_000
"""Phones remembered; beyond them all are forgotten, and noted again when they are seen."""
MOST_HELD: Final = 10_000
"""Notes that wait, each with its REGISTER; beyond them a phone is noted when it registers again."""
NOTES_A_SECOND: Final = 50
"""Lines written at most: a flood of invented phones must not fill the disk."""
DIRECTORY: Final = "phones"
_LONGEST: Final = 200
_MOVING: Final = frozenset({DeviceKind.SOFTPHONE, DeviceKind.NOMADIC})
_ALWAYS: Final = re.compile(r"\d{0,2}(?:988|911|933|112)|\d{0,3}8002738255")
"""Never refused, also behind the digits for an outside line: the suicide and crisis lifeline by both of its numbers,
and what may be meant for 911 though it is none of `emergency.numbers`."""


class PhoneNotes:
    """Notes phones, and says whether one must first say where it is. router: the transaction user."""

    def __init__(self, router: "CallRouter", directory: Path | None = None) -> None:
        """directory: the state directory; None keeps no notes."""
        self.router = router
        self._writer = QueuedLines(directory / DIRECTORY) if directory is not None else None
        self._next: dict[tuple[str, bytes], float] = {}
        self._registered: dict[tuple[bytes, bytes], tuple[str, float]] = {}
        """By address of record and network, and for the record alone: the network noted, and when."""
        self._held: dict[bytes, tuple[float, str, Callable[[], bool]]] = {}
        """By address of record: when it is noted on which network, unless it is seen on another before."""
        self._lost = (0, 0)
        self._second = 0
        self._written = 0

    def note(self, request: Request, source: Source, flow: Flow, now: float) -> None:
        """A REGISTER, or a new INVITE of a phone: one look-up, unless it is its turn. Never raises."""
        if self._writer is None or not _is_turn(self._next, request, flow, now):
            return
        try:
            self._look(request, source, flow)
        except Exception:
            self.router.on_fault("noting a phone")

    def note_registered(self, request: Request, response: Response, flow: Flow, registrar: Flow, now: float) -> None:
        """A registration has its 2xx: a phone that moves about is noted as on the network of `flow`. Never raises.

        Only now, and only where it is a trunk that answered: anybody can send a REGISTER in another's name, and who
        is taken for that phone is sent the link that changes where its 911 calls send help.
        """
        if self._writer is None or not self.router.devices:
            return
        try:
            self._look_registered(request, response, flow, registrar, now)
        except Exception:
            self.router.on_fault("noting where a phone registered")

    def look(self, now: float) -> None:
        """Note who is where still, and count what the writing thread could not write, or deleted unread. Once in a
        second."""
        for record in [record for record, (due, _, _) in self._held.items() if due <= now]:
            _, network, write = self._held[record]
            if not write():
                break
            del self._held[record]
            self._remember(record, network, now)
        self._count_lost()

    def _count_lost(self) -> None:
        writer = self._writer
        if writer is None or (writer.not_written, writer.outgrown) == self._lost:
            return
        not_written, outgrown = self._lost
        self._lost = writer.not_written, writer.outgrown
        self.router.counts["phone_notes_not_written"] += self._lost[0] - not_written
        self.router.counts["phone_notes_outgrown"] += self._lost[1] - outgrown

    def settle(self, timeout: float) -> bool:
        """Wait until the notes are written, `timeout` seconds at the most; True where they are."""
        return self._writer is None or self._writer.settle(timeout)

    def check_outbound(self, request: Request, source: Source, flow: Flow) -> None:
        """Raise RemoteError (403) for an ordinary outbound call of a phone that must first say where it is."""
        router = self.router
        if router.rules.config.locations.unconfirmed.outbound == "allow":
            return
        found = self._possible(request, source)
        if not found or not all(device.unconfirmed and device.kind in _MOVING for device in found):
            return
        if _ALWAYS.fullmatch(dialled(request.uri.decode("latin-1"))):
            return
        if self._is_seen_at_a_site(self._address(request, source, flow)):
            return
        router.counts["calls_refused_location_unconfirmed"] += 1
        what = "say where this phone is first: open the link that was sent to it or by mail. 911 works"
        raise RemoteError(Reason.LOCATION_NEEDED, 403, what)

    def _look(self, request: Request, source: Source, flow: Flow) -> None:
        device = self._device(request, source)
        if device is not None and (device.site or device.point or device.civic.has_street_address):
            return
        address = self._address(request, source, flow)
        if not self._is_seen_at_a_site(address):
            self._write("unlocated", request, source, flow, address, device)

    def _look_registered(self, request: Request, response: Response, flow: Flow, registrar: Flow, now: float) -> None:
        router = self.router
        source = router.sources.classify(flow.host, flow.port)
        if source.side is not Side.INSIDE or router.sources.trunk_at(registrar.host, registrar.port) is None:
            return
        # By what the registrar checked, the address of record: a hardware address may be written by anybody.
        found = self._fitting(request, source).devices
        device = next((device for device in found if device.kind in _MOVING), None)
        if device is None or not (device.site or device.point or device.civic.has_street_address):
            return
        address = self._address(request, source, flow)
        if not address or not is_bound(request, response, address):
            return
        record, network = _address_of(request), network_name(address)
        write = partial(self._write, "moving", request, source, flow, address, device)
        self._held.pop(record, None)
        last, at = self._seen(record, network)
        due = at + (AGAIN_AFTER if network == last else MOVED_AFTER)
        if due <= now and write():
            self._remember(record, network, now)
        elif (due <= now or network != last) and len(self._held) < MOST_HELD:
            self._held[record] = due, network, write

    def _seen(self, record: bytes, network: str) -> tuple[str, float]:
        """The network that a phone was noted on last, and when it was noted on this one."""
        last = self._registered.get((record, b""), (network, 0.0))[0]
        return last, self._registered.get((record, network.encode()), (network, -AGAIN_AFTER))[1]

    def _remember(self, record: bytes, network: str, now: float) -> None:
        if len(self._registered) >= MOST_PHONES:
            self._registered.clear()
        if len(record) <= _LONGEST:
            self._registered[record, network.encode()] = self._registered[record, b""] = network, now

    def _address(self, request: Request, source: Source, flow: Flow) -> str:
        """The phone's own address; empty where a PBX in between hides it."""
        router = self.router
        if not source.is_trunk_address:
            return flow.host
        trunk = router.sources.trunk_at(flow.host, flow.port)
        return phone_address(request, trunk.location_from, flow.host).address if trunk is not None else ""

    def _is_seen_at_a_site(self, address: str) -> bool:
        router = self.router
        if not address or LocationSource.NETWORK not in router.rules.sources:
            return False
        place = router.rules.places.source(address).place
        return place is not None and place.network_location is not None

    def _possible(self, request: Request, source: Source) -> tuple[Device, ...]:
        """Every device a call may be of: of an address of record none that is of other hosts alone."""
        devices = self.router.devices
        if devices.has_hardware and (mac := hardware_address(request)) and (here := devices.with_hardware(mac)):
            return here
        match = self._fitting(request, source)
        if not match.exact:
            return match.devices
        user, _ = _who(request, source)
        plain = canonical_user(user), ""
        found = devices.match(user, "").devices
        return tuple(one for one in found if one in match.devices or plain in _names_of(one))

    def _device(self, request: Request, source: Source) -> Device | None:
        devices = self.router.devices
        if devices.has_hardware and (mac := hardware_address(request)) and (here := devices.with_hardware(mac)):
            return here[0]
        found = self._fitting(request, source).devices
        return next((device for device in found if device.kind in _MOVING), found[0] if found else None)

    def _fitting(self, request: Request, source: Source) -> DeviceMatch:
        user, host = _who(request, source)
        is_own = self.router.rules.is_own_domain(host, source)
        return self.router.devices.match(user, host, is_own_domain=is_own)

    def _write(
        self, kind: str, request: Request, source: Source, flow: Flow, address: str, device: Device | None
    ) -> bool:
        """False where it was left out, because too many were written in this second."""
        assert self._writer is not None
        at = self.router.clock()
        if int(at) != self._second:
            self._second, self._written = int(at), 0
        if self._written >= NOTES_A_SECOND:
            self.router.counts["phone_notes_left_out"] += 1
            return False
        self._written += 1
        user, host = _who(request, source)
        values: dict[str, Any] = {
            "kind": kind,
            "at": at,
            "phone": f"{canonical_user(user)}@{host.lower()}" if host else canonical_user(user),
            "device": device.device if device is not None else "",
            "method": request.method.decode("ascii", "replace")[:20],
            "address": f"{flow.host}:{flow.port}",
            "transport": flow.point.transport,
            "network": network_name(address) or f"behind {flow.host}",
            "user_agent": _text(request.first("user-agent")),
            "is_direct": not source.is_trunk_address,
            "node": self.router.node,
        }
        if kind == "moving" and not source.is_trunk_address:
            values |= way_to_phone(self.router.paths, request, flow)
        is_named = user and user.lower() != "anonymous"
        if is_named and not self._writer.put(orjson.dumps(values, default=str) + b"\n"):
            self.router.counts["phone_notes_not_queued"] += 1
        return True


def _names_of(device: Device) -> list[tuple[str, str]]:
    """(user part, host or empty) of each name that a device is found by."""
    return names_of(device.device, device.aor, device.number, device.username)


def _who(request: Request, source: Source) -> tuple[str, str]:
    """User part and host of whom a request is of: of a REGISTER the address that is registered."""
    if request.method == b"REGISTER":
        try:
            uri = parse_sip_uri(parse_name_addr(request.first("to") or b"").uri)
        except RemoteError:
            return "", ""
        return printable(uri.user.decode("utf-8", "replace"))[:_LONGEST], printable(uri.host)[:_LONGEST]
    identity, _ = identify(request, source)
    return printable(identity.user)[:_LONGEST], printable(identity.host)[:_LONGEST]


def way_to_phone(paths: Paths, request: Request, flow: Flow) -> dict[str, str]:
    """How a process beside ours sends to the phone that a REGISTER is of: through us, as its registrar does, by the
    flow that the phone keeps open, for a NAT lets nobody else in. Contact, Route, and where we listen; empty where we
    have no point for that, or the Contact is no SIP URI."""
    point = next((point for name in ("udp", "tcp") for point in paths.points.points if point.transport == name), None)
    try:
        uri = parse_name_addr(next(iter(request.values("contact")), b"")).uri
        parse_sip_uri(uri)
    except RemoteError:
        return {}
    if point is None:
        return {}
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(point.host, point.host)
    proxy = f"{bracketed(host)}:{point.port};transport={point.transport}"
    route = f"<sip:{paths.tokens.make(flow).decode()}@{proxy};lr>"
    return {"contact": uri.decode("utf-8", "replace"), "route": route, "proxy": proxy}


def _is_turn(turns: dict[tuple[str, bytes], float], request: Request, flow: Flow, now: float) -> bool:
    """True where the phone of a request was not looked at in the last AGAIN_AFTER seconds; it is now."""
    key = (flow.host, _address_of(request))
    if now < turns.get(key, 0.0):
        return False
    if len(turns) >= MOST_PHONES:
        turns.clear()
    if len(key[1]) <= _LONGEST:
        turns[key] = now + AGAIN_AFTER
    return True


def _address_of(request: Request) -> bytes:
    """Whose request it is, as it is written: To of a REGISTER, else From, without its parameters."""
    address = request.first("to" if request.method == b"REGISTER" else "from") or b""
    return address.partition(b";")[0] if b"<" not in address else address.rpartition(b">")[0]


def _text(value: bytes | None) -> str:
    return printable((value or b"").decode("utf-8", "replace"))[:_LONGEST]


def network_name(address: str) -> str:
    """The network that counts as one place: an IPv4 /24, an IPv6 /56 (what a home is given); empty for no address."""
    found = parse_address(address) if address else None
    if found is None:
        return ""
    return str(ip_network(f"{found}/{24 if found.version == 4 else 56}", strict=False))
