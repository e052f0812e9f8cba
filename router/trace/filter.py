"""Which messages of a trace somebody wants to see.

A call is wanted as a whole: where one of its messages shows that it is (a number in the INVITE, a provider's
address on the second leg), the earlier ones that were held back come first, and all later ones follow. Calls are
told apart by their Call-ID, which a proxy leaves as it is. Methods are another matter: they pick messages, with
their answers.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from e911.numbers import CallKind, EmergencyNumbers, canonical_user, classify
from router.network.sources import parse_address
from router.trace.messages import Traced
from sip.errors import RemoteError
from sip.headers import parse_name_addr
from sip.message import Message, Request

_IDENTITIES = ("from", "to", "p-asserted-identity", "p-preferred-identity", "remote-party-id")
CALLS_WANTED = 50_000
CALLS_PENDING = 5_000
"""Calls not wanted so far whose messages are kept, in case they are after all."""
HELD_PER_CALL = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for; what is empty asks for nothing. All that is asked must be true of a call."""

    call_ids: Sequence[str] = ()
    numbers: Sequence[str] = ()
    """Any spelling; * stands for any digits."""
    networks: Sequence[IPv4Network | IPv6Network] = ()
    """Addresses of which one sends or receives a message of the call."""
    emergency_only: bool = False
    """Emergency and test calls."""
    methods: Sequence[str] = ()

    @property
    def is_about_calls(self) -> bool:
        """True where more than methods is asked for."""
        return bool(self.call_ids or self.numbers or self.networks or self.emergency_only)


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """`10.1.2.3` or `10.1.0.0/16`. Raises ValueError."""
    return ip_network(text.strip().strip("[]"), strict=False)


@dataclass(slots=True)
class _Pending:
    """A call that is not wanted so far."""

    met: set[str] = field(default_factory=set)
    held: list[Traced] = field(default_factory=list)


class TraceFilter:
    """Lets pass what is wanted. One per trace: it remembers the calls it has seen."""

    def __init__(self, wanted: Wanted, numbers: EmergencyNumbers) -> None:
        self._wanted = wanted
        self._numbers = numbers
        self._patterns = [_pattern(number) for number in wanted.numbers]
        self._asked = {
            name
            for name, asked in (
                ("call-id", wanted.call_ids),
                ("number", wanted.numbers),
                ("network", wanted.networks),
                ("emergency", wanted.emergency_only),
            )
            if asked
        }
        self._wanted_calls: OrderedDict[str, None] = OrderedDict()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()

    def feed(self, traced: Traced) -> Iterator[Traced]:
        """What is to be shown now that this message came: nothing, it, or it after earlier ones of its call."""
        if not self._asked:
            if self._has_method(traced):
                yield traced
            return
        call = traced.call_id
        if call in self._wanted_calls:
            self._wanted_calls.move_to_end(call)
            if self._has_method(traced):
                yield traced
            return
        pending = self._pending.pop(call, None) or _Pending()
        pending.met |= self._met(traced)
        if self._has_method(traced):
            pending.held.append(traced)
        if pending.met >= self._asked:
            if call:
                self._wanted_calls[call] = None
                _keep(self._wanted_calls, CALLS_WANTED)
            yield from pending.held
        elif call:
            del pending.held[HELD_PER_CALL:]
            self._pending[call] = pending
            _keep(self._pending, CALLS_PENDING)

    def _has_method(self, traced: Traced) -> bool:
        if not self._wanted.methods:
            return True
        message = traced.message
        return message is not None and message.method.decode("latin-1").upper() in self._wanted.methods

    def _met(self, traced: Traced) -> set[str]:
        """What of the things asked for this message shows to be true of its call."""
        wanted, met = self._wanted, set()
        message = traced.message
        if wanted.networks and self._is_in_networks(traced):
            met.add("network")
        if message is None:
            return met
        if traced.call_id in wanted.call_ids:
            met.add("call-id")
        if wanted.emergency_only and self._is_emergency(message):
            met.add("emergency")
        if self._patterns and any(fnmatchcase(user, form) for user in _users(message) for form in self._patterns):
            met.add("number")
        return met

    def _is_in_networks(self, traced: Traced) -> bool:
        for host, _ in (traced.source, traced.destination):
            address = parse_address(host)
            if address is not None and any(address in network for network in self._wanted.networks):
                return True
        return False

    def _is_emergency(self, message: Message) -> bool:
        """True where the Request-URI, or To, is an emergency or test number."""
        uris = [message.uri] if isinstance(message, Request) else []
        with suppress(RemoteError):
            uris.append(parse_name_addr(message.required("to")).uri)
        return any(classify(uri.decode("latin-1"), self._numbers) is not CallKind.ORDINARY for uri in uris)


def _keep(calls: OrderedDict[str, Any], most: int) -> None:
    if len(calls) > most:
        calls.popitem(last=False)


def _users(message: Message) -> Iterator[str]:
    """Every number that a message shows, in its canonical form."""
    if isinstance(message, Request):
        yield _user(message.uri)
    for name in _IDENTITIES:
        for value in message.values(name):
            try:
                yield _user(parse_name_addr(value).uri)
            except RemoteError:
                yield _user(value)


def _user(uri: bytes) -> str:
    text = uri.decode("latin-1").strip()
    scheme, colon, rest = text.partition(":")
    rest = rest if colon else scheme
    return canonical_user(rest.partition("@")[0] if "@" in rest else rest.partition(";")[0])


def _pattern(number: str) -> str:
    return number if "*" in number else canonical_user(number).replace("[", "[[]").replace("?", "[?]")
