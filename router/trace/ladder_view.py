"""The SIP ladder in a terminal: a lane for each peer, a line for each message, times on the left."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from router.trace.messages import Endpoint, Traced
from router.trace.view import PeerNames, label_of, show_endpoint, style_of, summary

WIDTH = 78
_TIME = 8
"""Columns for the time, in front of the first lane."""

ASCII = str.maketrans({"─": "-", "│": "|", "▶": ">", "◀": "<", "┌": "+", "┐": "+", "└": "+", "┘": "+", "…": "..."})
"""For terminals and pipes that take no more than ASCII."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One message from one lane to another, or (with `to` empty) a remark. `ms` counts from the caller's INVITE."""

    ms: float
    sender: str
    to: str
    label: str
    start_line: str = ""
    transport: str = ""
    size: int = 0
    again: bool = False
    """True where the very same bytes went the same way before: a retransmission."""


def draw(steps: Sequence[Step], lanes: Sequence[str], titles: Mapping[str, str]) -> list[str]:
    """The ladder of one call as text of at most 78 columns: a line for each step, a vertical line for each lane."""
    if len(lanes) < 2:
        return []
    columns = dict(zip(lanes, place_lanes([titles[lane] for lane in lanes], _TIME, WIDTH), strict=True))
    lines = [heading_row([titles[lane] for lane in lanes], list(columns.values()), WIDTH, f"{'ms':>{_TIME - 3}}")]
    for step in steps:
        time = f"{step.ms:{_TIME - 3}.1f}"
        if step.to:
            label = step.label + (" again" if step.again else "")
            ends = columns[step.sender], columns[step.to]
            lines.append(arrow_row(list(columns.values()), *ends, label, WIDTH, time))
        else:
            lines.append(f"{time}  * {step.label}"[:WIDTH])
    return lines


def place_lanes(titles: Sequence[str], left: int, width: int, widest: int = 1000) -> list[int]:
    """The columns of the lanes' lines, between the time and the width, at most so far apart.

    The outer titles stand centred over their lanes, so they need half their length on either side.
    """
    first = left + max(2, len(titles[0]) // 2)
    last = width - 1 - max(2, (len(titles[-1]) + 1) // 2)
    gap = min(widest, (last - first) // max(1, len(titles) - 1))
    return [first + gap * index for index in range(len(titles))]


def heading_row(titles: Sequence[str], columns: Sequence[int], width: int, before: str = "") -> str:
    """The titles over their lanes."""
    row = [" "] * width
    _put(row, 0, before)
    for title, column in zip(titles, columns, strict=True):
        _put(row, column - len(title) // 2, title)
    return "".join(row).rstrip()


def arrow_row(columns: Sequence[int], start: int, end: int, label: str, width: int, before: str = "") -> str:
    """One message: an arrow from the lane in column `start` to the one in column `end`, its label upon it."""
    row = [" "] * width
    _put(row, 0, before)
    for column in columns:
        row[column] = "│"
    first, last = min(start, end) + 1, max(start, end) - 1
    room = last - first + 1
    if len(label) > room - 3:
        label = f"{label[: room - 6]}…"
    text = f" {label} "
    rest = room - 1 - len(text)
    body = "─" * (rest // 2) + text + "─" * (rest - rest // 2)
    _put(row, first, body + "▶" if end > start else "◀" + body)
    return "".join(row).rstrip()


def _put(row: list[str], column: int, text: str) -> None:
    for offset, character in enumerate(text):
        if 0 <= column + offset < len(row):
            row[column + offset] = character


# ---- live ----

_LEFT = 15
"""Columns for the call's number and the time."""
_NARROWEST, _WIDEST = 16, 36
"""Columns from lane to lane."""
_HEADING_AGAIN = 40
"""Rows until the heading is shown once more."""
_CALLS = 5_000
_REMEMBERED = 200
"""Messages of a call that a retransmission is told by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One line of a ladder, and how it is to look (as rich names styles)."""

    text: str
    style: str = ""


@dataclass(slots=True)
class _Call:
    number: int
    started: float
    seen: set[int] = field(default_factory=set)


class LiveLadder:
    """A ladder that grows as messages come, of several calls at once; a call is a Call-ID, and has a number.

    Lanes are the peers in the order in which they were seen. Where there is no room for one more, the peer heard of
    the longest time ago gives its lane away.
    """

    def __init__(self, names: PeerNames, width: int) -> None:
        self._names = names
        self._width = max(width, 60)
        self._lanes: list[str] = []
        self._last_used: dict[str, int] = {}
        self._addresses: dict[str, Endpoint] = {}
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        self._numbered = 0
        self._messages = 0
        self._rows = 0
        """Since the heading; 0: it is due."""
        self._columns: dict[str, int] = {}

    def feed(self, traced: Traced) -> Iterator[Drawn]:
        """The lines for this message: of a new call its number, where lanes change a heading, the arrow."""
        self._messages += 1
        call = self._calls.get(traced.call_id)
        if call is None:
            yield from self._begin(traced)
            call = self._calls[traced.call_id]
        ends = self._names.lane(traced, traced.source), self._names.lane(traced, traced.destination)
        is_new = [self._make_room(lane, ends) for lane in ends]
        for lane, endpoint in zip(ends, (traced.source, traced.destination), strict=True):
            self._addresses.setdefault(lane, endpoint)
        if any(is_new) or not self._rows or self._rows > _HEADING_AGAIN:
            yield from self._heading()
        self._rows += 1
        key = hash((traced.source, traced.destination, traced.data))
        again = " again" if key in call.seen else ""
        if len(call.seen) < _REMEMBERED:
            call.seen.add(key)
        after = f"+{traced.at - call.started:.4f}"
        row = arrow_row(
            list(self._columns.values()),
            self._columns[ends[0]],
            self._columns[ends[1]],
            label_of(traced.message, dialled=True) + again,
            self._width,
            f"{call.number:>3} {after:>9}",
        )
        yield Drawn(text=row, style=style_of(traced.message))

    def _begin(self, traced: Traced) -> Iterator[Drawn]:
        self._numbered += 1
        self._calls[traced.call_id] = _Call(self._numbered, traced.at)
        if len(self._calls) > _CALLS:
            self._calls.popitem(last=False)
        when = datetime.fromtimestamp(traced.at)
        text = f"{self._numbered:>3} {when:%Y-%m-%d %H:%M:%S}.{when.microsecond // 1000:03}  {summary(traced)}"
        call_id = f"Call-ID {traced.call_id or '(none)'}"
        if len(text) + 2 + len(call_id) <= self._width:
            yield Drawn(text=f"{text}  {call_id}", style="bold")
        else:
            yield Drawn(text=text[: self._width], style="bold")
            yield Drawn(text=f"    {call_id}", style="bold")

    def _make_room(self, lane: str, needed: tuple[str, str]) -> bool:
        """Give this peer a lane; True where it had none."""
        self._last_used[lane] = self._messages
        if lane in self._lanes:
            return False
        most = max(2, (self._width - _LEFT) // _NARROWEST)
        if len(self._lanes) >= most:
            others = [one for one in self._lanes if one not in needed and one != PeerNames.OWN]
            if others:
                self._lanes.remove(min(others, key=lambda one: self._last_used[one]))
        self._lanes.append(lane)
        return True

    def _address(self, lane: str) -> str:
        """Without the port where it is SIP's own and no other lane has that address."""
        host, port = self._addresses[lane]
        hosts = [self._addresses[other][0] for other in self._lanes]
        return host if port in (5060, 5061) and hosts.count(host) == 1 else show_endpoint((host, port))

    def _heading(self) -> Iterator[Drawn]:
        room = max(_NARROWEST, (self._width - _LEFT) // max(2, len(self._lanes))) - 2
        names = [_cut(self._names.title(lane), room) for lane in self._lanes]
        addresses = [_cut(self._address(lane), room) for lane in self._lanes]
        longest = [max(pair, key=len) for pair in zip(names, addresses, strict=True)]
        columns = place_lanes(longest, _LEFT, self._width, _WIDEST)
        self._columns = dict(zip(self._lanes, columns, strict=True))
        self._rows = 0
        yield Drawn(text="")
        if any(names):
            yield Drawn(text=heading_row(names, columns, self._width), style="bold")
        yield Drawn(text=heading_row(addresses, columns, self._width, "  #   seconds"), style="dim")


def _cut(text: str, room: int) -> str:
    """The end of a long address tells more than its beginning."""
    return text if len(text) <= room else "…" + text[1 - room :]
