"""Who is who on the wire: inside, outside, a trunk, or nobody we know. The longest prefix wins."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from config.schema import Config, Trunk
from e911.location import IPNetwork


class Side(StrEnum):
    """Where a message came from, or an address lies."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    UNLISTED = "unlisted"


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of one source address."""

    side: Side
    is_trunk_address: bool
    """True where the address is a trunk's: never taken for a phone's."""
    trust_identity: bool
    """True where its P-Asserted-Identity is believed (RFC 3325)."""
    is_all_emergency: bool = False
    """True where every INVITE and MESSAGE from there is an emergency (`emergency.all_calls_from`)."""
    is_distrusted: bool = False
    """True where the configuration says that it is outside the trust domain, and does not merely say nothing."""
    location_from: str = "none"
    """Of a PBX: where its requests show the phone's own address (`trunks.*.location_from`)."""


_CACHE_LIMIT = 50_000


class Sources:
    """Classifies addresses, from the networks and the trunks of the configuration.

    A trunk is known by address and port. Its address alone counts too, except on the loopback network where many
    peers share one address and a listed network includes it.
    """

    def __init__(self, config: Config, addresses: Mapping[str, Iterable[tuple[str, int]]]) -> None:
        """addresses: trunk name → its IP addresses and ports, as far as they are known."""
        self._networks: list[tuple[IPNetwork, Side]] = sorted(
            [(network, Side.INSIDE) for network in config.networks.inside]
            + [(network, Side.OUTSIDE) for network in config.networks.outside],
            key=lambda item: item[0].prefixlen,
            reverse=True,
        )
        self._trusted = tuple(config.networks.trust_identity)
        self._all_emergency = tuple(config.emergency.all_calls_from)
        self._exact: dict[tuple[str, int], Trunk] = {}
        self._by_host: dict[str, list[Trunk]] = {}
        self._names_of = {id(trunk): name for name, trunk in config.trunks.items()}
        """By identity: two trunks may be written alike."""
        for name, trunk in config.trunks.items():
            for host, port in addresses.get(name, ()):
                self._exact[host, port] = trunk
                here = self._by_host.setdefault(host, [])
                if trunk not in here:
                    here.append(trunk)
        self._addresses = addresses
        self._names = {
            peer.host
            for trunk in config.trunks.values()
            for peer in trunk.addresses
            if parse_address(peer.host) is None
        }
        self._cache: dict[tuple[str, int], Source] = {}

    @property
    def trunk_addresses(self) -> tuple[str, ...]:
        """The IP addresses of all trunks."""
        return tuple(self._by_host)

    def addresses_of(self, trunk: str) -> list[tuple[str, int]]:
        """A trunk's IP addresses and ports, as far as they are known."""
        return list(self._addresses.get(trunk, ()))

    def classify(self, host: str, port: int) -> Source:
        """What is known of a source; answers are kept."""
        key = (host, port)
        source = self._cache.get(key)
        if source is None:
            if len(self._cache) > _CACHE_LIMIT:
                self._cache.clear()
            source = self._cache[key] = self._classify(host, port)
        return source

    def reaches_inside(self, host: str) -> bool:
        """True where an address is inside, or an inside trunk's."""
        if any(trunk.side == "inside" for trunk in self._by_host.get(host, ())):
            return True
        address = parse_address(host)
        return address is not None and self._network_side(address) is Side.INSIDE

    def is_trunk(self, host: str) -> bool:
        """True where an address or host name is a trunk's."""
        return host in self._by_host or host in self._names

    def is_listed(self, host: str) -> bool:
        """True where an address is in a network or of a trunk."""
        address = parse_address(host)
        return host in self._by_host or (address is not None and self._network_side(address) is not Side.UNLISTED)

    def trunk_at(self, host: str, port: int) -> Trunk | None:
        """The trunk of an address and port; but on the loopback network any port of its address will do."""
        trunk = self._exact.get((host, port))
        if trunk is None and host in self._by_host:
            address = parse_address(host)
            if address is not None and not address.is_loopback:
                trunk = self._by_host[host][0]
        return trunk

    def trunk_name_at(self, host: str, port: int) -> str:
        """The name of the trunk at an address and port, as `trunk_at` finds it; empty where there is none."""
        trunk = self.trunk_at(host, port)
        return "" if trunk is None else self._names_of[id(trunk)]

    def interface_of(self, host: str) -> str:
        """Name of the interface that the trunk at an address is reached by, or an empty string."""
        return next((trunk.listen for trunk in self._by_host.get(host, ()) if trunk.listen), "")

    def _classify(self, host: str, port: int) -> Source:
        address = parse_address(host)
        if address is None:
            return Source(Side.UNLISTED, False, False)
        trunks = self._by_host.get(host, [])
        trunk = self._exact.get((host, port))
        listed = self._network_side(address)
        trusted = _contains(self._trusted, address)
        if trunk is not None:
            is_all = trunk.side == "inside" and _contains(self._all_emergency, address)
            trusts = bool(trunk.trust_identity) or trusted
            distrusted = trunk.trust_identity is False and not trusted
            return Source(Side(trunk.side), True, trusts, is_all, distrusted, trunk.location_from)
        if _contains(self._all_emergency, address):
            # Whoever sends nothing but emergencies is served, whatever list it is in.
            trusted = trusted or any(item.trust_identity for item in trunks)
            return Source(Side.INSIDE, bool(trunks), trusted, True, location_from=_location_from(trunks))
        distrusted = False
        if trunks:
            trusted = trusted or any(item.trust_identity for item in trunks)
            distrusted = not trusted and any(item.trust_identity is False for item in trunks)
            if not (address.is_loopback and listed is not Side.UNLISTED):
                side = Side.INSIDE if any(item.side == "inside" for item in trunks) else Side.OUTSIDE
                return Source(side, True, trusted, is_distrusted=distrusted, location_from=_location_from(trunks))
        if self._trusted and not trusted:
            distrusted = True  # networks that are trusted were named, and this is none of them
        # A PBX on this machine comes from ports of its own choosing by TCP, and shows phones' addresses all the same.
        return Source(
            listed,
            bool(trunks),
            trusted,
            is_distrusted=distrusted,
            location_from=_location_from(trunks) if trunks else "none",
        )

    def _network_side(self, address: IPv4Address | IPv6Address) -> Side:
        for network, side in self._networks:
            if address.version == network.version and address in network:
                return side
        return Side.UNLISTED


def _location_from(trunks: Iterable[Trunk]) -> str:
    """Where the one peer at an address shows phones' addresses; `none` where several there do not agree."""
    shown = {trunk.location_from for trunk in trunks}
    return shown.pop() if len(shown) == 1 else "none"


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An IP address, an IPv4 one mapped into IPv6 as IPv4; None where it is none."""
    return _parse_address(text) if len(text) <= _LONGEST_ADDRESS else None


_LONGEST_ADDRESS = 64
"""Characters of an IPv6 address with a scope, and some to spare: what a peer can make us keep has an end."""


@lru_cache(maxsize=8_192)
def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _contains(networks: Iterable[IPNetwork], address: IPv4Address | IPv6Address) -> bool:
    return any(network.version == address.version and address in network for network in networks)
