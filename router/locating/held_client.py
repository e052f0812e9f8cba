"""Asking a location reference (RFC 6753): one HELD request over HTTP, with a deadline, and bounds on what is asked.

A caller chooses the URI, so this must not become a way to reach what the caller could not: see `may_ask` and
docs/decisions/0012-conveyed-location.md. Redirects are not followed, nothing of the answer is used but a location
document that can be read, and an answer may be 32 KiB long at the most.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

import h11
from lxml import etree

from e911.conveyed import ReferenceAnswer
from e911.held_server import HELD
from e911.location import IPNetwork
from e911.pidf_lo import PIDF
from e911.pidf_reader import UnreadableError, parse_document
from router.locating.held_exchange import LARGEST_ANSWER, Origin, TooLargeError, exchange, read_url
from router.network.sources import parse_address
from router.network.trust import verifying_context

__all__ = [
    "LARGEST_ANSWER",
    "HeldClient",
    "HostRules",
    "NoLocationError",
    "location_document",
    "may_ask",
    "read_reference",
]

log = logging.getLogger(__name__)

ASKING_LIMIT = 64
"""References that are asked at the same time; a flood of calls must not become a flood of connections."""
_REQUEST = (
    f'<?xml version="1.0" encoding="UTF-8"?><locationRequest xmlns="{HELD}" responseTime="emergencyDispatch">'
    '<locationType exact="false">civic geodetic</locationType></locationRequest>'
).encode()

Resolve = Callable[[str, Callable[[tuple[str, ...]], None]], None]
"""Asks for a host's addresses, and tells them to the second argument when they are known."""


class NoLocationError(Exception):
    """A reference gave no document; reason names why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HostRules:
    """Which hosts may be asked. patterns: names, *.NAME and networks of `locations.reference_hosts`."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self.is_listed_only = bool(patterns)
        self._names: set[str] = set()
        self._suffixes: list[str] = []
        self._networks: list[IPNetwork] = []
        for pattern in patterns:
            try:
                self._networks.append(ip_network(pattern))
            except ValueError:
                name = pattern.lower().rstrip(".")
                if name.startswith("*."):
                    self._suffixes.append(name[1:])
                else:
                    self._names.add(name)

    def lists_name(self, host: str) -> bool:
        """True where the host's name is listed."""
        name = host.lower().rstrip(".")
        return name in self._names or any(name.endswith(suffix) for suffix in self._suffixes)

    def lists_address(self, address: IPv4Address | IPv6Address) -> bool:
        """True where the address lies in a listed network."""
        return any(address.version == network.version and address in network for network in self._networks)


def may_ask(
    rules: HostRules, host: str, address: IPv4Address | IPv6Address, caller: IPv4Address | IPv6Address | None
) -> bool:
    """Whether this address may be asked for a caller: nothing that the caller could not reach without us.

    What is listed may be asked, and where something is listed nothing else. Without a list: no link-local, multicast
    or unspecified address (the metadata services of clouds are link-local), and none of this machine's own loopback,
    where the console and the metrics are, unless the call came from this machine.
    """
    if address.is_multicast or address.is_unspecified:
        return False
    if rules.is_listed_only:
        return rules.lists_name(host) or rules.lists_address(address)
    if address.is_link_local or address.is_reserved:
        return False
    return not address.is_loopback or (caller is not None and caller.is_loopback)


class HeldClient:
    """Asks references for calls. One per call process; `use` swaps what is configured.

    counts: `references_asked`, and by what came of it.
    """

    def __init__(self, resolve: Resolve, own_addresses: Sequence[str]) -> None:
        self.resolve = resolve
        self.counts: Counter[str] = Counter()
        self._own = frozenset(filter(None, map(parse_address, own_addresses)))
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        self.use(HostRules(), 0.3)

    def use(self, rules: HostRules, seconds: float) -> None:
        """Take what is configured: which hosts, and how long one may take to answer."""
        self.rules = rules
        self.seconds = seconds

    def __call__(self, uri: str, caller_address: str, told: Callable[[ReferenceAnswer], None]) -> None:
        """Ask; told is called once, later, in the loop."""
        self.counts["references_asked"] += 1
        if len(self._tasks) >= ASKING_LIMIT:
            self.counts["reference-busy"] += 1
            told(ReferenceAnswer(reason="reference-busy"))
            return
        task = asyncio.get_running_loop().create_task(self._ask(uri, caller_address, told))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Let go of what is being asked."""
        for task in self._tasks:
            task.cancel()

    async def _ask(self, uri: str, caller_address: str, told: Callable[[ReferenceAnswer], None]) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                answer = ReferenceAnswer(document=await self._fetch(read_reference(uri), caller_address))
        except TimeoutError:
            answer = ReferenceAnswer(reason="reference-late")
        except NoLocationError as error:
            answer = ReferenceAnswer(reason=error.reason)
        except (OSError, ssl.SSLError, EOFError, h11.ProtocolError) as error:
            log.debug("a location reference was not reached: %s", type(error).__name__)
            answer = ReferenceAnswer(reason="reference-unreachable")
        except Exception:
            log.exception("fault in edge911 itself, while a location reference was asked; the call goes on")
            answer = ReferenceAnswer(reason="reference-unreachable")
        self.counts[answer.reason or "references_answered"] += 1
        try:
            told(answer)
        except Exception:
            log.exception("fault in edge911 itself, after a location reference was asked")

    async def _fetch(self, origin: Origin, caller_address: str) -> bytes:
        address = await self._address(origin, parse_address(caller_address))
        status, body = await self._exchange(origin, address, b"POST")
        if status in (400, 404, 405, 406, 415, 501):
            # RFC 6753 section 4: a server may know the plain GET only.
            status, body = await self._exchange(origin, address, b"GET")
        if status != 200:
            raise NoLocationError("reference-refused")  # a redirect, too
        return location_document(body)

    async def _address(self, origin: Origin, caller: IPv4Address | IPv6Address | None) -> str:
        found: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()

        def known(addresses: tuple[str, ...]) -> None:
            if not found.done():
                found.set_result(addresses)

        self.resolve(origin.host, known)
        addresses = await found
        if not addresses:
            raise NoLocationError("reference-unreachable")
        for text in addresses:
            address = parse_address(text)
            if address is None or not may_ask(self.rules, origin.host, address, caller):
                continue
            if address in self._own and address != caller and not self.rules.is_listed_only:
                continue  # our own services are nobody's location server
            return text
        raise NoLocationError("reference-not-allowed")

    async def _exchange(self, origin: Origin, address: str, method: bytes) -> tuple[int, bytes]:
        """One request over a connection of its own: status and body."""
        context = await self._context() if origin.is_secure else None
        try:
            body = _REQUEST if method == b"POST" else b""
            return await exchange(origin, address, body, context=context, method=method)
        except TooLargeError:
            raise NoLocationError("location-too-large") from None

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(verifying_context)
        return self._tls


def read_reference(uri: str) -> Origin:
    """Where a reference points. Raises NoLocationError: `reference-scheme`, or `reference-not-allowed` where it is no
    plain http(s) URL (with a password in it, for instance)."""
    try:
        return read_url(uri)
    except ValueError:
        is_web = uri.partition(":")[0].lower() in ("http", "https")
        raise NoLocationError("reference-not-allowed" if is_web else "reference-scheme") from None


def location_document(body: bytes) -> bytes:
    """The PIDF-LO in an answer: the answer itself, or the presence element within a HELD locationResponse.

    Raises NoLocationError: `reference-refused` for a HELD error, else the reason why it cannot be read.
    """
    try:
        root = parse_document(body)
    except UnreadableError as error:
        raise NoLocationError(error.reason) from None
    if root.tag == f"{{{PIDF}}}presence":
        return body.strip()
    presence = next(root.iter(f"{{{PIDF}}}presence"), None)
    if presence is None:
        raise NoLocationError("reference-refused")
    presence.tail = None
    return etree.tostring(presence, xml_declaration=True, encoding="UTF-8")
