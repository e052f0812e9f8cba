"""Journal events for the tests of journal, records and notices."""

from dataclasses import replace
from typing import Any

from e911.location import CivicAddress, DispatchableLocation, GeoPoint, LocationSource
from e911.record import (
    CallEnded,
    Caller,
    CallFinished,
    CallIntent,
    CallLocating,
    CallOutcome,
    CallRefused,
    JournalEvent,
    RouteEvent,
    RouteOutcome,
    SourceAnswer,
    SourceOutcome,
)

AT = 1_790_000_000.25


def intent(call: str = "c1", **changed: Any) -> CallIntent:
    """A 911 call from a registered device at the site hq."""
    location = DispatchableLocation(
        civic=CivicAddress(
            country="US",
            state="NY",
            city="New York",
            house_number="350",
            street="5th",
            street_suffix="AVE",
            floor="3",
        ),
        point=GeoPoint(latitude=40.7484, longitude=-73.9857),
        source=LocationSource.REGISTERED,
        method="Manual",
        site="hq",
        zone="hq-3e",
    )
    event = CallIntent(
        id=call,
        at=AT,
        node="hq-1",
        kind="emergency",
        call_id=f"{call}@10.1.3.7",
        from_tag="tag",
        dialled="911",
        caller=Caller(
            number="4102",
            display_name="Zoé",
            device="4102",
            device_name="Accueil, 3ᵉ étage",
            callback="+12125550123",
            callback_source="device",
            identity_source="from",
            source_address="10.1.3.7",
        ),
        site="hq",
        zone="hq-3e",
        location=location,
        location_sent=True,
        sources=(
            SourceAnswer(source="network", outcome=SourceOutcome.MISSED, reason="behind-pbx"),
            SourceAnswer(source="registered", outcome=SourceOutcome.WON, reason="device"),
        ),
        first_route="primary",
        contacts=("front-desk",),
    )
    return replace(event, **changed)


def step(call: str, outcome: RouteOutcome, after: float = 0.1, **changed: Any) -> RouteEvent:
    """Something that happened to a route, `after` seconds."""
    event = RouteEvent(
        id=call, at=AT + after, route="primary", kind="e911", attempt=0, outcome=outcome, with_location=True
    )
    return replace(event, **changed)


def ended(
    call: str, outcome: CallOutcome = CallOutcome.ANSWERED, status: int = 200, route: str = "primary"
) -> CallEnded:
    """The end of the setting-up."""
    return CallEnded(id=call, at=AT + 2.5, outcome=outcome, status=status, route=route)


def refused(call: str = "r1", **changed: Any) -> CallRefused:
    """A 911 call from outside."""
    event = CallRefused(
        id=call,
        at=AT,
        node="hq-1",
        call_id=f"{call}@203.0.113.9",
        dialled="911",
        caller=Caller(number="+12125550199", source_address="203.0.113.9"),
        reason="from-outside",
        status=403,
        contacts=("front-desk",),
    )
    return replace(event, **changed)


def whole_call(call: str = "c1", **changed: Any) -> list[JournalEvent]:
    """A call from its intent to its BYE: the first route refuses, the second answers."""
    return [
        intent(call, **changed),
        step(call, RouteOutcome.STARTED, 0.0),
        step(call, RouteOutcome.REFUSED, 0.25, status=503),
        step(call, RouteOutcome.STARTED, 0.25, route="backup", attempt=1),
        step(call, RouteOutcome.ANSWERED, 2.5, route="backup", attempt=1, status=200),
        ended(call, route="backup"),
        CallFinished(id=call, at=AT + 62.5, by="caller"),
    ]


def locating(call: str = "c1", site: str = "hq") -> CallLocating:
    """The location of a call is being asked for."""
    caller = Caller(number="4102", device_name="Lobby")
    return CallLocating(id=call, at=AT - 2, node="hq-1", kind="emergency", caller=caller, site=site)
