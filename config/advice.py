"""Warnings: a configuration that runs, and what will then not be as its writer may think."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from config.addresses import is_private
from config.advice_elins import elins
from config.advice_places import place
from config.findings import Finding, Steps, emergency_lists, location_servers, peer_ip, trunk_targets
from config.problem import path_text
from config.profiles import BUILT_IN
from config.schema import Config, Console, SiteConfig
from e911.location import IPNetwork, LocationSource
from e911.numbers import dialable
from e911.provider_profile import (
    LocationConveyance,
    ProviderProfile,
)


def advice(config: Config, profiles: dict[str, ProviderProfile], directory: Path) -> Iterator[Finding]:
    """Every warning about a configuration, in no particular order."""
    yield from _networks(config)
    yield from _routes(config)
    yield from _dial_strings(config)
    yield from _default_site(config)
    yield from _people(config)
    yield from _private_media(config)
    yield from _emergency_names(config)
    yield from _console(config)
    yield from _links(config)
    yield from _interfaces(config)
    yield from _wildcards(config)
    yield from _location_from(config)
    yield from _location_servers(config)
    yield from _reference_hosts(config)
    default = next((site for site in config.sites if site.id == config.emergency.default.site), None)
    default_callback = dialable(default.callback) if default else ""
    trunks = [
        (key, address)
        for key, trunk in config.trunks.items()
        for peer in trunk.addresses
        if (address := peer_ip(peer))
    ]
    for number, site in enumerate(config.sites):
        path: Steps = ("sites", number)
        yield from place(site, path)
        yield from _callback(site, path, default_callback)
        yield from _trunks_inside(trunks, site, path)
        yield from _outside_inside(config, site, path)
    yield from _same_networks(config)
    yield from _same_numbers(config)
    yield from elins(config, profiles)
    yield from _covers(config)
    yield from _tls_trunks(config)
    yield from _i3_without_tls(config)
    yield from _shadowed_profiles(profiles, directory)
    yield from _reference_server(config, profiles, directory)


def _reference_server(config: Config, profiles: dict[str, ProviderProfile], directory: Path) -> Iterator[Finding]:
    server = config.locations.reference_server
    path: Steps = ("locations", "reference_server")
    if server is None:
        for steps, routes in emergency_lists(config):
            for position, route in enumerate(routes):
                profile = profiles.get(route.profile or "")
                if profile is not None and profile.location is LocationConveyance.REFERENCE:
                    yield Finding(
                        (*steps, position, "profile"),
                        "it sends locations by reference, and nothing answers them: they go along by value; "
                        "add locations.reference_server",
                    )
        return
    if not any(profile.location is LocationConveyance.REFERENCE for profile in profiles.values()):
        yield Finding(path, "no route's profile says location: reference, so nobody will ask it")
    for key in ("certificate", "private_key", "client_ca"):
        name = getattr(server, key)
        if name is not None and not (directory / name).is_file():
            yield Finding((*path, key), "there is no such file; locations go along by value until there is")


def _networks(config: Config) -> Iterator[Finding]:
    if config.networks.inside or any(trunk.side == "inside" for trunk in config.trunks.values()):
        return
    refused = "calls, 911 calls too" if config.emergency.from_unlisted == "refuse" else "calls other than 911"
    yield Finding(
        ("networks", "inside"), f"no network is inside, so {refused}, are refused to all; list the phones' networks"
    )


def _routes(config: Config) -> Iterator[Finding]:
    emergency = config.emergency
    if not emergency.routes and not emergency.basic and not config.sites:
        yield Finding(("emergency",), "no route at all: every 911 call fails; list routes, basic or both")
        return
    if not emergency.routes and _apply_somewhere([site.routes for site in config.sites]):
        yield Finding(
            ("emergency", "routes"), "no E911 route: 911 calls go by basic 911, without the caller's location"
        )
    if not emergency.basic and _apply_somewhere([site.basic for site in config.sites]):
        yield Finding(
            ("emergency", "basic"),
            "no basic route: a 911 call without a known location, or refused by every provider, fails",
        )
    for number, site in enumerate(config.sites):
        if site.routes == []:
            yield Finding(
                ("sites", number, "routes"),
                "replaces emergency.routes by nothing: 911 calls from here go by basic 911, without location",
            )
        if site.basic == []:
            yield Finding(
                ("sites", number, "basic"),
                "replaces emergency.basic by nothing: a 911 call from here that no provider takes fails",
            )


def _apply_somewhere(own: Sequence[object]) -> bool:
    """Whether the general lists are used: by a site without its own, or where there is no site."""
    return not own or None in own


def _is_this_machine(console: Console) -> bool:
    """True where the console listens to this machine alone."""
    try:
        return ip_address(console.host).is_loopback
    except ValueError:
        return console.host.lower() == "localhost"


def _links(config: Config) -> Iterator[Finding]:
    """Where users are to say where their phones are: can they?"""
    policy, console = config.locations.unconfirmed, config.console
    refuses = policy.outbound == "refuse"
    if not refuses and not policy.mail:
        return
    path: Steps = ("locations", "unconfirmed")
    if console is None:
        yield Finding(
            path, "there is no page on which users say where their phone is; add console: {listen: …, public_url: …}"
        )
    elif console.public_url is None and _is_this_machine(console):
        yield Finding(
            path, "the link that users get leads to this machine alone; say console.public_url: https://NAME"
        )
    if refuses and not policy.message and not policy.mail:
        yield Finding(
            (*path, "outbound"),
            "calls are refused until a link is used that nothing sends; say message: true, or mail: mailto://…",
        )


def _console(config: Config) -> Iterator[Finding]:
    console = config.console
    if console is None or console.is_https or (console.public_url or "").startswith("https:"):
        return
    if not _is_this_machine(console):
        yield Finding(
            ("console", "listen"),
            "passwords and locations cross the network in clear; write https:// and give a certificate, or say "
            "public_url: https://NAME where a proxy in front speaks TLS",
        )


def _dial_strings(config: Config) -> Iterator[Finding]:
    if "9911" not in config.emergency.numbers:
        yield Finding(
            ("emergency", "numbers"),
            "9911 is not listed: where 9 gives an outside line, 9-911 is an ordinary call; list it",
        )
    if not config.emergency.test_numbers:
        yield Finding(
            ("emergency", "test_numbers"), "no test number: the way to the provider cannot be tried; list 933"
        )


def _default_site(config: Config) -> Iterator[Finding]:
    default = config.emergency.default.site
    if default is None:
        path = ("emergency", "default")
        yield Finding(
            path,
            "no default site: callers whom no site claims have no site address and perhaps no callback number, "
            "and every contact is told",
        )
    if not config.locations.sources:
        yield Finding(
            ("locations", "sources"), "no source: nobody's location is known, and every 911 call goes by basic 911"
        )
    if not config.sites:
        yield Finding(("sites",), "no site: only registered devices have a location, all others go by basic 911")


def _people(config: Config) -> Iterator[Finding]:
    if not config.contacts:
        yield Finding(
            ("contacts",),
            "no contacts: nobody on site is told of a 911 call, which 47 CFR 9.16(b)(2) asks for",
        )
        return
    for number, site in enumerate(config.sites):
        if not site.notify:
            yield Finding(
                ("sites", number, "notify"),
                "no contacts of its own: those of the default site are told of 911 calls from here, else all",
            )
    for name, contact in config.contacts.items():
        if contact.escalate_to and contact.escalate_after is None:
            yield Finding(
                ("contacts", name, "escalate_to"),
                "never told by this: escalate_after is missing, such as escalate_after: 60s",
            )
        if not contact.send:
            yield Finding(
                ("contacts", name, "send"),
                "no address to send to: this contact is never told; add mailto:, json: or sip:",
            )


def _interfaces(config: Config) -> Iterator[Finding]:
    """Trunks that name no interface although several fit."""
    for key, trunk in config.trunks.items():
        if trunk.listen is not None:
            continue
        for path, peer in list(trunk_targets(key, trunk))[:1]:
            address = peer_ip(peer)
            names = {
                listen.name
                for listen in config.listen
                if listen.name is not None
                and listen.transport == (peer.transport or "udp")
                and (address is None or (":" in listen.host) is (address.version == 6))
            }
            if len(names) > 1:
                yield Finding(
                    path,
                    f"{' and '.join(sorted(names))} fit: calls leave by the one whose address the system sends from; "
                    f"write listen: {min(names)} or another",
                )


def _wildcards(config: Config) -> Iterator[Finding]:
    """[::] where phones with IPv4 addresses are expected and nothing hears them: it is IPv6's alone."""
    if all(":" in listen.host for listen in config.listen) and any(
        network.version == 4 for network in config.networks.inside
    ):
        for index, listen in enumerate(config.listen):
            if listen.host == "::":
                yield Finding(
                    ("listen", index),
                    f"[::] hears IPv6 only, and networks.inside has IPv4 addresses: add {listen.transport}://0.0.0.0:"
                    f"{listen.port}",
                )


def _location_servers(config: Config) -> Iterator[Finding]:
    servers = list(location_servers(config))
    is_source = LocationSource.HELD in config.locations.sources
    if servers and not is_source:
        yield Finding(servers[0][0], "not asked: locations.sources leaves held out; add it at its place")
    if is_source and not servers:
        yield Finding(
            ("locations", "sources"), "held: no location server is configured, so it never knows; write locations.lis"
        )
    for path, lis in servers:
        if lis.fresh > lis.keep:
            yield Finding((*path, "keep"), "shorter than fresh: an answer is given up before it is asked for again")


def _reference_hosts(config: Config) -> Iterator[Finding]:
    locations = config.locations
    is_expected = bool(config.emergency.all_calls_from) or "reference_timeout" in locations.model_fields_set
    if is_expected and LocationSource.CONVEYED in locations.sources and not locations.reference_hosts:
        yield Finding(
            ("locations", "reference_hosts"),
            "missing: a caller's location by reference is asked of any host that the caller names, inside ones too; "
            "list your location servers",
        )


def _location_from(config: Config) -> Iterator[Finding]:
    for key, trunk in config.trunks.items():
        if trunk.location_from == "none":
            continue
        path: Steps = ("trunks", key, "location_from")
        if trunk.side == "outside":
            yield Finding(
                path, "not used: phones are behind inside trunks only; write side: inside, if this is a PBX"
            )
        elif LocationSource.NETWORK not in config.locations.sources:
            yield Finding(path, "not used: locations.sources leaves network out; add it")
        elif not any(site.networks or any(zone.networks for zone in site.zones) for site in config.sites):
            yield Finding(path, "not used: no site or zone has networks to find a phone's address in; list them")


def _private_media(config: Config) -> Iterator[Finding]:
    private = [
        str(network)
        for network in config.networks.inside
        if is_private(network.network_address) and not network.is_loopback
    ]
    public = [
        (key, path)
        for key, trunk in config.trunks.items()
        if trunk.side == "outside" and trunk.private_media == "warn"
        for path, peer in list(trunk_targets(key, trunk))[:1]
        if (address := peer_ip(peer)) is None or not is_private(address)
    ]
    if private and public:
        names = ", ".join(key for key, _ in public)
        yield Finding(
            public[0][1],
            f"phones in {', '.join(private)} give private addresses for media, which mean nothing to {names}: "
            "callers may not be heard; where the far end sends media back to where it comes from, or a border "
            "controller stands between, write private_media: expected",
        )


def _emergency_names(config: Config) -> Iterator[Finding]:
    """911 by names alone: before DNS has answered for the first time, no route can be had."""
    emergency = config.emergency
    lists = [
        (
            emergency.routes if site.routes is None else site.routes,
            emergency.basic if site.basic is None else site.basic,
        )
        for site in config.sites
    ] or [(emergency.routes, emergency.basic)]
    for routes, basic in lists:
        names = dict.fromkeys([*(route.trunk for route in routes), *(route.trunk for route in basic)])
        used = [name for name in names if name in config.trunks]
        targets = [found for key in used for found in trunk_targets(key, config.trunks[key])]
        if targets and all(peer_ip(peer) is None for _, peer in targets):
            yield Finding(
                targets[0][0],
                f"only a name, as every target of {', '.join(used)}: until DNS has answered once, 911 calls fail; "
                "write targets: [sip:NAME, sip:ADDRESS] for one of them",
            )
            return


def _callback(site: SiteConfig, path: Steps, default_callback: str) -> Iterator[Finding]:
    if site.callback and not dialable(site.callback):
        yield Finding(
            (*path, "callback"), "not a number a PSAP can call back, so it is not shown; write +12125550100"
        )
    elif not site.callback and not default_callback:
        yield Finding(
            (*path, "callback"),
            "no callback number: a 911 call from a phone here without a number of its own leaves without one, "
            "and the PSAP cannot call back",
        )


def _trunks_inside(
    trunks: list[tuple[str, IPv4Address | IPv6Address]], site: SiteConfig, path: Steps
) -> Iterator[Finding]:
    for where, network in _site_networks(site, path):
        for key, address in trunks:
            if address in network:
                yield Finding(
                    where,
                    f"trunk {key} lies in this network: its address says nothing about where a phone is, "
                    "and the network is not used for calls from it",
                )


def _outside_inside(config: Config, site: SiteConfig, path: Steps) -> Iterator[Finding]:
    if not config.networks.inside:
        return
    refused = "calls from there are refused"
    if config.emergency.from_unlisted == "refuse":
        refused += ", 911 calls too"
    for where, network in _site_networks(site, path):
        if not any(_contains(inside, network) for inside in config.networks.inside):
            yield Finding(
                where,
                f"{network} is not in networks.inside: {refused}; add it there",
            )


def _same_networks(config: Config) -> Iterator[Finding]:
    seen: dict[IPNetwork, Steps] = {}
    for number, site in enumerate(config.sites):
        for where, network in _site_networks(site, ("sites", number)):
            first = seen.setdefault(network, where)
            of_one_site = first[:2] == where[:2] and ("zones" in first) != ("zones" in where)
            if first is not where and not of_one_site:
                yield Finding(
                    where, f"{network} is also {path_text(first)}: only one of them can be where a phone is"
                )


def _same_numbers(config: Config) -> Iterator[Finding]:
    seen: dict[str, Steps] = {}
    for number, site in enumerate(config.sites):
        for position, pattern in enumerate(site.numbers):
            where: Steps = ("sites", number, "numbers", position)
            first = seen.setdefault(pattern.upper(), where)
            if first[1] != number:
                yield Finding(
                    where, f"{pattern} is also {path_text(first)}: such a number tells neither site; keep one"
                )


def _covers(config: Config) -> Iterator[Finding]:
    for path, routes in emergency_lists(config, basic=False):
        if path[0] == "sites":
            places = [site for site in config.sites if site.routes is routes]
        else:
            places = [site for site in config.sites if site.routes is None]
        regions = {region for site in places for region in _regions(site)}
        for position, route in enumerate(routes):
            covers = getattr(route, "covers", [])
            if covers and regions and not regions & set(covers):
                yield Finding(
                    (*path, position, "covers"),
                    f"no site lies in {', '.join(covers)}: only devices registered there use this route",
                )
    for number, site in enumerate(config.sites):
        country, state = site.address.country.upper(), site.address.state.upper()
        routes = config.emergency.routes if site.routes is None else site.routes
        if (
            country
            and routes
            and not any({country, f"{country}-{state}"} & {*route.covers} or not route.covers for route in routes)
        ):
            place = f"{country}-{state}" if state else country
            yield Finding(
                ("sites", number, "address"),
                f"no E911 route covers {place}: 911 calls from here go by basic 911, without the caller's location",
            )


def _tls_trunks(config: Config) -> Iterator[Finding]:
    transports = {listen.transport for listen in config.listen}
    emergency = {route.trunk for _, routes in emergency_lists(config) for route in routes}
    for key, trunk in config.trunks.items():
        if not trunk.uses_tls:
            if trunk.tls.ca is not None or trunk.tls.name is not None:
                yield Finding(
                    ("trunks", key, "tls"),
                    "not used: the target does not say TLS; write ;transport=tls, or policy: prefer for 911 calls",
                )
            continue
        if "tls" not in transports:
            yield Finding(
                ("trunks", key),
                "TLS, and no tls:// listening point: what this trunk asks later in a call, such as its BYE, "
                "it is told to send without TLS; add tls://ADDRESS:PORT to listen",
            )
        if key in emergency and trunk.tls.policy != "require":
            missing = " and ".join(name for name in ("tcp", "udp") if name not in transports)
            if missing:
                yield Finding(
                    ("trunks", key),
                    f"where TLS fails, 911 calls go on without it, and for {missing} there is no listening point "
                    f"to which it could answer; add {missing.partition(' ')[0]}://ADDRESS:PORT to listen",
                )


def _i3_without_tls(config: Config) -> Iterator[Finding]:
    for path, routes in emergency_lists(config):
        for position, route in enumerate(routes):
            trunk = config.trunks.get(route.trunk)
            if getattr(route, "profile", "") == "i3" and trunk is not None and not trunk.uses_tls:
                yield Finding(
                    (*path, position, "trunk"),
                    f"an ESInet is reached by TLS, and trunk {route.trunk} is not: write ;transport=tls in its "
                    "target, or tls: prefer; where TLS fails the call goes by tcp or udp",
                )


def _regions(site: SiteConfig) -> Iterator[str]:
    country, state = site.address.country.upper(), site.address.state.upper()
    if country:
        yield country
        yield f"{country}-{state}"


def _shadowed_profiles(profiles: dict[str, ProviderProfile], directory: Path) -> Iterator[Finding]:
    for name in profiles:
        own = directory / "profiles" / f"{name}.yaml"
        if (BUILT_IN / f"{name}.yaml").is_file() and own.is_file():
            yield Finding(
                ("emergency", "routes"), f"{own} is not used: {name} is a built-in profile; give yours another name"
            )


def _site_networks(site: SiteConfig, path: Steps) -> Iterator[tuple[Steps, IPNetwork]]:
    for position, network in enumerate(site.networks):
        yield (*path, "networks", position), network
    for number, zone in enumerate(site.zones):
        for position, network in enumerate(zone.networks):
            yield (*path, "zones", number, "networks", position), network


def _contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    return outer.version == inner.version and outer.supernet_of(inner)  # type: ignore[arg-type] # same version
