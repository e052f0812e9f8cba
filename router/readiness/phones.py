"""What a 911 call of each registered phone would get, by the very decision that calls get (router.emergency)."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from e911.dispatchable import dispatchability
from e911.locate import DeviceTable
from e911.location import Device
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
    """Why phones are not among the dispatchable ones."""
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
            some = self.named.setdefault(reason, [])
            if len(some) < SHOWN_DEVICES:
                some.append(device)


def phones_of_sites(
    rules: Rules,
    devices: DeviceTable,
    *,
    now: float,
    wiremap: WiremapTable = NO_WIREMAP,
    progress: Callable[[int], None] = lambda _: None,
) -> list[SitePhones]:
    """All registered phones, by site; sites without phones too. progress: told how many are done, now and then."""
    found = {site.id: SitePhones(site=site.id) for site in rules.config.sites}
    for number, device in enumerate(devices, start=1):
        _judge(rules, devices, wiremap, device, now, found)
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
    first = plan.ladder[0] if plan.ladder else None
    judged = dispatchability(decision.location, site)
    if first is None:
        kind = "nowhere"
        reasons += ["no-route"]
    elif first.kind == "basic":
        kind = "basic"
        reasons += judged.reasons or [step.skipped for step in plan.steps if step.skipped][:1] or ["no-e911-route"]
    elif first.with_location or first.profile is None or not first.profile.needs_location:
        kind = "dispatchable" if judged.is_dispatchable and decision.device is not None else "located"
        reasons += judged.reasons
    else:
        kind = "located"
        reasons += judged.reasons
    if not decision.callback:
        of_site.without_callback += 1
        reasons.append("no-callback")
    of_site.add(kind, device.device, reasons)
