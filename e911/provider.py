"""The request that a provider profile makes of a call: Request-URI, header fields, location part.

What is made of a profile is data, as it is itself: the edits, which the router performs. Texts that came from the
wire (display names, ids) are made safe here; none can end a header field or begin another.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

from e911.additional_data import NO_CALL_DATA, Block, CallData, build_blocks
from e911.ascii_text import as_ascii
from e911.conveyed import NOTHING_CONVEYED, Conveyed, uri_of
from e911.lists import split_list
from e911.locate import LocationDecision
from e911.location import DispatchableLocation, LocationSource
from e911.numbers import CallKind, dialable
from e911.pidf_lo import build_pidf_lo
from e911.provider_profile import (
    AddLocation,
    CallerField,
    CallerLocation,
    DataConveyance,
    IdentityFields,
    LocationConveyance,
    LocationPosition,
    ProviderProfile,
)
from e911.provider_uris import CallValues, filled, values_of

_CID_SAFE = "@!$&'()*+,;=:~"
_UID_STRING = re.compile(r"[A-Za-z0-9]{10,32}")
_USUAL_NAME = re.compile(r"(?=.{1,64}\Z)[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")
_NOT_DOMAIN = re.compile(r"[^A-Za-z0-9.-]")
_NOT_USER = re.compile(r"[^A-Za-z0-9+*#.()-]")
_CALL_ID_PURPOSE = re.compile(r';\s*purpose\s*=\s*"?(?:emergency|nena)-callid\b', re.IGNORECASE)
_INCIDENT_ID_PURPOSE = re.compile(r';\s*purpose\s*=\s*"?(?:emergency|nena)-incidentid\b', re.IGNORECASE)
_WITHHOLDS = re.compile(r';\s*privacy\s*=\s*"?(?!off\b)', re.IGNORECASE)
_EMERGENCY_PURPOSE = re.compile(r';\s*purpose\s*=\s*"?(?:emergency-|nena-)', re.IGNORECASE)


# Members of an enumeration are looked up slowly (0.16 µs); these once.
_REMOVE = CallerField.REMOVE
_CALLBACK = CallerField.CALLBACK
_KEEP_FIELD = CallerField.KEEP
_ID = LocationConveyance.ID
_REFERENCE = LocationConveyance.REFERENCE
_NONE = LocationConveyance.NONE
_KEEP = IdentityFields.KEEP
_CONVEYED = LocationSource.CONVEYED
_NEVER = AddLocation.NEVER
_WINNER_ONLY = CallerLocation.WINNER_ONLY
_TOP_MOST = LocationPosition.TOP_MOST
_EMERGENCY = CallKind.EMERGENCY
_NO_VALUES = CallValues()


# Made on every emergency call and never changed; not frozen, for that triples the price of making one.


@dataclass(slots=True, kw_only=True)
class LocationPart:
    """The PIDF-LO body part (application/pidf+xml) and its Content-ID, without angle brackets."""

    content_id: str
    body: bytes


@dataclass(slots=True, kw_only=True)
class DataPart:
    """A block of additional data as a body part, and its Content-ID, without angle brackets."""

    content_id: str
    block: Block


@dataclass(slots=True, kw_only=True)
class ProviderRequest:
    """What to make of the caller's INVITE for one route.

    Performed in this order: `remove_fields` (by name, all of them), `set_fields` (every field of that name
    removed, this one put), `first_fields` and `add_fields` (put before or after those of that name, which stay as
    they are). No name is both removed and set. No value holds CR or LF; ours are ASCII, what is kept of a caller's
    is as given.
    """

    request_uri: str
    set_fields: tuple[tuple[str, str], ...] = ()
    remove_fields: tuple[str, ...] = ()
    first_fields: tuple[tuple[str, str], ...] = ()
    add_fields: tuple[tuple[str, str], ...] = ()
    location_part: LocationPart | None = None
    reference: bytes = b""
    """The document that the reference in Geolocation stands for; empty where there is no such reference."""
    data_parts: tuple[DataPart, ...] = ()
    """Blocks of additional data that go along as body parts."""
    data_references: tuple[Block, ...] = ()
    """Those that Call-Info refers to."""
    from_uri: str = ""
    """What From is to name in place of the caller; empty to leave it as it came."""
    shortfalls: tuple[str, ...] = ()
    """Why something is not as the profile would have it, by name (`no-endpoint-id`)."""


@dataclass(slots=True, kw_only=True)
class ExistingFields:
    """Raw values of the fields found in the caller's INVITE, one item per field line, in order."""

    geolocation: tuple[str, ...] = ()
    geolocation_routing: tuple[str, ...] = ()
    asserted_identity: tuple[str, ...] = ()
    """P-Asserted-Identity, where it is trusted."""
    call_info: tuple[str, ...] = ()
    resource_priority: tuple[str, ...] = ()
    priority: tuple[str, ...] = ()
    remote_party_id: tuple[str, ...] = ()


def adds_location(profile: ProviderProfile, decision: LocationDecision, conveyed: Conveyed) -> bool:
    """True where a location of ours goes along, in whatever form: the place that we decided on, or the document that
    a caller's reference gave. A location that the caller sent by value goes along by itself, and once more where
    others may not be able to read it where it stands, or where the provider reads an ELIN in ours."""
    location = decision.location
    if location is None or profile.location is _NONE:
        return False
    if profile.add_location is _NEVER:
        return False
    if location.source is not _CONVEYED or _shows_occupant(profile, decision):
        return True
    best = conveyed.best
    return best is not None and bool(best.document) and (profile.resolve_reference or best.needs_copy)


def _shows_occupant(profile: ProviderProfile, decision: LocationDecision) -> bool:
    """True where the provider reads something of ours, an ELIN, in the document: a caller's own does not have it."""
    return bool(profile.occupant) and bool(dialable(decision.callback))


def provider_request(
    profile: ProviderProfile,
    *,
    kind: CallKind,
    host: str,
    decision: LocationDecision,
    caller_display_name: str,
    call_id: str,
    domain: str,
    timestamp: float,
    with_location: bool,
    existing: ExistingFields,
    conveyed: Conveyed = NOTHING_CONVEYED,
    number: str = "",
    reference: str = "",
    no_reference: str = "reference-server-not-configured",
    data: CallData = NO_CALL_DATA,
    with_data: bool = True,
    is_private: bool = False,
) -> ProviderRequest:
    """The request that `profile` makes of an emergency or test call; never raises.

    `host` is the trunk's host (and port), `call_id` our record id, `domain` our FQDN, `timestamp` seconds
    since 1970, `number` the route's own. `with_location` False leaves our location out (a second try after 424).
    `conveyed` is what the caller sent. `reference` is the URI under which our location would be answered, empty where
    none is to be had (`no_reference` says why). `data` is what the configuration says for additional data, left out
    where `with_data` is False; `is_private` says that the caller withholds the number. Sources: RFC 6442
    (Geolocation), RFC 3325 (P-Asserted-Identity), RFC 7135 (esnet), RFC 7852 (additional data), NENA-STA-010
    (Call-Info identifiers). Where no callback number is known the caller's own P-Asserted-Identity stays as it came:
    no invalid one is made up. Of a caller's `Geolocation-Routing: no` nothing is left where a location is to be used,
    for an emergency proxy does not obey it (RFC 6881), unless the profile says `if-absent`.
    """
    uid = _uid_string(call_id)
    domain = _safe_domain(domain)
    fields_set, fields_removed = _identity(decision, caller_display_name, domain)
    from_uri = ""
    shortfalls: list[str] = []
    values = _NO_VALUES
    if profile.has_templates:
        values = values_of(
            decision, host=host, domain=domain, number=number, is_endpoint_place=profile.location is _NONE
        )
        from_uri, shortfalls = _templates(profile, values, fields_set)
    if profile.identity is _KEEP:
        fields_removed = []
        if existing.asserted_identity:
            fields_set = []
    _caller_fields(profile, decision, caller_display_name, domain, existing, fields_set, fields_removed)
    fields_first: list[tuple[str, str]] = []
    fields_added: list[tuple[str, str]] = []

    part: LocationPart | None = None
    data_parts: list[DataPart] = []
    data_references: list[Block] = []
    document = b""
    shows_location = False
    is_conveyed = decision.location is not None and decision.location.source is _CONVEYED
    if with_location and decision.location and adds_location(profile, decision, conveyed):
        value, shortfall = _by_other_than_value(profile, values, reference, no_reference)
        _add_once(shortfalls, shortfall)
        if not value or profile.location is _REFERENCE:
            location, shortfall = _with_occupant(profile, decision.location, values)
            _add_once(shortfalls, shortfall)
            theirs = NOTHING_CONVEYED if _shows_occupant(profile, decision) else conveyed
            made = _location_part(location, decision, theirs, uid, domain, timestamp)
            if value:
                document = made.body
            else:
                part, value = made, f"<cid:{made.content_id}>"
        geolocation = ("Geolocation", value)
        if profile.caller_location is _WINNER_ONLY:
            fields_set.append(geolocation)
        elif profile.location_position is _TOP_MOST and (conveyed.location is None or conveyed.is_over(timestamp)):
            fields_first.append(geolocation)
        else:
            _put_best_first(profile, conveyed, existing, fields_set, fields_added)
            fields_added.append(geolocation)  # RFC 6442 section 4.2: the added value goes last
        shows_location = True
    elif is_conveyed and profile.location is not _NONE:
        shows_location = True
        _show_callers(profile, conveyed, existing, fields_set, fields_first, fields_added)
    if shows_location:
        if profile.geolocation_routing == "if-absent":
            if not existing.geolocation_routing:
                fields_set.append(("Geolocation-Routing", "yes"))
        elif profile.geolocation_routing:
            fields_set.append(("Geolocation-Routing", profile.geolocation_routing))

    if kind is _EMERGENCY:
        request_uri = profile.request_uri.replace("{host}", host)
        if "{" in request_uri:
            request_uri, missing = filled(profile.request_uri, values)
            if missing:
                request_uri = f"sip:911@{host}"
                _add_once(shortfalls, missing)
        fields_added += _emergency_marking(profile, existing, uid, domain)
        if profile.additional_data and with_data:
            blocks, missing_data = build_blocks(
                profile.additional_data,
                data,
                decision,
                reference=f"{uid}@{domain}",
                display_name=caller_display_name,
                is_private=is_private,
            )
            for missing in missing_data:
                _add_once(shortfalls, missing)
            by_reference = profile.additional_data_by is DataConveyance.REFERENCE
            if by_reference and not reference:
                _add_once(shortfalls, no_reference)
            for block in blocks:
                if by_reference and reference:
                    data_references.append(block)
                    uri = f"{reference}/{block.name}"
                else:
                    data_parts.append(DataPart(content_id=f"{block.name}.{uid}@{domain}", block=block))
                    uri = f"cid:{block.name}.{uid}@{domain}"
                fields_added.append(("Call-Info", f"<{uri}>;purpose={block.purpose}"))
        if profile.priority:
            fields_set.append(("Priority", profile.priority))
    else:
        # Anything that is not an emergency is a test here, and a test carries nothing that says emergency.
        request_uri = f"sip:{profile.test_number}@{host}"
        _remove_marking(existing, fields_set, fields_removed)
    return ProviderRequest(
        request_uri=request_uri,
        set_fields=tuple(fields_set),
        remove_fields=tuple(fields_removed),
        first_fields=tuple(fields_first),
        add_fields=tuple(fields_added),
        location_part=part,
        reference=document,
        data_parts=tuple(data_parts),
        data_references=tuple(data_references),
        from_uri=from_uri,
        shortfalls=tuple(shortfalls),
    )


def _by_other_than_value(
    profile: ProviderProfile, values: CallValues, reference: str, no_reference: str
) -> tuple[str, str]:
    """The Geolocation value that says where the location is; empty where it goes along by value, with the reason."""
    if profile.location is _ID:
        return filled(profile.geolocation, values)
    if profile.location is _REFERENCE:
        return (f"<{reference}>", "") if reference else ("", no_reference)
    return "", ""


def _templates(
    profile: ProviderProfile, values: CallValues, fields_set: list[tuple[str, str]]
) -> tuple[str, list[str]]:
    """The URI for From, and what could not be filled in; P-Asserted-Identity is changed in place."""
    from_uri, missing = filled(profile.from_uri, values)
    shortfalls = [missing] if missing else []
    if profile.identity_uri:
        uri, missing = filled(profile.identity_uri, values)
        if uri:
            name = fields_set[0][1].partition("<")[0] if fields_set else ""
            fields_set[:] = [("P-Asserted-Identity", f"{name}<{uri}>")]
        _add_once(shortfalls, missing)
    return from_uri, shortfalls


def _with_occupant(
    profile: ProviderProfile, location: DispatchableLocation, values: CallValues
) -> tuple[DispatchableLocation, str]:
    """The location with the name that the profile wants to see in it, and why not."""
    if not profile.occupant:
        return location, ""
    name, missing = filled(profile.occupant, values)
    return (replace(location, occupant=name), "") if name else (location, missing)


def _add_once(shortfalls: list[str], shortfall: str) -> None:
    if shortfall and shortfall not in shortfalls:
        shortfalls.append(shortfall)


def _show_callers(
    profile: ProviderProfile,
    conveyed: Conveyed,
    existing: ExistingFields,
    fields_set: list[tuple[str, str]],
    fields_first: list[tuple[str, str]],
    fields_added: list[tuple[str, str]],
) -> None:
    """Have the caller's own location shown: named, where the caller forgot to; alone, where the profile says so;
    first of the caller's, where the profile wants to see first what is to be routed by."""
    best = conveyed.best
    if best is None:
        return
    if not best.uri:
        fields = fields_first if profile.location_position is _TOP_MOST else fields_added
        fields.append(("Geolocation", f"<cid:{quote(best.content_id, safe=_CID_SAFE)}>"))
    elif profile.caller_location is _WINNER_ONLY and len(conveyed.values) > 1:
        fields_set.append(("Geolocation", f"<{best.uri}>"))
    else:
        _put_best_first(profile, conveyed, existing, fields_set, fields_added)


def _put_best_first(
    profile: ProviderProfile,
    conveyed: Conveyed,
    existing: ExistingFields,
    fields_set: list[tuple[str, str]],
    fields_added: list[tuple[str, str]],
) -> None:
    """Where the profile routes by the top-most value and the caller's first ones are of no use, the one that is goes
    before them; each value stays as it was written."""
    best = conveyed.best
    if best is None or not best.uri or best is conveyed.values[0] or profile.location_position is not _TOP_MOST:
        return
    lines = [[value for value in split_list(line) if value.strip()] for line in existing.geolocation]
    for values in lines:
        for value in values:
            if uri_of(value) == best.uri:
                values.remove(value)
                fields_set.append(("Geolocation", value.strip()))
                fields_added += [("Geolocation", ", ".join(map(str.strip, rest))) for rest in lines if rest]
                return


def basic_request(
    *,
    number: str,
    host: str,
    decision: LocationDecision,
    caller_display_name: str,
    domain: str,
    existing: ExistingFields,
) -> ProviderRequest:
    """A call to a third-party emergency call service: the number dialled there and the callback, no location."""
    fields_set, fields_removed = _identity(decision, caller_display_name, _safe_domain(domain))
    if fields_set:
        fields_removed += ["P-Preferred-Identity", *_withholding(existing)]
    return ProviderRequest(
        request_uri=f"sip:{user_part(number)}@{host}",
        set_fields=tuple(fields_set),
        remove_fields=tuple(fields_removed),
    )


def user_part(number: str) -> str:
    """A number to dial as the user part of a SIP URI."""
    return _NOT_USER.sub("", number).replace("#", "%23")


def _identity(decision: LocationDecision, display_name: str, domain: str) -> tuple[list[tuple[str, str]], list[str]]:
    """One P-Asserted-Identity, the callback number; caller-ID withholding (RFC 3323) overridden."""
    callback = dialable(decision.callback)
    if not callback:
        return [], ["Privacy"]
    name = quoted_display_name(display_name or (decision.device.name if decision.device else ""))
    identity = f"{name} " if name else ""
    return [("P-Asserted-Identity", f"{identity}<sip:{callback}@{domain};user=phone>")], ["Privacy"]


def _caller_fields(
    profile: ProviderProfile,
    decision: LocationDecision,
    display_name: str,
    domain: str,
    existing: ExistingFields,
    fields_set: list[tuple[str, str]],
    fields_removed: list[str],
) -> None:
    """P-Preferred-Identity and Remote-Party-ID as the profile says; never one that withholds the number we show."""
    for name, wish, parameters in (
        ("P-Preferred-Identity", profile.preferred_identity, ""),
        ("Remote-Party-ID", profile.remote_party_id, ";party=calling;screen=yes;privacy=off"),
    ):
        if wish is _REMOVE:
            fields_removed.append(name)
        elif wish is _CALLBACK:
            for _, value in _identity(decision, display_name, domain)[0]:
                fields_set.append((name, value + parameters))
    if profile.remote_party_id is _KEEP_FIELD and profile.identity is not _KEEP and dialable(decision.callback):
        fields_removed += _withholding(existing)


def _withholding(existing: ExistingFields) -> list[str]:
    """Remote-Party-ID, where the caller withholds the number by it, as others do by Privacy: older gateways believe
    it first, and would call the PSAP without a number."""
    return ["Remote-Party-ID"] if any(map(_WITHHOLDS.search, existing.remote_party_id)) else []


def quoted_display_name(name: str) -> str:
    """A display name as a quoted string (RFC 3261 section 25.1) of at most 64 ASCII characters; or empty.

    ASCII because what shows it at a PSAP often knows no more: accents are dropped, what has no ASCII form
    goes, and so do control characters.
    """
    return f'"{name}"' if _USUAL_NAME.fullmatch(name) else _cleaned_name(name[:256])


@lru_cache(maxsize=4096)
def _cleaned_name(name: str) -> str:
    plain = as_ascii(name)
    plain = " ".join("".join(char if " " <= char <= "~" else " " for char in plain).split())[:64].strip()
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if escaped else ""


def _location_part(
    location: DispatchableLocation,
    decision: LocationDecision,
    conveyed: Conveyed,
    uid: str,
    domain: str,
    timestamp: float,
) -> LocationPart:
    best = conveyed.best
    fetched = best.document if best is not None and location.source is _CONVEYED else b""
    return LocationPart(
        content_id=f"{uid}@{domain}",
        body=fetched
        or build_pidf_lo(
            location=location,
            entity=f"sip:{decision.callback}@{domain}" if decision.callback else f"pres:{uid}@{domain}",
            device_id=decision.device.device if decision.device else uid,
            timestamp=timestamp,
            provided_by=domain,
        ),
    )


def _emergency_marking(
    profile: ProviderProfile, existing: ExistingFields, uid: str, domain: str
) -> list[tuple[str, str]]:
    """Call-Info identifiers and Resource-Priority, each only where the INVITE does not have it yet."""
    added = []
    if profile.call_info and not existing.call_info:
        of_call = f"<urn:emergency:uid:callid:{uid}:{domain}>;purpose=emergency-CallId"
        incident = f"<urn:emergency:uid:incidentid:{uid}:{domain}>;purpose=emergency-IncidentId"
        added += [("Call-Info", of_call), ("Call-Info", incident)]
    elif profile.call_info:
        if not any(_CALL_ID_PURPOSE.search(value) for value in existing.call_info):
            added.append(("Call-Info", f"<urn:emergency:uid:callid:{uid}:{domain}>;purpose=emergency-CallId"))
        if not any(_INCIDENT_ID_PURPOSE.search(value) for value in existing.call_info):
            incident = f"<urn:emergency:uid:incidentid:{uid}:{domain}>;purpose=emergency-IncidentId"
            added.append(("Call-Info", incident))
    wanted = profile.resource_priority
    if (wanted and not existing.resource_priority) or (
        wanted and wanted.lower() not in (token.lower() for token in _tokens(existing.resource_priority))
    ):
        added.append(("Resource-Priority", wanted))
    return added


def _remove_marking(existing: ExistingFields, fields_set: list[tuple[str, str]], fields_removed: list[str]) -> None:
    """Take from a test what says emergency; what else stands in the same fields stays."""
    priorities = _tokens(existing.resource_priority)
    kept_priorities = [token for token in priorities if not token.lower().startswith("esnet.")]
    call_info = [value.strip() for line in existing.call_info for value in split_list(line)]
    kept_call_info = [value for value in call_info if value and not _EMERGENCY_PURPOSE.search(value)]
    for name, before, kept in (
        ("Resource-Priority", priorities, kept_priorities),
        ("Call-Info", call_info, kept_call_info),
    ):
        if kept and len(kept) < len(before):
            fields_set.append((name, " ".join(", ".join(kept).split())))
        elif before and not kept:
            fields_removed.append(name)
    if any(value.strip().lower() == "emergency" for value in existing.priority):
        fields_removed.append("Priority")


def _tokens(values: tuple[str, ...]) -> list[str]:
    return [token for value in values for part in value.split(",") if (token := part.strip())]


def _uid_string(call_id: str) -> str:
    """The id as NENA-STA-010 wants its STRING: 10 to 32 letters and digits; another id is hashed to one."""
    if _UID_STRING.fullmatch(call_id):
        return call_id
    return sha256(call_id.encode(errors="replace")).hexdigest()[:32]


@lru_cache(maxsize=64)
def _safe_domain(domain: str) -> str:
    return _NOT_DOMAIN.sub("", domain) or "edge911.invalid"
