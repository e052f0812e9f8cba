"""What the contacts read about test calls that fail, or go otherwise than before: in English, then in French."""

from router.store.self_tests import SelfTest

REASONS = {
    "timeout": ("no final answer came", "aucune réponse finale"),
    "unreachable": ("the router could not be reached", "le routeur n’a pas pu être joint"),
    "refused": ("it was refused", "il a été refusé"),
    "not-answered": ("nobody answered", "personne n’a répondu"),
    "no-common-codec": ("the answer has neither µ-law nor A-law audio", "la réponse n’a d’audio ni µ-law ni A-law"),
    "other-route-answered": ("another route answered", "une autre route a répondu"),
    "route-unknown": (
        "it was answered, and the record does not say by which route",
        "il a été répondu, mais le dossier ne dit pas par quelle route",
    ),
    "no-media": ("answered, and no sound came", "répondu, mais aucun son"),
    "silence": ("answered, and only silence was heard", "répondu, mais seulement du silence"),
    "busy-tone": ("a busy tone was heard", "tonalité d’occupation"),
    "reorder-tone": ("a reorder tone was heard", "tonalité de réseau occupé"),
    "ringing-tone": ("answered, and it rings on", "répondu, mais ça sonne toujours"),
    "dial-tone": ("a dial tone was heard", "tonalité d’invitation à numéroter"),
    "special-information-tone": ("an information tone was heard", "tonalité spéciale d’information"),
    "steady-tone": ("a steady tone was heard", "tonalité continue"),
    "music": ("answered, and only music was heard", "répondu, mais seulement de la musique"),
    "noise": ("answered, and only noise was heard", "répondu, mais seulement du bruit"),
}


def alarm_words(test: SelfTest, before: SelfTest | None, site_name: str) -> tuple[str, str]:
    """Subject and text."""
    where = site_name or test.site
    english, french = REASONS.get(test.reason, (test.reason, test.reason))
    if test.has_passed:
        subject = f"TEST 933: {where}, route {test.route}: works again / fonctionne de nouveau"
        lines = [
            f"The 933 test call from {where} by route {test.route} works again.",
            f"L’appel d’essai au 933 depuis {where} par la route {test.route} fonctionne de nouveau.",
        ]
    else:
        subject = f"TEST 933 FAILED / A ÉCHOUÉ: {where}, route {test.route}"
        lines = [
            f"The 933 test call from {where} by route {test.route} failed: {english}. "
            "A 911 call by this route may fail too; find out why.",
            f"L’appel d’essai au 933 depuis {where} par la route {test.route} a échoué : {french}. "
            "Un appel au 911 par cette route pourrait échouer aussi; cherchez pourquoi.",
        ]
        if before is not None and before.has_passed:
            lines.append("The test before it passed. / L’essai précédent avait réussi.")
    detail = [f"{name}: {value}" for name, value in (("answer", test.words), ("record", test.call)) if value]
    return subject, "\n\n".join([*lines, "\n".join(detail)]).strip() + "\n"
