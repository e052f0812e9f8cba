"""Location servers asked over real sockets of this machine: what is answered, kept, late, and never taken."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from config.schema import Lis as LisConfig
from e911.held_request import HeldIdentity
from e911.locate import HeldAnswer
from router.locating import lis_client
from router.locating.lis_client import LisClient, LisServer, lis_server
from simulations.lis import Lis, Manner, location_response
from tests.support.certificates import Authority

PLACE = {"country": "US", "city": "Albany", "street": "Lake", "house_number": "1", "floor": "3", "room": "312"}
PHONE = HeldIdentity(ip="10.1.3.7")
BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b'<locationResponse xmlns="urn:ietf:params:xml:ns:geopriv:held">&b;</locationResponse>'
)
OUTSIDE = b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><a>&a;</a>'


class World:
    """A client, a clock that the test sets, and the answers that came."""

    def __init__(self, names: dict[str, tuple[str, ...]] | None = None) -> None:
        self.now = 1_900_000_000.0
        self.counts: Counter[str] = Counter()
        known = names or {}
        self.client = LisClient(
            lambda host, told: told(known.get(host, (host,))), lambda: self.now, lambda _: False, self.counts
        )

    async def ask(self, server: LisServer, identity: HeldIdentity = PHONE) -> HeldAnswer:
        found: asyncio.Future[HeldAnswer] = asyncio.get_running_loop().create_future()
        self.client.ask(server, identity, found.set_result)
        async with asyncio.timeout(30):
            return await found


def server_at(url: str, **keys: Any) -> LisServer:
    return lis_server(LisConfig(url=url, **keys), str, None)


def run(act: Callable[[World, Lis], Awaitable[None]], **server: Any) -> Lis:
    """A test against a server of this machine."""
    with Lis({"10.1.3.7": PLACE, "02-00-E8-A1-B2-C3": {**PLACE, "room": "9"}}, **server) as lis:

        async def inner() -> None:
            world = World({"lis.example.com": ("127.0.0.1",)})
            try:
                await act(world, lis)
            finally:
                world.client.close()
                await asyncio.sleep(0)

        asyncio.run(inner())
    return lis


def test_a_location_by_address_and_by_hardware() -> None:
    async def act(world: World, lis: Lis) -> None:
        server = server_at(lis.url)
        answer = await world.ask(server)
        assert (answer.reason, answer.detail) == ("held-answered", "127.0.0.1: 10.1.3.7")
        assert answer.location is not None
        assert (answer.location.civic.room, answer.location.method) == ("312", "LLDP-MED")
        other = await world.ask(server, HeldIdentity(ip="10.9.9.9", mac="0200e8a1b2c3"))
        assert other.location is not None
        assert other.location.civic.room == "9"

    lis = run(act)
    assert b'responseTime="300"' in lis.asked[0].document


def test_what_was_answered_is_kept_while_the_server_is_ill() -> None:
    async def act(world: World, lis: Lis) -> None:
        server = server_at(lis.url, fresh="1m", keep="1h")
        assert world.client.known(server, PHONE) is None
        assert (await world.ask(server)).reason == "held-answered"
        world.now += 59
        known = world.client.known(server, PHONE)
        assert known is not None
        assert known.reason == "held-answered"
        world.now += 2
        lis.manner = Manner(status=500, body=b"")
        answer = await world.ask(server)
        assert (answer.reason, answer.location) == ("held-kept", known.location)
        assert answer.detail.endswith("; held-refused")
        lis.manner = Manner(error="generalLisError")
        assert (await world.ask(server)).reason == "held-kept"
        late = world.client.late(server, PHONE)
        assert (late.reason, late.location) == ("held-kept", known.location)
        world.now += 3600
        assert (await world.ask(server)).reason == "held-error"

    run(act)


@pytest.mark.parametrize(
    ("code", "reason"),
    [("locationUnknown", "held-unknown"), ("notLocatable", "held-unknown"), ("badIdentifier", "held-error")],
)
def test_a_server_that_knows_no_more_is_believed(code: str, reason: str) -> None:
    async def act(world: World, lis: Lis) -> None:
        server = server_at(lis.url)
        await world.ask(server)
        lis.manner = Manner(error=code)
        answer = await world.ask(server)
        assert (answer.reason, answer.location) == (reason, None)
        assert answer.detail.endswith(f"; {code}")
        assert world.client.known(server, PHONE) is None

    run(act)


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        (Manner(status=302, headers={"Location": "/held"}), "held-refused"),
        (Manner(status=401, body=b""), "held-refused"),
        (Manner(body=b"<html>welcome</html>"), "held-refused"),
        (Manner(body=b"no XML"), "location-not-xml"),
        (Manner(body=b""), "location-not-xml"),
        (Manner(body=BOMB), "location-has-dtd"),
        (Manner(body=OUTSIDE), "location-has-dtd"),
        (Manner(body=b"<a>" * 5000), "location-not-xml"),
        (Manner(body=b" " * 10_000_000), "location-too-large"),
        (Manner(body=location_response({"city": "Albany"})), "location-too-coarse"),
    ],
    ids=["redirect", "401", "html", "text", "empty", "bomb", "external", "deep", "10MB", "coarse"],
)
def test_what_is_no_answer_has_a_name(manner: Manner, reason: str) -> None:
    async def act(world: World, lis: Lis) -> None:
        lis.manner = manner
        answer = await world.ask(server_at(lis.url))
        assert (answer.reason, answer.location) == (reason, None)
        assert world.counts[reason] == 1

    assert len(run(act).asked) == 1, "nothing is followed, nothing asked twice"


def test_a_deaf_server_and_a_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lis_client, "PATIENCE", 0.05)

    async def act(world: World, lis: Lis) -> None:
        lis.manner = Manner(is_deaf=True)
        assert (await world.ask(server_at(lis.url, timeout="50ms"))).reason == "held-late"
        assert (await world.ask(server_at("http://127.0.0.1:9/"))).reason == "held-unreachable"
        lis.stopping.set()

    run(act)


def test_where_people_are_does_not_go_in_the_clear() -> None:
    async def inner() -> None:
        world = World({"lis.example.com": ("192.0.2.7",), "gone.example.com": ()})
        assert (await world.ask(server_at("http://lis.example.com/"))).reason == "held-not-allowed"
        assert (await world.ask(server_at("http://gone.example.com/"))).reason == "held-unreachable"
        world.client.close()

    asyncio.run(inner())


def test_a_flood_of_calls_is_no_flood_of_questions() -> None:
    async def inner() -> None:
        world = World()
        world.client.resolve = lambda _host, _told: None
        server = server_at("http://127.0.0.1:9/")
        found: list[str] = []
        for number in range(70):
            world.client.ask(server, HeldIdentity(ip=f"10.0.0.{number}"), lambda one: found.append(one.reason))
        world.client.ask(server, HeldIdentity(ip="10.0.0.1"), lambda one: found.append(one.reason))
        assert found == ["held-busy"] * 6, "and who asks the same waits for the same answer"
        world.client.close()
        await asyncio.sleep(0)

    asyncio.run(inner())


def test_phones_that_register_are_asked_for_ahead_and_only_once() -> None:
    async def act(world: World, lis: Lis) -> None:
        server = server_at(lis.url)
        for _ in range(3):
            world.client.ask_ahead(server, PHONE)
        for number in range(20):
            world.client.ask_ahead(server, HeldIdentity(ip=f"10.0.0.{number}"))
        async with asyncio.timeout(30):
            while len(lis.asked) < 21:
                await asyncio.sleep(0.01)
            while world.client.known(server, PHONE) is None:
                await asyncio.sleep(0.01)
        world.client.ask_ahead(server, PHONE)
        assert world.counts["lis_asked_ahead"] == 21, "what is fresh is not asked for again"

    assert sorted(one.identifiers for one in run(act).asked)[0] == ("10.0.0.0",)


def test_more_registrations_than_can_be_asked_for_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lis_client, "AHEAD_WAITING", 3)

    async def inner() -> None:
        world = World()
        world.client.resolve = lambda _host, _told: None
        for number in range(40):
            world.client.ask_ahead(server_at("http://127.0.0.1:9/"), HeldIdentity(ip=f"10.0.0.{number}"))
        assert world.counts["lis_asked_ahead"] <= lis_client.AHEAD_LIMIT
        assert world.counts["lis_not_asked_ahead"] >= 40 - 3 - lis_client.AHEAD_LIMIT
        world.client.close()
        await asyncio.sleep(0)

    asyncio.run(inner())


def test_answers_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lis_client, "KEPT_LIMIT", 2)

    async def act(world: World, lis: Lis) -> None:
        server = server_at(lis.url)
        for number in range(4):
            lis.devices[f"10.0.0.{number}"] = PLACE
            await world.ask(server, HeldIdentity(ip=f"10.0.0.{number}"))
        assert len(world.client) == 2
        assert world.client.known(server, HeldIdentity(ip="10.0.0.3")) is not None

    run(act)


# TLS


def test_a_client_certificate_and_a_token(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own, client = authority.issue("lis", "DNS:lis.example.com", "IP:127.0.0.1"), authority.issue("edge911")
    ca = str(authority.certificate)

    async def act(world: World, lis: Lis) -> None:
        shown = {"client_certificate": str(client.certificate), "client_key": str(client.key)}
        url = lis.url.replace("127.0.0.1", "lis.example.com")
        assert (await world.ask(server_at(url, ca=ca, token="secret", **shown))).reason == "held-answered"
        assert (await world.ask(server_at(url, ca=ca, token="wrong", **shown))).reason == "held-kept"
        assert (await world.ask(server_at(f"{url}/2", ca=ca, token="wrong", **shown))).reason == "held-refused"
        assert (await world.ask(server_at(f"{url}/3", ca=ca, token="secret"))).reason == "held-unreachable"
        assert (await world.ask(server_at(f"{url}/4", token="secret", **shown))).reason == "held-unreachable"
        gone = {"client_certificate": str(tmp_path / "gone"), "client_key": str(client.key)}
        assert (await world.ask(server_at(f"{url}/5", ca=ca, **gone))).reason == "held-unreachable"

    lis = run(act, certificate=own.certificate, key=own.key, client_ca=authority.certificate, token="secret")
    assert [(one.client, one.token) for one in lis.asked[:2]] == [("edge911", "secret"), ("edge911", "wrong")]


def test_a_certificate_of_another_host_is_not_taken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    other = authority.issue("other", "DNS:other.example.com")

    async def act(world: World, lis: Lis) -> None:
        url = lis.url.replace("127.0.0.1", "lis.example.com")
        answer = await world.ask(server_at(url, ca=str(authority.certificate)))
        assert answer.reason == "held-unreachable"
        assert ssl.HAS_TLSv1_2

    assert run(act, certificate=other.certificate, key=other.key).asked == []
