"""Everything about one call in a file to hand on: the record as JSON, its messages as pcap, and a summary as PDF.

Redacted, numbers, names and places are x, as in `edge911 trace --redact`; what happened and when stays.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any

import orjson

from e911.location import CIVIC_FIELDS, DispatchableLocation
from e911.notice import address_lines
from e911.numbers import EmergencyNumbers
from e911.record import RouteOutcome
from router.records.psap_view import ali_lines, location_part, read_ali
from router.records.record import CallRecord
from router.reports.document import Block, Facts, Grid, Heading, Paragraph, Preformatted, Report
from router.reports.incident_words import WORDS
from router.reports.ladder import ladder_of, ladder_text
from router.trace.messages import Traced
from router.trace.pcap import PcapEncoder, file_header
from router.trace.redaction import Redaction
from sip.message import Request

Messages = Sequence[tuple[Traced, str]]
"""What is kept of a call, each with the name of its trunk."""

_PRIVATE = frozenset(
    {
        *CIVIC_FIELDS,
        "aor",
        "body",
        "by",
        "callback",
        "caller",
        "detail",
        "device",
        "device_name",
        "display_name",
        "name",
        "number",
        "occupant",
        "phone_address",
        "source_address",
        "subject",
        "text",
        "user",
        "who",
        "words",
    }
) - {"country", "state"}
"""Fields of a record that say who or where somebody is, or that others wrote."""
_PRIVATE_WITHIN = {"way_back": frozenset({"contact", "host"})}
"""Fields that are private only there: the contact of a notice is a name of the configuration."""
_COORDINATES = frozenset({"latitude", "longitude"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SentInvite:
    """One INVITE as it went to a provider: its trunk, its lines, and which of them carry the location."""

    trunk: str
    at: float
    text: str
    marked: frozenset[int]
    request: Request


def bundle(
    record: CallRecord,
    messages: Messages,
    *,
    numbers: EmergencyNumbers,
    zone: tzinfo,
    language: str = "en",
    redacted: bool = False,
    now: float,
    site_name: str = "",
) -> bytes:
    """The zip file: record.json, messages.pcap, messages.txt, summary.pdf. `now` is seconds since 1970."""
    sent = messages
    if redacted:
        hide = Redaction(numbers)
        messages = [(traced.replaced(hide.message(traced.data)), trunk) for traced, trunk in messages]
    from router.reports.pdf import pdf_of  # a sixth of a second, which the start of the console does without

    document = redacted_record(record.as_document()) if redacted else record.as_document()
    screen = psap_screen(record, sent, zone, messages if redacted else None)
    report = summary(
        record, messages, screen, zone=zone, language=language, redacted=redacted, now=now, site_name=site_name
    )
    encoder = PcapEncoder()
    pcap = file_header() + b"".join(encoder.records(traced) for traced, _ in messages)
    text = b"\n".join(_message_text(traced, trunk) for traced, trunk in messages)
    made = io.BytesIO()
    stamp = datetime.fromtimestamp(now, UTC)
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (
            ("record.json", orjson.dumps(document, option=orjson.OPT_INDENT_2)),
            ("messages.pcap", pcap),
            ("messages.txt", text),
            ("summary.pdf", pdf_of(report)),
        ):
            entry = zipfile.ZipInfo(f"call-{record.id}/{name}", stamp.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, content)
    return made.getvalue()


def summary(
    record: CallRecord,
    messages: Messages,
    screen: Sequence[str] = (),
    *,
    zone: tzinfo,
    language: str,
    redacted: bool,
    now: float,
    site_name: str = "",
) -> Report:
    """The call on a few pages. screen: the PSAP's, as `psap_screen` gives it."""
    words = WORDS[language]
    shown = (lambda text: hidden(text)) if redacted else (lambda text: text)

    def when(at: float | None) -> str:
        return "" if at is None else f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M:%S %Z}"

    caller = record.caller
    who = " ".join(text for text in (shown(caller.display_name), shown(caller.number)) if text)
    blocks: list[Block] = [Paragraph(text=words["redacted"])] if redacted else []
    facts = [
        (words["when"], when(record.started_at)),
        (words["dialled"], record.dialled),
        (words["caller"], who),
        (words["device"], shown(caller.device_name or caller.device)),
        (words["callback"], shown(caller.callback) or words["none"]),
        (words["site"], record.site if redacted else site_name or record.site),
        (words["outcome"], f"{record.outcome or '…'} {record.status or ''} {record.route}".strip()),
    ]
    if record.text:
        facts.append((words["they_wrote"], shown(record.text)))
    if record.setup_ended_at is not None:
        facts.append((words["setup"], f"{record.setup_ended_at - record.started_at:.3f} s"))
    if record.finished_at is not None:
        facts.append((words["ended"], f"{when(record.finished_at)} ({record.finished_by})"))
    blocks += [Heading(text=words["call"]), Facts(pairs=tuple((n, v) for n, v in facts if v))]
    blocks.append(Heading(text=words["where"]))
    blocks += _where(record, words, shown, language)
    blocks += [
        Heading(text=words["sources"], level=2),
        Grid(
            headers=(words["source"], words["answer"], words["why"]),
            rows=tuple((s.source, str(s.outcome), s.reason) for s in record.sources),
            nothing=words["none"],
        ),
        Heading(text=words["routes"]),
        Grid(
            headers=(words["after"], words["route"], words["what"], words["why"]),
            widths=(0.12, 0.3, 0.28, 0.3),
            rows=tuple(
                (f"{r.after:.3f} s", f"{r.route} ({r.kind})", f"{r.outcome} {r.status or ''}".strip(), r.reason)
                for r in record.routes
            ),
            nothing=words["none"],
        ),
        Heading(text=words["notices"]),
        Grid(
            headers=(words["contact"], words["kind"], words["state"], words["first"], words["said"]),
            rows=tuple(
                (
                    notice.contact,
                    notice.kind,
                    f"{notice.state.value} {notice.reason}".strip(),
                    when(notice.first_attempt_at),
                    shown(notice.words)[:300],
                )
                for notice in record.notices
            ),
            nothing=words["nobody"],
        ),
    ]
    blocks += _afterwards(record, words, shown, when)
    blocks += _on_the_wire(messages, words, screen)
    title = words["test_title" if record.kind == "test" else "title"].format(id=record.id)
    return Report(
        title=title,
        subtitle=words["made"].format(when=when(now), node=record.node),
        language=language,
        blocks=tuple(blocks),
        footer=words["footer"].format(id=record.id),
    )


def _afterwards(record: CallRecord, words: Mapping[str, str], shown: Any, when: Any) -> list[Block]:
    """Who has seen and acknowledged it, and who called back."""
    blocks: list[Block] = [
        Heading(text=words["confirmed"], level=2),
        Grid(
            headers=(words["when"], words["what"], words["by"], words["contact"]),
            rows=tuple(
                (when(one.at), words[one.step.value], f"{shown(one.by)} ({one.how})", one.contact)
                for one in record.confirmations
            ),
            nothing=words["nobody_confirmed"],
        ),
    ]
    if record.callbacks:
        blocks += [
            Heading(text=words["callbacks"]),
            Grid(
                headers=(words["when"], words["from"], words["to"], words["what"]),
                rows=tuple(
                    (
                        when(one.at),
                        f"{shown(one.caller) or words['withheld']} ({one.trunk})",
                        f"{shown(one.number)} {one.to}".strip(),
                        f"{one.outcome.value} {one.status or ''} {one.reason}".strip(),
                    )
                    for one in record.callbacks
                ),
            ),
        ]
    return blocks


def _where(record: CallRecord, words: Mapping[str, str], shown: Any, language: str) -> list[Block]:
    location = record.location
    if location is None:
        return [Paragraph(text=words["unknown"])]
    lines = [shown(line) for line in address_lines(location.civic, language)]
    if location.point is not None:
        point = f"{location.point.latitude:.6f}, {location.point.longitude:.6f}"
        lines.append(hidden(point) if shown("a") != "a" else point)
    validated = _validated(location, words)
    found: list[Block] = [
        Paragraph(text="\n".join([*lines, f"{location.source.value} ({location.method})", validated]))
    ]
    if not record.location_sent:
        found.append(Paragraph(text=words["not_sent"]))
    return found


def _validated(location: DispatchableLocation, words: Mapping[str, str]) -> str:
    if not location.validation:
        return words["not_validated"]
    verdict, colon, names = location.validation.partition(":")
    day = f" ({datetime.fromtimestamp(location.validated_at, UTC):%Y-%m-%d})" if location.validated_at else ""
    return words["validated"].format(
        verdict=words[verdict if verdict in ("valid", "invalid") else "not_known"], names=colon + names, day=day
    )


def _on_the_wire(messages: Messages, words: Mapping[str, str], screen: Sequence[str]) -> list[Block]:
    if not messages:
        return [Heading(text=words["ladder"]), Paragraph(text=words["not_kept"])]
    blocks: list[Block] = [
        Heading(text=words["ladder"]),
        Preformatted(text="\n".join(ladder_text(ladder_of(messages)))),
    ]
    for sent in sent_invites(messages):
        blocks += [
            Heading(text=words["sent"].format(trunk=sent.trunk)),
            Preformatted(text=sent.text, marked=sent.marked),
        ]
    if screen:
        blocks += [Heading(text=words["psap"]), Preformatted(text="\n".join(screen))]
    return blocks


def sent_invites(messages: Messages) -> list[SentInvite]:
    """The INVITEs that went to providers: initial ones that we sent to anybody but the caller; each only once."""
    callers = {traced.source for traced, _ in messages if not traced.sent and _is_initial(traced)}
    found: list[SentInvite] = []
    seen: set[bytes] = set()
    for traced, trunk in messages:
        request = traced.message
        if not traced.sent or not _is_initial(traced) or traced.destination in callers or traced.data in seen:
            continue
        assert isinstance(request, Request)
        seen.add(traced.data)
        text = traced.data.decode("utf-8", "replace").replace("\r\n", "\n")
        found.append(
            SentInvite(
                trunk=trunk or f"{traced.destination[0]}:{traced.destination[1]}",
                at=traced.at,
                text=text,
                marked=_location_lines(request, text),
                request=request,
            )
        )
    return found


def _is_initial(traced: Traced) -> bool:
    request = traced.message
    return isinstance(request, Request) and request.method == b"INVITE" and not request.to_tag


def _location_lines(request: Request, text: str) -> frozenset[int]:
    """Numbers of the lines that carry the location: Geolocation fields, and the document."""
    marked: set[int] = set()
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line[:11].lower() == "geolocation":
            marked.add(number)
    part = location_part(request)
    if part is not None:
        document = part.data.decode("utf-8", "replace").replace("\r\n", "\n")
        at = text.find(document)
        if at >= 0:
            first = text.count("\n", 0, at)
            marked.update(range(first, first + document.rstrip("\n").count("\n") + 1))
    return frozenset(marked)


def psap_screen(record: CallRecord, messages: Messages, zone: tzinfo, redacted: Messages | None = None) -> list[str]:
    """The ALI screen that the INVITE of the route that took the call makes; of the last one where none did.

    redacted: the same messages as they are handed on, where they are: the screen is hidden as they are, and still
    says that there was a number and a place."""
    sent = sent_invites(messages)
    if not sent:
        return []
    answered = [r for r in record.routes if r.outcome == RouteOutcome.ANSWERED.value]
    chosen = sent[-1]
    if answered:
        before = [one for one in sent if one.at <= answered[-1].at + 0.5]
        chosen = (before or sent)[-1]
    ali = read_ali(chosen.request, received_at=chosen.at, received_from="edge911", provider=chosen.trunk)
    if redacted is None:
        return ali_lines(ali, zone)
    shown = next((one.request for one in sent_invites(redacted) if one.at == chosen.at), None)
    handed_on = read_ali(shown, received_at=0.0, received_from="", provider="") if shown is not None else None
    ali = replace(
        ali,
        method=hidden(ali.method),
        provided_by=hidden(ali.provided_by),
        request_uri=handed_on.request_uri if handed_on else "",
        incident=handed_on.incident if handed_on else "",
    )
    return ali_lines(ali, zone, hidden)


def _message_text(traced: Traced, trunk: str) -> bytes:
    when = datetime.fromtimestamp(traced.at, UTC).isoformat(timespec="microseconds")
    ends = f"{traced.source[0]}:{traced.source[1]} -> {traced.destination[0]}:{traced.destination[1]}"
    head = f"===== {when} {'sent' if traced.sent else 'received'} {traced.transport} {ends} {trunk}".rstrip()
    return head.encode() + b"\n" + traced.data + b"\n"


def hidden(text: str) -> str:
    """The text with every letter and digit as x."""
    return "".join("x" if char.isalnum() else char for char in text)


def redacted_record(document: Any, name: str = "") -> Any:
    """A record's plain data with what is private hidden. Routes, states, sites and times stay."""
    if isinstance(document, Mapping):
        within = _PRIVATE_WITHIN.get(name, frozenset())
        return {
            key: hidden(value) if key in within and isinstance(value, str) else redacted_record(value, str(key))
            for key, value in document.items()
        }
    if isinstance(document, list | tuple):
        return [redacted_record(item, name) for item in document]
    if name in _COORDINATES:
        return None
    if name in _PRIVATE and isinstance(document, str):
        return hidden(document)
    return document
