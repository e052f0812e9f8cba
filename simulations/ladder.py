"""The SIP ladder of a call, drawn from what the actors really sent and received."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from simulations.actor import Actor, Seen
from simulations.standalone import describe
from sip.message import Request

WIDTH = 78
_TIME = 8
"""Columns for the time, in front of the first lane."""


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


def ladder(actors: Sequence[Actor], call_ids: Collection[bytes], start: float, router: str) -> list[Step]:
    """The messages of a call with these Call-IDs, in order of time.

    Where both ends are actors the sender's word counts; whoever is no actor is the router.
    """
    names = {actor.address: actor.name for actor in actors}
    found: list[tuple[float, Step]] = []
    before: set[tuple[str, bool, bytes]] = set()
    for actor in actors:
        for seen in actor.log:
            if seen.call_id not in call_ids:
                continue
            peer = names.get(seen.peer, router)
            if not seen.sent and peer != router:
                continue
            key = (actor.name, seen.sent, seen.data)
            step = Step(
                ms=round((seen.at - start) * 1000, 1),
                sender=actor.name if seen.sent else peer,
                to=peer if seen.sent else actor.name,
                label=_label(seen),
                start_line=seen.data.partition(b"\r\n")[0].decode("latin-1"),
                transport=seen.transport,
                size=len(seen.data),
                again=key in before,
            )
            before.add(key)
            found.append((seen.at, step))
    found.sort(key=lambda item: item[0])
    return [step for _, step in found]


def draw(steps: Sequence[Step], lanes: Sequence[str], titles: Mapping[str, str]) -> list[str]:
    """The ladder as text of at most 78 columns: a line for each step, a vertical line for each lane."""
    if len(lanes) < 2:
        return []
    # The outer titles stand centred over their lanes, so they need half their length on either side.
    left = _TIME + max(2, len(titles[lanes[0]]) // 2)
    right = WIDTH - 1 - max(2, (len(titles[lanes[-1]]) + 1) // 2)
    gap = (right - left) // (len(lanes) - 1)
    columns = {lane: left + gap * index for index, lane in enumerate(lanes)}
    heading = [" "] * WIDTH
    _put(heading, 0, f"{'ms':>{_TIME - 3}}")
    for lane, column in columns.items():
        title = titles[lane]
        _put(heading, column - len(title) // 2, title)
    lines = ["".join(heading).rstrip()]
    for step in steps:
        row = [" "] * WIDTH
        _put(row, 0, f"{step.ms:{_TIME - 3}.1f}")
        for column in columns.values():
            row[column] = "│"
        if step.to:
            _arrow(row, columns[step.sender], columns[step.to], step.label + (" again" if step.again else ""))
            lines.append("".join(row).rstrip())
        else:
            lines.append(f"{step.ms:{_TIME - 3}.1f}  * {step.label}"[:WIDTH])
    return lines


def _arrow(row: list[str], start: int, end: int, label: str) -> None:
    first, last = min(start, end) + 1, max(start, end) - 1
    room = last - first + 1
    text = f" {label} "[: room - 3] if len(label) + 2 > room - 3 else f" {label} "
    rest = room - 1 - len(text)
    before = rest // 2
    body = "─" * before + text + "─" * (rest - before)
    _put(row, first, body + "▶" if end > start else "◀" + body)


def _label(seen: Seen) -> str:
    message = seen.message
    if isinstance(message, Request):
        extra = " +location" if b"application/pidf+xml" in message.body.lower() else ""
        return message.method.decode("latin-1") + extra
    if message is None:
        return "unreadable"
    method = message.method.decode("latin-1")
    return describe(message) + ("" if method == "INVITE" else f" ({method})")


def _put(row: list[str], column: int, text: str) -> None:
    for offset, character in enumerate(text):
        if 0 <= column + offset < len(row):
            row[column + offset] = character


ASCII = str.maketrans({"─": "-", "│": "|", "▶": ">", "◀": "<", "┌": "+", "┐": "+", "└": "+", "┘": "+", "…": "..."})
"""For terminals and pipes that take no more than ASCII."""
