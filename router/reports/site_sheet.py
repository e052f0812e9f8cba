"""The 911 sheet of a site: one printed page for visitors and users, in English or French."""

from collections.abc import Mapping, Sequence
from typing import Final

from e911.location import Site
from e911.notice import address_lines
from router.reports.document import Block, Facts, Heading, Paragraph, Report

_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "title": "Emergency: dial 911",
        "how": "How to call",
        "dial": "Dial {numbers} on any phone here. No prefix is needed, and no code.",
        "stay": "Stay on the line. Do not hang up until you are told to. If you cannot speak, leave the line open.",
        "say": "What to say",
        "where": "Where you are: the address above, with floor and room.",
        "what": "What happened, and whether anybody is hurt.",
        "who": "Your name, and the number above.",
        "here": "You are at",
        "callback": "Number to call back",
        "floors": "Floors",
        "desk": "People on site are told at the same moment who called and from where. Send someone to the door.",
        "test": "Trying it without an emergency",
        "test_text": "Dial {numbers}: a test, never an emergency call. Never dial 911 to try it.",
        "limits": "What it cannot do",
        "power": "Phones here may not work without power or while the network is down. Then use a mobile phone.",
        "moved": "A phone or computer that was moved may send help to where it was. Say where you are first.",
        "none": "not given in the configuration",
    },
    "fr": {
        "title": "Urgence : composez le 911",
        "how": "Comment appeler",
        "dial": "Composez {numbers} sur tout téléphone d'ici. Il ne faut ni préfixe ni code.",
        "stay": "Restez en ligne. Ne raccrochez pas avant qu'on vous le dise. Si vous ne pouvez pas parler, "
        "laissez la ligne ouverte.",
        "say": "Ce qu'il faut dire",
        "where": "Où vous êtes : l'adresse ci-dessus, avec l'étage et le local.",
        "what": "Ce qui est arrivé, et s'il y a des blessés.",
        "who": "Votre nom, et le numéro ci-dessus.",
        "here": "Vous êtes ici",
        "callback": "Numéro de rappel",
        "floors": "Étages",
        "desk": "Des gens sur place apprennent au même moment qui a appelé et d'où. Envoyez quelqu'un à la porte.",
        "test": "Essayer sans urgence",
        "test_text": "Composez {numbers} : un essai, jamais un appel d'urgence. N'essayez jamais avec le 911.",
        "limits": "Ce qui ne va pas",
        "power": "Les téléphones d'ici peuvent ne pas fonctionner sans électricité ou pendant une panne du réseau. "
        "Utilisez alors un cellulaire.",
        "moved": "Un téléphone ou un ordinateur qui a été déplacé peut envoyer les secours là où il était. "
        "Dites d'abord où vous êtes.",
        "none": "absent de la configuration",
    },
}


def site_sheet(site: Site, language: str, numbers: Sequence[str], test_numbers: Sequence[str]) -> Report:
    """The sheet. numbers: what is dialled in an emergency, 911 among them; test_numbers: what only tries the way."""
    words = _WORDS.get(language, _WORDS["en"])
    or_word = " ou " if language == "fr" else " or "
    dialled = or_word.join(sorted(numbers, key=lambda number: (number != "911", number)))
    facts = [
        (words["here"], "\n".join([site.name, *address_lines(site.address, language)]).strip() or words["none"]),
        (words["callback"], site.callback or words["none"]),
    ]
    if site.floors:
        facts.append((words["floors"], ", ".join(site.floors)))
    blocks: list[Block] = [
        Heading(text=words["how"]),
        Paragraph(text=words["dial"].format(numbers=dialled)),
        Paragraph(text=words["stay"]),
        Facts(pairs=tuple(facts)),
        Heading(text=words["say"]),
        *(Paragraph(text=f"• {words[key]}") for key in ("where", "what", "who")),
        Paragraph(text=words["desk"]),
    ]
    if test_numbers:
        blocks += [
            Heading(text=words["test"]),
            Paragraph(text=words["test_text"].format(numbers=or_word.join(sorted(test_numbers)))),
        ]
    blocks += [Heading(text=words["limits"]), Paragraph(text=words["power"]), Paragraph(text=words["moved"])]
    return Report(
        title=words["title"], subtitle=site.name or site.id, language=language, blocks=tuple(blocks), footer=site.id
    )
