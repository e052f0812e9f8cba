"""Text for those who know ASCII only: without accents, and no letter lost that has another way to be written."""

import unicodedata
from typing import Final

_INSTEAD: Final = str.maketrans(
    {
        "œ": "oe",
        "Œ": "OE",
        "æ": "ae",
        "Æ": "AE",
        "ß": "ss",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
        "ð": "d",
        "Ð": "D",
        "þ": "th",
        "Þ": "Th",
        "ı": "i",
        **dict.fromkeys("\u2018\u2019\u02bc\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        "\u2044": "/",
        "\u00bc": " 1/4",
        "\u00bd": " 1/2",
        "\u00be": " 3/4",
    }
)
"""What NFKD has no ASCII for: half of house numbers (12 and a half), the heart in streets of Quebec (Sacré-Cœur)."""


def as_ascii(text: str) -> str:
    """The text in ASCII: accents go, ligatures and typographic signs become what is typed for them."""
    plain = unicodedata.normalize("NFKD", text.translate(_INSTEAD))
    return plain.encode("ascii", "ignore").decode()
