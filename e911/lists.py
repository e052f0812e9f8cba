"""Lists of values in one header field line (RFC 3261 section 7.3.1), as text."""

import re

# The pieces of a list of values. What is left open ends with the text, so that matching stays linear.
_PIECE = re.compile(r'[^",<]+|"(?:[^"\\]|\\(?:.|\Z))*(?:"|\Z)|<[^>]*(?:>|\Z)|,', re.DOTALL)


def split_list(line: str) -> list[str]:
    """The values of a list, as written; commas in quotes and angle brackets do not separate."""
    values = [""]
    for piece in _PIECE.findall(line):
        if piece == ",":
            values.append("")
        else:
            values[-1] += piece
    return values
