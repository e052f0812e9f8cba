"""Long answers in pieces that are worth sending."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

_LINES: Final = 1000
"""Each piece is a turn of a thread and of the loop: one for each line cost 100,000 devices a minute."""


def pieces(lines: Iterable[str]) -> Iterator[str]:
    """The same text in fewer, longer pieces."""
    rest = iter(lines)
    while piece := "".join(islice(rest, _LINES)):
        yield piece
