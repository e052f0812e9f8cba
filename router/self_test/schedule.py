"""Which test calls are due. Pure: configuration, what was tested when, and the time in; what to test out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from config.schema import Config, SiteConfig
from config.values import hostport_of
from e911.record import JournalEvent, RouteEvent

LATE_SECONDS = 6 * 3600.0
"""A test that could not be placed when it was due is placed up to so much later, then left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One test call to place."""

    site: str
    route: str
    moment: float
    """When it was due, seconds since 1970."""
    trunk: str = ""
    """The trunk that the route leads to."""

    @property
    def id(self) -> str:
        """The same on every node, so that one of them places it."""
        return f"{self.site}.{self.route}.{int(self.moment)}"


def routes_of(config: Config, sites: Sequence[str]) -> Iterator[tuple[SiteConfig, str]]:
    """These sites (none named: all), each with its E911 routes that serve it."""
    for site in config.sites:
        if sites and site.id not in sites:
            continue
        routes = site.routes if site.routes is not None else config.emergency.routes
        for route in routes:
            if covers_site(route.covers, site):
                yield site, route.name


def trunk_of(config: Config, site: SiteConfig, route: str) -> str:
    """Name of the trunk that a route of this site leads to: sites may have routes of one name, each its own. Empty
    where there is no such route."""
    routes = site.routes if site.routes is not None else config.emergency.routes
    return next((one.trunk for one in routes if one.name == route), "")


def went_elsewhere(config: Config, site: SiteConfig, route: str, events: Iterable[JournalEvent]) -> str:
    """Where a test of a route went, by the events of its record, if that is no place of the route's trunk (any more):
    it says nothing of the route as it is now. Empty where it went there, or nobody knows."""
    trunk = trunk_of(config, site, route)
    if trunk not in config.trunks:
        return ""
    uris = [event.request_uri for event in events if isinstance(event, RouteEvent) and event.route == route]
    sent = next((uri for uri in reversed(uris) if uri), "")
    here = {peer.hostport.lower() for peer in config.trunks[trunk].addresses}
    return sent if sent and hostport_of(sent).lower() not in here else ""


def covers_site(areas: list[str], site: SiteConfig) -> bool:
    """True where a route's `covers` holds the site's own address, as router.emergency.call_routes.covers has it."""
    country, state = site.address.country.upper(), site.address.state.upper()
    return not areas or not country or country in areas or f"{country}-{state}" in areas


def due_tests(config: Config, last: Mapping[tuple[str, str], float], now: float) -> list[Due]:
    """The tests that are due. last: when each site and route was tested, seconds since 1970."""
    section = config.self_test
    if section is None:
        return []
    found = []
    for site, route in routes_of(config, section.sites):
        moment = moment_before(section.at, section.days, site.timezone, now)
        if moment is None or now - moment > LATE_SECONDS:
            continue
        if last.get((site.id, route), 0.0) < moment:
            found.append(Due(site=site.id, route=route, moment=moment, trunk=trunk_of(config, site, route)))
    return found


def moment_before(at: str, days: Sequence[str], timezone: str, now: float) -> float | None:
    """The last time, not after `now`, that it was `at` (HH:MM) in a time zone on one of these days (none: any)."""
    zone = ZoneInfo(timezone)
    hour, _, minute = at.partition(":")
    today = datetime.fromtimestamp(now, zone)
    for back in range(9):
        day = today - timedelta(days=back)
        # A time that summer time leaves out is an hour later; one that comes twice is the first.
        moment = day.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0, fold=0)
        if moment.timestamp() > now:
            continue
        if not days or _DAYS[moment.weekday()] in days:
            return moment.timestamp()
    return None


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
