"""Locations by reference on the wire: the provider fetches what the INVITE refers to, from a running router."""

import json
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from router.network.trust import verifying_context
from tests.interop.wire import CIVIC_ORDER, assert_identity, registered_address
from tests.support.certificates import Authority
from tests.support.ports import free_port, street
from tests.support.raw_sip import answers
from tests.support.sip_text import Message, Part, civic
from tests.support.sipp import running
from tests.support.world import Place, Plan, World, world

pytestmark = [pytest.mark.peers, pytest.mark.xdist_group("location-references")]

PLANS = {name: Plan(profile="by-reference.yaml") for name in ("fetched", "restarted", "no-database", "not-answered")}


@dataclass(frozen=True)
class Fetching:
    """The world, and how a provider fetches."""

    world: World
    tls: ssl.SSLContext
    stranger: ssl.SSLContext

    def __getitem__(self, name: str) -> Place:
        return self.world[name]

    def get(self, url: str) -> httpx.Response:
        return httpx.get(url, verify=self.tls, timeout=20)


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetching]:
    folder: Path = tmp_path_factory.mktemp("references")
    authority = Authority(folder / "authority")
    address = street()["provider_a"].address
    own, provider = authority.issue("edge", f"IP:{address}"), authority.issue("provider", "DNS:provider.example.com")
    port = free_port(address)
    server = {
        "listen": f"https://{address}:{port}",
        "url": f"https://{address}:{port}/held",
        "certificate": str(own.certificate),
        "private_key": str(own.key),
        "client_ca": str(authority.certificate),
    }
    locations = {
        "database": "sqlite:///edge911.db",
        "sources": ["conveyed", "registered", "network", "site"],
        "reference_server": server,
    }
    stranger = verifying_context(str(authority.certificate))
    tls = verifying_context(str(authority.certificate))
    tls.load_cert_chain(provider.certificate, provider.key)
    files = {"by-reference.yaml": "location: reference\n"}
    with world(folder, PLANS, files=files, locations=locations) as built:
        wait_until_answered(folder)
        yield Fetching(built, tls, stranger)
        assert built.router.alive


def wait_until_answered(folder: Path, after: float = 0.0) -> None:
    """Until the server has shown life after that moment, and the call process has had time to see it."""
    alive = folder / "edge911-state" / "references.alive"
    deadline = time.monotonic() + 60
    while not (alive.exists() and alive.stat().st_mtime > after):
        assert time.monotonic() < deadline, "the server of location references did not come up"
        time.sleep(0.05)


def refers(sent: Message) -> str:
    found = re.fullmatch(r"<(https://[^>]+/held/[A-Za-z0-9_-]{24})>", sent.get("geolocation"))
    assert found, sent.get("geolocation")
    return found[1]


def call(place: Place, deadline: float = 30) -> Message:
    """The INVITE of a 911 call that refers to a location; repeated until the call process knows that it may."""
    end = time.monotonic() + deadline
    while True:
        psap, phone = place.sipp("psap_answers", "provider_a"), place.caller()
        with running(psap, phone):
            phone.succeed()
            psap.succeed()
        sent = psap.request()
        if "<https:" in sent.get("geolocation") or time.monotonic() > end:
            return sent


def shown(document: bytes) -> dict[str, str]:
    return civic(Part(b"", (), (), document))


def test_the_provider_fetches_what_sipp_received(fetching: Fetching) -> None:
    place = fetching["fetched"]
    sent = call(place)
    url = refers(sent)
    assert sent.content_type == "application/sdp", "no body change"
    assert sent.get("geolocation-routing") == "yes"
    assert_identity(sent, place.callback)
    answer = fetching.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/held+xml")
    found = shown(answer.content)
    found.pop("NAM", None)
    assert found == registered_address(place)
    assert list(found) == sorted(found, key=CIVIC_ORDER.index)
    bare = httpx.get(url, verify=fetching.tls, headers={"accept": "application/pidf+xml"}, timeout=20)
    assert bare.headers["content-type"] == "application/pidf+xml"
    request = '<locationRequest xmlns="urn:ietf:params:xml:ns:geopriv:held"><locationType exact="true">civic'
    posted = httpx.post(
        url,
        content=f"{request}</locationType></locationRequest>",
        headers={"content-type": "application/held+xml"},
        verify=fetching.tls,
        timeout=20,
    )
    assert shown(posted.content) == shown(answer.content)
    said = fetching.world.router.command("explain", place.device, "911", "--json")
    (route,) = [one for one in json.loads(said.stdout)["routes"] if one["name"] == "provider-a"]
    assert route["location_by"] == "reference"
    assert f"Geolocation: <{url.rpartition('/')[0]}/…>" in route["headers"]
    assert route["body_parts"] == ["application/sdp"]
    wrong = fetching.get(url[:-4] + "AAAA")
    assert wrong.status_code == 404
    assert b'code="locationUnknown"' in wrong.content
    with pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)):
        httpx.get(url, verify=fetching.stranger, timeout=20)  # no certificate of a provider


def test_it_is_fetched_while_the_invite_has_just_arrived(fetching: Fetching) -> None:
    """The provider asks before it answers anything."""
    place = fetching["fetched"]
    with place.peer("phone") as phone, place.peer("provider_a") as provider:
        dialled = place.call(phone)
        dialled.dial()
        invite = provider.take("INVITE")
        assert fetching.get(refers(invite.message)).status_code == 200
        provider.respond(invite, 200)
        dialled.answered()
        provider.take("ACK")
        dialled.send(dialled.in_dialog("BYE"))
        provider.respond(provider.take("BYE"), 200)


def test_it_is_answered_after_a_restart(fetching: Fetching) -> None:
    url = refers(call(fetching["restarted"]))
    before = time.time()
    fetching.world.router.restart()
    wait_until_answered(fetching.world.router.folder, before)
    assert fetching.get(url).status_code == 200


def test_it_is_answered_while_the_database_is_gone(fetching: Fetching) -> None:
    folder = fetching.world.router.folder
    database = folder / "edge911.db"
    kept = database.read_bytes()
    for path in folder.glob("edge911.db*"):
        path.unlink()
    database.write_bytes(b"no database" * 1000)
    try:
        assert fetching.get(refers(call(fetching["no-database"]))).status_code == 200
    finally:
        database.write_bytes(kept)


def test_while_nobody_answers_the_location_goes_by_value(fetching: Fetching) -> None:
    router = fetching.world.router
    children = Path(f"/proc/{router.process.pid}/task/{router.process.pid}/children") if router.process else None
    assert children
    pids = [int(pid) for pid in children.read_text().split()]
    (server,) = [pid for pid in pids if b"router.references.server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(server, signal.SIGSTOP)
    try:
        place, end = fetching["not-answered"], time.monotonic() + 25
        while True:
            with place.peer("phone") as phone, place.peer("provider_a", rule=answers(200)) as provider:
                dialled = place.call(phone)
                dialled.dial()
                dialled.answered()
                dialled.hang_up()
                (sent,) = provider.messages("INVITE", call_id=dialled.call_id)
            if sent.get("geolocation").startswith("<cid:"):
                break
            assert time.monotonic() < end, "it went on referring to a server that does not answer"
    finally:
        os.kill(server, signal.SIGCONT)
    (record,) = router.records(dialled.call_id)
    assert "reference-server-down" in {event.get("reason") for event in record["routes"]}


def test_who_keeps_connections_open_takes_none_from_others(fetching: Fetching) -> None:
    """Idle connections of one address beyond its share are closed; a provider's request is answered all the same."""
    url = refers(call(fetching["fetched"]))
    parts = httpx.URL(url)
    idle = []
    try:
        for _ in range(80):
            raw = socket.create_connection(
                (parts.host, parts.port or 443), timeout=10, source_address=(parts.host, 0)
            )
            idle.append(fetching.tls.wrap_socket(raw, server_hostname=parts.host))
        assert all(is_closed(one) for one in idle[-10:])
        assert not is_closed(idle[0])
        transport = httpx.HTTPTransport(verify=fetching.tls, local_address="127.0.0.1")
        with httpx.Client(transport=transport, timeout=20) as client:
            assert client.get(url).status_code == 200
    finally:
        for one in idle:
            one.close()


def is_closed(connection: socket.socket) -> bool:
    """True where the other end has closed a connection; waits a moment for it."""
    connection.settimeout(2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
