"""Events of calls as JSON lines, and back."""

from collections.abc import Callable
from dataclasses import asdict, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar

import orjson

from e911.elin import lease_from
from e911.location import CIVIC_FIELDS, CivicAddress, DispatchableLocation, GeoPoint, LocationSource
from e911.record import (
    AlarmRaised,
    CallbackEvent,
    CallbackOutcome,
    CallEnded,
    Caller,
    CallFinished,
    CallIntent,
    CallLocating,
    CallOutcome,
    CallRefused,
    DialogFormed,
    JournalEvent,
    RouteEvent,
    RouteOutcome,
    SourceAnswer,
    SourceOutcome,
)

_T = TypeVar("_T")


def encode_event(event: JournalEvent) -> bytes:
    """One JSON line, newline included."""
    # Dictionaries made by hand for what every call writes: orjson is three times as slow with dataclasses, and slow
    # with members of enumerations.
    encoder = _ENCODERS.get(event.__class__)
    try:
        return orjson.dumps(event if encoder is None else encoder(event), option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # bytes from the wire that are no UTF-8 came along as surrogates
        return orjson.dumps(_encodable(asdict(event)), option=orjson.OPT_APPEND_NEWLINE)


def _intent_values(event: CallIntent) -> dict[str, Any]:
    caller = event.caller
    location = event.location
    made = None if location is None else _location_json(location)
    values = {
        "type": event.type,
        "id": event.id,
        "at": event.at,
        "node": event.node,
        "kind": event.kind,
        "call_id": event.call_id,
        "from_tag": event.from_tag,
        "dialled": event.dialled,
        "caller": {
            "number": caller.number,
            "display_name": caller.display_name,
            "device": caller.device,
            "device_name": caller.device_name,
            "callback": caller.callback,
            "callback_source": caller.callback_source,
            "identity_source": caller.identity_source,
            "source_address": caller.source_address,
            "phone_address": caller.phone_address,
            "privacy": caller.privacy,
            "reason": caller.reason,
        },
        "site": event.site,
        "zone": event.zone,
        "location": made,
        "location_sent": event.location_sent,
        "sources": [_answer_values(answer, location, made) for answer in event.sources],
        "first_route": event.first_route,
        "contacts": event.contacts,
    }
    if event.lease is not None:
        values["lease"] = event.lease
    return values


_civic_values = attrgetter(*CIVIC_FIELDS)


def _location_json(location: DispatchableLocation) -> orjson.Fragment:
    civic = location.civic
    values = {
        # Of an address only what is given: readers take the rest as empty.
        "civic": {name: value for name, value in zip(CIVIC_FIELDS, _civic_values(civic)) if value},  # noqa: B905
        "point": location.point,
        "source": location.source._value_,
        "method": location.method,
        "site": location.site,
        "zone": location.zone,
        "occupant": location.occupant,
        "updated_at": location.updated_at,
        "finer_from": location.finer_from,
        "doubt": location.doubt,
        "validation": location.validation,
        "validated_at": location.validated_at,
    }
    return orjson.Fragment(orjson.dumps(values))


def _answer_values(
    answer: SourceAnswer, decided: DispatchableLocation | None, made: orjson.Fragment | None
) -> dict[str, Any] | orjson.Fragment:
    """decided: the location that was decided on, which is mostly the one of the answer; made: the same as JSON."""
    location = answer.location
    if location is None and not answer.detail:
        return _miss_json(answer.source, answer.outcome, answer.reason, answer.lost, answer.confidence, answer.as_of)
    return {
        "source": answer.source,
        "outcome": answer.outcome,
        "reason": answer.reason,
        "lost": answer.lost,
        "confidence": answer.confidence,
        "as_of": answer.as_of,
        "detail": answer.detail,
        "location": None if location is None else made if location is decided else _location_json(location),
    }


@lru_cache(maxsize=1024)
def _miss_json(*values: object) -> orjson.Fragment:
    """The same few sources know nothing call after call: by the fields of a SourceAnswer up to `as_of`."""
    names = ("source", "outcome", "reason", "lost", "confidence", "as_of")
    return orjson.Fragment(orjson.dumps({**dict(zip(names, values, strict=True)), "detail": "", "location": None}))


def _route_values(event: RouteEvent) -> dict[str, Any]:
    values = {
        "type": event.type,
        "id": event.id,
        "at": event.at,
        "route": event.route,
        "kind": event.kind,
        "attempt": event.attempt,
        "outcome": event.outcome._value_,
        "status": event.status,
        "reason": event.reason,
        "with_location": event.with_location,
        "label": event.label,
    }
    if event.sent_to:
        values["sent_to"], values["request_uri"] = event.sent_to, event.request_uri
    return values


def _ended_values(event: CallEnded) -> dict[str, Any]:
    return {
        "type": event.type,
        "id": event.id,
        "at": event.at,
        "outcome": event.outcome._value_,
        "status": event.status,
        "route": event.route,
    }


def _dialog_values(event: DialogFormed) -> dict[str, Any]:
    return {
        "type": event.type,
        "id": event.id,
        "at": event.at,
        "call_id": event.call_id,
        "from_tag": event.from_tag,
        "cseq": event.cseq,
        "to": event.to,
        "contact": event.contact,
        "uri": event.uri,
        "routes": event.routes,
        "source": event.source,
        "answered_by": event.answered_by,
        "caller": event.caller,
    }


def _finished_values(event: CallFinished) -> dict[str, Any]:
    return {"type": event.type, "id": event.id, "at": event.at, "by": event.by}


_ENCODERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    CallIntent: _intent_values,
    RouteEvent: _route_values,
    CallEnded: _ended_values,
    CallFinished: _finished_values,
    DialogFormed: _dialog_values,
}
"""The values of each event that calls write, every field of it (tested)."""


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _encodable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value


def decode_event(line: bytes | str) -> JournalEvent:
    """The event in one JSON line; unknown keys are ignored. ValueError, KeyError, TypeError otherwise."""
    data: dict[str, Any] = orjson.loads(line)
    match data["type"]:
        case "intent":
            data["caller"] = _known(Caller, data["caller"])
            data["location"] = _location(data["location"])
            data["sources"] = tuple(_source(answer) for answer in data["sources"])
            data["contacts"] = tuple(data["contacts"])
            if lease := data.get("lease"):
                data["lease"] = lease_from(lease)
            return _known(CallIntent, data)
        case "locating":
            data["caller"] = _known(Caller, data["caller"])
            return _known(CallLocating, data)
        case "route":
            data["outcome"] = RouteOutcome(data["outcome"])
            return _known(RouteEvent, data)
        case "ended":
            data["outcome"] = CallOutcome(data["outcome"])
            return _known(CallEnded, data)
        case "finished":
            return _known(CallFinished, data)
        case "dialog":
            data["routes"] = tuple(data["routes"])
            return _known(DialogFormed, data)
        case "callback":
            data["outcome"] = CallbackOutcome(data["outcome"])
            data["contacts"] = tuple(data["contacts"])
            return _known(CallbackEvent, data)
        case "alarm":
            data["contacts"] = tuple(data["contacts"])
            return _known(AlarmRaised, data)
        case "refused":
            data["caller"] = _known(Caller, data["caller"])
            data["contacts"] = tuple(data["contacts"])
            return _known(CallRefused, data)
        case unknown:
            raise ValueError(f"unknown event type {unknown!r}")


def _location(data: dict[str, Any] | None) -> DispatchableLocation | None:
    if data is None:
        return None
    data["civic"] = _known(CivicAddress, data["civic"])
    data["point"] = _known(GeoPoint, data["point"]) if data["point"] else None
    data["source"] = LocationSource(data["source"])
    return _known(DispatchableLocation, data)


def _source(data: dict[str, Any]) -> SourceAnswer:
    data["outcome"] = SourceOutcome(data["outcome"])
    data["location"] = _location(data.get("location"))
    return _known(SourceAnswer, data)


_FIELDS: dict[type, frozenset[str]] = {
    kind: frozenset(field.name for field in fields(kind))
    for kind in (
        CallIntent, CallLocating, RouteEvent, CallEnded, CallFinished, CallRefused, DialogFormed, CallbackEvent,
        AlarmRaised, Caller, DispatchableLocation, CivicAddress, GeoPoint, SourceAnswer,
    )
}  # fmt: skip


def _known(kind: type[_T], data: dict[str, Any]) -> _T:
    """The dataclass from those keys it knows: a journal written by a newer version stays readable."""
    known = _FIELDS[kind]
    if data.keys() <= known:
        return kind(**data)
    return kind(**{name: value for name, value in data.items() if name in known})
