"""Text for chats and pagers: what a phone fills in does nothing there, and what is ours looks as meant. Pure."""

import re

_LINK = re.compile(r"(https?://[^\s<>]+)")
_NAMED_LINK = re.compile(r"(.*\S)\s?: (https?://[^\s<>]+)")
_LOOKALIKES = str.maketrans(
    {"<": "‹", ">": "›", "[": "⁅", "]": "⁆", "*": "∗", "`": "'", "~": "∼", "|": "¦", "@": "＠", "\\": "∖", "!": "！"}
)
_EMPHASIS = re.compile(r"(?<!\w)_+|_+(?!\w)")
_LEFT_OUT = "\n[…]\n"
_NO_BREAK = "\u00a0"


def harmless(text: str) -> str:
    """Text for a chat or pager: what its markup would take for a link, a mention, a picture or emphasis is written
    with characters that look alike. Links of ours stay; what a phone says holds none (e911.notice.one_line)."""
    pieces = _LINK.split(text)
    return "".join(piece if number % 2 else piece.translate(_LOOKALIKES) for number, piece in enumerate(pieces))


def as_markdown(text: str) -> str:
    """Harmless text as CommonMark, for services that read nothing else (Teams, Google Chat, Webex).

    Lines stay lines, which Markdown would run together; links are links, under their words. Apprise, given plain
    text, puts backslashes into links too, and not every service takes these out again.
    """
    return re.sub(r"(?<=[^\n])\n(?=[^\n])", "  \n", "\n".join(map(_line, text.split("\n"))))


def _line(line: str) -> str:
    words = line.lstrip(" ")
    indent = _NO_BREAK * (len(line) - len(words))
    named = _NAMED_LINK.fullmatch(words)
    if named:
        return f"{indent}[{_EMPHASIS.sub('＿', named[1])}]({_target(named[2])})"
    pieces = _LINK.split(words)
    shown = (
        f"[{piece}]({_target(piece)})" if number % 2 else _EMPHASIS.sub("＿", piece)
        for number, piece in enumerate(pieces)
    )
    return indent + "".join(shown)


def _target(url: str) -> str:
    return url.replace("(", "%28").replace(")", "%29")


def shortened(text: str, room: int, *, in_bytes: bool = False) -> str:
    """A text of `room` characters (or bytes of UTF-8) at the most: its beginning, to the end of a line where one is
    near, and the links at its end, by which it is acknowledged."""
    text = text.strip()
    if _size(text, in_bytes) <= room:
        return text
    lines = text.split("\n")
    first = len(lines)
    while first and _LINK.search(lines[first - 1]):
        first -= 1
    links = "\n".join(lines[first:])
    tail = f"{_LEFT_OUT}{links}" if links and _size(links, in_bytes) < room // 2 else _LEFT_OUT.rstrip()
    left = max(room - _size(tail, in_bytes), 1)
    head = text.encode()[:left].decode("utf-8", "ignore") if in_bytes else text[:left]
    whole_lines, _, _ = head.rpartition("\n")
    return (whole_lines if len(whole_lines) > len(head) // 2 else head) + tail


def _size(text: str, in_bytes: bool) -> int:
    return len(text.encode()) if in_bytes else len(text)
