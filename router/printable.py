"""Text that others sent, for a terminal."""


def printable(text: str) -> str:
    """Without what a caller could send to steer the terminal; line breaks and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def age_text(seconds: float) -> str:
    """An age as people say it: `12 s old`, `5 min old`, `3 h old`, `40 d old`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit} old"
    return f"{int(seconds)} s old"
