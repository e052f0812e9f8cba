"""A report as data: a title and blocks. Renderers make HTML (router.reports.html) and PDF (router.reports.pdf) of it.

Text is plain text everywhere; escaping is the renderers' work.
"""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How an item stands."""

    PROVEN = "proven"
    CONFIGURED = "configured"
    """It is set up so, and nothing shows yet that it works."""
    MISSING = "missing"
    FOR_INFORMATION = "information"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading within the report; level 1 or 2."""

    text: str
    level: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names and values, one pair a line."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table. widths are shares of the page's width, one a column."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[float, ...] = ()
    nothing: str = ""
    """What is said where there are no rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preformatted:
    """Text whose lines and columns matter: a SIP message, a ladder. `marked` lines (first is 0) are highlighted."""

    text: str
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that is asked for, how it stands, and by what that is shown."""

    verdict: Verdict
    text: str
    proofs: tuple[str, ...] = ()
    remedy: str = ""


Block = Heading | Paragraph | Facts | Grid | Preformatted | Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report."""

    title: str
    subtitle: str
    language: str
    """`en` or `fr`."""
    blocks: tuple[Block, ...]
    footer: str = ""
    """On each page, beside the page number."""


VERDICT_WORDS = {
    "en": {
        Verdict.PROVEN: "Proven",
        Verdict.CONFIGURED: "Configured, not yet proven",
        Verdict.MISSING: "Missing",
        Verdict.FOR_INFORMATION: "For information",
    },
    "fr": {
        Verdict.PROVEN: "Prouvé",
        Verdict.CONFIGURED: "Configuré, pas encore prouvé",
        Verdict.MISSING: "Manquant",
        Verdict.FOR_INFORMATION: "À titre d’information",
    },
}
REMEDY_WORD = {"en": "Remedy:", "fr": "Remède\N{NO-BREAK SPACE}:"}
PAGE_WORD = {"en": "Page", "fr": "Page"}
