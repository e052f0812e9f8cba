"""The notice of a 911 call (Kari's Law): what the people on site are told, as plain text.

47 CFR 9.16(b)(2) with the definition in 9.3: that a 911 call was made, a valid callback number, and the
location information that is given to the PSAP. The first line alone says what happened, who and where:
it is what a phone shows of a message at three in the morning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from e911.location import FINER_FIELDS, CivicAddress, DispatchableLocation
from e911.notice_words import ENGLISH, WORDS, NoticeWords
from e911.numbers import CallKind
from e911.record import NO_TEXT_SERVICE, Caller, CallIntent, CallRefused

FOLDED_LINES = 50
"""Calls listed one by one in a folded notice."""

_LONGEST_TEXT = 200


class NoticeKind(StrEnum):
    """What a notice is about."""

    CALL = "call"
    TEST = "test"
    FAILED = "failed"
    REFUSED = "refused"
    FOLDED = "folded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A subject of one line and a body of plain text, lines ended by LF."""

    subject: str
    body: str


def write_notice(
    kind: NoticeKind,
    event: CallIntent | CallRefused,
    *,
    language: str,
    site_name: str,
    timezone: str,
    zone_name: str = "",
    status: int = 0,
    folded: Sequence[CallIntent | CallRefused] = (),
    folded_count: int = 0,
) -> Notice:
    """The notice of one event, or of several of one kind (`folded`), in `language` (`en`, `fr`; others get English).

    Times are in `timezone`, in UTC where that is not known. `status` is the last SIP status of a call that
    failed. `folded_count` counts all folded events, of which `folded` may be only the first. Whether the call
    is a test is taken from the event itself, so that no 911 call is ever announced as one. Never raises.
    """
    words = WORDS.get(language, ENGLISH)
    zone = _timezone(timezone)
    if kind is NoticeKind.FOLDED or folded:
        return _folded(words, kind, event, zone, site_name, folded, max(folded_count, len(folded)))
    if isinstance(event, CallRefused):
        return _refused(words, event, zone, site_name)
    return _call(words, event, zone, site_name, zone_name, status, has_failed=kind is NoticeKind.FAILED)


def who_called(event: CallIntent | CallRefused, language: str, site_name: str, zone_name: str) -> str:
    """`Front desk (4102), Head office, 3rd floor east`."""
    return _who(WORDS.get(language, ENGLISH), event.caller, _join(", ", one_line(site_name), one_line(zone_name)))


def when_text(at: float, timezone: str) -> str:
    """A time (seconds since 1970) with its zone, as people there read it."""
    return _when(at, _timezone(timezone))


def location_lines(location: DispatchableLocation, language: str = "en") -> list[str]:
    """A location as people read it, its coordinates last where it has them."""
    words = WORDS.get(language, ENGLISH)
    return [
        line for line in (one_line(one) for one in (location.occupant, *_location_lines(words, location))) if line
    ]


def address_lines(civic: CivicAddress, language: str = "en") -> list[str]:
    """A civic address as people read it: street, then city, then one line for each finer part."""
    return _address_lines(WORDS.get(language, ENGLISH), civic)


def _address_lines(words: NoticeWords, civic: CivicAddress) -> list[str]:
    street = _join(
        " ",
        _join("", civic.house_number, _suffix(civic.house_number_suffix)),
        civic.pre_directional,
        civic.street,
        civic.street_suffix,
        civic.post_directional,
    )
    county = civic.county if not civic.city else ""
    city = _join(", ", civic.city, county, _join(" ", civic.state, civic.postal_code), civic.country)
    finer = [
        f"{words.parts[name]}{words.colon} {value}"
        for name in FINER_FIELDS
        if (value := one_line(getattr(civic, name)))
    ]
    return [line for line in (street, city, *finer) if line]


def _suffix(house_number_suffix: str) -> str:
    """12A, but 12 1/2."""
    return f" {house_number_suffix}" if house_number_suffix[:1].isdigit() else house_number_suffix


def _call(
    words: NoticeWords,
    intent: CallIntent,
    zone: tzinfo,
    site_name: str,
    zone_name: str,
    status: int,
    *,
    has_failed: bool,
) -> Notice:
    is_test = intent.kind == CallKind.TEST
    subject, first, advice = {
        (False, False): (words.call_subject, words.call_first, words.call_advice),
        (True, False): (words.test_subject, words.test_first, words.test_advice),
        (False, True): (words.failed_subject, words.failed_first, words.failed_advice),
        (True, True): (words.failed_test_subject, words.failed_test_first, words.failed_test_advice),
    }[is_test, has_failed]
    site_name, zone_name = one_line(site_name or intent.site), one_line(zone_name or intent.zone)
    who = _who(words, intent.caller, _join(", ", site_name, zone_name))
    dialled = one_line(intent.dialled)
    rows = [
        (words.when, _when(intent.at, zone)),
        (words.dialled, dialled),
        (words.device, _device(words, intent.caller)),
        (words.callback, one_line(intent.caller.callback) or words.no_callback),
        *_location_rows(words, intent.location, is_sent=intent.location_sent, zone=zone),
        (words.site, site_name or words.no_site),
        (words.zone, zone_name),
        (words.route, _route(words, intent, status, has_failed=has_failed)),
        (words.record, one_line(intent.id)),
    ]
    return _notice(
        words,
        subject.format(who=who, dialled=dialled),
        first.format(who=who, dialled=dialled),
        advice,
        rows,
    )


def _refused(words: NoticeWords, event: CallRefused, zone: tzinfo, site_name: str) -> Notice:
    who = _who(words, event.caller, one_line(event.caller.source_address) or one_line(site_name))
    rows = [
        (words.when, _when(event.at, zone)),
        (words.dialled, one_line(event.dialled)),
        (words.device, _device(words, event.caller)),
        (words.callback, one_line(event.caller.callback) or words.no_callback),
        (words.source_address, one_line(event.caller.source_address)),
        (words.text, one_line(event.text)),
        (words.why, words.reasons.get(event.reason, one_line(event.reason))),
        (words.status, str(event.status) if event.status else ""),
        (words.location_unknown, None),
        (words.site, one_line(site_name)),
        (words.record, one_line(event.id)),
    ]
    dialled = one_line(event.dialled)
    is_test = event.kind == CallKind.TEST
    if event.reason == NO_TEXT_SERVICE:
        subject = words.text_test_subject if is_test else words.text_subject
        first = words.text_test_first if is_test else words.text_first
        advice = words.text_advice
    else:
        subject = words.refused_test_subject if is_test else words.refused_subject
        first = words.refused_test_first if is_test else words.refused_first
        advice = words.refused_advices.get(event.reason, words.refused_advice)
    return _notice(
        words,
        subject.format(who=who, dialled=dialled),
        first.format(who=who, dialled=dialled),
        advice,
        rows,
    )


def _folded(
    words: NoticeWords,
    kind: NoticeKind,
    event: CallIntent | CallRefused,
    zone: tzinfo,
    site_name: str,
    folded: Sequence[CallIntent | CallRefused],
    count: int,
) -> Notice:
    calls = folded or (event,)
    count = max(count, 1)
    is_test = all(call.kind == CallKind.TEST for call in (event, *calls))
    where = one_line(site_name or event.site) or words.no_site
    has_failed = kind is NoticeKind.FAILED
    subject, first, advice = _folded_words(words, event, is_test=is_test, has_failed=has_failed)
    lines = [
        first.format(count=count, where=where),
        advice,
        "",
        *(_folded_line(words, call, zone, has_failed=has_failed) for call in calls[:FOLDED_LINES]),
    ]
    if count > min(len(calls), FOLDED_LINES):
        lines.append(words.folded_more.format(count=count - min(len(calls), FOLDED_LINES)))
    return Notice(subject=one_line(subject.format(count=count, where=where)), body="\n".join(lines) + "\n")


def _folded_words(
    words: NoticeWords, event: CallIntent | CallRefused, *, is_test: bool, has_failed: bool
) -> tuple[str, str, str]:
    """Subject, first line and advice."""
    if isinstance(event, CallRefused):
        advice = words.refused_advices.get(event.reason, words.refused_advice)
        if is_test:
            return words.folded_refused_test_subject, words.folded_refused_test_first, advice
        return words.folded_refused_subject, words.folded_refused_first, advice
    if has_failed:
        if is_test:
            return words.folded_failed_test_subject, words.folded_failed_test_first, words.failed_test_advice
        return words.folded_failed_subject, words.folded_failed_first, words.folded_failed_advice
    if is_test:
        return words.folded_test_subject, words.folded_test_first, words.folded_advice
    return words.folded_subject, words.folded_first, words.folded_advice


def _folded_line(words: NoticeWords, call: CallIntent | CallRefused, zone: tzinfo, *, has_failed: bool) -> str:
    if isinstance(call, CallRefused):
        place = call.caller.source_address
    elif call.location and (call.location_sent or has_failed):
        place = " / ".join(_location_lines(words, call.location))
    else:
        place = ""
    return " | ".join(
        (
            _when(call.at, zone),
            "TEST" if call.kind == CallKind.TEST else "911",
            _device(words, call.caller),
            one_line(call.caller.callback) or words.no_callback,
            one_line(place) or "-",
        )
    )


_Rows = Sequence[tuple[str, str | None]]
"""Label and value; a row without value is left out, a row whose value is None is a line by itself."""


def _notice(words: NoticeWords, subject: str, first: str, advice: str, rows: _Rows) -> Notice:
    lines = [one_line(first), advice, ""]
    for label, value in rows:
        if value is None:
            lines.append(label)
        elif value:
            lines.append(f"{label}{words.colon} {value}")
    return Notice(subject=one_line(subject), body="\n".join(lines) + "\n")


def _location_rows(
    words: NoticeWords, location: DispatchableLocation | None, *, is_sent: bool, zone: tzinfo
) -> list[tuple[str, str | None]]:
    if location is None:
        return [(words.location_unknown, None)]
    heading = words.location_sent if is_sent else words.location_not_sent
    lines = [one_line(line) for line in (location.occupant, *_location_lines(words, location))]
    source = words.sources.get(location.source, one_line(location.source))
    if location.updated_at:
        source += f" ({words.confirmed.format(when=_when(location.updated_at, zone))})"
    rows: list[tuple[str, str | None]] = [
        (f"{heading}{words.colon}", None),
        *((f"    {line}", None) for line in lines if line),
        (words.location_from, source),
    ]
    if location.doubt:
        rows.append((words.doubts.get(location.doubt, one_line(location.doubt)), None))
    return rows


def _location_lines(words: NoticeWords, location: DispatchableLocation) -> list[str]:
    """The lines of a location: its address, and its coordinates where it has them."""
    lines = _address_lines(words, location.civic)
    if location.point:
        point = location.point
        lines.append(f"{words.coordinates}{words.colon} {point.latitude:.6f}, {point.longitude:.6f}{point.within}")
    return lines


def _route(words: NoticeWords, intent: CallIntent, status: int, *, has_failed: bool) -> str:
    route = one_line(intent.first_route) or words.no_route
    return f"{route} ({words.failed_status.format(status=status)})" if has_failed and status else route


def _who(words: NoticeWords, caller: Caller, where: str) -> str:
    device = _device(words, caller)
    return words.by.format(device=device, where=where) if where else device


def _device(words: NoticeWords, caller: Caller) -> str:
    """Name and number: `Front desk (4102)`."""
    name = one_line(caller.device_name or caller.display_name)
    number = one_line(caller.device or caller.number)
    if name and number and name != number:
        return f"{name} ({number})"
    return name or number or words.unknown_caller


def _when(at: float, zone: tzinfo) -> str:
    try:
        moment = datetime.fromtimestamp(at, zone)
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    name = f" ({zone.key})" if isinstance(zone, ZoneInfo) and zone.key != moment.tzname() else ""
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}{name}"


@lru_cache(maxsize=256)
def _timezone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def one_line(text: str) -> str:
    """Text from outside as part of one line: no line breaks, nothing unprintable, no address that a mail or chat
    program would make a link of, not without end."""
    plain = "".join(char if char.isprintable() else " " for char in text[: 4 * _LONGEST_TEXT])
    return " ".join(plain.replace("://", ":/ /").split())[:_LONGEST_TEXT]


def _join(separator: str, *parts: str) -> str:
    return separator.join(part for part in parts if part)
