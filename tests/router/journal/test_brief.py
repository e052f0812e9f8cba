"""A journal line read briefly says of a call what the whole line says."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.record import Caller, RouteOutcome
from router.journal.brief import brief_of
from router.journal.event_lines import decode_event, encode_event
from tests.router.notice_events import ended, intent, refused, step, whole_call

TRICKY = st.one_of(st.text(), st.sampled_from([',"location":', ',"first_route":"x"', '"},"location":{', "\\", "\0"]))


@given(number=TRICKY, dialled=TRICKY, site=TRICKY, route=TRICKY, contacts=st.lists(TRICKY, max_size=3))
def test_an_intent_is_the_same_but_for_its_location_and_sources(
    number: str, dialled: str, site: str, route: str, contacts: list[str]
) -> None:
    event = intent(
        caller=Caller(number=number), dialled=dialled, site=site, first_route=route, contacts=tuple(contacts)
    )
    line = encode_event(event).rstrip(b"\n")
    whole = orjson.loads(line)
    found = brief_of(line)
    assert found == {
        name: value for name, value in whole.items() if name not in ("location", "location_sent", "sources")
    }
    assert decode_event(line).id == found["id"]


@pytest.mark.parametrize("event", [*whole_call()[1:], ended("c1"), refused(), step("c1", RouteOutcome.STARTED)])
def test_every_other_event_is_whole(event: object) -> None:
    line = encode_event(event).rstrip(b"\n")  # type: ignore[arg-type]  # each of them is an event
    assert brief_of(line) == orjson.loads(line)


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b'"x"', b'{"id":"c1"}', b'{"id":7,"type":"ended"}', b'{"type":"intent","id":"c1","locat'],
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        brief_of(line)
