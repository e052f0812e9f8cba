"""A location server (LIS) for simulations and tests: HELD (RFC 5985) with device identity (RFC 6155), HTTP or TLS.

It answers from a table of devices, by whatever identifies them in a request: IP or MAC address, URI, BSSID, or switch
and port (RFC 7105). With a client CA it takes no client without a certificate; with a token none without that.
How it answers can be changed while it runs: slowly, with a HELD error, with something that is no answer at all.

By itself: `python -m simulations.lis --listen 127.0.0.1:8443 --devices devices.json [--certificate FILE --key FILE
[--client-ca FILE]] [--token TEXT]`, with devices.json such as `{"10.1.3.7": {"city": "Albany", "street": "Lake",
"house_number": "1", "floor": "3", "room": "312"}}`.
"""

import argparse
import json
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from lxml import etree

HELD = "urn:ietf:params:xml:ns:geopriv:held"
HELD_ID = f"{HELD}:id"
MEASUREMENTS = "urn:ietf:params:xml:ns:geopriv:lm"
_ELEMENTS = {
    "country": "country",
    "state": "A1",
    "city": "A3",
    "street": "RD",
    "street_suffix": "STS",
    "house_number": "HNO",
    "floor": "FLR",
    "postal_code": "PC",
    "building": "BLD",
    "unit": "UNIT",
    "room": "ROOM",
}
"""In the order of the schema of RFC 5139."""

Place = Mapping[str, str]


@dataclass(slots=True)
class Manner:
    """How the server answers."""

    delay: float = 0.0
    """Seconds before it answers."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """In place of its answer."""
    error: str = ""
    """A HELD error code in place of its answer."""
    is_deaf: bool = False
    """True: it never answers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that came in."""

    identifiers: tuple[str, ...]
    document: bytes
    token: str
    client: str
    """Common name of the client's certificate."""


class Lis:
    """The server; a context manager. devices: place by identifier, which is written as `identifiers_in` gives it."""

    def __init__(
        self,
        devices: Mapping[str, Place],
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        certificate: Path | None = None,
        key: Path | None = None,
        client_ca: Path | None = None,
        token: str = "",
    ) -> None:
        self.devices = dict(devices)
        self.manner = Manner()
        self.asked: list[Asked] = []
        self.token = token
        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer((address, port), _handler_of(self))
        self._server.daemon_threads = True
        self.is_secure = certificate is not None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            if client_ca is not None:
                context.load_verify_locations(client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who goes away is no error of ours
        self._thread = threading.Thread(target=self._server.serve_forever, name="lis", daemon=True)

    @property
    def url(self) -> str:
        """Where it is asked."""
        address, port = self._server.server_address[:2]
        text = str(address)
        host = f"[{text}]" if ":" in text else text
        return f"{'https' if self.is_secure else 'http'}://{host}:{port}/held"

    def __enter__(self) -> "Lis":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def answer_to(self, document: bytes) -> tuple[tuple[str, ...], bytes]:
        """The identifiers in a locationRequest, and the answer to it."""
        try:
            root = etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True))
        except etree.XMLSyntaxError:
            return (), _error("xmlError")
        if root.tag != f"{{{HELD}}}locationRequest":
            return (), _error("unsupportedMessage")
        found = identifiers_in(root)
        if not found:
            return (), _error("badIdentifier")
        place = next((self.devices[name] for name in found if name in self.devices), None)
        return found, _error("locationUnknown") if place is None else location_response(place)


def identifiers_in(root: etree._Element) -> tuple[str, ...]:
    """What identifies the device in a locationRequest, the surest first.

    `switch/port` (hexadecimal as sent), BSSID and MAC address (as 02-00-…), IP address, URI.
    """
    found = []
    lldp = root.find(f".//{{{MEASUREMENTS}:lldp}}lldp")
    if lldp is not None:
        parts = [lldp.findtext(f"{{{MEASUREMENTS}:lldp}}{name}", "") for name in ("chassis", "port")]
        found.append("/".join(parts))
    found += [element.text or "" for element in root.iter(f"{{{MEASUREMENTS}:wifi}}bssid")]
    device = root.find(f"{{{HELD_ID}}}device")
    for name in ("mac", "ip", "uri"):
        found += [] if device is None else [child.text or "" for child in device.findall(f"{{{HELD_ID}}}{name}")]
    return tuple(found)


def location_response(place: Place, *, timestamp: float | None = None, method: str = "LLDP-MED") -> bytes:
    """A locationResponse with this place."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() if timestamp is None else timestamp))
    civic = "".join(
        f"<ca:{element}>{escape(place[name])}</ca:{element}>" for name, element in _ELEMENTS.items() if name in place
    )
    return (
        f'<?xml version="1.0"?><locationResponse xmlns="{HELD}"><presence xmlns="urn:ietf:params:xml:ns:pidf" '
        'xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10" entity="pres:device@lis.example.com"><tuple id="t"><status>'
        '<gp:geopriv><gp:location-info><ca:civicAddress xmlns:ca="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr" '
        f'xml:lang="en">{civic}</ca:civicAddress></gp:location-info><gp:usage-rules/><gp:method>{method}</gp:method>'
        f"</gp:geopriv></status><timestamp>{at}</timestamp></tuple></presence></locationResponse>"
    ).encode()


def _error(code: str) -> bytes:
    return f'<error xmlns="{HELD}" code="{code}"><message xml:lang="en">no</message></error>'.encode()


def _handler_of(lis: Lis) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:  # the library's name
            manner = lis.manner
            document = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 100_000))
            identifiers, answer = lis.answer_to(document)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            lis.asked.append(Asked(identifiers, document, token, _common_name(self.connection)))
            lis.stopping.wait(3600 if manner.is_deaf else manner.delay)
            if manner.is_deaf:
                self.close_connection = True
                return
            if lis.token and token != lis.token:
                self._reply(401, b"", {})
                return
            body = manner.body if manner.body is not None else _error(manner.error) if manner.error else answer
            self._reply(manner.status, body, manner.headers)

        def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/held+xml", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler


def _common_name(connection: Any) -> str:
    if not isinstance(connection, ssl.SSLSocket):
        return ""
    subject: Any = (connection.getpeercert() or {}).get("subject", ())
    return next((value for group in subject for name, value in group if name == "commonName"), "")


def main() -> None:
    """Run one until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m simulations.lis", description=__doc__.split("\n\n")[0])
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT")
    parser.add_argument("--devices", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--certificate", type=Path, metavar="FILE")
    parser.add_argument("--key", type=Path, metavar="FILE")
    parser.add_argument("--client-ca", type=Path, metavar="FILE")
    parser.add_argument("--token", default="")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args()
    address, _, port = options.listen.rpartition(":")
    lis = Lis(
        json.loads(options.devices.read_text(encoding="utf-8")),
        address=address,
        port=int(port),
        certificate=options.certificate,
        key=options.key,
        client_ca=options.client_ca,
        token=options.token,
    )
    lis.manner = Manner(delay=options.delay)
    with lis:
        print(lis.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
