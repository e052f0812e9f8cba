"""URIs of a provider profile with `{…}` in them, filled in for one call: From, identity, Request-URI, Geolocation.

A text that names what is not known of this call is not used: what then happens in its stead is the profile's
default, and the reason has a name. Whatever the values are, what comes out is one URI in printable ASCII.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote

from e911.locate import LocationDecision
from e911.location import LocationSource
from e911.numbers import dialable

PLACEHOLDERS = ("host", "domain", "callback", "callback_digits", "number", "location_id", "endpoint_id")
"""What may stand in braces: the trunk's host (and port), our domain, the callback number (+E.164; an ELIN where one
is lent), its digits, the route's number, the provider's id of the place, and its id of the caller's line."""
_PLACEHOLDER = re.compile(r"\{([a-z_]*)\}")
_REASONS = {
    name: f"no-{name.replace('_', '-')}" if name != "callback_digits" else "no-callback" for name in PLACEHOLDERS
}
_HOSTS = ("host", "domain")
_SAFE_IN_USER = "-_.!~*'()&=+$,"
"""Beside letters and digits (RFC 3261 section 25.1, user): what an id may hold unescaped, but for ; ? and /."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallValues:
    """What the placeholders stand for in one call; empty where it is not known."""

    host: str = ""
    domain: str = ""
    callback: str = ""
    callback_digits: str = ""
    number: str = ""
    location_id: str = ""
    endpoint_id: str = ""


def values_of(
    decision: LocationDecision, *, host: str, domain: str, number: str = "", is_endpoint_place: bool = False
) -> CallValues:
    """The values for a call, from what was decided about it. is_endpoint_place: see endpoint_id_of."""
    callback = dialable(decision.callback)
    return CallValues(
        host=host,
        domain=domain,
        callback=callback,
        callback_digits=callback.removeprefix("+"),
        number=number,
        location_id=location_id_of(decision),
        endpoint_id=endpoint_id_of(decision, is_place=is_endpoint_place),
    )


def check_template(template: str) -> None:
    """Refuse, with ValueError, a text with placeholders that there are not, or that could be no URI."""
    for name in _PLACEHOLDER.findall(template):
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{one}}}" for one in PLACEHOLDERS)
            raise ValueError(f"{{{name}}} in {template!r} is nothing that is known of a call; there are {known}")
    bare = _PLACEHOLDER.sub("x", template)
    if not re.fullmatch(r"[!#-;=?-\[\]_a-z~]*", bare) or "{" in bare or "}" in bare:
        raise ValueError(f"{template!r} is no URI; write one such as sip:{{callback}}@{{domain}}")


def filled(template: str, values: CallValues) -> tuple[str, str]:
    """The text with its values, and an empty string; or an empty text and the reason, such as `no-endpoint-id`."""
    text = template
    for name in _PLACEHOLDER.findall(template):
        value = getattr(values, name)
        if not value:
            return "", _REASONS[name]
        if name not in _HOSTS:
            value = quote(value, safe=_SAFE_IN_USER)
        text = text.replace(f"{{{name}}}", value)
    return text, ""


def location_id_of(decision: LocationDecision) -> str:
    """The provider's id of the place that was decided on; empty where it has none, or the caller sent the place."""
    device = decision.device
    if device is not None and device.location_id and decision.is_as_registered:
        return device.location_id
    return _id_of_place(decision, "location_id")


def endpoint_id_of(decision: LocationDecision, *, is_place: bool = False) -> str:
    """The provider's id of the caller's line: the device's, else that of the zone or site decided on.

    is_place: nothing else tells the provider where the caller is (a query key, ESQK), so that an id counts only where
    the place that was decided on is its own.
    """
    device, zone, site = decision.device, decision.zone, decision.site
    if device is not None and device.endpoint_id and (not is_place or decision.is_as_registered):
        return device.endpoint_id
    if is_place:
        return _id_of_place(decision, "endpoint_id")
    if zone is not None and zone.endpoint_id:
        return zone.endpoint_id
    return site.endpoint_id if site is not None else ""


def _id_of_place(decision: LocationDecision, name: str) -> str:
    """The id of zone or site, where the place is theirs: not the caller's own, nor a device's with an address of its
    own. Who is shown an id of another place sends help there."""
    location, device, zone, site = decision.location, decision.device, decision.zone, decision.site
    if location is None or location.source is LocationSource.CONVEYED:
        return ""
    is_own = device is not None and location.source is LocationSource.REGISTERED
    if device is not None and is_own and (device.civic.has_street_address or device.point is not None):
        return ""
    if zone is not None and location.zone == zone.id and (of_zone := getattr(zone, name)):
        return str(of_zone)
    return str(getattr(site, name)) if site is not None and location.site == site.id else ""
