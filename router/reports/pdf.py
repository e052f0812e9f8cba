"""A report as PDF, with reportlab: letter paper, page numbers, text that can be searched and copied."""

from functools import lru_cache
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import letter
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import inch
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    Flowable,
    HRFlowable,
    KeepTogether,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)
from reportlab.platypus import Paragraph as Text

from router.process.printable import printable
from router.reports.document import (
    PAGE_WORD,
    REMEDY_WORD,
    VERDICT_WORDS,
    Block,
    Facts,
    Grid,
    Heading,
    Item,
    Paragraph,
    Preformatted,
    Report,
    Verdict,
)

_INK, _SOFT, _LINE, _MARK = HexColor("#1a1d21"), HexColor("#f2f4f7"), HexColor("#c9ced6"), HexColor("#fff3bf")
_COLOURS = {
    Verdict.PROVEN: "#0a6b3d",
    Verdict.CONFIGURED: "#8a5a00",
    Verdict.MISSING: "#a4161a",
    Verdict.FOR_INFORMATION: "#1a1d21",
}
_MARGIN = 0.8 * inch
_WIDTH = letter[0] - 2 * _MARGIN
_LONGEST_LINE = 98
"""Characters of preformatted text that fit on a line."""


def pdf_of(report: Report) -> bytes:
    """The whole file."""
    styles = _styles()
    story: list[Flowable] = [
        Text(_markup(report.title), styles["title"]),
        Text(_markup(report.subtitle), styles["subtitle"]),
        HRFlowable(width="100%", color=_LINE, spaceAfter=8),
    ]
    for block in report.blocks:
        story += _block(block, report.language, styles)
    made = BytesIO()
    template = SimpleDocTemplate(
        made,
        pagesize=letter,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=report.title,
        author="edge911",
        lang=report.language,
    )

    def foot(canvas: Any, page: Any) -> None:
        canvas.saveState()
        canvas.setFont(_fonts()[0], 8)
        canvas.setFillColor(HexColor("#5a626c"))
        canvas.drawString(_MARGIN, 0.5 * inch, _shown(report.footer)[:120])
        canvas.drawRightString(letter[0] - _MARGIN, 0.5 * inch, f"{PAGE_WORD[report.language]} {page.page}")
        canvas.restoreState()

    template.build(story, onFirstPage=foot, onLaterPages=foot)
    return made.getvalue()


@lru_cache(maxsize=1)
def _fonts() -> tuple[str, str, str]:
    """Names of the plain, the bold and the fixed-width font."""
    pdfmetrics.registerFont(TTFont("Vera", "Vera.ttf"))
    pdfmetrics.registerFont(TTFont("VeraBd", "VeraBd.ttf"))
    pdfmetrics.registerFontFamily("Vera", normal="Vera", bold="VeraBd", italic="Vera", boldItalic="VeraBd")
    return "Vera", "VeraBd", "Courier"


def _styles() -> dict[str, ParagraphStyle]:
    plain, bold, fixed = _fonts()
    base = ParagraphStyle("base", fontName=plain, fontSize=9, leading=12.5, textColor=_INK)
    return {
        "text": base,
        "title": ParagraphStyle("title", parent=base, fontName=bold, fontSize=17, leading=21),
        "subtitle": ParagraphStyle("subtitle", parent=base, textColor=HexColor("#5a626c"), spaceAfter=6),
        "h1": ParagraphStyle(
            "h1", parent=base, fontName=bold, fontSize=12.5, leading=16, spaceBefore=12, spaceAfter=4, keepWithNext=1
        ),
        "h2": ParagraphStyle(
            "h2", parent=base, fontName=bold, fontSize=10, leading=13, spaceBefore=8, spaceAfter=2, keepWithNext=1
        ),
        "cell": ParagraphStyle("cell", parent=base, fontSize=8, leading=10.5),
        "head": ParagraphStyle("head", parent=base, fontName=bold, fontSize=8, leading=10.5),
        "fixed": ParagraphStyle("fixed", parent=base, fontName=fixed, fontSize=8, leading=9.6),
        "item": ParagraphStyle("item", parent=base, leftIndent=0, spaceBefore=1),
        "proof": ParagraphStyle("proof", parent=base, fontSize=8.5, leading=11.5, leftIndent=12, bulletIndent=3),
    }


def _block(block: Block, language: str, styles: dict[str, ParagraphStyle]) -> list[Flowable]:
    if isinstance(block, Heading):
        return [Text(_markup(block.text), styles["h1" if block.level == 1 else "h2"])]
    if isinstance(block, Paragraph):
        return [Text(_markup(block.text), styles["text"]), Spacer(1, 4)]
    if isinstance(block, Facts):
        rows = [
            [Text(_markup(name), styles["head"]), Text(_markup(value), styles["cell"])] for name, value in block.pairs
        ]
        return [_table(rows, [0.26 * _WIDTH, 0.74 * _WIDTH], has_heading=False)] if rows else []
    if isinstance(block, Grid):
        return _grid(block, styles)
    if isinstance(block, Preformatted):
        return _preformatted(block, styles)
    return _item(block, language, styles)


def _grid(grid: Grid, styles: dict[str, ParagraphStyle]) -> list[Flowable]:
    if not grid.rows:
        return [Text(_markup(grid.nothing), styles["text"]), Spacer(1, 4)]
    shares = grid.widths or tuple(1 / len(grid.headers) for _ in grid.headers)
    rows = [[Text(_markup(text), styles["head"]) for text in grid.headers]]
    rows += [[Text(_markup(text), styles["cell"]) for text in row] for row in grid.rows]
    return [_table(rows, [share * _WIDTH / sum(shares) for share in shares], has_heading=True), Spacer(1, 4)]


def _table(rows: list[list[Flowable]], widths: list[float], *, has_heading: bool) -> Table:
    style: list[Any] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, _LINE),
        ("LEFTPADDING", (0, 0), (-1, -1), 4),
        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
    ]
    if has_heading:
        style.append(("BACKGROUND", (0, 0), (-1, 0), _SOFT))
    return Table(rows, colWidths=widths, style=TableStyle(style), repeatRows=1 if has_heading else 0, splitInRow=1)


def _preformatted(block: Preformatted, styles: dict[str, ParagraphStyle]) -> list[Flowable]:
    """A table of one column and a row for each line: it may break over pages, and marked lines have a ground."""
    rows: list[list[Flowable]] = []
    style: list[Any] = [
        ("BACKGROUND", (0, 0), (-1, -1), _SOFT),
        ("LEFTPADDING", (0, 0), (-1, -1), 5),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
    ]
    for number, line in enumerate(block.text.split("\n")):
        pieces = [line[at : at + _LONGEST_LINE] for at in range(0, max(1, len(line)), _LONGEST_LINE)]
        for piece in pieces:
            if number in block.marked:
                style.append(("BACKGROUND", (0, len(rows)), (-1, len(rows)), _MARK))
            # A space that may not be broken keeps columns where they are.
            rows.append([Text(_markup(_plain(piece)).replace(" ", "\u00a0") or "\u00a0", styles["fixed"])])
    return [Table(rows, colWidths=[_WIDTH], style=TableStyle(style)), Spacer(1, 6)]


def _item(item: Item, language: str, styles: dict[str, ParagraphStyle]) -> list[Flowable]:
    colour = _COLOURS[item.verdict]
    words = VERDICT_WORDS[language][item.verdict]
    made: list[Flowable] = [
        Text(f'<font color="{colour}"><b>{_markup(words)}</b></font> — {_markup(item.text)}', styles["item"])
    ]
    made += [Text(_markup(proof), styles["proof"], bulletText="•") for proof in item.proofs]
    if item.remedy:
        made.append(Text(f"<b>{REMEDY_WORD[language]}</b> {_markup(item.remedy)}", styles["proof"]))
    return [KeepTogether(made), Spacer(1, 5)]


def _shown(text: str) -> str:
    """Without what a page cannot show: control characters, and characters that the fonts lack."""
    glyphs = pdfmetrics.getFont(_fonts()[0]).face.charToGlyph
    return "".join(c if c == "\n" or ord(c) in glyphs or ord(c) < 256 else "?" for c in printable(text))


def _plain(text: str) -> str:
    """What the fixed-width font has: Latin-1."""
    return text.replace("\t", "    ").replace("…", "...").encode("latin-1", "replace").decode("latin-1")


def _markup(text: str) -> str:
    """Plain text as reportlab's markup."""
    return escape(_shown(text)).replace("\n", "<br/>")
