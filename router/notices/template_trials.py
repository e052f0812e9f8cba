"""Templates of one's own tried before they are needed: each is rendered with calls such as there are.

Jinja2 reads `{{ location.floor }}` gladly, and fails when the first call comes. Each sample here lacks something that
another has: a location, a callback number, a device, a site, the very call (an alarm, calls folded into one).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

from config.schema import Config, Contact
from e911.follow_up import FollowUp
from e911.location import CivicAddress, DispatchableLocation, GeoPoint, LocationSource
from e911.notice import Notice, NoticeKind
from e911.record import (
    NO_TEXT_SERVICE,
    AlarmRaised,
    CallbackEvent,
    CallbackOutcome,
    Caller,
    CallIntent,
    CallRefused,
    JournalEvent,
)
from router.journal.event_lines import encode_event
from router.notices.links import Links
from router.notices.notice_writer import ESCALATED, UNTOLD, NoticeWriter, Occurrence
from router.notices.receivers.forms import Form
from router.notices.receivers.job import ALARM, CALLBACK, base_kind
from router.notices.templates import PARTS, rendered

LANGUAGES = ("en", "fr")
_ANY = "notice"
_AT = 1_790_000_000.0

_CIVIC = CivicAddress(
    country="CA", state="QC", city="Montréal", house_number="1250", street="René-Lévesque O", floor="3", room="3.14"
)
_PLACE = DispatchableLocation(
    civic=_CIVIC,
    point=GeoPoint(latitude=45.49821, longitude=-73.57007),
    source=LocationSource.REGISTERED,
    method="Manual",
    site="sample",
    zone="sample_east",
)
_CALLER = Caller(
    number="4102",
    display_name="Zoé",
    device="4102",
    device_name="Accueil, 3ᵉ étage",
    callback="+12125550123",
    source_address="192.0.2.7",
)
_CALL = CallIntent(
    id="sample",
    at=_AT,
    node="sample",
    kind="emergency",
    call_id="sample@192.0.2.7",
    from_tag="sample",
    dialled="911",
    caller=_CALLER,
    site="sample",
    zone="sample_east",
    location=_PLACE,
    location_sent=True,
    sources=(),
    first_route="primary",
    contacts=("sample",),
)
_REFUSED = CallRefused(
    id="sample",
    at=_AT,
    node="sample",
    call_id="sample@203.0.113.9",
    dialled="911",
    caller=Caller(number="+12125550199", source_address="203.0.113.9"),
    reason="from-outside",
    status=403,
    contacts=("sample",),
)
_CALLS: Mapping[str, CallIntent] = {
    "a call with everything": _CALL,
    "a call without a location": replace(_CALL, location=None, location_sent=False, zone=""),
    "a call whose location is not sent": replace(_CALL, location_sent=False, first_route="basic"),
    "a call without a callback number": replace(_CALL, caller=replace(_CALLER, callback="")),
    "a call from nobody known": replace(_CALL, caller=Caller(source_address="192.0.2.7"), site="", zone=""),
    "a call with coordinates only": replace(_CALL, location=replace(_PLACE, civic=CivicAddress())),
    "a call without floor and room": replace(
        _CALL, location=replace(_PLACE, civic=replace(_CIVIC, floor="", room=""), point=None)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    name: str
    kind: str
    facts: Mapping[str, Any]


def failing_templates(folder: Path, language: str) -> list[str]:
    """What is wrong with the templates of a folder that a contact who reads `language` has, each as
    `call.body.j2:3: what, with which call`: names that no notice has, what Jinja2 cannot read, what fails in use."""
    found = []
    for path in sorted(folder.rglob("*.j2")):
        name = path.relative_to(folder)
        kind, _, part = path.name.removesuffix(".j2").partition(".")
        if part not in PARTS or not kind:
            found.append(f"{name}: not called KIND.PART.j2 with one of {', '.join(PARTS)}")
            continue
        reads = path.parent.name if path.parent.name in LANGUAGES else (language if language in LANGUAGES else "en")
        samples = [one for one in _samples(reads) if kind in (_ANY, one.kind)]
        if not samples:
            kinds = ", ".join(sorted({one.kind for one in _samples(reads)}))
            found.append(f"{name}: no notice is called {kind}; there are {kinds}, and notice for all of them")
            continue
        problem = next(filter(None, (_problem(path, part, sample) for sample in samples)), "")
        if problem:
            found.append(f"{name}{problem}")
    return found


def _problem(path: Path, part: str, sample: _Sample) -> str:
    try:
        rendered(path, part, sample.facts)
    except (OSError, UnicodeDecodeError) as error:
        return f": {error}"
    except jinja2.TemplateSyntaxError as error:
        return f":{error.lineno}: {error}"
    except Exception as error:  # whatever somebody wrote
        line = _line_of(error)
        return f"{f':{line}' if line else ''}: {error or type(error).__name__}, with {sample.name}"
    return ""


def _line_of(error: Exception) -> int:
    """The line of the template that an error came from, 0 where it came from none."""
    found, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


@lru_cache(maxsize=4)
def _samples(language: str) -> tuple[_Sample, ...]:
    config = Config.model_validate(
        {
            "listen": ["udp://127.0.0.1:5060"],
            "sites": [
                {
                    "id": "sample",
                    "name": "Siège social",
                    "timezone": "America/Montreal",
                    "zones": [{"id": "sample_east", "name": "3e étage, aile est"}],
                }
            ],
        }
    )
    contact = Contact.model_validate({"language": language, "send": ["json://127.0.0.1/sample"]})
    found = []
    for name, occurrence, gathered in _happenings():
        base = "" if name.endswith("nobody known") else "https://edge911.example.com"
        writer = _FactsTaken(config, Links(base=base))
        writer.write(occurrence, contact, Form.FULL, gathered, len(gathered))
        found += [_Sample(name=name, kind=base_kind(occurrence.kind), facts=facts) for facts in writer.taken]
    return tuple(found)


@dataclass(slots=True)
class _FactsTaken(NoticeWriter):
    """Writes a notice, and keeps what a template would have been given."""

    taken: list[Mapping[str, Any]] = field(default_factory=list)

    def _finished(
        self,
        notice: Notice,
        event: CallIntent | CallRefused | None,
        occurrence: Occurrence,
        contact: Contact,
        form: Form,
    ) -> Notice:
        self.taken.append(self.facts(notice, event, occurrence, contact))
        return notice


def _happenings() -> Iterator[tuple[str, Occurrence, Sequence[Occurrence]]]:
    """Everything contacts are told of, by name; with what is folded into one."""
    for name, call in _CALLS.items():
        yield name, _occurrence(NoticeKind.CALL.value, call), ()
        yield f"{name} that failed", _occurrence(NoticeKind.FAILED.value, call, status=503), ()
        yield f"a test, else {name}", _occurrence(NoticeKind.TEST.value, replace(call, kind="test")), ()
        for kind, detail in (
            (FollowUp.ANSWERED, {"route": "primary"}),
            (FollowUp.BASIC, {"route": "basic"}),
            (FollowUp.ENDED, {"by": "caller"}),
            (FollowUp.ABANDONED, {}),
        ):
            yield f"{kind.value} of {name}", _occurrence(kind.value, call, detail=detail), ()
        for other, more in ((ESCALATED, {"contact": "desk", "seconds": 60.0}), (UNTOLD, {"contacts": "desk"})):
            passed = _occurrence(other, call, root=NoticeKind.CALL.value, detail={**more, "more": 0})
            yield f"{other}: {name}", passed, ()
    refused = _occurrence(NoticeKind.REFUSED.value, _REFUSED)
    yield "a refused call", refused, ()
    text = replace(_REFUSED, caller=_CALLER, reason=NO_TEXT_SERVICE, text="Au secours", site="sample")
    yield "a text to 911", _occurrence(NoticeKind.REFUSED.value, text), ()
    one = _occurrence(NoticeKind.CALL.value, _CALL)
    yield "calls folded into one notice", one, (one, one)
    yield "refused calls folded into one notice", refused, (refused, refused)
    yield (
        "a callback",
        _occurrence(
            CALLBACK,
            CallbackEvent(
                id="sample",
                at=_AT,
                node="sample",
                callback="sample_back",
                number="+12125550123",
                caller="",
                trunk="primary",
                outcome=CallbackOutcome.RECEIVED,
                who="Accueil",
                site="sample",
            ),
        ),
        (),
    )
    alarm = AlarmRaised(id="sample", at=_AT, node="sample", reason="elin-pool-low", subject="sample", total=4)
    yield "an alarm", _occurrence(ALARM, alarm), ()


def _occurrence(kind: str, event: JournalEvent, **more: Any) -> Occurrence:
    is_test = getattr(event, "kind", "") == NoticeKind.TEST.value
    line = encode_event(event).rstrip(b"\n")
    site = getattr(event, "site", "")
    return Occurrence(kind=kind, call="sample", site=site, is_test=is_test, line=line, at=_AT, **more)
