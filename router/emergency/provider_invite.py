"""The INVITE as it goes to a provider: the caller's own, with what the route's profile wishes."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from e911.provider import ProviderRequest, basic_request, provider_request, user_part
from router.emergency.call_routes import RouteStep
from router.emergency.decision import CallPlan
from router.emergency.from_uri import LONGEST_URI, uri_in, with_uri
from router.emergency.identity import drop_unsigned
from router.emergency.rules import Rules
from router.references.spool import LOCATION
from sip.body import BodyPart, add_part
from sip.message import Edits, Request

NO_DOCUMENTS: Mapping[str, bytes] = MappingProxyType({})


class Outgoing(NamedTuple):
    """An INVITE for a route."""

    request: Request
    """But for Via, Record-Route and Max-Forwards."""
    shortfalls: tuple[str, ...] = ()
    """Why something in it is not as the route's profile would have it."""
    documents: Mapping[str, bytes] = NO_DOCUMENTS
    """What the reference in it stands for, by name."""


class Reference(NamedTuple):
    """Under which URI a location would be answered, or why under none."""

    uri: str
    reason: str = ""


NO_SERVER = Reference("", "reference-server-not-configured")


def request_for(
    rules: Rules,
    plan: CallPlan,
    step: RouteStep,
    request: Request,
    timestamp: float,
    *,
    with_location: bool,
    with_data: bool = True,
    reference: Reference = NO_SERVER,
) -> Outgoing:
    """The INVITE as it goes to one route. timestamp, seconds since 1970, dates the location document. with_data False
    leaves additional data out (a second try)."""
    made = _wishes(
        rules, plan, step, timestamp, with_location=with_location, with_data=with_data, reference=reference
    )
    documents = NO_DOCUMENTS
    if made.reference or made.data_references:
        documents = {block.name: block.document for block in made.data_references}
        if made.reference:
            documents[LOCATION] = made.reference
    return Outgoing(_as_wished(plan, request, made), made.shortfalls, documents)


def _wishes(
    rules: Rules,
    plan: CallPlan,
    step: RouteStep,
    timestamp: float,
    *,
    with_location: bool,
    with_data: bool,
    reference: Reference,
) -> ProviderRequest:
    """What the profile of a route makes of a call."""
    if step.profile is None:
        return basic_request(
            number=step.number,
            host=step.host,
            decision=plan.decision,
            caller_display_name=plan.caller.display_name,
            domain=rules.domain,
            existing=plan.existing,
        )
    made = provider_request(
        step.profile,
        kind=plan.kind,
        host=step.host,
        decision=plan.decision,
        caller_display_name=plan.caller.display_name,
        call_id=plan.id,
        domain=rules.domain,
        timestamp=timestamp,
        with_location=with_location,
        existing=plan.existing,
        conveyed=plan.conveyed,
        number=step.number,
        reference=reference.uri,
        no_reference=reference.reason,
        data=rules.call_data,
        with_data=with_data,
        is_private=bool(plan.caller.privacy) and plan.caller.privacy.strip().lower() != "none",
    )
    if step.number and step.kind == "basic":
        made = replace(made, request_uri=f"sip:{user_part(step.number)}@{step.host}")
    return made


def _as_wished(plan: CallPlan, request: Request, made: ProviderRequest) -> Request:
    """The caller's INVITE with a provider's wishes fulfilled."""
    edits = edits_for(made, request, plan.id)
    if not plan.trusts_identity and request.has("p-asserted-identity") and "p-asserted-identity" not in edits.replace:
        # RFC 3325 section 5: what an untrusted phone asserts of itself is not passed on as asserted by us.
        edits.replace["p-asserted-identity"] = ()
    drop_unsigned(request, edits.replace)
    sent = request.edited(edits)
    for data in made.data_parts:
        part = BodyPart(
            content_type=data.block.media_type.encode(),
            content_id=data.content_id.encode(),
            body=data.block.document,
            disposition=b"by-reference;handling=optional",
        )
        sent = sent.edited(add_part(sent, part, b"edge911-" + plan.id.encode()))
    return sent


@lru_cache(maxsize=256)
def _key_of(name: str) -> str:
    return name.lower()


def edits_for(made: ProviderRequest, request: Request, plan_id: str) -> Edits:
    """A provider's wishes as edits to the caller's INVITE."""
    edits = Edits()
    if made.location_part is not None:
        part = BodyPart(
            content_type=b"application/pidf+xml",
            content_id=made.location_part.content_id.encode(),
            body=made.location_part.body,
        )
        edits = add_part(request, part, b"edge911-" + plan_id.encode())
    replacing = edits.replace
    append: list[bytes] = list(edits.append)
    present = request.keys()
    if "route" in present:
        replacing["route"] = ()  # we choose where it goes
    if "proxy-require" in present:
        replacing["proxy-require"] = ()  # no proxy is to refuse the call for it (decision 0001, (h))
    for name in made.remove_fields:
        key = _key_of(name)
        if key in present:
            replacing[key] = ()
    for name, value in made.set_fields:
        line = f"{name}: {value}".encode("latin-1", "replace")
        key = _key_of(name)
        if key in present:
            replacing[key] = (line,)
        else:
            append.append(line)
    for name, value in made.first_fields:
        line = f"{name}: {value}".encode("latin-1", "replace")
        key = _key_of(name)
        replacing[key] = (line, *replacing.get(key, request.lines(key)))
    for name, value in made.add_fields:
        line = f"{name}: {value}".encode("latin-1", "replace")
        key = _key_of(name)
        if key in replacing:
            replacing[key] = (*replacing[key], line)
        elif key in present:
            replacing[key] = (*request.lines(key), line)
        else:
            append.append(line)
    if made.from_uri:
        line = request.lines("from")[0]
        if 0 < len(uri_in(line)) <= LONGEST_URI:
            replacing["from"] = (with_uri(line, made.from_uri.encode("ascii", "replace")),)
    edits.uri = made.request_uri.encode("latin-1", "replace")
    edits.append = append
    return edits
