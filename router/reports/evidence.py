"""The evidence that a site keeps the rules: a dated report, each item with its proof.

47 CFR 9.16(b)(1) direct dialling, (b)(2) notice (Kari's Law), (b)(3) dispatchable location (RAY BAUM's Act).
A report of facts, no legal advice: what is configured, what was tried, what was delivered and when.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from functools import cache
from pathlib import Path

import yaml

from config.schema import Config, SiteConfig
from router.notices.channel_identity import channel_id
from router.notices.outbox import Entry, NoticeState
from router.readiness.phones import SitePhones
from router.records.record import CallSummary
from router.reports.document import Block, Grid, Heading, Item, Paragraph, Report, Verdict
from router.self_test.call import CALLER
from router.self_test.schedule import routes_of
from router.store.self_tests import SelfTest

When = Callable[[float | None], str]

RECENT_SECONDS = 35 * 86_400.0
PROVEN_SECONDS = 90 * 86_400.0
_NOT_DUE = (NoticeState.SKIPPED, NoticeState.FOLDED)
"""Not wanted, or told in another notice, which counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the report is made of. Times are seconds since 1970."""

    now: float
    config: Config
    site: SiteConfig
    phones: SitePhones
    calls: Sequence[CallSummary]
    """The newest calls of the site, tests too."""
    notices: Sequence[Entry]
    """Notices of these calls."""
    proven: Mapping[tuple[str, str], float]
    tests: Mapping[tuple[str, str], SelfTest]
    self_placed: Set[str] = frozenset()
    """Record ids of test calls that the router placed itself: they say nothing of what phones can dial."""
    tested_elsewhere: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(site, route) → where its last test went, where the route leads elsewhere by now: it proves nothing."""
    tested_otherwise: Set[tuple[str, str]] = frozenset()
    """Sites and routes whose last test was of a call that is made otherwise by now: that it passed proves nothing."""


LANGUAGES = ("en", "fr")
_WORDS = Path(__file__).with_suffix(".yaml")


@cache
def words_of(language: str) -> Mapping[str, str]:
    """All texts in a language."""
    found: dict[str, dict[str, str]] = yaml.safe_load(_WORDS.read_text(encoding="utf-8"))
    return {key: texts[language] for key, texts in found.items()}


def evidence_report(evidence: Evidence, language: str, zone: tzinfo) -> Report:
    """The report."""
    words = words_of(language)
    site = evidence.site

    def when(at: float | None) -> str:
        return f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M %Z}" if at else "—"

    blocks: list[Block] = [Paragraph(text=words["intro"])]
    blocks += _dialling(evidence, words, when)
    blocks += _notice(evidence, words, when)
    blocks += _location(evidence, words)
    blocks += _routes(evidence, words, when)
    blocks += [
        Heading(text=words["history"]),
        Grid(
            headers=tuple(words[name] for name in ("when", "dialled", "outcome", "route", "call")),
            widths=(0.26, 0.12, 0.2, 0.2, 0.22),
            rows=tuple(
                (
                    when(call.started_at),
                    call.dialled,
                    f"{call.outcome} {call.status or ''}".strip(),
                    call.route,
                    call.id,
                )
                for call in evidence.calls[:20]
            ),
            nothing=words["no_calls"],
        ),
    ]
    name = site.name or site.id
    return Report(
        title=words["title"].format(site=name),
        subtitle=words["subtitle"].format(when=when(evidence.now), node=evidence.config.node),
        language=language,
        blocks=tuple(blocks),
        footer=words["footer"].format(site=name, when=when(evidence.now)),
    )


def _dialling(evidence: Evidence, words: Mapping[str, str], when: When) -> list[Block]:
    numbers = ", ".join(evidence.config.emergency.numbers)
    key = "dial_ok" if len(evidence.config.emergency.numbers) > 1 else "dial_plain"
    dialled = [
        call
        for call in evidence.calls
        if call.outcome == "answered"
        and evidence.now - call.started_at < PROVEN_SECONDS
        and call.id not in evidence.self_placed
        and call.number != CALLER
    ]
    proofs = [words["dial_proof"].format(numbers=numbers)]
    proofs += [words["dial_call"].format(dialled=c.dialled, when=when(c.started_at), id=c.id) for c in dialled[:2]]
    return [
        Heading(text=words["dialling"]),
        Item(
            verdict=Verdict.PROVEN if dialled else Verdict.CONFIGURED,
            text=words[key].format(numbers=numbers),
            proofs=tuple(proofs),
            remedy="" if dialled else words["dial_remedy"].format(site=evidence.site.id),
        ),
    ]


def _notice(evidence: Evidence, words: Mapping[str, str], when: When) -> list[Block]:
    config = evidence.config
    names = [name for name in evidence.site.notify if name in config.contacts]
    if not names:
        default = next((one for one in config.sites if one.id == config.emergency.default.site), None)
        names = [name for name in (default.notify if default else config.contacts) if name in config.contacts]
    blocks: list[Block] = [Heading(text=words["notice"])]
    if not names:
        blocks.append(Item(verdict=Verdict.MISSING, text=words["notice_nobody"], remedy=words["notice_remedy"]))
        return blocks
    recent = {key: at for key, at in evidence.proven.items() if evidence.now - at < PROVEN_SECONDS}
    is_proven = any((name, channel_id(url)) in recent for name in names for url in config.contacts[name].send)
    blocks.append(
        Item(
            verdict=Verdict.PROVEN if is_proven else Verdict.CONFIGURED,
            text=words["notice_who"].format(contacts=", ".join(names)),
            proofs=(words["notice_content"],),
        )
    )
    for name in names:
        for number, url in enumerate(config.contacts[name].send):
            at = recent.get((name, channel_id(url)))
            blocks.append(
                Item(
                    verdict=Verdict.PROVEN if at else Verdict.CONFIGURED,
                    text=words["channel_ok" if at else "channel"].format(contact=name, number=number + 1),
                    proofs=(words["channel_proof"].format(when=when(at)),) if at else (),
                    remedy="" if at else words["channel_remedy"].format(contact=name),
                )
            )
    # Those that none of their ways has tried count as well: a notice that never left is what is to be found here.
    due = [one for one in evidence.notices if one.queued_at and one.state not in _NOT_DUE]
    tried = [one for one in due if one.first_attempt_at is not None]
    if tried:
        waited = sorted((one.first_attempt_at or 0.0) - one.queued_at for one in tried)
        delivered = sum(one.state is NoticeState.DELIVERED for one in due)
        text = words["notice_speed"].format(
            count=len(due), delivered=delivered, seconds=f"{waited[len(waited) // 2]:.2f}"
        )
        if not delivered:
            blocks.append(Item(verdict=Verdict.MISSING, text=text, remedy=words["notice_lost_remedy"]))
        else:
            verdict = Verdict.PROVEN if delivered == len(due) else Verdict.FOR_INFORMATION
            blocks.append(Item(verdict=verdict, text=text))
    return blocks


def _location(evidence: Evidence, words: Mapping[str, str]) -> list[Block]:
    phones = evidence.phones
    reasons = ", ".join(f"{reason} ({count})" for reason, count in phones.reasons.most_common(8))
    if not phones.phones:
        item = Item(verdict=Verdict.CONFIGURED, text=words["location_none"])
    elif phones.dispatchable == phones.phones:
        item = Item(verdict=Verdict.PROVEN, text=words["location_all"].format(phones=phones.phones))
    else:
        item = Item(
            verdict=Verdict.MISSING,
            text=words["location_some"].format(
                good=phones.dispatchable,
                phones=phones.phones,
                located=phones.located,
                basic=phones.basic,
                nowhere=phones.nowhere,
            ),
            proofs=(words["reasons"].format(reasons=reasons),),
            remedy=words["location_remedy"].format(site=evidence.site.id),
        )
    missing = phones.without_callback
    callback = Item(
        verdict=Verdict.MISSING if missing else Verdict.PROVEN if phones.phones else Verdict.CONFIGURED,
        text=words["callback_not"].format(count=missing) if missing else words["callback"],
        remedy=words["callback_remedy"] if missing else "",
    )
    return [Heading(text=words["location"]), item, callback]


def _routes(evidence: Evidence, words: Mapping[str, str], when: When) -> list[Block]:
    site = evidence.site
    blocks: list[Block] = [Heading(text=words["routes"])]
    for _, route in routes_of(evidence.config, [site.id]):
        test = evidence.tests.get((site.id, route))
        recent = test is not None and evidence.now - test.started_at < RECENT_SECONDS
        verdict, key = Verdict.CONFIGURED, "route_old"
        if (site.id, route) in evidence.tested_elsewhere:
            key = "route_elsewhere"
        elif test is not None and test.has_passed and (site.id, route) in evidence.tested_otherwise:
            key = "route_otherwise"
        elif test is not None and recent:
            verdict, key = (Verdict.PROVEN, "route_ok") if test.has_passed else (Verdict.MISSING, "route_bad")
        proofs: tuple[str, ...] = ()
        if test is not None:
            at = when(test.started_at)
            proofs = (words["route_proof"].format(when=at, words=test.words, heard=test.heard or "—", id=test.call),)
        blocks.append(
            Item(
                verdict=verdict,
                text=words[key].format(
                    route=route,
                    reason=test.reason if test else "",
                    place=evidence.tested_elsewhere.get((site.id, route), ""),
                ),
                proofs=proofs,
                remedy="" if key == "route_ok" else words["route_remedy"].format(site=site.id, route=route),
            )
        )
    basic = site.basic if site.basic is not None else evidence.config.emergency.basic
    names = ", ".join(one.name for one in basic)
    blocks.append(
        Item(verdict=Verdict.CONFIGURED, text=words["basic_ok"].format(routes=names))
        if basic
        else Item(verdict=Verdict.MISSING, text=words["basic_not"], remedy=words["basic_remedy"])
    )
    return blocks
