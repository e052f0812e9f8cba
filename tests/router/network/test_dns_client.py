"""Asking DNS, against a real server on loopback."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.network import dns_client
from router.network.dns_client import Answer, DnsClient, LookupFailedError
from router.network.lookups import Resolver, locate_now
from sip.locating import Naptr, Question, Server, Srv, Where, in_order
from tests.support.dns_server import ZoneServer

ZONE = """
example.com. 300 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.example.com.
example.com. 300 IN NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.example.com.
_sip._udp.example.com. 60 IN SRV 10 60 5070 A.example.com.
_sip._tcp.example.com. 60 IN SRV 10 60 5080 a.example.com.
_sip._tcp.example.com. 60 IN SRV 20 60 5080 b.example.com.
a.example.com. 20 IN A 192.0.2.1
b.example.com. 20 IN A 192.0.2.2
b.example.com. 20 IN AAAA 2001:db8::2
gone.example.com. 20 IN SRV 0 0 0 .
"""


@pytest.fixture
def server() -> Iterator[ZoneServer]:
    with ZoneServer(ZONE, negative_ttl=7) as running:
        yield running


def ask(client: DnsClient, name: str, kind: str) -> Answer:
    try:
        return asyncio.run(client.ask(Question(name, kind)))
    finally:
        client.close()


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (
            "example.com",
            "NAPTR",
            Answer(
                (
                    Naptr(20, 10, "s", "SIP+D2U", "_sip._udp.example.com"),
                    Naptr(10, 10, "s", "SIP+D2T", "_sip._tcp.example.com"),
                ),
                300.0,
            ),
        ),
        ("_sip._udp.example.com", "SRV", Answer((Srv(10, 60, 5070, "a.example.com"),), 60.0)),
        ("gone.example.com", "SRV", Answer((Srv(0, 0, 0, ""),), 20.0)),
        ("b.example.com", "A", Answer(("192.0.2.2",), 20.0)),
        ("b.example.com", "AAAA", Answer(("2001:db8::2",), 20.0)),
        ("a.example.com", "AAAA", Answer((), 7.0)),
        ("nobody.example.com", "A", Answer((), 7.0)),
        ("localhost", "A", Answer(("127.0.0.1",), 60.0)),
        ("pbx.localhost", "AAAA", Answer(("::1",), 60.0)),
        ("localhost", "SRV", Answer((), 60.0)),
    ],
)
def test_what_a_server_says(server: ZoneServer, name: str, kind: str, expected: Answer) -> None:
    found = ask(DnsClient([server.endpoint.pair]), name, kind)
    assert (set(found.records), found.ttl) == (set(expected.records), expected.ttl)


def test_the_next_server_is_asked_where_the_first_is_closed_or_cannot_tell(server: ZoneServer) -> None:
    with ZoneServer(ZONE) as other:
        other.manner = "servfail"
        closed = ZoneServer().endpoint
        client = DnsClient([closed.pair, other.endpoint.pair, server.endpoint.pair])
        assert ask(client, "a.example.com", "A").records == ("192.0.2.1",)


@pytest.mark.parametrize("manner", ["servfail", "silent", "closed"])
def test_no_answer_is_a_failure_and_no_absence(
    server: ZoneServer, manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_client, "QUESTION_SECONDS", 0.3)
    monkeypatch.setattr(dns_client, "TRY_SECONDS", 0.1)
    if manner == "closed":
        server.stop()
    server.manner = manner
    with pytest.raises(LookupFailedError):
        ask(DnsClient([server.endpoint.pair]), "a.example.com", "A")


def test_an_answer_that_takes_longer_than_a_try_is_heard(server: ZoneServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_client, "QUESTION_SECONDS", 30.0)
    monkeypatch.setattr(dns_client, "TRY_SECONDS", 0.1)
    server.delay = 0.5
    assert ask(DnsClient([server.endpoint.pair]), "a.example.com", "A").records == ("192.0.2.1",)
    assert server.asked["a.example.com", "A"] > 1, "it was sent again meanwhile"


def test_a_silent_server_costs_one_try(server: ZoneServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_client, "QUESTION_SECONDS", 30.0)
    monkeypatch.setattr(dns_client, "TRY_SECONDS", 0.1)
    with ZoneServer(ZONE) as other:
        other.manner = "silent"
        client = DnsClient([other.endpoint.pair, server.endpoint.pair])
        assert ask(client, "a.example.com", "A").records == ("192.0.2.1",)
        assert other.asked["a.example.com", "A"] == 1


@pytest.mark.parametrize("name", ["a" * 64 + ".example.com", "a..example.com", ("x" * 60 + ".") * 5 + "example.com"])
def test_a_name_that_is_none_is_a_failure(server: ZoneServer, name: str) -> None:
    with pytest.raises(LookupFailedError):
        ask(DnsClient([server.endpoint.pair]), name, "A")


def test_without_servers_addresses_come_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {("pbx", socket.AF_INET): ("192.0.2.8",)}

    def look_up(host: str, family: int) -> tuple[str, ...]:
        if (host, family) in known:
            return known[host, family]
        raise socket.gaierror(socket.EAI_NONAME if host == "pbx" else socket.EAI_AGAIN, "no")

    monkeypatch.setattr(dns_client, "look_up", look_up)
    assert ask(DnsClient(), "pbx", "A").records == ("192.0.2.8",)
    assert ask(DnsClient(), "pbx", "AAAA").records == ()
    with pytest.raises(LookupFailedError):
        ask(DnsClient(), "elsewhere.example.com", "A")


def test_what_the_engineer_wrote_into_the_hosts_file_needs_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# 192.0.2.1 pbx\n\n192.0.2.8 PBX.example.com pbx # the old one\n2001:db8::8 pbx\nrubbish\n")
    monkeypatch.setattr(dns_client, "HOSTS_FILE", hosts)
    closed = ZoneServer().endpoint.pair
    assert ask(DnsClient([closed]), "pbx", "A").records == ("192.0.2.8",)
    assert ask(DnsClient([closed]), "pbx", "AAAA").records == ("2001:db8::8",)
    assert ask(DnsClient([closed]), "pbx.example.com", "AAAA").records == ()
    located = locate_now([closed], [Where("pbx.example.com", 5070)])
    assert located[Where("pbx.example.com", 5070)].servers == (Server("udp", "192.0.2.8", 5070),)
    hosts.unlink()
    with pytest.raises(LookupFailedError):
        ask(DnsClient([closed]), "pbx", "A")


def test_names_of_peers_that_hang_do_not_hold_up_those_of_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def look_up(host: str, family: int) -> tuple[str, ...]:
        if host.startswith("hung"):
            release.wait(30)
        return ("192.0.2.1",) if family is socket.AF_INET else ()

    monkeypatch.setattr(dns_client, "look_up", look_up)

    async def test() -> None:
        peers, trunks = Resolver(), Resolver(threads=2)
        for number in range(50):
            peers.ask(Where(f"hung{number}.example.com", 5060), lambda _: None)
        found = asyncio.get_running_loop().create_future()
        trunks.ask(Where("ers.example.com", 5060), found.set_result)
        try:
            async with asyncio.timeout(20):
                assert (await found).servers == (Server("udp", "192.0.2.1", 5060),)
        finally:
            release.set()
        peers.close()
        trunks.close()

    asyncio.run(test())


def test_a_name_is_followed_from_naptr_to_addresses(server: ZoneServer) -> None:
    where = Where("example.com")
    located = locate_now([server.endpoint.pair], [where])[where]
    assert in_order(located, b"call-1") == [
        Server("tcp", "192.0.2.1", 5080),
        Server("tcp", "192.0.2.2", 5080),
        Server("tcp", "2001:db8::2", 5080),
        Server("udp", "192.0.2.1", 5070),
    ]
