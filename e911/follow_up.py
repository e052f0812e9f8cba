"""What contacts are told of a call after its notice: what became of it, and that nobody has acknowledged it.

Plain text in English and French, as e911.notice writes it.
"""

from dataclasses import dataclass
from enum import StrEnum

from e911.notice import Notice, one_line, when_text, who_called
from e911.record import CallIntent, CallRefused


class FollowUp(StrEnum):
    """What became of a call."""

    ANSWERED = "answered"
    BASIC = "basic"
    ENDED = "ended"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpWords:
    """All that such a notice says, in one language."""

    subject: dict[FollowUp, str]
    first: dict[FollowUp, str]
    advice: dict[FollowUp, str]
    test: str
    when: str
    record: str
    escalated_subject: str
    escalated_first: str
    untold_subject: str
    untold_first: str
    more: str


ENGLISH = FollowUpWords(
    subject={
        FollowUp.ANSWERED: "911 answered: {who}",
        FollowUp.BASIC: "911 goes on WITHOUT location: {who}",
        FollowUp.ENDED: "911 call ended: {who}",
        FollowUp.ABANDONED: "911 caller hung up before an answer: {who}",
    },
    first={
        FollowUp.ANSWERED: "The 911 call by {who} was answered ({route}).",
        FollowUp.BASIC: "The 911 call by {who} goes on as basic 911 ({route}), to which no location is given.",
        FollowUp.ENDED: "The 911 call by {who} has ended ({by} hung up).",
        FollowUp.ABANDONED: "{who} hung up before 911 answered.",
    },
    advice={
        FollowUp.ANSWERED: "",
        FollowUp.BASIC: "Be ready to tell 911 where the caller is.",
        FollowUp.ENDED: "",
        FollowUp.ABANDONED: "Somebody may still need help: go there or ring back. 911 may call back too.",
    },
    test="TEST: ",
    when="When",
    record="Call record",
    escalated_subject="NOT ACKNOWLEDGED: {subject}",
    escalated_first="{contact} has not acknowledged this notice within {seconds} s, so you are told:",
    untold_subject="NOBODY COULD BE REACHED: {subject}",
    untold_first="None of those who are to be told of this could be reached ({contacts}), so you are told:",
    more=" (and {count} more calls)",
)
FRENCH = FollowUpWords(
    subject={
        FollowUp.ANSWERED: "911 a répondu : {who}",
        FollowUp.BASIC: "Le 911 continue SANS emplacement : {who}",
        FollowUp.ENDED: "Appel au 911 terminé : {who}",
        FollowUp.ABANDONED: "L'appelant au 911 a raccroché avant la réponse : {who}",
    },
    first={
        FollowUp.ANSWERED: "L'appel au 911 de {who} a reçu une réponse ({route}).",
        FollowUp.BASIC: "L'appel au 911 de {who} continue en 911 de base ({route}), sans emplacement transmis.",
        FollowUp.ENDED: "L'appel au 911 de {who} est terminé ({by} a raccroché).",
        FollowUp.ABANDONED: "{who} a raccroché avant que le 911 ne réponde.",
    },
    advice={
        FollowUp.ANSWERED: "",
        FollowUp.BASIC: "Soyez prêts à dire au 911 où se trouve l'appelant.",
        FollowUp.ENDED: "",
        FollowUp.ABANDONED: "Quelqu'un a peut-être besoin d'aide : allez-y ou rappelez. Le 911 peut rappeler aussi.",
    },
    test="TEST : ",
    when="Heure",
    record="Dossier d'appel",
    escalated_subject="SANS CONFIRMATION : {subject}",
    escalated_first="{contact} n'a pas confirmé cet avis en {seconds} s, alors vous êtes averti :",
    untold_subject="PERSONNE N'A PU ÊTRE JOINT : {subject}",
    untold_first="Aucun de ceux qui devaient être avertis n'a pu être joint ({contacts}), alors vous êtes averti :",
    more=" (et {count} autres appels)",
)
_WORDS = {"en": ENGLISH, "fr": FRENCH}
_BY = {
    "en": {"caller": "the caller", "provider": "911"},
    "fr": {"caller": "l'appelant", "provider": "le 911"},
}


def write_follow_up(
    kind: FollowUp,
    event: CallIntent | CallRefused,
    *,
    language: str,
    site_name: str,
    zone_name: str,
    timezone: str,
    at: float,
    route: str = "",
    by: str = "",
    number: str = "",
) -> Notice:
    """What became of a call at a time `at` (seconds since 1970)."""
    words = _WORDS.get(language, ENGLISH)
    who = who_called(event, language, site_name, zone_name)
    values = {
        "who": who,
        "route": one_line(route) or "-",
        "by": _BY.get(language, _BY["en"]).get(by, one_line(by) or "-"),
        "number": one_line(number) or "-",
    }
    test = words.test if event.kind == "test" else ""
    colon = " :" if language == "fr" else ":"
    lines = [
        test + words.first[kind].format(**values),
        words.advice[kind],
        "",
        f"{words.when}{colon} {when_text(at, timezone)}",
        f"{words.record}{colon} {one_line(event.id)}",
    ]
    body = "\n".join(line for number, line in enumerate(lines) if line or number == 2)
    return Notice(subject=test + words.subject[kind].format(**values), body=f"{body}\n")


def passed_on(notice: Notice, language: str, *, contact: str, seconds: float, more: int = 0) -> Notice:
    """A notice for those who are told because `contact` has not acknowledged it in time."""
    words = _WORDS.get(language, ENGLISH)
    first = words.escalated_first.format(contact=one_line(contact), seconds=f"{seconds:.0f}")
    return _before(notice, words.escalated_subject, first, words, more)


def untold(notice: Notice, language: str, *, contacts: str, more: int = 0) -> Notice:
    """A notice for those who are told because nobody else could be reached."""
    words = _WORDS.get(language, ENGLISH)
    return _before(notice, words.untold_subject, words.untold_first.format(contacts=one_line(contacts)), words, more)


def _before(notice: Notice, subject: str, first: str, words: FollowUpWords, more: int) -> Notice:
    told = notice.subject + (words.more.format(count=more) if more else "")
    return Notice(subject=subject.format(subject=told), body=f"{first}\n{notice.body}")
