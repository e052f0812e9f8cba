"""Text that others sent, for a terminal and for a page."""

from typing import Final

_UNSEEN: Final = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x061C, 0x200E, 0x200F, 0x2028, 0x2029),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_SHOWN: Final = dict.fromkeys((code for code in _UNSEEN if chr(code) not in "\t\n\r"), "\N{REPLACEMENT CHARACTER}")


def visible(text: str) -> str:
    """Without what turns the order of the text after it around, and other control characters, each shown as U+FFFD: a
    display name shall not make a callback number read backwards. Markup stays Markup."""
    return text if text.isascii() and text.isprintable() else text.translate(_SHOWN)


def printable(text: str) -> str:
    """Without what a caller could send to steer the terminal; line breaks and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def age_text(seconds: float) -> str:
    """An age as people say it: `12 s old`, `5 min old`, `3 h old`, `40 d old`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit} old"
    return f"{int(seconds)} s old"
