"""What checks are written with: a finding, and the walks over a configuration that several of them need."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from config.schema import BasicRoute, Config, EmergencyRoute, Lis, Trunk
from config.values import PeerAddress

Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a check found: at which setting, and what to say about it."""

    path: Steps
    message: str
    at_key: bool = False
    """Point at the key rather than at its value."""


Findings = list[Finding]


def emergency_lists(
    config: Config, *, basic: bool = True
) -> Iterator[tuple[Steps, Sequence[EmergencyRoute | BasicRoute]]]:
    """Every list of emergency routes with its path: the general ones, then those of sites; basic ones if asked."""
    yield ("emergency", "routes"), config.emergency.routes
    if basic:
        yield ("emergency", "basic"), config.emergency.basic
    for number, site in enumerate(config.sites):
        if site.routes is not None:
            yield ("sites", number, "routes"), site.routes
        if basic and site.basic is not None:
            yield ("sites", number, "basic"), site.basic


def location_servers(config: Config) -> Iterator[tuple[Steps, Lis]]:
    """Every location server with its path."""
    if config.locations.lis is not None:
        yield ("locations", "lis"), config.locations.lis
    for number, site in enumerate(config.sites):
        if site.lis is not None:
            yield ("sites", number, "lis"), site.lis


def peer_ip(peer: PeerAddress) -> IPv4Address | IPv6Address | None:
    """The IP address of a trunk's target, where it is one (localhost is); None for a host name."""
    try:
        return ip_address("127.0.0.1" if peer.host.lower() == "localhost" else peer.host)
    except ValueError:
        return None


def trunk_targets(key: str, trunk: Trunk) -> Iterator[tuple[Steps, PeerAddress]]:
    """Every target of a trunk, with its path."""
    for number, peer in enumerate(trunk.addresses):
        yield ("trunks", key, "target") if trunk.target is not None else ("trunks", key, "targets", number), peer
