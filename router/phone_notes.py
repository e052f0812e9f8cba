"""What the call process notes of phones: those it sees without a location, and those that moved to another network.

A note is one line in files of its own beside the journal (`STATE/phones`); the notices process reads them
(router.phone_keeper), stores what is new and asks users where they are. Here a request costs one look-up: each phone
is looked at once in some minutes, and what is remembered of phones has an end. Nothing here ever stops a request.
"""

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from e911.location import Device, DeviceKind, LocationSource
from e911.numbers import canonical_user
from router.decision import identify
from router.hardware import hardware_address
from router.phone_address import phone_address
from router.printable import printable
from router.segments import LineWriter
from router.sources import Source, parse_address
from sip.errors import Reason, RemoteError
from sip.flow import Flow
from sip.message import Request

if TYPE_CHECKING:
    from router.dispatch import CallRouter

AGAIN_AFTER: Final = 300.0
"""Seconds until the same phone is looked at again."""
MOST_PHONES: Final = 50_000
"""Phones remembered; beyond them all are forgotten, and noted again when they are seen."""
NOTES_A_SECOND: Final = 50
"""Lines written at most: a flood of invented phones must not fill the disk."""
DIRECTORY: Final = "phones"
_LONGEST: Final = 200
_MOVING: Final = frozenset({DeviceKind.SOFTPHONE, DeviceKind.NOMADIC})
_ALWAYS: Final = frozenset({"988"})
"""Never refused: the suicide and crisis lifeline."""


class PhoneNotes:
    """Notes phones, and says whether one must first say where it is. router: the transaction user."""

    def __init__(self, router: "CallRouter", directory: Path | None = None) -> None:
        """directory: the state directory; None keeps no notes."""
        self.router = router
        self._writer = LineWriter(directory / DIRECTORY) if directory is not None else None
        self._next: dict[tuple[str, bytes], float] = {}
        self._second = 0
        self._written = 0

    def note(self, request: Request, source: Source, flow: Flow, now: float) -> None:
        """A REGISTER, or a new INVITE of a phone: one look-up, unless it is its turn. Never raises."""
        address = request.first("to" if request.method == b"REGISTER" else "from") or b""
        key = (flow.host, address.partition(b">")[0])
        if now < self._next.get(key, 0.0) or self._writer is None:
            return
        if len(self._next) >= MOST_PHONES:
            self._next.clear()
        if len(key[1]) <= _LONGEST:
            self._next[key] = now + AGAIN_AFTER
        try:
            self._look(request, source, flow)
        except Exception:
            self.router.on_fault("noting a phone")

    def check_outbound(self, request: Request, source: Source, flow: Flow) -> None:
        """Raise RemoteError (403) for an ordinary outbound call of a phone that must first say where it is."""
        router = self.router
        if router.rules.config.locations.unconfirmed.outbound == "allow":
            return
        device = self._device(request, source)
        if device is None or not device.unconfirmed or device.kind not in _MOVING:
            return
        dialled = canonical_user(request.uri.decode("latin-1").partition(":")[2].partition("@")[0])
        if dialled in _ALWAYS or self._is_seen_at_a_site(self._address(request, source, flow)):
            return
        router.counts["calls_refused_location_unconfirmed"] += 1
        what = "say where this phone is first: open the link that was sent to it or by mail. 911 works"
        raise RemoteError(Reason.LOCATION_NEEDED, 403, what)

    def _look(self, request: Request, source: Source, flow: Flow) -> None:
        address = self._address(request, source, flow)
        device = self._device(request, source)
        if device is None or not (device.site or device.point or device.civic.has_street_address):
            if not self._is_seen_at_a_site(address):
                self._write("unlocated", request, source, flow, address, device)
        elif device.kind in _MOVING and request.method == b"REGISTER" and address:
            self._write("moving", request, source, flow, address, device)

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

    def _device(self, request: Request, source: Source) -> Device | None:
        devices = self.router.devices
        if devices.has_hardware and (mac := hardware_address(request)) and (here := devices.with_hardware(mac)):
            return here[0]
        user, host = _who(request, source)
        found = devices.match(user, host).devices
        return next((device for device in found if device.kind in _MOVING), found[0] if found else None)

    def _write(
        self, kind: str, request: Request, source: Source, flow: Flow, address: str, device: Device | None
    ) -> None:
        assert self._writer is not None
        at = self.router.clock()
        if int(at) != self._second:
            self._second, self._written = int(at), 0
        if self._written >= NOTES_A_SECOND:
            self.router.counts["phone_notes_left_out"] += 1
            return
        self._written += 1
        user, host = _who(request, source)
        values: Mapping[str, Any] = {
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
        if user and user.lower() != "anonymous":
            self._writer.append_line(orjson.dumps(values, default=str) + b"\n")


def _who(request: Request, source: Source) -> tuple[str, str]:
    """User part and host of whom a request is of: of a REGISTER the address that is registered."""
    if request.method == b"REGISTER":
        address = (request.first("to") or b"").decode("utf-8", "replace")
        uri = address.partition("<")[2].partition(">")[0] if "<" in address else address.partition(";")[0]
        user, at, host = uri.strip().partition(":")[2].rpartition("@")
        if at:
            return printable(user)[:_LONGEST], printable(host.partition(";")[0])[:_LONGEST]
        return "", ""
    identity, _ = identify(request, source)
    return printable(identity.user)[:_LONGEST], printable(identity.host)[:_LONGEST]


def _text(value: bytes | None) -> str:
    return printable((value or b"").decode("utf-8", "replace"))[:_LONGEST]


def network_name(address: str) -> str:
    """The network that counts as one place: an IPv4 /24, an IPv6 /56 (what a home is given); empty for no address."""
    found = parse_address(address) if address else None
    if found is None:
        return ""
    return str(ip_network(f"{found}/{24 if found.version == 4 else 56}", strict=False))
