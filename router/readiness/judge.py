"""What is to be mended, from what was found; pure."""

import re
from collections import Counter
from collections.abc import Iterator

from config.schema import SiteConfig
from router.notices.channel_identity import channel_id
from router.readiness.findings import Finding, Severity
from router.readiness.look import Look, down_trunks
from router.readiness.phones import SitePhones
from router.self_test.schedule import routes_of

UNPROVEN_SECONDS = 90 * 86_400.0
"""A channel that took no notice for so long is to be tried."""
OLD_TEST_SECONDS = 35 * 86_400.0
NOTICES_SILENT_SECONDS = 60.0
NAMED = 5
"""Phones that are named for each reason; `named` of `edge911 doctor --json` has more."""
_SITE = re.compile(r"sites\[(\d+)\]")

_PHONES = {
    "unknown-device": "it is not registered under the name it uses; `edge911 locations set`",
    "other-domain": "another device is registered by that user part in its own domain; register it as NAME@HOST",
    "ambiguous-device": "several registered devices have this name; register them as NAME@HOST",
    "no-location": "give the device a street and city, or its site an address: `edge911 locations set`",
    "default-site": "nobody says where it is, and `emergency.default` is a guess: give it a site or an address "
    "(`edge911 locations set`)",
    "no-address-of-its-own": "it is off-premises, and its site's address is sent: give it its own "
    "(`edge911 locations set`)",
    "trunk-down": "its E911 routes lead to trunks that do not answer; mend them, or add a route by another",
    "device-not-callable": "register it under a name that a SIP URI can have",
    "no-floor-or-room": "the site has several storeys; give floor, room or unit",
    "unknown-floor": "the floor is none of the site's `floors`; correct one of them",
    "address-invalid": "the LVF knows no such address: correct the parts that its validation names",
    "no-callback": "give the device or its site a callback number, or lend ELINs (`elins`)",
    "no-route": "list an E911 route, or a basic one",
    "no-e911-route": "list an E911 route that covers the site",
    "does-not-cover": "no E911 route covers this place; add one, or correct `covers`",
    "location-unconfirmed": "its user must confirm where it is: send the link (`edge911 locations link`), or "
    "`edge911 locations set DEVICE confirmed_at=now`",
    "location-expired": "its location has ended: have it confirmed anew by the link (`edge911 locations link`), or "
    "set a later `expires_at`",
}
_GENERAL = "`edge911 explain DEVICE 911` says why; `edge911 locations set` corrects it"


def findings_of(look: Look) -> list[Finding]:
    """All findings, the worst first."""
    found = [
        *_processes(look),
        *_trunks(look),
        *_contacts(look),
        *_phones(look),
        *_validations(look),
        *_places_validated(look),
        *_tests(look),
        *_configuration(look),
    ]
    order = [Severity.CRITICAL, Severity.WARNING, Severity.OK]
    return sorted(found, key=lambda finding: (order.index(finding.severity), finding.site, finding.name))


def _processes(look: Look) -> Iterator[Finding]:
    if look.calls.is_stale(look.now):
        yield Finding(
            severity=Severity.CRITICAL,
            name="router-not-running",
            message="the call process gives no sign of life: no call passes this node",
            remedy="start it (`edge911 run`, or its service), and see its log for why it ended",
        )
    elif not look.calls.is_serving:
        yield Finding(
            severity=Severity.WARNING,
            name="router-stopping",
            message="the call process is stopping: 911 is still served, new ordinary calls are not",
            remedy="nothing, where somebody stopped it; else see its log",
        )
    at = look.notices.get("at")
    if not look.calls.is_stale(look.now) and (
        not isinstance(at, int | float) or look.now - at > NOTICES_SILENT_SECONDS
    ):
        yield Finding(
            severity=Severity.CRITICAL,
            name="notices-not-running",
            message="the notices process gives no sign of life: nobody would be told of a 911 call in time",
            remedy="see the log for why it ends; it is started again by itself",
        )
    if look.database not in ("ok", ""):
        yield Finding(
            severity=Severity.CRITICAL,
            name=look.database,
            message="the database cannot be used: calls go on with the last known locations, records wait",
            remedy="docs/reasons.md says what to do under this name",
        )


def _trunks(look: Look) -> Iterator[Finding]:
    config = look.loaded.config
    if look.calls.is_stale(look.now):
        return
    down = down_trunks(look.calls)
    carrying = {site.id: _trunks_of(look, site) for site in config.sites}
    emergency = {route.trunk for route in config.emergency.routes} | {one.trunk for one in config.emergency.basic}
    emergency = emergency.union(*carrying.values())
    for name in sorted(down):
        carries = name in emergency
        yield Finding(
            severity=Severity.CRITICAL if carries else Severity.WARNING,
            name="trunk-down",
            subject=name,
            message="does not answer; 911 calls go by the other routes" if carries else "does not answer",
            remedy="ask its operator, and look at the way there; the console's page Trunks says since when",
        )
    for site in config.sites:
        trunks = carrying[site.id]
        if trunks and trunks <= down:
            yield Finding(
                severity=Severity.CRITICAL,
                name="no-route-alive",
                site=site.id,
                message="every route of this site leads to a trunk that does not answer: a 911 call may fail",
                remedy="mend a trunk, or add a route by another one",
            )


def _trunks_of(look: Look, site: SiteConfig) -> set[str]:
    """The trunks by which 911 calls of a site may go."""
    emergency = look.loaded.config.emergency
    routes = site.routes if site.routes is not None else emergency.routes
    basic = site.basic if site.basic is not None else emergency.basic
    return {route.trunk for route in routes} | {last.trunk for last in basic}


def _contacts(look: Look) -> Iterator[Finding]:
    config = look.loaded.config
    used = {name for site in config.sites for name in site.notify}
    if any(not site.notify for site in config.sites) or not config.sites:
        used |= set(config.contacts)
    if not config.contacts:
        yield Finding(
            severity=Severity.CRITICAL,
            name="no-contacts",
            message="nobody on site is told of a 911 call (47 CFR 9.16(b)(2))",
            remedy="list contacts, and name them in each site's `notify`",
        )
    for name in sorted(used & set(config.contacts)):
        for channel, url in enumerate(config.contacts[name].send):
            at = look.proven.get((name, channel_id(url)))
            if look.database == "ok" and (at is None or look.now - at > UNPROVEN_SECONDS):
                said = "has never taken a notice"
                if at is not None:
                    said = f"took no notice for {int((look.now - at) / 86_400)} days"
                yield Finding(
                    severity=Severity.WARNING,
                    name="channel-not-proven",
                    subject=f"{name} {channel + 1}",
                    message=said,
                    remedy="send a test notice: the console's page Contacts, or `edge911 contacts test`",
                )


def _phones(look: Look) -> Iterator[Finding]:
    for of_site in look.phones:
        yield from _phones_of(of_site)


def _phones_of(of_site: SitePhones) -> Iterator[Finding]:
    for kind, name, severity, message in (
        ("nowhere", "phones-without-route", Severity.CRITICAL, "have no route that would take their 911 call"),
        (
            "basic",
            "phones-basic-only",
            Severity.WARNING,
            "reach basic 911 only: callers must say where they are",
        ),
        (
            "located",
            "phones-not-dispatchable",
            Severity.WARNING,
            "reach E911 with a location that is not enough to send help",
        ),
        (
            "without_callback",
            "phones-without-callback",
            Severity.WARNING,
            "show no number that a PSAP could call back",
        ),
    ):
        count = getattr(of_site, kind)
        if not count:
            continue
        common = of_site.reasons_of.get(kind, Counter()).most_common(5)
        reasons = ", ".join(f"{reason} ({number}: {_some(of_site, reason)})" for reason, number in common)
        remedies = list(dict.fromkeys(_PHONES.get(reason, _GENERAL) for reason, _ in common))
        yield Finding(
            severity=severity,
            name=name,
            site=of_site.site,
            subject=str(count),
            message=f"{count} of {of_site.phones} phones {message}: {reasons}",
            remedy="; ".join(remedies) or _GENERAL,
        )


def _some(of_site: SitePhones, reason: str) -> str:
    names = of_site.named.get(reason, [])
    return ", ".join([*names[:NAMED], "…"] if len(names) > NAMED else names)


def _validations(look: Look) -> Iterator[Finding]:
    for site, number in sorted(look.not_validated.items()):
        yield Finding(
            severity=Severity.WARNING,
            name="locations-not-validated",
            site=site,
            subject=str(number),
            message=f"the addresses of {number} devices are not known to be valid: invalid, unknown or not asked yet",
            remedy="`edge911 locations validate` asks the LVF and names what it does not know; correct the address",
        )


def _places_validated(look: Look) -> Iterator[Finding]:
    for site, found in sorted(look.places_not_validated.items()):
        yield Finding(
            severity=Severity.WARNING,
            name="site-address-not-validated",
            site=site,
            subject=str(len(found)),
            message="addresses in the configuration are not known to be valid: "
            + ", ".join(f"{name} ({words})" for name, words in found[:NAMED])
            + (", …" if len(found) > NAMED else ""),
            remedy="`edge911 locations validate` asks the LVF and names what it does not know; correct the address "
            "in the configuration",
        )


def _tests(look: Look) -> Iterator[Finding]:
    config = look.loaded.config
    sites: dict[str, SiteConfig] = {site.id: site for site in config.sites}
    for (site, route), test in sorted(look.tests.items()):
        if (
            site in sites
            and not test.has_passed
            and (site, route) not in look.tested_elsewhere
            and _is_current(look, site, route)
        ):
            yield Finding(
                severity=Severity.CRITICAL,
                name="self-test-failed",
                site=site,
                subject=route,
                message=f"the last 933 test call failed: {test.reason} {test.words}".rstrip(),
                remedy="call the provider; `edge911 self-test run` tries it again",
            )
    if look.database != "ok":
        return
    for tested, route in routes_of(config, config.self_test.sites if config.self_test else []):
        last = look.tests.get((tested.id, route))
        elsewhere = look.tested_elsewhere.get((tested.id, route), "")
        # One that failed is told above, until one passes.
        is_other = last is not None and last.has_passed and (tested.id, route) in look.tested_otherwise
        if last is None or elsewhere or is_other or look.now - last.started_at > OLD_TEST_SECONDS:
            when = "yet" if last is None else "for more than a month"
            if is_other:
                when = "since its calls are made otherwise: profile, trunk, address or callback number were changed"
            if elsewhere:
                when = f"since the route leads elsewhere: the last one went to {elsewhere}"
            yield Finding(
                severity=Severity.WARNING,
                name="route-not-tested",
                site=tested.id,
                subject=route,
                message=f"no 933 test call {when}",
                remedy="`edge911 self-test run`, or `self_test:` in the configuration for one every night",
            )


def _is_current(look: Look, site: str, route: str) -> bool:
    return any(one.id == site and name == route for one, name in routes_of(look.loaded.config, [site]))


def _configuration(look: Look) -> Iterator[Finding]:
    for problem in look.warnings:
        yield Finding(
            severity=Severity.WARNING,
            name="configuration-warning",
            site=_site_of(look, problem.path),
            subject=problem.path,
            message=problem.message,
            remedy=f"see {problem.file}:{problem.line}",
        )


def _site_of(look: Look, path: str) -> str:
    """The site whose section a path is in, or empty."""
    found = _SITE.match(path)
    sites = look.loaded.config.sites
    return sites[int(found[1])].id if found and int(found[1]) < len(sites) else ""
