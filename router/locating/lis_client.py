"""Location servers (LIS) asked by HELD (RFC 5985): where is this device? Last answers are kept.

A call never waits longer than its server's `timeout`; the question goes on without it for a while, so that what a
slow server says is there for the next call. Phones that register are asked for ahead, few at a time. Nothing is
followed that an answer points to, and an answer that cannot be used is a reason.
"""

import asyncio
import logging
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import h11

from config.schema import Lis
from e911.held_request import HeldIdentity, HeldRefusedError, error_code, located_by_server, location_request
from e911.locate import HeldAnswer
from e911.location import DispatchableLocation
from e911.pidf_reader import UnreadableError
from router.locating.held_client import NoLocationError, location_document
from router.locating.held_exchange import Origin, TooLargeError, exchange, read_url
from router.network.sources import parse_address
from router.network.trust import verifying_context

log = logging.getLogger(__name__)

KEPT_LIMIT: Final = 50_000
"""Answers kept; the one not used for longest goes first."""
ASKING_LIMIT: Final = 64
"""Questions of calls at the same time."""
AHEAD_LIMIT: Final = 8
"""Questions of registrations at the same time."""
AHEAD_WAITING: Final = 20_000
"""Registrations whose question waits for its turn; more are not asked for."""
AHEAD_PER_SECOND: Final = 50.0
AHEAD_AFTER_FAILURE: Final = 1.0
"""Seconds until the next question of a registration, after one that was not answered."""
PATIENCE: Final = 3.0
"""Seconds after which a question is given up, though its call has gone on long before."""
CONTEXT_SECONDS: Final = 600.0
"""Certificates are read again so often."""

Told = Callable[[HeldAnswer], None]
Resolve = Callable[[str, Callable[[tuple[str, ...]], None]], None]
"""Asks for a host's addresses, and tells them to the second argument when they are known."""
Files = tuple[str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class LisServer:
    """A location server as configured; files are absolute."""

    config: Lis
    origin: Origin
    files: Files
    """CA, certificate and key."""

    @property
    def name(self) -> str:
        """For people."""
        return self.origin.host


@dataclass(slots=True)
class _Kept:
    location: DispatchableLocation
    at: float
    """When the server said so, seconds since 1970."""


_Key = tuple[str, HeldIdentity]


def lis_server(config: Lis, path_of: Callable[[str], str], ca: str | None) -> LisServer:
    """A server as configured; path_of: a file name of the configuration as an absolute one; ca: that of `tls`."""
    files = tuple(
        None if name is None else path_of(name)
        for name in (config.ca or ca, config.client_certificate, config.client_key)
    )
    return LisServer(config, read_url(config.url), (files[0], files[1], files[2]))


class LisClient:
    """Asks location servers. One per call process, in its loop.

    resolve: names to addresses. clock: seconds since 1970. is_inside: whether an address is one of ours; no other is
    asked without TLS. counts: `lis_asked`, `lis_answered`, and by what went wrong.
    """

    def __init__(
        self,
        resolve: Resolve,
        clock: Callable[[], float],
        is_inside: Callable[[IPv4Address | IPv6Address], bool],
        counts: Counter[str],
    ) -> None:
        self.resolve = resolve
        self.clock = clock
        self.is_inside = is_inside
        self.counts = counts
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._asking: dict[_Key, list[Told]] = {}
        self._calls = 0
        self._ahead: OrderedDict[_Key, LisServer] = OrderedDict()
        self._ahead_running = 0
        self._ahead_at = 0.0
        self._pump_is_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._contexts: dict[Files, tuple[float, ssl.SSLContext]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def known(self, server: LisServer, identity: HeldIdentity) -> HeldAnswer | None:
        """The last answer: `held-answered` where it is fresh, `held-kept` where it is older, or None."""
        key = (server.config.url, identity)
        kept = self._kept.get(key)
        if kept is None:
            return None
        age = self.clock() - kept.at
        if age > server.config.keep or age < -60.0:  # a clock that was put back
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        reason = "held-answered" if age <= server.config.fresh else "held-kept"
        return HeldAnswer(location=kept.location, reason=reason, detail=_detail(server, identity))

    def ask(self, server: LisServer, identity: HeldIdentity, told: Told) -> None:
        """Ask for a call. told is called once, at once or later, in the loop; how long to wait is the call's part."""
        key = (server.config.url, identity)
        if key not in self._asking and self._calls >= ASKING_LIMIT:
            self.counts["held-busy"] += 1
            told(self._without(server, identity, "held-busy"))
            return
        self._ask(server, identity, told)

    def ask_ahead(self, server: LisServer, identity: HeldIdentity) -> None:
        """Ask in good time, where what is known is not fresh any more. Never raises."""
        key = (server.config.url, identity)
        kept = self._kept.get(key)
        if key in self._asking or (kept is not None and self.clock() - kept.at < server.config.fresh / 2):
            return
        if len(self._ahead) >= AHEAD_WAITING:
            self.counts["lis_not_asked_ahead"] += 1
            return
        self._ahead[key] = server
        self._pump()

    def close(self) -> None:
        """Let go of what is being asked."""
        self._ahead.clear()
        for task in self._tasks:
            task.cancel()

    # ---- in good time ----

    def _pump(self) -> None:
        """Begin as many of the waiting questions as may be."""
        loop = asyncio.get_running_loop()
        while self._ahead and self._ahead_running < AHEAD_LIMIT:
            wait = self._ahead_at - loop.time()
            if wait > 0:
                if not self._pump_is_due:
                    self._pump_is_due = True
                    loop.call_later(wait, self._pump_again)
                return
            self._ahead_at = loop.time() + 1 / AHEAD_PER_SECOND
            (_, identity), server = self._ahead.popitem(last=False)
            self._ahead_running += 1
            self.counts["lis_asked_ahead"] += 1
            self._ask(server, identity, self._ahead_told)

    def _pump_again(self) -> None:
        self._pump_is_due = False
        self._pump()

    def _ahead_told(self, answer: HeldAnswer) -> None:
        self._ahead_running -= 1
        if answer.reason in ("held-late", "held-unreachable", "held-kept"):
            self._ahead_at = asyncio.get_running_loop().time() + AHEAD_AFTER_FAILURE
        self._pump()

    # ---- asking ----

    def _ask(self, server: LisServer, identity: HeldIdentity, told: Told) -> None:
        """One question for all who wait for the same answer."""
        key = (server.config.url, identity)
        waiting = self._asking.get(key)
        if waiting is not None:
            waiting.append(told)
            return
        self._asking[key] = [told]
        self._calls += 1
        self.counts["lis_asked"] += 1
        task = asyncio.get_running_loop().create_task(self._fetch_and_tell(server, identity))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch_and_tell(self, server: LisServer, identity: HeldIdentity) -> None:
        key = (server.config.url, identity)
        try:
            answer = await self._answer(server, identity)
        finally:
            self._calls -= 1
            waiting = self._asking.pop(key, [])
        for told in waiting:
            try:
                told(answer)
            except Exception:  # the others wait for the same answer
                log.exception("fault in edge911 itself, after a location server answered")

    async def _answer(self, server: LisServer, identity: HeldIdentity) -> HeldAnswer:
        try:
            async with asyncio.timeout(max(PATIENCE, server.config.timeout)):
                location = await self._fetch(server, identity)
        except TimeoutError:
            return self._failed(server, identity, "held-late")
        except HeldRefusedError as error:
            reason = "held-unknown" if error.code in ("locationUnknown", "notLocatable") else "held-error"
            return self._failed(server, identity, reason, error.code, is_lasting=error.is_lasting)
        except NoLocationError as error:
            return self._failed(server, identity, error.reason)
        except UnreadableError as error:
            return self._failed(server, identity, error.reason)
        except TooLargeError:
            return self._failed(server, identity, "location-too-large")
        except (OSError, ssl.SSLError, EOFError, h11.ProtocolError) as error:
            log.debug("location server %s was not reached: %s", server.name, type(error).__name__)
            return self._failed(server, identity, "held-unreachable")
        except Exception:
            log.exception("fault in edge911 itself, while a location server was asked; the call goes on")
            return self._failed(server, identity, "held-unreachable")
        self.counts["lis_answered"] += 1
        self._keep((server.config.url, identity), _Kept(location, self.clock()))
        return HeldAnswer(location=location, reason="held-answered", detail=_detail(server, identity))

    def _keep(self, key: _Key, kept: _Kept) -> None:
        self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT_LIMIT:
            self._kept.popitem(last=False)

    def _failed(
        self, server: LisServer, identity: HeldIdentity, reason: str, code: str = "", *, is_lasting: bool = False
    ) -> HeldAnswer:
        self.counts[reason] += 1
        if is_lasting:
            self._kept.pop((server.config.url, identity), None)
        return self._without(server, identity, reason, code)

    def _without(self, server: LisServer, identity: HeldIdentity, reason: str, code: str = "") -> HeldAnswer:
        """What is known without an answer: the last one, with the reason why there is no newer one in its detail."""
        detail = "; ".join(filter(None, (_detail(server, identity), code)))
        kept = self.known(server, identity)
        if kept is None:
            return HeldAnswer(reason=reason, detail=detail)
        return replace(kept, reason="held-kept", detail=f"{detail}; {reason}")

    def late(self, server: LisServer, identity: HeldIdentity) -> HeldAnswer:
        """What a call goes on with whose time to wait is over."""
        self.counts["held-late"] += 1
        return self._without(server, identity, "held-late")

    async def _fetch(self, server: LisServer, identity: HeldIdentity) -> DispatchableLocation:
        address = await self._address(server)
        context = await self._context(server) if server.origin.is_secure else None
        question = location_request(identity, round(server.config.timeout * 1000))
        fields = [("Authorization", f"Bearer {server.config.token}")] if server.config.token else []
        status, body = await exchange(server.origin, address, question, context=context, fields=fields)
        code = error_code(body)
        if code:
            raise HeldRefusedError(code)
        if status != 200:
            raise NoLocationError("held-refused")  # a redirect, too
        try:
            return located_by_server(location_document(body), self.clock())
        except NoLocationError as error:
            # No PIDF-LO in a document that can be read: locationURIs only, or no HELD at all.
            raise NoLocationError("held-refused" if error.reason == "reference-refused" else error.reason) from None

    async def _address(self, server: LisServer) -> str:
        found: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()

        def known(addresses: tuple[str, ...]) -> None:
            if not found.done():
                found.set_result(addresses)

        self.resolve(server.origin.host, known)
        addresses = await found
        if not addresses:
            raise NoLocationError("held-unreachable")
        for text in addresses:
            address = parse_address(text)
            if address is not None and (server.origin.is_secure or address.is_loopback or self.is_inside(address)):
                return text
        raise NoLocationError("held-not-allowed")

    async def _context(self, server: LisServer) -> ssl.SSLContext:
        """The TLS settings, read from the files now and then in a thread; the old ones where they cannot be read."""
        now = self.clock()
        made = self._contexts.get(server.files)
        if made is not None and 0 <= now - made[0] < CONTEXT_SECONDS:
            return made[1]
        try:
            context = await asyncio.to_thread(_read_context, server.files)
        except (OSError, ValueError) as error:
            log.error("location server %s: certificates cannot be read: %s", server.name, error)
            if made is None:
                raise
            context = made[1]
        self._contexts[server.files] = (now, context)
        return context


async def ask_once(client: LisClient, server: LisServer, identity: HeldIdentity) -> HeldAnswer:
    """One question as a call would ask it, with its deadline, for commands."""
    found: asyncio.Future[HeldAnswer] = asyncio.get_running_loop().create_future()
    client.ask(server, identity, found.set_result)
    done, _ = await asyncio.wait([found], timeout=server.config.timeout)
    answer = found.result() if done else client.late(server, identity)
    client.close()
    return answer


def _read_context(files: Files) -> ssl.SSLContext:
    ca, certificate, key = files
    context = verifying_context(ca)
    if certificate is not None:
        # No question for a password: it would be put to a terminal that is not there.
        context.load_cert_chain(certificate, key, password=lambda: "")
    return context


def _detail(server: LisServer, identity: HeldIdentity) -> str:
    return f"{server.name}: {identity.text}"
