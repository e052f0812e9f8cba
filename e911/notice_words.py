"""The words of a notice, in English and in French; only words, no rules.

A placeholder in braces is filled by e911.notice. Labels stand before a value on a line of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeWords:
    """All that a notice says, in one language."""

    call_subject: str
    call_first: str
    call_advice: str
    test_subject: str
    test_first: str
    test_advice: str
    failed_subject: str
    failed_first: str
    failed_advice: str
    failed_test_subject: str
    failed_test_first: str
    failed_test_advice: str
    failed_status: str
    refused_subject: str
    refused_first: str
    refused_test_subject: str
    refused_test_first: str
    refused_advice: str
    refused_advices: dict[str, str]
    """By the reason of the refusal, where it is another."""
    text_subject: str
    text_first: str
    text_test_subject: str
    text_test_first: str
    text_advice: str
    text: str
    folded_subject: str
    folded_first: str
    folded_advice: str
    folded_test_subject: str
    folded_test_first: str
    folded_failed_subject: str
    folded_failed_first: str
    folded_failed_advice: str
    folded_failed_test_subject: str
    folded_failed_test_first: str
    folded_refused_subject: str
    folded_refused_first: str
    folded_refused_test_subject: str
    folded_refused_test_first: str
    folded_more: str
    by: str
    when: str
    dialled: str
    device: str
    callback: str
    no_callback: str
    site: str
    no_site: str
    zone: str
    route: str
    no_route: str
    source_address: str
    why: str
    status: str
    record: str
    location_sent: str
    location_not_sent: str
    location_unknown: str
    location_from: str
    confirmed: str
    doubts: Mapping[str, str]
    coordinates: str
    unknown_caller: str
    colon: str
    sources: dict[str, str]
    reasons: dict[str, str]
    parts: dict[str, str]


ENGLISH = NoticeWords(
    call_subject="911 dialled: {who}",
    call_first="911 was dialled by {who}.",
    call_advice="Help may be on its way: be ready to let it in and to show the way.",
    test_subject="TEST: {dialled} dialled: {who}",
    test_first="TEST call to {dialled} by {who}. This is not an emergency.",
    test_advice="Nothing needs to be done, if the location and the callback number below are right.",
    failed_subject="911 CALL DID NOT GO THROUGH: {who}",
    failed_first="The 911 call by {who} did NOT go through.",
    failed_advice="Go to the caller or ring back at once, and call 911 from another phone.",
    failed_test_subject="TEST: call to {dialled} did NOT go through: {who}",
    failed_test_first="TEST call to {dialled} by {who} did NOT go through. This is not an emergency.",
    failed_test_advice="A 911 call from there might fail too: have the routes looked at.",
    failed_status="last answer {status}",
    refused_subject="911 CALL REFUSED: {who}",
    refused_first="A 911 call by {who} was REFUSED. It did NOT go through.",
    refused_test_subject="TEST: call to {dialled} refused: {who}",
    refused_test_first="TEST call to {dialled} by {who} was refused.",
    refused_advice="If this is one of your phones, its network is missing under networks: inside.",
    refused_advices={
        "malformed": "Go to the caller or ring them back at once, and have this phone mended.",
        "blocked": "If this caller needs help, look after them; edge911 block remove serves their calls again.",
    },
    text_subject="TEXT TO 911 NOT DELIVERED: {who}",
    text_first="{who} sent a text to 911. It was NOT delivered: there is no text service. They were told to call.",
    text_test_subject="TEST: text to {dialled}: {who}",
    text_test_first="TEST: {who} sent a text to {dialled}. They were told to call, as for a text to 911.",
    text_advice="Somebody who cannot speak may need help: look after them, or call 911 for them.",
    text="They wrote",
    folded_subject="{count} more 911 calls: {where}",
    folded_first="{count} more 911 calls at {where}, in this one notice because they came so fast.",
    folded_advice="Every call was put through by itself, and each has its own record.",
    folded_test_subject="TEST: {count} more test calls: {where}",
    folded_test_first="TEST: {count} more test calls at {where}. This is not an emergency.",
    folded_failed_subject="{count} more 911 CALLS DID NOT GO THROUGH: {where}",
    folded_failed_first="{count} more 911 calls at {where} did NOT go through; one notice because they came so fast.",
    folded_failed_advice="Go to these callers or ring them back at once, and call 911 from another phone.",
    folded_failed_test_subject="TEST: {count} more test calls did NOT go through: {where}",
    folded_failed_test_first="TEST: {count} more test calls at {where} did NOT go through. This is not an emergency.",
    folded_refused_subject="{count} more 911 CALLS REFUSED: {where}",
    folded_refused_first="{count} more 911 calls were REFUSED. They did NOT go through.",
    folded_refused_test_subject="TEST: {count} more test calls refused: {where}",
    folded_refused_test_first="TEST: {count} more test calls were refused.",
    folded_more="and {count} more: see the call records",
    by="{device}, {where}",
    when="When",
    dialled="Dialled",
    device="Device",
    callback="Callback number",
    no_callback="none known",
    site="Site",
    no_site="none (no site claims this caller)",
    zone="Zone",
    route="Route",
    no_route="none",
    source_address="Came from address",
    why="Why",
    status="Answered with",
    record="Call record",
    location_sent="Location given to 911",
    location_not_sent="Location known here but NOT given to 911 (the call goes by basic 911, which carries none)",
    location_unknown="Location given to 911: NONE, none is known. Ask the caller where they are.",
    location_from="Location from",
    confirmed="last changed {when}",
    doubts={
        "location-unconfirmed": "DOUBTFUL: the phone was seen elsewhere since this was given. Ask the caller.",
        "location-expired": "DOUBTFUL: nobody has confirmed this location in time. Ask the caller.",
    },
    coordinates="Coordinates",
    unknown_caller="unknown caller",
    colon=":",
    sources={
        "conveyed": "the caller's device",
        "held": "the location server",
        "network": "the network the phone is in",
        "registered": "the registered devices",
        "site": "the site's own address",
    },
    reasons={
        "from-outside": "it came from outside (a carrier or provider), not from a phone of yours",
        "from-unlisted-source": "its source address is in none of the listed networks",
        "malformed": "the phone sent it in a way that cannot be read: its log and edge911's say more",
        "blocked": "somebody blocked this caller for a while (edge911 block)",
        "no-text-service": "911 takes no texts here",
    },
    parts={
        "building": "Building",
        "floor": "Floor",
        "unit": "Unit",
        "room": "Room",
        "landmark": "Landmark",
        "additional": "Also",
    },
)

FRENCH = NoticeWords(
    call_subject="911 composé : {who}",
    call_first="Le 911 a été composé par {who}.",
    call_advice="Les secours sont peut-être en route : soyez prêts à leur ouvrir et à les guider.",
    test_subject="TEST : {dialled} composé : {who}",
    test_first="TEST : appel au {dialled} par {who}. Ce n'est pas une urgence.",
    test_advice="Rien à faire si l'emplacement et le numéro de rappel ci-dessous sont exacts.",
    failed_subject="L'APPEL AU 911 N'A PAS ABOUTI : {who}",
    failed_first="L'appel au 911 de {who} n'a PAS abouti.",
    failed_advice="Allez voir l'appelant ou rappelez-le tout de suite, et appelez le 911 d'un autre téléphone.",
    failed_test_subject="TEST : l'appel au {dialled} n'a PAS abouti : {who}",
    failed_test_first="TEST : l'appel au {dialled} de {who} n'a PAS abouti. Ce n'est pas une urgence.",
    failed_test_advice="Un appel au 911 pourrait échouer aussi : faites vérifier les routes.",
    failed_status="dernière réponse {status}",
    refused_subject="APPEL AU 911 REFUSÉ : {who}",
    refused_first="Un appel au 911 de {who} a été REFUSÉ. Il n'a PAS abouti.",
    refused_test_subject="TEST : appel au {dialled} refusé : {who}",
    refused_test_first="TEST : l'appel au {dialled} de {who} a été refusé.",
    refused_advice="Si c'est un de vos téléphones, son réseau manque sous networks: inside.",
    refused_advices={
        "malformed": "Allez voir l'appelant ou rappelez-le tout de suite, et faites réparer ce téléphone.",
        "blocked": "Si cette personne a besoin d'aide, allez la voir. Lever le blocage : edge911 block remove.",
    },
    text_subject="TEXTO AU 911 NON TRANSMIS : {who}",
    text_first="{who} a envoyé un texto au 911. Il n'a PAS été transmis : pas de tel service. On a dit d'appeler.",
    text_test_subject="TEST : texto au {dialled} : {who}",
    text_test_first="TEST : {who} a envoyé un texto au {dialled}. On a dit d'appeler, comme pour un texto au 911.",
    text_advice="Quelqu'un qui ne peut parler a peut-être besoin d'aide : allez voir, ou appelez le 911 pour lui.",
    text="Texte envoyé",
    folded_subject="{count} autres appels au 911 : {where}",
    folded_first="{count} autres appels au 911, {where}, en un seul avis parce qu'ils se sont suivis de très près.",
    folded_advice="Chaque appel a été acheminé séparément, et chacun a son propre dossier.",
    folded_test_subject="TEST : {count} autres appels d'essai : {where}",
    folded_test_first="TEST : {count} autres appels d'essai, {where}. Ce n'est pas une urgence.",
    folded_failed_subject="{count} autres APPELS AU 911 N'ONT PAS ABOUTI : {where}",
    folded_failed_first="{count} autres appels au 911, {where}, n'ont PAS abouti (un seul avis, ils se suivaient).",
    folded_failed_advice="Allez voir ces appelants ou rappelez-les vite, et appelez le 911 d'un autre téléphone.",
    folded_failed_test_subject="TEST : {count} autres appels d'essai n'ont PAS abouti : {where}",
    folded_failed_test_first="TEST : {count} autres essais, {where}, n'ont PAS abouti. Ce n'est pas une urgence.",
    folded_refused_subject="{count} autres APPELS AU 911 REFUSÉS : {where}",
    folded_refused_first="{count} autres appels au 911 REFUSÉS. Ils n'ont PAS abouti.",
    folded_refused_test_subject="TEST : {count} autres appels d'essai refusés : {where}",
    folded_refused_test_first="TEST : {count} autres appels d'essai ont été refusés.",
    folded_more="et {count} autres : voir les dossiers d'appel",
    by="{device}, {where}",
    when="Heure",
    dialled="Composé",
    device="Appareil",
    callback="Numéro de rappel",
    no_callback="aucun connu",
    site="Site",
    no_site="aucun (aucun site ne réclame cet appelant)",
    zone="Zone",
    route="Route",
    no_route="aucune",
    source_address="Adresse d'origine",
    why="Pourquoi",
    status="Réponse donnée",
    record="Dossier d'appel",
    location_sent="Emplacement transmis au 911",
    location_not_sent="Emplacement connu ici mais NON transmis au 911 (le 911 de base n'en transmet aucun)",
    location_unknown="Emplacement transmis au 911 : AUCUN, il est inconnu. Demandez à l'appelant où il est.",
    location_from="Emplacement selon",
    confirmed="dernière modification {when}",
    doubts={
        "location-unconfirmed": "À VÉRIFIER : le téléphone a été vu ailleurs depuis que cet emplacement a été donné. "
        "Demandez à l'appelant.",
        "location-expired": "À VÉRIFIER : personne n'a confirmé cet emplacement à temps. Demandez à l'appelant.",
    },
    coordinates="Coordonnées",
    unknown_caller="appelant inconnu",
    colon=" :",
    sources={
        "conveyed": "l'appareil de l'appelant",
        "held": "le serveur de localisation",
        "network": "le réseau où se trouve le téléphone",
        "registered": "les appareils inscrits",
        "site": "l'adresse du site",
    },
    reasons={
        "from-outside": "il venait de l'extérieur (un opérateur ou fournisseur), pas d'un de vos téléphones",
        "from-unlisted-source": "son adresse d'origine n'est dans aucun des réseaux listés",
        "malformed": "le téléphone l'a envoyé d'une façon illisible: son journal et celui d'edge911 en disent plus",
        "blocked": "quelqu'un a bloqué cet appelant pour un temps (edge911 block)",
        "no-text-service": "le 911 ne prend pas de textos ici",
    },
    parts={
        "building": "Immeuble",
        "floor": "Étage",
        "unit": "Unité",
        "room": "Pièce",
        "landmark": "Point de repère",
        "additional": "Précisions",
    },
)

WORDS = {"en": ENGLISH, "fr": FRENCH}
