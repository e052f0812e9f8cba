"""A report as one HTML document that needs nothing beside it: no script, no image, no network."""

from html import escape

from router.reports.document import (
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
)

STYLE = """
:root { color-scheme: light dark; --line: #c9ced6; --soft: #f2f4f7; --ok: #0a6b3d; --wait: #8a5a00; --bad: #a4161a;
  --mark: #fff3bf; --ink: #1a1d21; --paper: #ffffff; }
@media screen and (prefers-color-scheme: dark) { :root { --line: #3b424c; --soft: #20252c; --ok: #5fd39b;
  --wait: #f0b756; --bad: #ff8f8f; --mark: #4a4108; --ink: #e8eaed; --paper: #14181d; } }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; margin: 2rem auto;
  max-width: 58rem; padding: 0 1rem; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
.subtitle { margin: .2rem 0 1.5rem; opacity: .75; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th { background: var(--soft); }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font: 13px/1.45 ui-monospace, Menlo, Consolas,
  monospace; }
mark { background: var(--mark); color: inherit; }
.item { border-left: 4px solid var(--line); padding: .3rem 0 .3rem .8rem; margin: .6rem 0; break-inside: avoid; }
.item p { margin: .15rem 0; } .item ul { margin: .15rem 0; padding-left: 1.2rem; }
.proven { border-color: var(--ok); } .configured { border-color: var(--wait); } .missing { border-color: var(--bad); }
.verdict { font-weight: 700; } .proven .verdict { color: var(--ok); } .configured .verdict { color: var(--wait); }
.missing .verdict { color: var(--bad); }
footer { margin-top: 2rem; opacity: .7; font-size: .85rem; }
@media print { body { margin: 0; max-width: none; } }
"""


def html_of(report: Report) -> str:
    """The whole document."""
    body = "\n".join(_block(block, report.language) for block in report.blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="{escape(report.language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(report.title)}</h1>\n<p class="subtitle">{escape(report.subtitle)}</p>\n{body}\n'
        f"<footer>{escape(report.footer)}</footer>\n</body>\n</html>\n"
    )


def _block(block: Block, language: str) -> str:
    if isinstance(block, Heading):
        level = block.level + 1
        return f"<h{level}>{escape(block.text)}</h{level}>"
    if isinstance(block, Paragraph):
        return f"<p>{_lines(block.text)}</p>"
    if isinstance(block, Facts):
        rows = "".join(f'<tr><th scope="row">{escape(n)}</th><td>{_lines(v)}</td></tr>' for n, v in block.pairs)
        return f'<div class="wide"><table>{rows}</table></div>'
    if isinstance(block, Grid):
        return _grid(block)
    if isinstance(block, Preformatted):
        lines = [
            f"<mark>{escape(line)}</mark>" if number in block.marked else escape(line)
            for number, line in enumerate(block.text.split("\n"))
        ]
        return "<pre>" + "\n".join(lines) + "</pre>"
    return _item(block, language)


def _grid(grid: Grid) -> str:
    if not grid.rows:
        return f"<p>{escape(grid.nothing)}</p>"
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in grid.headers)
    rows = "".join("<tr>" + "".join(f"<td>{_lines(cell)}</td>" for cell in row) + "</tr>" for row in grid.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _item(item: Item, language: str) -> str:
    words = VERDICT_WORDS[language]
    proofs = "".join(f"<li>{_lines(proof)}</li>" for proof in item.proofs)
    remedy = f"<p><b>{REMEDY_WORD[language]}</b> {_lines(item.remedy)}</p>" if item.remedy else ""
    return (
        f'<div class="item {item.verdict.value}"><p><span class="verdict">{escape(words[item.verdict])}</span> — '
        f"{_lines(item.text)}</p>" + (f"<ul>{proofs}</ul>" if proofs else "") + remedy + "</div>"
    )


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")
