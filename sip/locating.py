"""Locating SIP servers: RFC 3263 sections 4.1 to 4.3 (NAPTR, SRV, A and AAAA), RFC 2782 (priorities and weights).

Nothing is asked here. `locate` gets what is known of DNS as a function from questions to answers, and gives the
servers that follow from it together with the questions that are still open; whoever asks DNS asks those and calls it
again. `in_order` gives one request's order of trying.

The choice by weight is random in RFC 2782. Here it is derived from a seed, such as the Call-ID: the calls spread over
the servers by weight, and a request that is sent again, from this node after a restart or from another one, goes to
the same server (RFC 3263 section 4.4 asks as much of a stateless proxy).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

MAX_TARGETS = 8
"""So many SRV targets of one name are used, the preferred ones."""
MAX_ADDRESSES = 8
"""So many addresses of one host are used."""


class Where(NamedTuple):
    """What a URI, or a trunk's target, says of where to send."""

    host: str
    """A domain or host name, lower case, without a final dot; never an address."""
    port: int | None = None
    transport: str = ""
    """`udp`, `tcp` or `tls`; an empty string where the URI does not say."""
    secure: bool = False
    """True for sips: only TLS will do."""


class Question(NamedTuple):
    """A question to DNS."""

    name: str
    kind: str
    """`NAPTR`, `SRV`, `A` or `AAAA`."""


class Naptr(NamedTuple):
    """One NAPTR record (RFC 3403)."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Srv(NamedTuple):
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


Record = Naptr | Srv | str
"""A record's data; of A and AAAA the address."""
Answers = Callable[[Question], Sequence[Record] | None]
"""What DNS says to a question; empty where there is no such record; None where that is not known yet."""


class Server(NamedTuple):
    """One place to send to."""

    transport: str
    address: str
    port: int


class Weighted(NamedTuple):
    """The servers of one SRV target, or of one address record, with the share of calls they are to get."""

    weight: int
    servers: tuple[Server, ...]


class Located(NamedTuple):
    """Where a request can go. Groups are tried one after the other; within one, weights decide."""

    groups: tuple[tuple[Weighted, ...], ...]

    @property
    def servers(self) -> tuple[Server, ...]:
        """All of them, in no particular order within a group."""
        return tuple(server for group in self.groups for target in group for server in target.servers)


NOWHERE = Located(())

_SERVICES = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
_LABELS = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}


def locate(where: Where, answers: Answers, transports: Sequence[str]) -> tuple[Located, list[Question]]:
    """The servers of a place, and the questions whose answers are still missing (then the servers are preliminary).

    transports: those we can use, the preferred first; it decides where neither the URI nor a NAPTR record does.
    """
    search = _Search(answers)
    groups = _groups(where, search, transports)
    return Located(tuple(group for group in groups if group)), search.missing


def in_order(located: Located, seed: bytes) -> list[Server]:
    """All servers in the order in which a request with this seed tries them."""
    found: list[Server] = []
    for number, group in enumerate(located.groups):
        for target in group if len(group) == 1 else by_weight(group, b"%d." % number + seed):
            found += target.servers
    return found


def by_weight(targets: Iterable[Weighted], seed: bytes) -> list[Weighted]:
    """Targets of one priority in the order of RFC 2782, its random numbers derived from the seed."""
    left = sorted(targets, key=lambda target: target.weight)  # those of weight 0 first: they get the number 0 only
    chosen: list[Weighted] = []
    digest = hashlib.blake2b(seed, digest_size=8)
    while left:
        digest.update(b"next")
        total = sum(target.weight for target in left)
        if total:
            number = int.from_bytes(digest.digest(), "big") % (total + 1)
            index, running = 0, left[0].weight
            while running < number:
                index += 1
                running += left[index].weight
        else:
            index = int.from_bytes(digest.digest(), "big") % len(left)
        chosen.append(left.pop(index))
    return chosen


class _Search:
    """Looks answers up, and keeps in mind which were missing."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.missing: list[Question] = []

    def look(self, name: str, kind: str) -> Sequence[Record] | None:
        question = Question(name, kind)
        found = self.answers(question)
        if found is None and question not in self.missing:
            self.missing.append(question)
        return found


def _groups(where: Where, search: _Search, transports: Sequence[str]) -> list[tuple[Weighted, ...]]:
    if where.secure:
        transports = [transport for transport in transports if transport == "tls"]
    elif where.transport:
        transports = [where.transport]
    if not transports:
        return []
    # Asked along with the rest, so that a name without NAPTR and SRV costs one round trip.
    plain = _addresses(where, search, transports[0])
    if where.port is not None or "." not in where.host:
        return plain
    if where.transport:
        services = [(where.transport, f"{_LABELS[where.transport]}.{where.host}")]
    else:
        named = [(transport, f"{_LABELS[transport]}.{where.host}") for transport in transports if transport != "tls"]
        if where.secure:
            named = [("tls", f"{_LABELS['tls']}.{where.host}")]
        services = _naptr(where.host, search, transports) or named
    groups: list[tuple[Weighted, ...]] = []
    has_srv = False
    for transport, name in services:
        records = [record for record in search.look(name, "SRV") or () if isinstance(record, Srv)]
        has_srv = has_srv or bool(records)
        groups += _srv_groups(records, transport, search)
    return groups if has_srv else plain


def _naptr(host: str, search: _Search, transports: Sequence[str]) -> list[tuple[str, str]]:
    """Transports and names of SRV records, by NAPTR (section 4.1)."""
    records = sorted(record for record in search.look(host, "NAPTR") or () if isinstance(record, Naptr))
    found: list[tuple[str, str]] = []
    for record in records:
        transport = _SERVICES.get(record.service.upper(), "")
        if transport in transports and record.flags.lower() == "s" and record.replacement not in ("", "."):
            service = (transport, record.replacement)
            if service not in found:
                found.append(service)
    return found[:MAX_TARGETS]


def _srv_groups(records: Sequence[Srv], transport: str, search: _Search) -> list[tuple[Weighted, ...]]:
    usable = sorted(record for record in records if record.target not in ("", "."))[:MAX_TARGETS]
    groups: dict[int, list[Weighted]] = {}
    for record in usable:
        servers = tuple(Server(transport, address, record.port) for address in _addresses_of(record.target, search))
        if servers:
            groups.setdefault(record.priority, []).append(Weighted(record.weight, servers))
    return [tuple(groups[priority]) for priority in sorted(groups)]


def _addresses(where: Where, search: _Search, transport: str) -> list[tuple[Weighted, ...]]:
    """By the host's own addresses (section 4.2): those of one family share the calls, as DNS would have them."""
    port = where.port or (5061 if transport == "tls" else 5060)
    families: dict[bool, list[Weighted]] = {}
    for address in _addresses_of(where.host, search):
        families.setdefault(":" in address, []).append(Weighted(0, (Server(transport, address, port),)))
    return [tuple(family) for family in families.values()]


def _addresses_of(host: str, search: _Search) -> list[str]:
    """IPv4 first: where a host has both, its IPv4 address is the one that telephony has used so far. Sorted, for DNS
    gives equal answers in changing order."""
    found: list[str] = []
    for kind in ("A", "AAAA"):
        found += sorted(record for record in search.look(host, kind) or () if isinstance(record, str))
    return found[:MAX_ADDRESSES]
