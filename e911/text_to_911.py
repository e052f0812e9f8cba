"""What somebody is told who sends a text to 911 where no text service is: to call (47 CFR 9.10(n), bounce-back)."""

ENGLISH = (
    "There is no text service to 911 here. Your message was NOT delivered. Make a voice call to 911 to get help."
)
FRENCH = (
    "Le service de messages texte au 911 n'est pas offert ici. Votre message n'a PAS été transmis. "
    "Faites un appel vocal au 911 pour obtenir de l'aide."
)


def bounce_back_text(accept_language: str = "", state: str = "") -> str:
    """The answer to a text, in both languages.

    French comes first where the sender's Accept-Language (RFC 3261 section 20.3) names it first, or where it names
    neither and the site's state is Quebec (QC). Both are always said: who reads it is not known.
    """
    named = [item.partition(";")[0].strip().lower()[:2] for item in accept_language.split(",")]
    known = [language for language in named if language in ("en", "fr")]
    french_first = known[0] == "fr" if known else state.upper() == "QC"
    return f"{FRENCH}\n{ENGLISH}" if french_first else f"{ENGLISH}\n{FRENCH}"
