"""Text that others sent, for a terminal."""


def printable(text: str) -> str:
    """Without what a caller could send to steer the terminal; line breaks and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
