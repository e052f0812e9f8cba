"""Which routes a call has: the rungs of its ladder in order, and why others are left out."""

from collections.abc import Sequence
from dataclasses import dataclass

from config.schema import BasicRoute, EmergencyRoute
from e911.locate import LocationDecision
from e911.location import LocationSource, Site
from e911.numbers import CallKind
from e911.provider_profile import AddLocation, LocationConveyance, ProviderProfile
from router.emergency.rules import Rules

_CONVEYED = LocationSource.CONVEYED
"""Members of an enumeration are looked up slowly; this once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStep:
    """One rung of the ladder, or a route that was left out and why (`skipped`)."""

    name: str
    kind: str
    """`e911` or `basic`."""
    trunk: str
    host: str
    """Host and port of the trunk, as configured."""
    profile: ProviderProfile | None
    number: str
    timeout: float
    progress_timeout: float
    with_location: bool
    """True where the location goes along: ours, or the caller's own where that decided."""
    skipped: str = ""


Ladder = tuple[tuple[RouteStep, ...], tuple[RouteStep, ...]]
"""All routes of a call in order, those left out included, and those that will be tried."""


def ladder_for(rules: Rules, decision: LocationDecision, kind: CallKind) -> Ladder:
    """The routes of a call about whose caller this was decided."""
    location = decision.location
    place = location.civic if location else None
    if (place is None or not place.country) and decision.site is not None:
        place = decision.site.address
    located = location is not None
    is_conveyed = location is not None and location.source is _CONVEYED
    site = decision.site.id if decision.site else ""
    country, state = (place.country.upper(), place.state.upper()) if place else ("", "")
    key = (site, country, state, located, is_conveyed, kind)
    ladder = rules.ladders.get(key)
    if ladder is None:
        if len(rules.ladders) > 10_000:
            rules.ladders.clear()
        steps = tuple(_steps(rules, decision.site, country, state, located, is_conveyed, kind))
        ladder = rules.ladders[key] = steps, tuple(step for step in steps if not step.skipped)
    return ladder


def _steps(
    rules: Rules, site: Site | None, country: str, state: str, located: bool, is_conveyed: bool, kind: CallKind
) -> list[RouteStep]:
    routes, basic = rules.routes_for(site)
    steps = []
    for route in routes:
        profile = rules.profile_of(route)
        assert profile is not None
        skipped = ""
        if not covers(route.covers, country, state):
            skipped = "does-not-cover"
        elif profile.needs_location and not located and profile.add_location is not AddLocation.NEVER:
            skipped = "no-location"
        steps.append(_step(rules, route, "e911", profile, skipped, located=located, is_conveyed=is_conveyed))
    for last in basic:
        skipped = "test-call" if kind is CallKind.TEST else ""
        profile = rules.profile_of(last)
        steps.append(_step(rules, last, "basic", profile, skipped, located=located, is_conveyed=is_conveyed))
    return steps


def _step(
    rules: Rules,
    route: EmergencyRoute | BasicRoute,
    kind: str,
    profile: ProviderProfile | None,
    skipped: str,
    *,
    located: bool,
    is_conveyed: bool,
) -> RouteStep:
    carries = located and profile is not None and profile.location is not LocationConveyance.NONE
    if carries and profile is not None and profile.add_location is AddLocation.NEVER:
        carries = is_conveyed
    return RouteStep(
        name=route.name,
        kind=kind,
        trunk=route.trunk,
        host=rules.config.trunks[route.trunk].hostport,
        profile=profile,
        number=route.number or "",
        timeout=route.timeout,
        progress_timeout=route.progress_timeout,
        with_location=carries,
        skipped=skipped,
    )


def covers(areas: Sequence[str], country: str, state: str) -> bool:
    """True where a route's `covers` holds the place: its country, or its country and state (upper case).

    Without a list, or where the country is not known, a route counts as covering: trying it costs one round trip,
    not trying it may cost the call.
    """
    return not areas or not country or country in areas or f"{country}-{state}" in areas
