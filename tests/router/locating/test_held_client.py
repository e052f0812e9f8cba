"""Asking a location reference over real sockets of this machine, and what is never asked."""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

import pytest

from e911.conveyed import ReferenceAnswer
from router.locating.held_client import (
    LARGEST_ANSWER,
    HeldClient,
    HostRules,
    NoLocationError,
    location_document,
    may_ask,
    read_reference,
)
from tests.e911.pidf_documents import GOOD

HELD = b'<locationResponse xmlns="urn:ietf:params:xml:ns:geopriv:held">' + GOOD + b"</locationResponse>"
CALLER = "127.0.0.1"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    """An HTTP answer with this body."""
    head = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/held+xml",
        f"Content-Length: {len(body)}",
        *fields,
        "",
        "",
    ]
    return "\r\n".join(head).encode() + body


class Lis:
    """A location server that answers each request with the next of these; the last one again and again."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        self.requests.append(head + await reader.readexactly(length))
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        await writer.drain()
        writer.close()


def asked(
    serve: Serve,
    *,
    host: str = "127.0.0.1",
    path: str = "/loc/7",
    rules: HostRules | None = None,
    caller: str = CALLER,
    seconds: float = 5.0,
    own: tuple[str, ...] = (),
    resolve: dict[str, tuple[str, ...]] | None = None,
) -> ReferenceAnswer:
    """What a client says of a reference to such a server."""

    async def run() -> ReferenceAnswer:
        writers: list[asyncio.StreamWriter] = []

        async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            try:
                await serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                writer.close()  # the client has gone

        server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        known = resolve or {}
        client = HeldClient(lambda name, told: told(known.get(name, (name,))), own)
        client.use(rules or HostRules(), seconds)
        found: asyncio.Future[ReferenceAnswer] = asyncio.get_running_loop().create_future()
        client(f"http://{host}:{port}{path}", caller, found.set_result)
        try:
            async with asyncio.timeout(20):
                return await found
        finally:
            client.close()
            server.close()
            for writer in writers:
                writer.transport.abort()
            for _ in range(3):
                await asyncio.sleep(0)  # for what was closed to be gone

    return asyncio.run(run())


def test_a_held_answer() -> None:
    lis = Lis(answer(HELD))
    found = asked(lis, path="/loc/7?a=b")
    assert b"<ca:RD>Lake</ca:RD>" in found.document
    assert location_document(found.document) == found.document
    (request,) = lis.requests
    assert request.startswith(b"POST /loc/7?a=b HTTP/1.1\r\n")
    assert b"application/held+xml" in request
    assert b'responseTime="emergencyDispatch"' in request


def test_a_plain_document_is_passed_on_as_it_is() -> None:
    assert asked(Lis(answer(GOOD))).document == GOOD


@pytest.mark.parametrize("status", ["405 Method Not Allowed", "501 Unsupported method ('POST')"])
def test_a_server_that_knows_only_get(status: str) -> None:
    lis = Lis(answer(b"", status), answer(GOOD))
    assert asked(lis).document == GOOD
    assert lis.requests[1].startswith(b"GET /loc/7 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (answer(b"", "302 Found", "Location: http://127.0.0.1:1/"), "reference-refused"),
        (answer(b"", "403 Forbidden"), "reference-refused"),
        (answer(b'<error xmlns="urn:ietf:params:xml:ns:geopriv:held" code="locationUnknown"/>'), "reference-refused"),
        (answer(b"<html>no"), "location-not-xml"),
        (answer(b" " * (LARGEST_ANSWER + 1)), "location-too-large"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (LARGEST_ANSWER + 1), "location-too-large"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "reference-unreachable"),
        (b"", "reference-unreachable"),
    ],
    ids=["redirect", "forbidden", "held-error", "html", "large", "large-without-length", "not-http", "closed"],
)  # fmt: skip
def test_what_gives_no_location_has_a_reason(reply: bytes, reason: str) -> None:
    found = asked(Lis(reply))
    assert (found.document, found.reason) == (b"", reason)


def test_silence_ends_with_the_deadline() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    assert asked(silent, seconds=0.05).reason == "reference-late"


def test_a_name_is_connected_to_by_the_address_that_was_judged() -> None:
    lis = Lis(answer(GOOD))
    assert asked(lis, host="lis.example.com", resolve={"lis.example.com": ("127.0.0.1",)}).document == GOOD
    assert b"\r\nHost: lis.example.com:" in lis.requests[0]
    assert asked(Lis(answer(GOOD)), host="gone.example.com", resolve={"gone.example.com": ()}).reason == (
        "reference-unreachable"
    )


def test_loopback_is_not_asked_for_a_caller_from_elsewhere() -> None:
    lis = Lis(answer(GOOD))
    assert asked(lis, caller="10.1.3.7").reason == "reference-not-allowed"
    assert asked(lis, host="x.example", caller="10.1.3.7", resolve={"x.example": ("127.0.0.1",)}).reason == (
        "reference-not-allowed"
    )
    assert not lis.requests


def test_our_own_address_is_nobodys_location_server() -> None:
    assert asked(Lis(answer(GOOD)), own=("127.0.0.1",), caller="127.0.0.2").reason == "reference-not-allowed"


def test_only_listed_hosts_where_some_are_listed() -> None:
    listed = HostRules(["lis.example.com", "*.corp.example", "192.0.2.0/24"])
    names = {"lis.example.com": ("127.0.0.1",), "a.corp.example": ("127.0.0.1",), "b.example": ("127.0.0.1",)}
    for host, reason in (("lis.example.com", ""), ("a.corp.example", ""), ("b.example", "reference-not-allowed")):
        found = asked(Lis(answer(GOOD)), host=host, rules=listed, resolve=names, caller="10.1.3.7")
        assert found.reason == reason


@pytest.mark.parametrize(
    ("address", "caller", "allowed"),
    [
        ("203.0.113.7", "10.1.3.7", True),
        ("10.9.9.9", "10.1.3.7", True),
        ("127.0.0.1", "10.1.3.7", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "10.1.3.7", False),
        ("169.254.169.254", "10.1.3.7", False),
        ("fe80::1", "10.1.3.7", False),
        ("0.0.0.0", "127.0.0.1", False),
        ("224.0.0.1", "10.1.3.7", False),
        ("255.255.255.255", "10.1.3.7", False),
    ],
)
def test_which_addresses_may_be_asked(address: str, caller: str, allowed: bool) -> None:
    assert may_ask(HostRules(), "x.example", ip_address(address), ip_address(caller)) is allowed


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("ftp://lis.example.com/1", "reference-scheme"),
        ("file:///etc/passwd", "reference-scheme"),
        ("http://user:secret@lis.example.com/1", "reference-not-allowed"),
        ("http:///1", "reference-not-allowed"),
        ("http://[::1/1", "reference-not-allowed"),
        ("http://lis.example.com:99999/1", "reference-not-allowed"),
        ("http://lis.example.com/a b", "reference-not-allowed"),
        ("http://lis.example.com/" + "a" * 3000, "reference-not-allowed"),
    ],
)
def test_references_that_are_none(uri: str, reason: str) -> None:
    with pytest.raises(NoLocationError) as raised:
        read_reference(uri)
    assert raised.value.reason == reason


def test_a_flood_of_references_is_not_a_flood_of_connections() -> None:
    async def run() -> list[str]:
        client = HeldClient(lambda _name, _told: None, ())
        reasons: list[str] = []
        for _ in range(70):
            client("http://lis.example.com/1", CALLER, lambda answer: reasons.append(answer.reason))
        client.close()
        await asyncio.sleep(0)
        return reasons

    assert asyncio.run(run()) == ["reference-busy"] * 6
