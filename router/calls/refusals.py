"""How many refused 911 calls are written down: strangers must not fill the disk, or the front desk's mailbox."""

from collections import Counter
from ipaddress import IPv6Address, ip_network

from router.network.sources import parse_address

PER_SOURCE = 5
IN_ALL = 60
"""Refusals a minute that are journalled, and so told to the contacts; the rest are counted."""


class RefusalLimit:
    """Counts refusals by source (a /64 is one of IPv6) and minute. per_source: so many of one a minute are let by."""

    def __init__(self, per_source: int = PER_SOURCE) -> None:
        self._per_source = per_source
        self._minute = -1
        self._by_source: Counter[str] = Counter()
        self._calls: set[str] = set()

    def allows(self, host: str, call: str, now: float) -> bool:
        """True where this refusal is to be written down; the same call is written once. now: seconds."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute = minute
            self._by_source.clear()
            self._calls.clear()
        source = _source_of(host)
        if call in self._calls or self._by_source[source] >= self._per_source or len(self._calls) >= IN_ALL:
            return False
        self._by_source[source] += 1
        self._calls.add(call)
        return True


def _source_of(host: str) -> str:
    address = parse_address(host)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return host
