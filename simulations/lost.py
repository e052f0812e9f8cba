"""A LoST server (RFC 5222) for simulations and tests: a location validation function (LVF) with a table of streets.

It knows cities by state, streets by city and the house numbers of each street, and sorts the elements of an address
into valid, invalid and unchecked accordingly (floors and rooms it does not check). How it answers can be changed
while it runs: slowly, by a redirect, with something that is no answer at all.

By itself: `python -m simulations.lost --listen 127.0.0.1:8480 --streets streets.json`, with streets.json such as
`{"NY": {"Albany": {"Lake RD": [1, 99]}}}`: state, city, street with its suffix, first and last house number.
"""

import argparse
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

LOST = "urn:ietf:params:xml:ns:lost1"
CIVIC = "urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr"

Streets = Mapping[str, Mapping[str, Mapping[str, tuple[int, int]]]]
"""State → city → street with its parts → first and last house number."""


@dataclass(slots=True)
class Manner:
    """How the server answers."""

    delay: float = 0.0
    """Seconds before it answers."""
    drip: float = 0.0
    """Seconds between two bytes of its answer; 0: all at once."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """In place of its answer."""


class Lost:
    """The server; a context manager."""

    def __init__(self, streets: Streets, *, address: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        self.streets = streets
        self.token = token
        self.manner = Manner()
        self.asked: list[dict[str, str]] = []
        """The addresses asked about, as elements."""
        self.documents: list[bytes] = []
        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer((address, port), _handler_of(self))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who goes away is no error of ours
        self._thread = threading.Thread(target=self._server.serve_forever, name="lost", daemon=True)

    @property
    def url(self) -> str:
        """Where it is asked."""
        address, port = self._server.server_address[:2]
        return f"http://{address!s}:{port}/lost"

    def __enter__(self) -> "Lost":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def answer_to(self, document: bytes) -> bytes:
        """The answer to a findService document."""
        try:
            root = etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True))
        except etree.XMLSyntaxError:
            return errors("badRequest", "not XML")
        address = root.find(f"{{{LOST}}}location[@profile='civic']/{{{CIVIC}}}civicAddress")
        if root.tag != f"{{{LOST}}}findService" or address is None:
            return errors("badRequest", "no civic location")
        civic = {str(child.tag).rpartition("}")[2]: child.text or "" for child in address}
        self.asked.append(civic)
        valid, invalid = self._judge(civic)
        unchecked = [name for name in civic if name not in valid and name not in invalid]
        return found(valid, invalid, unchecked, service=root.findtext(f"{{{LOST}}}service", ""))

    def _judge(self, civic: Mapping[str, str]) -> tuple[list[str], list[str]]:
        street_parts = [name for name in ("PRD", "RD", "STS", "POD") if name in civic]
        street = " ".join(civic[name] for name in street_parts)
        cities = self.streets.get(civic.get("A1", ""))
        if cities is None:
            return ["country"], ["A1"]
        streets = cities.get(civic.get("A3", ""))
        if streets is None:
            return ["country", "A1"], ["A3"]
        numbers = streets.get(street)
        if numbers is None:
            return ["country", "A1", "A3"], street_parts
        known = ["country", "A1", "A3", *street_parts]
        if "HNO" not in civic:
            return known, []
        number = civic["HNO"]
        is_there = number.isascii() and number.isdigit() and numbers[0] <= int(number) <= numbers[1]
        return ([*known, "HNO"], []) if is_there else (known, ["HNO"])


def found(valid: list[str], invalid: list[str], unchecked: list[str], service: str = "urn:service:sos") -> bytes:
    """A findServiceResponse with a mapping and these lists (RFC 5222 section 8.4)."""
    lists = "".join(
        f"<{name}>{' '.join(f'ca:{element}' for element in elements)}</{name}>"
        for name, elements in (("valid", valid), ("invalid", invalid), ("unchecked", unchecked))
        if elements
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><findServiceResponse xmlns="{LOST}"><mapping '
        'expires="NO-EXPIRATION" lastUpdated="2026-01-01T00:00:00Z" source="lvf.example.com" sourceId="1">'
        f'<displayName xml:lang="en">Example PSAP</displayName><service>{escape(service)}</service>'
        "<uri>sip:psap@psap.example.com</uri><serviceNumber>911</serviceNumber></mapping>"
        f'<locationValidation xmlns:ca="{CIVIC}">{lists}</locationValidation>'
        '<path><via source="lvf.example.com"/></path><locationUsed id="address"/></findServiceResponse>'
    ).encode()


def errors(code: str, message: str) -> bytes:
    """An errors document with one error."""
    return (
        f'<errors xmlns="{LOST}" source="lvf.example.com"><{code} message={quoteattr(message)} xml:lang="en"/>'
        "</errors>"
    ).encode()


def redirect(target: str) -> bytes:
    """A LoST redirect to another server."""
    return (
        f'<redirect xmlns="{LOST}" target={quoteattr(target)} source="lvf.example.com" message="elsewhere" '
        'xml:lang="en"/>'
    ).encode()


def _handler_of(lost: Lost) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the library's name
            manner = lost.manner
            document = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 100_000))
            lost.documents.append(document)
            answer = lost.answer_to(document)
            lost.stopping.wait(manner.delay)
            if lost.token and self.headers.get("Authorization", "") != f"Bearer {lost.token}":
                self._reply(401, b"", {}, 0.0)
                return
            self._reply(manner.status, answer if manner.body is None else manner.body, manner.headers, manner.drip)

        def _reply(self, status: int, body: bytes, headers: Mapping[str, str], drip: float) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/lost+xml", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not drip:
                self.wfile.write(body)
                return
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                if lost.stopping.wait(drip):
                    return

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler


def main() -> None:
    """Run one until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m simulations.lost", description=__doc__.split("\n\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT")
    parser.add_argument("--streets", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--token", default="")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args()
    address, _, port = options.listen.rpartition(":")
    streets = json.loads(options.streets.read_text(encoding="utf-8"))
    lost = Lost(streets, address=address, port=int(port), token=options.token)
    lost.manner = Manner(delay=options.delay)
    with lost:
        print(lost.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
