"""How traced messages are shown: names of peers, one line for a message, a JSON object for programs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from router.process.printable import printable
from router.trace.messages import Endpoint, Traced
from sip.errors import RemoteError
from sip.headers import parse_name_addr
from sip.message import Message, Request, Response
from sip.uri import bracketed

_MOST_OF_A_LINE = 300


def show_endpoint(endpoint: Endpoint) -> str:
    """`203.0.113.31:5060`, `[2001:db8::1]:5060`."""
    return f"{bracketed(endpoint[0])}:{endpoint[1]}"


class PeerNames:
    """Which peer an address is: edge911 itself, a trunk by its name, or whoever has that address."""

    OWN = "edge911"

    def __init__(self, trunks: Mapping[str, Sequence[Endpoint]]) -> None:
        self._exact = {place: name for name, places in trunks.items() for place in places}
        by_host: dict[str, set[str]] = {}
        for name, places in trunks.items():
            for host, _ in places:
                by_host.setdefault(host, set()).add(name)
        # A trunk connects to us from any port; on loopback addresses many peers may share one.
        self._by_host = {
            host: next(iter(names))
            for host, names in by_host.items()
            if len(names) == 1 and not host.startswith("127.") and host != "::1"
        }
        self._names = set(trunks)

    def trunk(self, endpoint: Endpoint, transport: str) -> str:
        """The trunk's name, or an empty string."""
        found = self._exact.get(endpoint, "")
        if not found and transport != "udp":
            found = self._by_host.get(endpoint[0], "")
        return found

    def lane(self, traced: Traced, endpoint: Endpoint) -> str:
        """What tells this end from others: `edge911`, a trunk's name, or address and port."""
        if traced.sent is not None and endpoint == (traced.source if traced.sent else traced.destination):
            return self.OWN
        return self.trunk(endpoint, traced.transport) or show_endpoint(endpoint)

    def title(self, lane: str) -> str:
        """What stands over the address of a lane; nothing for a peer that has no name."""
        return lane if lane in self._names or lane == self.OWN else ""

    def show(self, traced: Traced, endpoint: Endpoint) -> str:
        """`edge911`, `ers-a 203.0.113.31:5060`, `10.1.2.3:5060`."""
        lane = self.lane(traced, endpoint)
        return f"{lane} {show_endpoint(endpoint)}" if lane in self._names else lane


def summary(traced: Traced) -> str:
    """A message in a few words: `INVITE sip:911@10.0.0.5`, `180 Ringing (INVITE)`."""
    message = traced.message
    if message is None:
        first = traced.data.strip().partition(b"\n")[0].decode("utf-8", "replace").strip()
        return printable(f"not SIP, or unreadable: {first[:60]}")
    if isinstance(message, Request):
        text = f"{message.method.decode('latin-1')} {message.uri.decode('utf-8', 'replace')}"
    else:
        method = message.method.decode("latin-1")
        text = f"{_status(message)} ({method})" if method else _status(message)
    return printable(text)[:_MOST_OF_A_LINE]


def label_of(message: Message | None, *, dialled: bool = False) -> str:
    """What stands upon the arrow of a ladder; with `dialled`, an INVITE shows whom."""
    if message is None:
        return "unreadable"
    method = message.method.decode("latin-1")
    if isinstance(message, Request):
        extra = " +location" if b"application/pidf+xml" in message.body.lower() else ""
        whom = f" {_whom(message)}" if dialled and method == "INVITE" and not message.to_tag else ""
        return printable(f"{method}{whom}{extra}")
    return printable(_status(message) + ("" if method in ("INVITE", "") else f" ({method})"))


def style_of(message: Message | None) -> str:
    """How the line of a message looks, as rich names styles."""
    if message is None:
        return "red"
    if isinstance(message, Response):
        return "dim" if message.status == 100 else "green" if message.status < 300 else "red"
    return "bold cyan" if message.method == b"INVITE" and not message.to_tag else "cyan"


def line_of(traced: Traced, names: PeerNames) -> str:
    """One line: time, from, to, transport, what, Call-ID."""
    when = datetime.fromtimestamp(traced.at)
    source, destination = names.show(traced, traced.source), names.show(traced, traced.destination)
    ends = f"{source} → {destination}"
    return (
        f"{when:%H:%M:%S}.{when.microsecond:06}  {ends:<44}  {traced.transport}  {summary(traced)}"
        f"  {printable(traced.call_id) or '-'}"
    )


def document_of(traced: Traced, names: PeerNames) -> dict[str, Any]:
    """A JSON object: when, between whom, what, and the whole text."""
    message = traced.message
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(traced.at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "at": traced.at,
        "direction": None if traced.sent is None else "out" if traced.sent else "in",
        "transport": traced.transport,
        "source": show_endpoint(traced.source),
        "destination": show_endpoint(traced.destination),
        "trunk": names.trunk(traced.peer, traced.transport) or None,
        "call_id": traced.call_id,
        "method": None,
        "request_uri": None,
        "status": None,
        "reason": None,
        "cseq": None,
        "from": None,
        "to": None,
        "size": len(traced.data),
        "message": traced.data.decode("utf-8", "replace"),
    }
    if message is not None:
        found["method"] = message.method.decode("latin-1")
        found["cseq"] = message.cseq
        if isinstance(message, Request):
            found["request_uri"] = message.uri.decode("utf-8", "replace")
        elif isinstance(message, Response):
            found["status"] = message.status
            found["reason"] = message.reason.decode("utf-8", "replace")
        for key in ("from", "to"):
            found[key] = _uri(message.first(key))
    return found


def _status(message: Message) -> str:
    return message.start_line().decode("utf-8", "replace").removeprefix("SIP/2.0 ").strip()


def _whom(request: Request) -> str:
    uri = request.uri.decode("utf-8", "replace")
    scheme, _, rest = uri.partition(":")
    return rest.partition("@")[0] if scheme.lower() in ("sip", "sips") and "@" in rest else uri


def _uri(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return parse_name_addr(value).uri.decode("utf-8", "replace")
    except RemoteError:
        return value.decode("utf-8", "replace")
