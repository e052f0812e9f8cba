"""Warnings about ELINs and callbacks: numbers that cannot be lent, and callbacks that would go astray."""

from collections.abc import Iterator

from config.findings import Finding, Steps
from config.problem import path_text
from config.schema import Config
from e911.numbers import dialable
from e911.provider_profile import ProviderProfile


def elins(config: Config, profiles: dict[str, ProviderProfile]) -> Iterator[Finding]:
    """Every warning about the pools of ELINs, the desks that take callbacks, and where callbacks come from."""
    yield from _numbers(config)
    yield from _desks(config)
    yield from _never_shown(config, profiles)
    has_pool = any(site.elins or any(zone.elins for zone in site.zones) for site in config.sites)
    marked = [name for name, trunk in config.trunks.items() if trunk.psap_callback]
    for name in marked:
        if config.trunks[name].side == "inside":
            yield Finding(
                ("trunks", name, "psap_callback"),
                "not used: this trunk is inside, and PSAPs call from outside; mark the carrier's trunk",
            )
    if has_pool and config.emergency.callback_window < 1800:
        yield Finding(
            ("emergency", "callback_window"),
            "short: a PSAP that calls back up to half an hour later (RFC 6881) does not reach the caller; write 3h",
        )


def pool_places(config: Config) -> Iterator[tuple[Steps, str]]:
    """Every ELIN as written, with its path: those of a site, then those of its zones."""
    for number, site in enumerate(config.sites):
        for position, elin in enumerate(site.elins):
            yield ("sites", number, "elins", position), elin
        for place, zone in enumerate(site.zones):
            for position, elin in enumerate(zone.elins):
                yield ("sites", number, "zones", place, "elins", position), elin


def _numbers(config: Config) -> Iterator[Finding]:
    emergency = {*config.emergency.numbers, *config.emergency.test_numbers}
    callbacks: dict[str, Steps] = {}
    persons: dict[str, Steps] = {}
    for place, site in enumerate(config.sites):
        if dialable(site.callback):
            callbacks.setdefault(dialable(site.callback), ("sites", place, "callback"))
        for position, pattern in enumerate(site.numbers):
            if dialable(pattern):  # one number, not a block that may hold ELINs too
                persons.setdefault(dialable(pattern), ("sites", place, "numbers", position))
    seen: dict[str, Steps] = {}
    for path, written in pool_places(config):
        number = "" if written in emergency else dialable(written)
        if not number:
            yield Finding(path, "not a number a PSAP can call back, so it is not lent; write +12125550191")
            continue
        if number in seen:
            yield Finding(
                path, f"{written} is also {path_text(seen[number])}, where it is lent; give each place its own"
            )
            continue
        seen[number] = path
        if number in callbacks:
            yield Finding(
                path,
                f"{written} is also {path_text(callbacks[number])}: while it is lent, calls to that number go to a "
                "phone that dialled 911; use a number of its own",
            )
        if number in persons:
            yield Finding(
                path,
                f"{written} is also {path_text(persons[number])}, somebody's own number: while it is lent, that "
                "person's calls go to a phone that dialled 911; use a number of its own",
            )


def _never_shown(config: Config, profiles: dict[str, ProviderProfile]) -> Iterator[Finding]:
    """ELINs of places for which a provider is shown an id of the line instead of a callback number."""
    for number, site in enumerate(config.sites):
        routes = site.routes if site.routes is not None else config.emergency.routes
        hiding = [
            f"{route.name} ({profile.name})"
            for route in routes
            if (profile := profiles.get(route.profile or "")) is not None
            and "{endpoint_id}" in profile.identity_uri
            and "{callback" not in profile.identity_uri + profile.from_uri
        ]
        if not hiding:
            continue
        for place, zone in enumerate(site.zones):
            if zone.elins and (zone.endpoint_id or site.endpoint_id):
                yield Finding(("sites", number, "zones", place, "elins"), _NOT_SHOWN.format(hiding[0]))
        if site.elins and site.endpoint_id:
            yield Finding(("sites", number, "elins"), _NOT_SHOWN.format(hiding[0]))


_NOT_SHOWN = (
    "not shown by route {}, which names endpoint_id: the PSAP calls back the number that the provider keeps for "
    "that; have it be the desk's, or take endpoint_id out"
)


def _desks(config: Config) -> Iterator[Finding]:
    for number, site in enumerate(config.sites):
        lent = bool(site.elins) or any(zone.elins for zone in site.zones)
        if lent and site.desk is None and not dialable(site.callback):
            yield Finding(
                ("sites", number),
                "ELINs, and neither desk nor callback: a PSAP that calls back a phone which does not answer reaches "
                "nobody; write desk: NUMBER",
            )
        desk = site.desk or ""
        if desk and not desk.lower().startswith(("sip:", "sips:")) and not config.routes.inbound:
            yield Finding(
                ("sites", number, "desk"),
                "a number, and routes.inbound is empty: it cannot be called; list the PBX there",
            )
