"""What contacts are told of a call back to somebody who dialled 911, and of ELINs that run out; in two languages."""

from dataclasses import dataclass

from e911.elin import SHARED, PoolState
from e911.notice import Notice, one_line, when_text
from e911.record import AlarmRaised, CallbackEvent

LEASE_OVER = "lease-over"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackWords:
    """All that these notices say, in one language."""

    test: str
    subject: str
    psap_subject: str
    first: str
    to_phone: str
    to_desk: str
    over: str
    number: str
    caller: str
    withheld: str
    site: str
    when: str
    record: str
    alarm_subject: dict[str, str]
    alarm_first: dict[str, str]
    alarm_advice: str
    left: str
    somebody: str


ENGLISH = CallbackWords(
    test="TEST: ",
    subject="Call back to {who}, who dialled 911",
    psap_subject="911 calls back: {who}",
    first="Somebody, probably 911, calls back {who}, who dialled 911.",
    to_phone="The call goes to that phone, then to the desk. Have it taken: 911 may need to know more.",
    to_desk="The call goes to the desk. Take it: 911 may need to know more.",
    over="{who} dialled 911 some time ago and had this number; it is nobody's now. The call goes to the desk.",
    number="Number called",
    caller="Called by",
    withheld="withheld",
    site="Site",
    when="When",
    record="Call record",
    alarm_subject={
        PoolState.LOW: "ELINs run out: {subject} ({free} of {total} left)",
        PoolState.EMPTY: "No ELIN left: {subject}",
        SHARED: "ELINs are shared: {subject}",
    },
    alarm_first={
        PoolState.LOW: "Few ELINs are left for phones without a number of their own at {subject}.",
        PoolState.EMPTY: "Every ELIN of {subject} is in use. The next 911 caller without a number shares one.",
        SHARED: "Every ELIN of {subject} is in use, and callers share one: a call back reaches who called last.",
    },
    alarm_advice="911 calls go out all the same. Add ELINs, or end leases: edge911 elins list.",
    left="Left",
    somebody="a caller without a name",
)
FRENCH = CallbackWords(
    test="TEST : ",
    subject="Rappel de {who}, qui a composé le 911",
    psap_subject="Le 911 rappelle : {who}",
    first="Quelqu'un, sans doute le 911, rappelle {who}, qui a composé le 911.",
    to_phone="L'appel va à ce téléphone, puis au bureau. Faites-le prendre : le 911 veut peut-être en savoir plus.",
    to_desk="L'appel va au bureau. Prenez-le : le 911 veut peut-être en savoir plus.",
    over="{who} a composé le 911 il y a quelque temps et avait ce numéro, qui n'est plus à personne. "
    "L'appel va au bureau.",
    number="Numéro appelé",
    caller="Appelé par",
    withheld="masqué",
    site="Site",
    when="Heure",
    record="Dossier d'appel",
    alarm_subject={
        PoolState.LOW: "Bientôt plus d'ELIN : {subject} (il en reste {free} sur {total})",
        PoolState.EMPTY: "Plus d'ELIN : {subject}",
        SHARED: "ELIN partagés : {subject}",
    },
    alarm_first={
        PoolState.LOW: "Il reste peu d'ELIN pour les téléphones sans numéro propre à {subject}.",
        PoolState.EMPTY: "Tous les ELIN de {subject} sont pris. Le prochain appelant sans numéro en partage un.",
        SHARED: "Tous les ELIN de {subject} sont pris et partagés : un rappel atteint le dernier qui a appelé.",
    },
    alarm_advice="Les appels au 911 partent quand même. Ajoutez des ELIN ou libérez-en : edge911 elins list.",
    left="Restants",
    somebody="un appelant sans nom",
)
_WORDS = {"en": ENGLISH, "fr": FRENCH}


def write_callback(event: CallbackEvent, *, language: str, site_name: str, timezone: str) -> Notice:
    """That somebody calls back."""
    words = _WORDS.get(language, ENGLISH)
    who = one_line(event.who) or words.somebody
    test = words.test if event.is_test else ""
    subject = words.psap_subject if event.is_psap else words.subject
    if event.reason == LEASE_OVER:
        first = [words.over.format(who=who)]
    else:
        first = [words.first.format(who=who), words.to_phone if event.to == "phone" else words.to_desk]
    lines = [test + first[0], *first[1:], ""]
    lines += _pairs(
        language,
        (words.number, event.number),
        (words.caller, event.caller or words.withheld),
        (words.site, site_name),
        (words.when, when_text(event.at, timezone)),
        (words.record, event.id),
    )
    return Notice(subject=test + subject.format(who=who), body="\n".join(lines) + "\n")


def write_alarm(event: AlarmRaised, *, language: str, site_name: str, timezone: str) -> Notice:
    """That ELINs run out."""
    words = _WORDS.get(language, ENGLISH)
    reason = event.reason if event.reason in words.alarm_first else PoolState.LOW
    values = {"subject": one_line(event.subject), "free": event.free, "total": event.total}
    lines = [words.alarm_first[reason].format(**values), words.alarm_advice, ""]
    lines += _pairs(
        language,
        (words.left, f"{event.free} / {event.total}"),
        (words.site, site_name),
        (words.when, when_text(event.at, timezone)),
        (words.record, event.id),
    )
    return Notice(subject=words.alarm_subject[reason].format(**values), body="\n".join(lines) + "\n")


def _pairs(language: str, *pairs: tuple[str, str]) -> list[str]:
    colon = " :" if language == "fr" else ":"
    return [f"{label}{colon} {one_line(value)}" for label, value in pairs if value]
