"""Tables of one line for each thing: on a narrow terminal they lose columns and letters, never their lines.

Where the output goes into a file or a pipe nothing is cut, so that grep and cut find all of it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_GAP = 2
_LEAST = 8
"""Letters that are left of a column that is cut."""


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    cut: Sequence[str],
    drop: Sequence[str] = (),
    text: "Callable[[str], Text] | None" = None,
) -> None:
    """Print rows of cells. Without room, the columns of `drop` are left out, the first one first, and those of `cut`
    shortened, the longest first. `text` gives a cell its colours.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    chosen, widths = _fitted(headings, rows, console, cut, drop)
    if not console.is_terminal:
        console = Console(highlight=False, width=sum(widths) + _GAP * len(widths))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for number, width in zip(chosen, widths, strict=True):
        table.add_column(headings[number], no_wrap=True, width=width)
    for row in rows:
        table.add_row(*((text or Text)(row[number]) for number in chosen))
    console.print(table)


def _fitted(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    console: "Console",
    cut: Sequence[str],
    drop: Sequence[str],
) -> tuple[list[int], list[int]]:
    """The columns to show, and how wide each is."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    chosen = list(range(len(headings)))
    if not console.is_terminal:
        return chosen, widths

    def is_cut(number: int) -> bool:
        return headings[number] in cut

    def least() -> int:
        needed = (min(widths[number], _LEAST) if is_cut(number) else widths[number] for number in chosen)
        return sum(needed) + _GAP * (len(chosen) - 1)

    for heading in drop:
        if least() > console.width:
            chosen.remove(headings.index(heading))
    left = console.width - _GAP * (len(chosen) - 1)
    while sum(widths[number] for number in chosen) > left:
        longest = max((number for number in chosen if is_cut(number)), key=lambda number: widths[number])
        if widths[longest] <= _LEAST:
            break
        widths[longest] -= 1
    return chosen, [widths[number] for number in chosen]
