"""A notice in few words (SMS) and in spoken words (a call to a desk), in English and French."""

import unicodedata
from dataclasses import dataclass

from e911.location import FINER_FIELDS, DispatchableLocation
from e911.notice import Notice, address_lines, location_lines, one_line, when_text, who_called
from e911.record import CallIntent, CallRefused

SMS_CHARACTERS = 160
"""What fits one message in the GSM alphabet (3GPP TS 23.038)."""
_GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_INSTEAD = {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "×": "x", "\u00a0": " "}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenWords:
    """What a voice says beside the notice."""

    attention: str
    callback: str
    no_callback: str
    location: str
    no_location: str
    press: str
    short_callback: str
    short_no_location: str


SPOKEN = {
    "en": SpokenWords(
        attention="Attention.",
        callback="The callback number is {number}.",
        no_callback="No callback number is known.",
        location="The location is {place}.",
        no_location="No location is known. Ask the caller where they are.",
        press="Press any key to confirm that you have heard this.",
        short_callback="Callback {number}",
        short_no_location="location unknown",
    ),
    "fr": SpokenWords(
        attention="Attention.",
        callback="Le numéro de rappel est le {number}.",
        no_callback="Aucun numéro de rappel n'est connu.",
        location="L'emplacement est : {place}.",
        no_location="Aucun emplacement n'est connu. Demandez à l'appelant où il est.",
        press="Appuyez sur une touche pour confirmer que vous avez entendu ce message.",
        short_callback="Rappel {number}",
        short_no_location="emplacement inconnu",
    ),
}


def short_form(notice: Notice, event: CallIntent | CallRefused | None, language: str) -> str:
    """At most SMS_CHARACTERS of the GSM alphabet: what happened, the callback number, the place as far as it fits."""
    words = SPOKEN.get(language, SPOKEN["en"])
    parts = [notice.subject]
    if event is not None:
        if event.caller.callback:
            parts.append(words.short_callback.format(number=one_line(event.caller.callback)))
        location = event.location if isinstance(event, CallIntent) else None
        parts.append(_place(location, language) if location else words.short_no_location)
    subject, *others = [gsm_text(part) for part in parts]
    text = subject[:SMS_CHARACTERS]
    for part in others:
        left = SMS_CHARACTERS - len(text) - 2
        if left >= min(len(part), 12):
            text += f". {part[:left]}"
    return text


def spoken_form(notice: Notice, event: CallIntent | CallRefused | None, language: str) -> str:
    """Sentences for a voice; digits of the callback number by themselves."""
    words = SPOKEN.get(language, SPOKEN["en"])
    first, _, rest = notice.body.partition("\n")
    sentences = [words.attention, first]
    if event is not None:
        number = " ".join(digit for digit in event.caller.callback if digit.isdigit())
        sentences.append(words.callback.format(number=number) if number else words.no_callback)
        location = event.location if isinstance(event, CallIntent) else None
        if location is not None:
            sentences.append(words.location.format(place=_place(location, language)))
        elif isinstance(event, CallIntent):
            sentences.append(words.no_location)
    sentences += [rest.partition("\n")[0], words.press]
    return " ".join(sentence for sentence in sentences if sentence)


def notice_facts(
    notice: Notice, event: CallIntent | CallRefused | None, language: str, *, site: str, zone: str, zone_of: str
) -> dict[str, object]:
    """All that a template may say, by name; texts are one line each, and nothing that a phone filled in is markup.

    zone_of: the time zone. The supplied words come along: subject, first, advice, rest, body, short, spoken.
    """
    head, _, rest = notice.body.partition("\n\n")
    first, _, advice = head.partition("\n")
    location = event.location if isinstance(event, CallIntent) else None
    caller = event.caller if event else None
    return {
        "subject": notice.subject,
        "body": notice.body,
        "first": first,
        "advice": advice,
        "rest": rest.rstrip("\n"),
        "short": short_form(notice, event, language),
        "spoken": spoken_form(notice, event, language),
        "language": language,
        "is_about_one_call": event is not None,
        "is_test": event is not None and event.kind == "test",
        "time": when_text(event.at, zone_of) if event else "",
        "dialled": one_line(event.dialled) if event else "",
        "device": who_called(event, language, "", "") if event else "",
        "number": one_line(caller.number) if caller else "",
        "display_name": one_line(caller.display_name) if caller else "",
        "callback": one_line(caller.callback) if caller else "",
        "location_lines": location_lines(location, language) if location else [],
        "place": _place(location, language) if location else "",
        "location_sent": isinstance(event, CallIntent) and event.location_sent,
        "location_source": location.source.value if location else "",
        "site": one_line(site),
        "zone": one_line(zone),
        "route": one_line(event.first_route) if isinstance(event, CallIntent) else "",
    }


def gsm_text(text: str) -> str:
    """The text in the GSM 7-bit alphabet; what it has no character for is written without its accent, or as ?."""
    return "".join(character if character in _GSM else _gsm_instead(character) for character in text)


def _gsm_instead(character: str) -> str:
    instead = _INSTEAD.get(character)
    if instead is None:
        plain = unicodedata.normalize("NFKD", character)
        instead = "".join(one for one in plain if one in _GSM)
    return instead or "?"


def _place(location: DispatchableLocation, language: str) -> str:
    """In one line, what is finest first: whoever runs there needs the room before the city."""
    lines = address_lines(location.civic, language)
    finer = sum(1 for name in FINER_FIELDS if one_line(getattr(location.civic, name)))
    place = ", ".join([*lines[len(lines) - finer :], *lines[: len(lines) - finer]])
    if place or location.point is None:
        return place
    return f"{location.point.latitude:.5f}, {location.point.longitude:.5f}{location.point.within}"
