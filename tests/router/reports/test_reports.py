"""Reports as HTML and PDF: everything is in them, and nothing that somebody typed becomes markup."""

from io import BytesIO

import pytest
from lxml import html as lxml_html
from pypdf import PdfReader

from router.reports.document import Facts, Grid, Heading, Item, Paragraph, Preformatted, Report, Verdict
from router.reports.html import html_of
from router.reports.pdf import pdf_of

NASTY = '<script>alert(1)</script> & "quotes" <b>bold</b> </para> &lt; é ß Ω 中 \x07'


def report(text: str = "plain", rows: int = 3, language: str = "en") -> Report:
    return Report(
        title=f"Title {text}",
        subtitle=f"Subtitle {text}",
        language=language,
        footer=f"Footer {text}",
        blocks=(
            Heading(text=f"Heading {text}"),
            Heading(text=f"Below {text}", level=2),
            Paragraph(text=f"Paragraph {text}\nsecond line"),
            Facts(pairs=((f"Name {text}", f"Value {text}"),)),
            Grid(headers=("One", f"Two {text}"), rows=tuple((str(n), f"cell {text}") for n in range(rows))),
            Grid(headers=("One",), rows=(), nothing=f"Nothing {text}"),
            Preformatted(text=f"INVITE sip:911@example.com\n{text}\n" + "x" * 300, marked=frozenset({1})),
            Item(verdict=Verdict.MISSING, text=f"Item {text}", proofs=(f"Proof {text}",), remedy=f"Remedy {text}"),
        ),
    )


WORDS = (
    "Title",
    "Subtitle",
    "Heading",
    "Below",
    "Paragraph",
    "Name",
    "Value",
    "Two",
    "cell",
    "Nothing",
    "Item",
    "Proof",
)


@pytest.mark.parametrize("text", ["plain", NASTY])
def test_html_holds_everything_and_no_markup_of_others(text: str) -> None:
    made = html_of(report(text))
    page = lxml_html.document_fromstring(made)
    shown = page.text_content()
    for word in WORDS:
        assert word in shown
    assert not page.xpath("//script")
    assert not page.xpath("//body//b[text()='bold']")
    assert not page.xpath("//*[@src or starts-with(@href, 'http')]")
    assert len(page.xpath("//mark")) == 1


@pytest.mark.parametrize("text", ["plain", NASTY])
def test_pdf_holds_everything(text: str) -> None:
    reader = PdfReader(BytesIO(pdf_of(report(text))))
    shown = "\n".join(page.extract_text() for page in reader.pages)
    for word in (*WORDS, "Footer"):
        assert word in shown
    assert ("<script>" in shown) is (text == NASTY)
    assert reader.metadata is not None
    assert str(reader.metadata.title).startswith("Title")


def test_a_long_table_goes_over_pages_with_its_heading_and_page_numbers() -> None:
    reader = PdfReader(BytesIO(pdf_of(report(rows=200, language="fr"))))
    assert len(reader.pages) > 4
    for number, page in enumerate(reader.pages[1:4], start=2):
        shown = page.extract_text()
        assert "Two plain" in shown
        assert f"Page {number}" in shown
    assert "Manquant" in reader.pages[-1].extract_text() + reader.pages[-2].extract_text()
