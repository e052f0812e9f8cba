"""A caller's own location on the wire, by value and by reference, towards an ESInet (profile i3)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.e911.pidf_documents import GOOD
from tests.support.sip_text import Message, parse
from tests.support.world import Place, Plan, World

PLANS = {
    name: Plan(profile="i3")
    for name in ("by-value", "unreadable", "by-reference", "get-only", "silent", "closed", "subscription")
}
HELD = b'<locationResponse xmlns="urn:ietf:params:xml:ns:geopriv:held">' + GOOD + b"</locationResponse>"


@contextmanager
def location_server(*, post: bool = True, silent: bool = False) -> Iterator[str]:
    """A location server of this machine; gives the URI of a location. silent: it answers nobody while it is there."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, body: bytes, content_type: str) -> None:
            if silent:
                ended.wait(60)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:  # the library's name
            self._answer(GOOD, "application/pidf+xml")

        def log_message(self, *_: object) -> None:
            """Silent."""

    if post:
        Handler.do_POST = lambda self: self._answer(HELD, "application/held+xml")  # type: ignore[attr-defined]  # by name
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/location/7"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def received(place: Place, *extra: str, document: bytes = b"") -> tuple[Message, Message]:
    """A 911 call of this place: what the caller sent, and what the ESInet received."""
    with place.peer("phone") as phone, place.peer("provider_a") as esinet:
        call = place.call(phone)
        if document:
            call.content_type = "multipart/mixed;boundary=own"
            call.body = (
                b"--own\r\nContent-Type: application/sdp\r\n\r\n" + (call.body or b"") + b"\r\n"
                b"--own\r\nContent-Type: application/pidf+xml\r\nContent-ID: <me@phone.example.com>\r\n\r\n"
                + document + b"\r\n--own--\r\n"
            )  # fmt: skip
        sent = call.invite(*extra)
        call.send(sent)
        arrived = esinet.take("INVITE", call_id=call.call_id)
        esinet.respond(arrived, 200)
        call.answered()
        esinet.take("ACK", call_id=call.call_id)
    return parse(sent), arrived.message


def shown(message: Message) -> list[str]:
    return [value.strip() for line in message.all("geolocation") for value in line.split(",")]


def reason(world: World, call_id: str) -> str:
    """What the record says of the caller's location."""
    (record,) = world.router.records(call_id, whole=False)
    return next(f"{one['outcome']} {one['reason']}" for one in record["sources"] if one["source"] == "conveyed")


def test_a_good_one_stays_top_most(the_world: World) -> None:
    sent, arrived = received(the_world["by-value"], "Geolocation: <cid:me@phone.example.com>", document=GOOD)
    assert arrived.start == "INVITE urn:service:sos SIP/2.0"
    assert shown(arrived) == ["<cid:me@phone.example.com>"]
    assert arrived.body == sent.body
    assert reason(the_world, sent.call_id) == "won conveyed-by-value"


def test_an_unreadable_one_counts_as_none(the_world: World) -> None:
    sent, arrived = received(the_world["unreadable"], "Geolocation: <cid:me@phone.example.com>", document=b"<oops")
    assert shown(arrived)[1:] == ["<cid:me@phone.example.com>"]
    assert arrived.body.startswith(sent.body.removesuffix(b"--own--\r\n")), "the originals are kept"
    assert len(arrived.parts) == 3
    assert reason(the_world, sent.call_id) == "missed location-not-xml"


@pytest.mark.parametrize(("name", "post"), [("by-reference", True), ("get-only", False)])
def test_a_reference_is_asked(the_world: World, name: str, post: bool) -> None:
    with location_server(post=post) as uri:
        sent, arrived = received(the_world[name], f"Geolocation: <{uri}>")
    assert shown(arrived) == [f"<{uri}>"], "the next hop asks it again"
    assert arrived.body == sent.body
    assert reason(the_world, sent.call_id) == "won conveyed-by-reference"


def test_a_silent_server_holds_up_a_call_no_longer_than_the_deadline(the_world: World) -> None:
    with location_server(silent=True) as uri:
        sent, arrived = received(the_world["silent"], f"Geolocation: <{uri}>")
    assert shown(arrived)[1:] == [f"<{uri}>"]
    assert reason(the_world, sent.call_id) == "missed reference-late"


def test_a_closed_port_holds_up_nothing(the_world: World) -> None:
    sent, arrived = received(the_world["closed"], "Geolocation: <http://127.0.0.1:9/location>")
    assert len(shown(arrived)) == 2
    assert reason(the_world, sent.call_id) == "missed reference-unreachable"


def test_a_subscription_is_not_waited_for(the_world: World) -> None:
    sent, arrived = received(the_world["subscription"], "Geolocation: <sip:me@lis.example.com>")
    assert shown(arrived)[1:] == ["<sip:me@lis.example.com>"]
    assert reason(the_world, sent.call_id) == "missed reference-scheme"
