"""What no single setting can know: references, duplicates, loops, and keys whose feature is not built yet.

Errors stop a configuration from starting. Warnings (config/advice for most) do not; each says its consequence.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from config.advice import advice
from config.channel_urls import is_ours, read_receiver
from config.document import Mapping, Node, Scalar, Sequence
from config.findings import Finding, Findings, Steps, emergency_lists, location_servers, peer_ip, trunk_targets
from config.messages import did_you_mean
from config.problem import ConfigError, Problem, path_text, quoted
from config.profiles import BUILT_IN, find_profile, not_found, read_profile
from config.schema import Config, EmergencyRoute, Listen
from config.values import PeerAddress
from e911.provider_profile import (
    ProviderProfile,
)

__all__ = ["Checked", "Finding", "Findings", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotBuilt:
    """A key that is accepted although its feature does not exist yet."""

    key: str
    """Where it stands; * stands for any name or position."""
    applies: Callable[[str], bool]
    """Whether it is asked for, by the text written; the text is empty for a list or map that holds something."""
    consequence: str


def _always(_: str) -> bool:
    return True


NOT_BUILT: tuple[NotBuilt, ...] = ()
"""Keys accepted today whose feature is yet to come. Building the feature ends with deleting its line here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the checks found, and the profiles they loaded on the way."""

    errors: Findings
    warnings: Findings
    problems: list[Problem]
    """Errors in profile files, with their own positions."""
    profiles: dict[str, ProviderProfile]
    files: list[Path]
    """Profile files other than the built-in ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """The names a file gives to things, those with errors included; None where they cannot be told."""

    trunks: list[str] | None
    contacts: list[str] | None
    sites: list[str] | None
    listen: list[str] | None


@dataclass(slots=True)
class _Profiles:
    directory: Path
    loaded: dict[str, ProviderProfile] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def check(config: Config, root: Mapping, directory: Path, incomplete: frozenset[str]) -> Checked:
    """All cross-checks of a configuration.

    `root` is the file as read; `directory` where profiles are looked for; `incomplete` the top-level keys
    that had errors, about which nothing is said that what was left out might explain.
    """
    names = _Names(
        trunks=_keys(root.get("trunks")),
        contacts=_keys(root.get("contacts")),
        sites=_texts_in(root.get("sites"), "id"),
        listen=_texts_in(root.get("listen"), "name"),
    )
    profiles = _Profiles(directory)
    errors = [
        *_references(config, names),
        *_profile_references(config, profiles),
        *_duplicate_ids(config),
        *([] if "listen" in incomplete else _interfaces(config)),
        *_numbers(config),
        *_channels(config),
        *_networks_on_both_sides(config),
        *_positions(config),
        *_countries(config),
        *_route_names(config),
        *_location_servers(config),
        *_validation_function(config),
        *_listening_twice(config),
        *([] if {"listen", "tls"} & incomplete else _tls_listening_points(config)),
        *([] if {"listen", "trunks"} & incomplete else _trunks_and_listening_points(config)),
    ]
    warnings = [*advice(config, profiles.loaded, directory), *_not_built(root)]
    return Checked(
        errors=errors,
        warnings=warnings,
        problems=profiles.problems,
        profiles=profiles.loaded,
        files=profiles.files,
    )


def _not_built(root: Mapping) -> Iterator[Finding]:
    for row in NOT_BUILT:
        for path, node in _matching(root, tuple(row.key.split("."))):
            text = node.text if isinstance(node, Scalar) else None
            written = bool(text) if isinstance(node, Scalar) else node.size > 1
            if written and (row.applies is _always or (text is not None and row.applies(text))):
                yield Finding(path, f"accepted, but not built yet: {row.consequence}")


def _matching(node: Node, pattern: Steps, path: Steps = ()) -> Iterator[tuple[Steps, Node]]:
    if not pattern:
        yield path, node
        return
    first, rest = str(pattern[0]), pattern[1:]
    if isinstance(node, Mapping):
        for key, (_, value) in node.entries.items():
            if fnmatchcase(key, first):
                yield from _matching(value, rest, (*path, key))
    elif isinstance(node, Sequence) and first == "*":
        for number, item in enumerate(node.items):
            yield from _matching(item, rest, (*path, number))


def _keys(node: Node | None) -> list[str] | None:
    if node is None or (isinstance(node, Scalar) and node.text is None):
        return []
    return list(node.entries) if isinstance(node, Mapping) else None


def _texts_in(node: Node | None, key: str) -> list[str] | None:
    """The texts under a key of each map in a list."""
    if node is None or (isinstance(node, Scalar) and node.text is None):
        return []
    if not isinstance(node, Sequence):
        return None
    values = [item.get(key) for item in node.items if isinstance(item, Mapping)]
    return [value.text for value in values if isinstance(value, Scalar) and value.text is not None]


def _references(config: Config, names: _Names) -> Iterator[Finding]:
    for path, name in _trunk_references(config):
        yield from _unknown("trunk", path, name, names.trunks)
    for key, trunk in config.trunks.items():
        if trunk.listen is not None:
            yield from _unknown("listening point", ("trunks", key, "listen"), trunk.listen, names.listen)
    if config.emergency.default.site is not None:
        path = ("emergency", "default", "site")
        yield from _unknown("site", path, config.emergency.default.site, names.sites)
    for key, told in config.contacts.items():
        for position, contact in enumerate(told.escalate_to):
            yield from _unknown("contact", ("contacts", key, "escalate_to", position), contact, names.contacts)
    for name, target in config.provisioning.items():
        for position, site_id in enumerate(target.sites):
            yield from _unknown("site", ("provisioning", name, "sites", position), site_id, names.sites)
    for number, site in enumerate(config.sites):
        for position, contact in enumerate(site.notify):
            yield from _unknown("contact", ("sites", number, "notify", position), contact, names.contacts)


def _trunk_references(config: Config) -> Iterator[tuple[Steps, str]]:
    for position, name in enumerate(config.routes.outbound):
        yield ("routes", "outbound", position), name
    for position, name in enumerate(config.routes.inbound):
        yield ("routes", "inbound", position), name
    for path, routes in emergency_lists(config):
        for position, route in enumerate(routes):
            yield (*path, position, "trunk"), route.trunk


def _unknown(noun: str, path: Steps, name: str, known: list[str] | None) -> Iterator[Finding]:
    if known is not None and name not in known:
        yield Finding(path, f"no {noun} is called {quoted(name)}{did_you_mean(name, dict.fromkeys(known))}")


def _profile_references(config: Config, profiles: _Profiles) -> Iterator[Finding]:
    for path, routes in emergency_lists(config):
        for position, route in enumerate(routes):
            steps = (*path, position, "profile")
            name = route.profile
            if name is None:
                continue
            found = find_profile(name, profiles.directory)
            if found is None:
                yield Finding(steps, not_found(name, profiles.directory))
                continue
            if name not in profiles.seen:
                profiles.seen.add(name)
                _load(profiles, name, found)
            profile = profiles.loaded.get(name)
            if profile and isinstance(route, EmergencyRoute):
                yield from _number_of(route, profile, (*path, position))
            if profile and profile.test_number in config.emergency.numbers:
                yield Finding(
                    steps,
                    f"the profile sends test calls to {profile.test_number}, an emergency number here; "
                    "give the profile another test_number",
                )


def _number_of(route: EmergencyRoute, profile: ProviderProfile, path: Steps) -> Iterator[Finding]:
    uses = "{number}" in f"{profile.request_uri} {profile.identity_uri} {profile.from_uri}"
    if uses and route.number is None:
        yield Finding(
            (*path, "profile"),
            f'{profile.name} needs a number to dial (an ESRN); add number: "+12125550140" to this route',
        )
    if route.number is not None and not uses:
        yield Finding(
            (*path, "number"),
            f"{profile.name} does not use it: its request_uri has no {{number}}; take it out",
        )


def _load(profiles: _Profiles, name: str, path: Path) -> None:
    if path.parent != BUILT_IN:
        profiles.files.append(path)
    try:
        profiles.loaded[name] = read_profile(path)
    except ConfigError as error:
        profiles.problems.extend(error.problems)


def _duplicate_ids(config: Config) -> Iterator[Finding]:
    sites: dict[str, Steps] = {}
    for number, site in enumerate(config.sites):
        yield from _twice(sites, site.id, ("sites", number, "id"))
        zones: dict[str, Steps] = {}
        for position, zone in enumerate(site.zones):
            yield from _twice(zones, zone.id, ("sites", number, "zones", position, "id"))


def _twice(seen: dict[str, Steps], name: str, path: Steps) -> Iterator[Finding]:
    if name in seen:
        yield Finding(path, f"{quoted(name)} is also {path_text(seen[name])}; give each its own")
    else:
        seen[name] = path


def _interfaces(config: Config) -> Iterator[Finding]:
    """Names and advertised addresses: one name may stand for one item of each transport and address family."""
    names: dict[tuple[str, str, bool], Steps] = {}
    seen: dict[tuple[str, str, int], Steps] = {}
    for number, listen in enumerate(config.listen):
        path: Steps = ("listen", number, "name")
        if listen.name is not None:
            first = names.setdefault((listen.name, listen.transport, ":" in listen.host), path)
            if first is not path:
                message = f"{quoted(listen.name)} is also {path_text(first)}, of the same transport"
                yield Finding(path, f"{message}; give each its own name")
        if listen.advertised is None:
            continue
        path = ("listen", number, "advertise")
        host, port = listen.advertised
        address = _address(host)
        if address is not None and (address.version == 6) is not (":" in listen.host):
            yield Finding(
                path,
                f"an IPv{address.version} address for a point that listens on the other family; advertise its own",
            )
        key = ("udp" if listen.transport == "udp" else "tcp", host, port)
        first = seen.setdefault(key, path)
        if first is not path:
            yield Finding(path, f"{path_text(first)} advertises the same; requests sent there can reach one only")


def _numbers(config: Config) -> Iterator[Finding]:
    for position, number in enumerate(config.emergency.test_numbers):
        if number in config.emergency.numbers:
            yield Finding(
                ("emergency", "test_numbers", position),
                f"{number} is also in emergency.numbers; a number is either an emergency or a test, remove one",
            )


def _channels(config: Config) -> Iterator[Finding]:
    """URLs of contacts that are ours to read. What they hold is not shown: it may be a password."""
    for name, contact in config.contacts.items():
        for position, url in enumerate(contact.send):
            if is_ours(url):
                try:
                    read_receiver(url)
                except ValueError as error:
                    yield Finding(("contacts", name, "send", position), str(error))


def _networks_on_both_sides(config: Config) -> Iterator[Finding]:
    for position, network in enumerate(config.networks.outside):
        if network in config.networks.inside:
            other = path_text(("networks", "inside", config.networks.inside.index(network)))
            yield Finding(
                ("networks", "outside", position), f"{network} is also {other}; callers there are one or the other"
            )


def _positions(config: Config) -> Iterator[Finding]:
    for number, site in enumerate(config.sites):
        if site.latitude == 0 and site.longitude == 0:
            yield Finding(("sites", number, "latitude"), "0 0 is no position of a site; leave both out")


def _countries(config: Config) -> Iterator[Finding]:
    for number, site in enumerate(config.sites):
        country = site.address.country
        if country and not re.fullmatch(r"[A-Za-z]{2}", country):
            yield Finding(
                ("sites", number, "address", "country"),
                f"{quoted(country)} is not a country of two letters (ISO 3166-1); write US or CA",
            )


def _location_servers(config: Config) -> Iterator[Finding]:
    """Where people are does not go over a network in the clear: http:// on loopback and to inside addresses only."""
    for path, lis in location_servers(config):
        if lis.is_secure:
            continue
        address = _address(urlsplit(lis.url).hostname or "")
        is_near = address is not None and (
            address.is_loopback
            or any(address.version == network.version and address in network for network in config.networks.inside)
        )
        if not is_near:
            yield Finding(
                (*path, "url"),
                "http:// would tell anybody on the way where people are, and take anybody's answer; write https://, "
                "or the address of a server in networks.inside",
            )


def _validation_function(config: Config) -> Iterator[Finding]:
    lvf = config.locations.lvf
    if lvf is None or lvf.url.lower().startswith("https:"):
        return
    address = _address(urlsplit(lvf.url).hostname or "")
    if address is None or not address.is_loopback:
        yield Finding(
            ("locations", "lvf", "url"),
            "http:// would tell anybody on the way where people are, and take anybody's answer; write https://",
        )


def _route_names(config: Config) -> Iterator[Finding]:
    """Names within each ladder of routes, which is what records and `explain` call them by."""
    general: dict[str, Steps] = {}
    for path, routes in emergency_lists(config):
        if path[0] != "emergency":
            continue
        for position, route in enumerate(routes):
            yield from _twice(general, route.name, (*path, position, "name"))
    for number, site in enumerate(config.sites):
        own: dict[str, Steps] = {
            name: path
            for name, path in general.items()
            if (site.routes if path[1] == "routes" else site.basic) is None
        }
        for position, route in enumerate(site.routes or ()):
            yield from _twice(own, route.name, ("sites", number, "routes", position, "name"))
        for position, basic in enumerate(site.basic or ()):
            yield from _twice(own, basic.name, ("sites", number, "basic", position, "name"))


def _listening_twice(config: Config) -> Iterator[Finding]:
    seen: list[tuple[str, str, int, Steps]] = []
    points: list[tuple[str, str, int, Steps]] = [
        (listen.transport, listen.host, listen.port, ("listen", number))
        for number, listen in enumerate(config.listen)
    ]
    for key, http in (("health", config.health), ("console", config.console)):
        if http is not None:
            points.append(("tcp", http.host, http.port, (key, "listen")))
    for transport, host, port, path in points:
        kind = "udp" if transport == "udp" else "tcp"
        for other_kind, other_host, other_port, other_path in seen:
            if kind == other_kind and port == other_port and _same_address(host, other_host):
                message = f"{path_text(other_path)} already listens on {kind} port {port} there; use another port"
                yield Finding(path, message)
                break
        seen.append((kind, host, port, path))


def _tls_listening_points(config: Config) -> Iterator[Finding]:
    for number, listen in enumerate(config.listen):
        if listen.transport == "tls" and (config.tls is None or config.tls.certificate is None):
            yield Finding(
                ("listen", number), "tls:// needs certificates; add tls: {certificate: FILE, private_key: FILE}"
            )


def _trunks_and_listening_points(config: Config) -> Iterator[Finding]:
    for key, trunk in config.trunks.items():
        for path, peer in trunk_targets(key, trunk):
            if trunk.tls.policy == "require" and peer.transport != "tls":
                yield Finding(path, "tls: require, and the target does not say TLS; write ;transport=tls")
            yield from _peer_and_listening_points(config, path, peer, trunk.listen)


def _peer_and_listening_points(
    config: Config, path: Steps, peer: PeerAddress, interface: str | None
) -> Iterator[Finding]:
    address = peer_ip(peer)
    transport = peer.transport or "udp"
    for number, listen in enumerate(config.listen):
        if address and _reaches(address, peer.default_port, listen):
            message = f"this is our own listening point listen[{number}]; a call there would come back in a loop"
            yield Finding(path, f"{message}; write the peer's address")
            break
    # A TLS connection that we open needs no listening point of TLS; config/advice.py says what it then lacks.
    usable = [listen for listen in config.listen if transport in ("tls", listen.transport)]
    if not usable:
        yield Finding(
            path,
            f"no listening point for {transport}, to which this trunk could answer; "
            f"add {transport}://ADDRESS:PORT to listen",
        )
    elif address and all(ip_address(listen.host).version != address.version for listen in usable):
        version = f"IPv{address.version}"
        message = f"an {version} address, and nothing listens on {version} for {transport}"
        yield Finding(path, f"{message}; add {transport}://ADDRESS:PORT to listen")
    elif interface is not None:
        hosts = {listen.host for listen in config.listen if listen.name == interface}
        fitting = [listen for listen in usable if listen.host in hosts]
        if hosts and not any(address is None or ip_address(item.host).version == address.version for item in fitting):
            family = f"IPv{address.version} and " if address else ""
            yield Finding(
                path,
                f"{quoted(interface)} has no listening point for {family}{transport}, which this trunk needs; "
                f"add {transport}://ADDRESS:PORT with this name",
            )


def _same_address(one: str, other: str) -> bool:
    first, second = _address(one), _address(other)
    if first is None or second is None:
        return one.lower() == other.lower()
    if first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified


def _reaches(address: IPv4Address | IPv6Address, port: int, listen: Listen) -> bool:
    """Whether what is sent to this address arrives at a listening point, as far as it can be told."""
    own: Any = ip_address(listen.host)
    if listen.advertised == (str(address), port):
        return True
    if port != listen.port:
        return False
    return bool(address == own or (own.is_unspecified and own.version == address.version and address.is_loopback))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address("127.0.0.1" if host.lower() == "localhost" else host)
    except ValueError:
        return None
