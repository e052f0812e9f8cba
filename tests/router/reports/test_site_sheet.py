"""The printed 911 sheet: what stands on it, in both languages, from the command and from the console."""

from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

from tests.support.commands import invoke
from tests.support.console import console_world


def written(folder: Path, *arguments: str) -> tuple[int, str]:
    result = invoke(["sheet", "-c", str(folder / "edge911.yaml"), *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", ("Emergency: dial 911", "Dial 911 or 9911", "Lake", "+12125550100", "Dial 933", "without power")),
        ("fr", ("Urgence : composez le 911", "911 ou 9911", "Lake", "+12125550100", "933", "sans électricité")),
    ],
)
def test_it_says_how_to_call_where_one_is_and_what_it_cannot_do(
    tmp_path: Path, language: str, said: tuple[str, ...]
) -> None:
    with console_world(tmp_path) as world:
        page = world.browser("vera", "viewer")
        shown = page.get(f"/sites/hq/sheet?lang={language}&format=html").text
        pdf = page.get(f"/sites/hq/sheet?lang={language}")
        assert page.get("/sites/nowhere/sheet").status_code == 404
    assert written(tmp_path, "hq", "--lang", language, "-o", str(tmp_path / "s.pdf"))[0] == 0
    assert written(tmp_path, "hq", "--lang", language, "-o", str(tmp_path / "s.html"))[0] == 0
    assert (tmp_path / "s.html").read_text() == shown
    for data in (pdf.content, (tmp_path / "s.pdf").read_bytes()):
        reader = PdfReader(BytesIO(data))
        assert len(reader.pages) == 1
        text = " ".join(reader.pages[0].extract_text().split())
        assert [part for part in said if part not in text] == []
    assert [part for part in said if part not in shown.replace("&#x27;", "'")] == []


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with console_world(tmp_path) as world:
        sam = world.browser("sam", "viewer", ("lab",))
        assert sam.get("/sites/hq/sheet").status_code == 404
    assert written(tmp_path, "nowhere", "-o", str(tmp_path / "s.pdf")) == (
        1,
        "edge911: nowhere: no such site; there are hq, lab\n",
    )
    assert "write FILE.html or FILE.pdf" in written(tmp_path, "hq", "-o", "s.txt")[1]
    assert "write en or fr" in written(tmp_path, "hq", "--lang", "de", "-o", "s.pdf")[1]
    assert "not written" in written(tmp_path, "hq", "-o", str(tmp_path / "no" / "s.pdf"))[1]
