"""What a 911 call of each registered phone would get, by the very decision that calls get (router.emergency)."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

from e911.dispatchable import dispatchability
from e911.locate import DeviceTable, LocationDecision
from e911.location import Device, DeviceKind, LocationSource
from e911.numbers import CallKind
from e911.wiremap import NO_WIREMAP, WiremapTable
from router.emergency.decision import plan_call
from router.emergency.explain import synthetic_invite
from router.emergency.rules import Rules
from router.network.sources import Side, Source
from sip.errors import RemoteError

COUNTS = ("phones", "dispatchable", "located", "basic", "nowhere", "without_callback")
SHOWN_DEVICES = 20
"""Devices named for each reason."""
NO_CALLBACK = "no-callback"
_INSIDE = Source(Side.INSIDE, is_trunk_address=False, trust_identity=False)


@dataclass(slots=True, kw_only=True)
class SitePhones:
    """The phones of one site (`site` empty: of none)."""

    site: str
    phones: int = 0
    dispatchable: int = 0
    """Would reach E911 with a location to which help can be sent."""
    located: int = 0
    """Would reach E911 with a location that lacks something."""
    basic: int = 0
    """Would reach basic 911 only: the caller says where they are."""
    nowhere: int = 0
    """No route at all would take the call."""
    without_callback: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Why phones are not among the dispatchable ones, or cannot be called back."""
    reasons_of: dict[str, Counter[str]] = field(default_factory=dict)
    """The same for each of the counts above."""
    named: dict[str, list[str]] = field(default_factory=dict)
    """Some devices for each reason."""

    def as_document(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {name: getattr(self, name) for name in COUNTS} | {
            "site": self.site,
            "reasons": dict(self.reasons.most_common()),
            "named": self.named,
        }

    def add(self, kind: str, device: str, reasons: Sequence[str]) -> None:
        """Count one phone."""
        self.phones += 1
        setattr(self, kind, getattr(self, kind) + 1)
        for reason in reasons:
            self.reasons[reason] += 1
            of_kind = "without_callback" if reason == NO_CALLBACK else kind
            self.reasons_of.setdefault(of_kind, Counter())[reason] += 1
            some = self.named.setdefault(reason, [])
            if len(some) < SHOWN_DEVICES:
                some.append(device)


def phones_of_sites(
    rules: Rules,
    devices: DeviceTable,
    *,
    now: float,
    wiremap: WiremapTable = NO_WIREMAP,
    down: Set[str] = frozenset(),
    progress: Callable[[int], None] = lambda _: None,
) -> list[SitePhones]:
    """All registered phones, by site; sites without phones too. down: trunks that do not answer; progress: told how
    many are done, now and then."""
    found = {site.id: SitePhones(site=site.id) for site in rules.config.sites}
    for number, device in enumerate(devices, start=1):
        _judge(rules, devices, wiremap, device, now, down, found)
        if number % 500 == 0:
            progress(number)
    return list(found.values())


def total_of(sites: Iterable[SitePhones]) -> SitePhones:
    """All of them together."""
    total = SitePhones(site="")
    for one in sites:
        for name in COUNTS:
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.reasons += one.reasons
    return total


def _judge(
    rules: Rules,
    devices: DeviceTable,
    wiremap: WiremapTable,
    device: Device,
    now: float,
    down: Set[str],
    found: dict[str, SitePhones],
) -> None:
    try:
        request = synthetic_invite(device.device, "911", "")
        plan = plan_call(rules, devices, request, _INSIDE, "", CallKind.EMERGENCY, wiremap=wiremap, now=now)
    except (RemoteError, ValueError):
        found.setdefault(device.site, SitePhones(site=device.site)).add(
            "nowhere", device.device, ["device-not-callable"]
        )
        return
    decision = plan.decision
    site = decision.site
    of_site = found.setdefault(site.id if site else "", SitePhones(site=site.id if site else ""))
    reasons: list[str] = []
    if decision.device is None:
        reasons.append(decision.device_reason)
    # A trunk that does not answer is tried all the same; but what works now is what is asked here.
    first = next((step for step in plan.ladder if step.trunk not in down), plan.ladder[0] if plan.ladder else None)
    problems = _problems(decision, device)
    if first is None:
        kind = "nowhere"
        reasons += ["no-route"]
    elif first.kind == "basic":
        kind = "basic"
        if first is not plan.ladder[0] and plan.ladder[0].kind != "basic":
            reasons += ["trunk-down"]
        else:
            reasons += problems or [step.skipped for step in plan.steps if step.skipped][:1] or ["no-e911-route"]
    elif first.with_location or first.profile is None or not first.profile.needs_location:
        kind = "dispatchable" if not problems and decision.device is not None else "located"
        reasons += problems
    else:
        kind = "located"
        reasons += problems
    if not decision.callback:
        of_site.without_callback += 1
        reasons.append(NO_CALLBACK)
    of_site.add(kind, device.device, reasons)


def _problems(decision: LocationDecision, device: Device) -> list[str]:
    """Why help could not be sent to where the call would say that the phone is."""
    location = decision.location
    is_of_site = location is not None and location.source == LocationSource.SITE
    # A device that says itself where it is, and names no site, is in none of its buildings.
    reasons = list(dispatchability(location, decision.site if is_of_site or device.site else None).reasons)
    if is_of_site and decision.site_reason == "default-site":
        reasons.append("default-site")
    elif (
        device.kind is DeviceKind.OFF_PREMISES
        and device.site
        and not (device.point or device.civic.has_street_address or device.zone)
    ):
        reasons.append("no-address-of-its-own")
    return reasons
