"""The SIP ladder of one call, of its kept messages: as data, as lines of text, and as an SVG picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from router.trace.ladder_view import ASCII, Step, draw
from router.trace.messages import Traced
from router.trace.view import PeerNames, label_of, show_endpoint, style_of

_LANE_WIDTH = 230
_TIME_WIDTH = 90
_ROW_HEIGHT = 34
_HEAD_HEIGHT = 56
MOST_ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """One message. number is its place among the kept messages; seconds count from the first of them."""

    number: int
    seconds: float
    start: str
    end: str
    label: str
    kind: str
    """`request`, `invite`, `progress`, `success` or `failure`."""
    again: bool
    """The same bytes went the same way before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Lanes in the order of their first message; each lane's address, and its arrows."""

    lanes: tuple[str, ...]
    addresses: tuple[str, ...]
    arrows: tuple[Arrow, ...]


_KINDS = {"bold cyan": "invite", "cyan": "request", "dim": "progress", "green": "success", "red": "failure"}


def ladder_of(messages: Sequence[tuple[Traced, str]]) -> Ladder:
    """The ladder of a call's messages, each with the name of its trunk or an empty text."""
    addresses: dict[str, str] = {}
    seen: set[int] = set()
    arrows = []
    for number, (traced, trunk) in enumerate(messages[:MOST_ROWS]):
        ends = (_lane(traced, trunk, is_source=True), _lane(traced, trunk, is_source=False))
        for lane, endpoint in zip(ends, (traced.source, traced.destination), strict=True):
            addresses.setdefault(lane, show_endpoint(endpoint))
        key = hash((traced.source, traced.destination, traced.data))
        message = traced.message
        label = label_of(message, dialled=True)
        kind = _KINDS.get(style_of(message), "request")
        if kind == "success" and label[:1] == "1":
            kind = "progress"
        arrows.append(
            Arrow(
                number=number,
                seconds=round(traced.at - messages[0][0].at, 4),
                start=ends[0],
                end=ends[1],
                label=label,
                kind=kind,
                again=key in seen,
            )
        )
        seen.add(key)
    lanes = tuple(_ordered(list(addresses)))
    return Ladder(lanes=lanes, addresses=tuple(addresses[lane] for lane in lanes), arrows=tuple(arrows))


def _lane(traced: Traced, trunk: str, *, is_source: bool) -> str:
    if is_source is bool(traced.sent):
        return PeerNames.OWN
    return trunk or show_endpoint(traced.peer)


def _ordered(lanes: list[str]) -> list[str]:
    """Who spoke first on the left, edge911 beside them, then the others as they came."""
    if PeerNames.OWN in lanes and len(lanes) > 1:
        lanes.remove(PeerNames.OWN)
        lanes.insert(1, PeerNames.OWN)
    return lanes


def ladder_text(ladder: Ladder) -> list[str]:
    """As lines of ASCII, at most 78 columns."""
    steps = [
        Step(ms=arrow.seconds * 1000, sender=arrow.start, to=arrow.end, label=arrow.label, again=arrow.again)
        for arrow in ladder.arrows
    ]
    return [line.translate(ASCII) for line in draw(steps, ladder.lanes, {lane: lane for lane in ladder.lanes})]


def ladder_svg(ladder: Ladder, title: str, again: str) -> str:
    """As a picture that a page holds: classes instead of colours, each arrow a link to `#message-NUMBER`.

    title: what a screen reader says it is; again: the word for a retransmission.
    """
    x_of = {lane: _TIME_WIDTH + _LANE_WIDTH // 2 + _LANE_WIDTH * index for index, lane in enumerate(ladder.lanes)}
    width = _TIME_WIDTH + _LANE_WIDTH * len(ladder.lanes)
    height = _HEAD_HEIGHT + _ROW_HEIGHT * (len(ladder.arrows) + 1)
    parts = [
        f'<svg class="ladder" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">'
    ]
    for lane, address in zip(ladder.lanes, ladder.addresses, strict=True):
        x = x_of[lane]
        parts.append(f'<line class="lane" x1="{x}" y1="{_HEAD_HEIGHT - 8}" x2="{x}" y2="{height}"/>')
        parts.append(f'<text class="name" x="{x}" y="20" text-anchor="middle">{escape(lane[:28])}</text>')
        if address != lane:
            parts.append(f'<text class="address" x="{x}" y="38" text-anchor="middle">{escape(address)}</text>')
    for row, arrow in enumerate(ladder.arrows, start=1):
        parts.append(_arrow_svg(arrow, x_of[arrow.start], x_of[arrow.end], _HEAD_HEIGHT + _ROW_HEIGHT * row, again))
    parts.append("</svg>")
    return "".join(parts)


def _arrow_svg(arrow: Arrow, start: int, end: int, y: int, again: str) -> str:
    direction = 1 if end > start else -1
    tip = end - direction * 2
    label = escape(arrow.label[:34] + (f" ({again})" if arrow.again else ""))
    return (
        f'<a href="#message-{arrow.number}"><g class="arrow {arrow.kind}">'
        f'<text class="time" x="4" y="{y + 4}">+{arrow.seconds:.3f} s</text>'
        f'<line x1="{start}" y1="{y}" x2="{tip - direction * 7}" y2="{y}"/>'
        f'<polygon points="{tip},{y} {tip - direction * 9},{y - 4} {tip - direction * 9},{y + 4}"/>'
        f'<text x="{(start + end) // 2}" y="{y - 6}" text-anchor="middle">{label}</text></g></a>'
    )
