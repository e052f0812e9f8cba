"""Asking DNS: the questions of sip.locating, by dnspython, and the system's resolver beside it.

With `dns.servers` a host in `/etc/hosts` is that, then those servers are asked, and the system's resolver only for
addresses that they know nothing of. Without, addresses come from the system's resolver, so that `/etc/hosts` counts
as everywhere else on the machine, and NAPTR and SRV records from the name servers of `/etc/resolv.conf`.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from router.network.sources import parse_address
from sip.locating import Naptr, Question, Record, Srv

TRY_SECONDS = 0.6
"""After so long without an answer the question is sent to the next name server too, or again."""
QUESTION_SECONDS = 1.4
"""So long a question may take, all tries together."""
NAPTR_SECONDS = 1.0
"""Some firewalls let no NAPTR through; SRV and addresses are good without it."""
SYSTEM_TTL = 60.0
"""The system's resolver does not tell how long an answer holds; seconds."""
NEGATIVE_TTL = 30.0
"""So long "there is no such record" holds where the answer does not say; seconds."""
HOSTS_FILE = Path("/etc/hosts")
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_LOOPBACK = {"A": "127.0.0.1", "AAAA": "::1"}


class Answer(NamedTuple):
    """What a question was answered with; no records where there are none. ttl: seconds for which it holds."""

    records: tuple[Record, ...]
    ttl: float


class LookupFailedError(Exception):
    """No answer: nobody answered in time, or a server said that it cannot tell. The text says which."""


class DnsClient:
    """Asks one question at a time; keeps nothing. The threads of the system's resolver are this client's own."""

    def __init__(self, servers: Sequence[tuple[str, int]] = (), *, threads: int = 4) -> None:
        """servers: addresses and ports of name servers; none: those of the system."""
        self.servers = tuple(servers)
        self._threads = ThreadPoolExecutor(threads, "resolver")
        self._hosts = _Hosts()

    def close(self) -> None:
        """Ask the system's resolver no more; what is under way is left to end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Question) -> Answer:
        """The answer to a question. Raises LookupFailedError."""
        if question.name == "localhost" or question.name.endswith(".localhost"):  # RFC 6761 section 6.3
            address = _LOOPBACK.get(question.kind)
            return Answer((address,) if address else (), SYSTEM_TTL)
        if question.kind in ("A", "AAAA"):
            if not self.servers:
                return await self.ask_system(question)
            written = self._hosts.addresses(question.name, six=question.kind == "AAAA")
            if written is not None:
                return Answer(written, SYSTEM_TTL)
        return await self._ask_dns(question)

    async def ask_system(self, question: Question) -> Answer:
        """The addresses of a host as the system's resolver gives them. Raises LookupFailedError."""
        family = socket.AF_INET if question.kind == "A" else socket.AF_INET6
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up, question.name, family)
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_NAME:
                return Answer((), NEGATIVE_TTL)
            raise LookupFailedError(f"the system's resolver: {error.strerror}") from None
        except (OSError, UnicodeError, RuntimeError) as error:  # RuntimeError: closed meanwhile
            raise LookupFailedError(f"the system's resolver: {error}") from None
        return Answer(found, SYSTEM_TTL if found else NEGATIVE_TTL)

    async def _ask_dns(self, question: Question) -> Answer:
        # Imported when the first name is asked for: many configurations have none.
        import dns.exception
        import dns.resolver

        seconds = NAPTR_SECONDS if question.kind == "NAPTR" else QUESTION_SECONDS
        try:
            answer = await _first_answer(self._resolvers(seconds), question, seconds)
        except dns.resolver.NXDOMAIN as error:
            responses = list(error.responses().values())  # type: ignore[no-untyped-call]
            return Answer((), _negative_ttl(responses[0] if responses else None))
        except dns.resolver.NoResolverConfiguration:
            return Answer((), SYSTEM_TTL)  # a machine without name servers: there is no NAPTR and no SRV
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise LookupFailedError(str(error) or type(error).__name__) from None
        records = tuple(record for data in answer.rrset or () if (record := _record(data)) is not None)
        if answer.rrset is None or not records:
            return Answer((), _negative_ttl(answer.response))
        return Answer(records, float(answer.rrset.ttl))

    def _resolvers(self, seconds: float) -> list[Any]:
        """One for each name server. Made for each question: /etc/resolv.conf may have changed."""
        import dns.asyncresolver
        import dns.nameserver

        servers = [dns.nameserver.Do53Nameserver(host, port) for host, port in self.servers]
        found = []
        for server in servers or dns.asyncresolver.Resolver().nameservers:
            resolver = dns.asyncresolver.Resolver(configure=False)
            resolver.nameservers = [server]
            resolver.timeout = seconds
            found.append(resolver)
        return found


async def _first_answer(resolvers: Sequence[Any], question: Question, seconds: float) -> Any:
    """The first answer of a name server, each asked TRY_SECONDS after the last, then again from the beginning.

    Whoever was asked is listened to until the end: a line by satellite, or a server that has to ask others first,
    takes longer than a try. Raises LookupFailedError, dns.exception.DNSException, OSError or ValueError.
    """
    import dns.name
    import dns.resolver

    name = dns.name.from_text(question.name)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    usable = deque(resolvers)
    asked: dict[asyncio.Task[Any], Any] = {}
    failure: BaseException = LookupFailedError("no answer in time")
    try:
        while (usable or asked) and (left := until - loop.time()) > 0:
            if usable:
                resolver = usable[0]
                usable.rotate(-1)
                asking = resolver.resolve(name, question.kind, raise_on_no_answer=False, search=False, lifetime=left)
                asked[loop.create_task(asking)] = resolver
            done, _ = await asyncio.wait(
                asked, timeout=min(TRY_SECONDS, left) if usable else left, return_when=asyncio.FIRST_COMPLETED
            )
            results = [(asked.pop(task), task.exception(), task) for task in done]
            for resolver, error, task in results:
                if error is None or isinstance(error, dns.resolver.NXDOMAIN):
                    return task.result()
                failure = error
                if resolver in usable:
                    usable.remove(resolver)  # it cannot tell: the next one is asked at once
        raise failure
    finally:
        for task in asked:
            task.cancel()


class _Hosts:
    """/etc/hosts, read again where it has changed."""

    def __init__(self) -> None:
        self._stamp = 0
        self._found: dict[str, list[str]] = {}

    def addresses(self, name: str, *, six: bool) -> tuple[str, ...] | None:
        """The addresses of one family written there for a host; None where the host is not there at all."""
        try:
            stamp = HOSTS_FILE.stat().st_mtime_ns
            if stamp != self._stamp:
                self._stamp, self._found = stamp, _read_hosts(HOSTS_FILE.read_text("utf-8", "replace"))
        except OSError:
            return None
        found = self._found.get(name)
        return None if found is None else tuple(address for address in found if (":" in address) is six)


def _read_hosts(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if parse_address(address) is not None:
            for name in names:
                found.setdefault(name.lower(), []).append(address)
    return found


def look_up(host: str, family: int = socket.AF_UNSPEC) -> tuple[str, ...]:
    """The addresses of a host, as the system's resolver gives them; blocks. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_DGRAM)
    return tuple(dict.fromkeys(str(item[4][0]) for item in found))


def _record(data: Any) -> Record | None:
    kind = type(data).__name__
    if kind == "NAPTR":
        return Naptr(data.order, data.preference, _text(data.flags), _text(data.service), _host(data.replacement))
    if kind == "SRV":
        return Srv(data.priority, data.weight, data.port, _host(data.target))
    return str(data.address) if kind in ("A", "AAAA") else None


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace")


def _host(name: Any) -> str:
    """A domain name in lower case without its final dot; the root is an empty string."""
    return str(name.to_text(omit_final_dot=True)).lower().removesuffix(".")


def _negative_ttl(response: Any) -> float:
    """RFC 2308 section 5: the least of the SOA record's TTL and its MINIMUM."""
    for rrset in response.authority if response is not None else ():
        for data in rrset:
            if type(data).__name__ == "SOA":
                return float(min(rrset.ttl, data.minimum))
    return NEGATIVE_TTL
