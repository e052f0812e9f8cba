"""TLS on the wire: what arrives at the far side where its TLS is good, bad in one way, or not there at all."""

import json
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from router.network.trust import verifying_context
from tests.support.certificates import Authority, Pair
from tests.support.ports import Endpoint, endpoint
from tests.support.raw_sip import Call, Peer, answers
from tests.support.tls_front import TlsFront, TlsTunnel
from tests.support.world import Place, Plan, World, world


@dataclass(frozen=True, slots=True)
class Far:
    """How a provider's TLS is: the alternatives of its certificate, days, who signed it; or that it has none."""

    names: tuple[str, ...] = ("IP",)
    days: int = 30
    trusted: bool = True
    tls: bool = True
    tcp: bool = False
    udp: bool = False
    silent: bool = False
    asks: bool = False
    """Clients must show a certificate."""
    keys: tuple[tuple[str, Any], ...] = ()
    """More keys under the trunk's `tls`."""
    probe: str = "off"


FAR = {
    "good": Far(),
    "asks": Far(asks=True),
    "named": Far(names=("DNS:sbc.example.com",), keys=(("name", "sbc.example.com"),)),
    "uri": Far(names=("URI:sip:example.com", "DNS:other.example.com"), keys=(("name", "example.com"),)),
    "pinned": Far(trusted=False, keys=(("ca", "pinned.pem"), ("name", "pinned.example.com"))),
    "expired": Far(days=-3),
    "untrusted": Far(trusted=False),
    "wrong-name": Far(names=("DNS:other.example.com",)),
    "wildcard": Far(names=("DNS:*.example.com",), keys=(("name", "sbc.example.com"),)),
    "tcp-only": Far(tls=False, tcp=True),
    "udp-only": Far(tls=False, udp=True),
    "silent": Far(silent=True, udp=True),
    "require-expired": Far(days=-3, keys=(("policy", "require"),)),
    "require-good": Far(keys=(("policy", "require"),)),
    "phones": Far(),
    "probed-good": Far(probe="1s"),
    "probed-expired": Far(days=-3, probe="1s"),
    "probed-udp-only": Far(tls=False, udp=True, probe="1s"),
    "probed-require": Far(days=-3, keys=(("policy", "require"),), probe="1s"),
}


def plan(name: str) -> Plan:
    far = FAR[name]
    return Plan(
        tls=("provider_a",),
        timeout="30s" if far.silent else "4s",
        trunk_keys={"provider_a": {"tls": {"ca": "ca.pem", **dict(far.keys)}, "probe": far.probe}},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Secure:
    """The world, and what its certificates are made with."""

    world: World
    authority: Authority
    strangers: Authority
    folder: Path


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("tls")
    authority, strangers = Authority(folder / "ca"), Authority(folder / "strangers", "Another authority")
    pinned = strangers.issue("pinned", "DNS:pinned.example.com")
    home = folder / "world"
    home.mkdir()
    install(home, authority.issue("router", "DNS:edge.example.com"))
    shutil.copy(authority.certificate, home / "ca.pem")
    shutil.copy(pinned.certificate, home / "pinned.pem")
    plans = {name: plan(name) for name in FAR}
    keys = {"certificate": "edge.crt", "private_key": "edge.key", "client_ca": "ca.pem"}
    with world(home, plans, tls=keys) as built:
        yield Secure(world=built, authority=authority, strangers=strangers, folder=folder)
        assert built.router.alive


def install(folder: Path, pair: Pair) -> None:
    """The router's own certificate."""
    shutil.copy(pair.certificate, folder / "edge.crt")
    shutil.copy(pair.key, folder / "edge.key")


class FarEnd:
    """A provider as its Far says, and the peer that takes the calls."""

    def __init__(self, secure: Secure, name: str) -> None:
        far = FAR[name]
        self.place: Place = secure.world[name]
        at = self.place.street["provider_a"]
        self._stack = ExitStack()
        self.front: TlsFront | None = None
        # Behind TLS the peer has TCP at a port of its own, and UDP, where there is any, where the trunk says.
        self.udp = Peer(at, udp=True, tcp=False, rule=answers(180, 200)) if far.udp else None
        self.tcp = Peer(at if far.tcp else endpoint(at.address), udp=False, rule=answers(180, 200))
        if far.tls:
            issuer = secure.authority if far.trusted else secure.strangers
            names = [one if ":" in one else f"IP:{at.address}" for one in far.names]
            pair = (
                Pair(secure.strangers.folder / "pinned.pem", secure.strangers.folder / "pinned.key")
                if name == "pinned"
                else issuer.issue(name, *names, days=far.days)
            )
            clients = secure.authority if far.asks else None
            self.front = TlsFront(at, self.tcp.at, pair, clients=clients, silent=far.silent)

    def __enter__(self) -> "FarEnd":
        for one in (self.udp, self.tcp, self.front):
            if one is not None:
                self._stack.enter_context(one)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def steps_of(secure: Secure, call: Call) -> list[tuple[str, str, str]]:
    """Route, outcome and reason of each thing that happened to the call's routes, from the journal."""
    deadline = time.monotonic() + 10
    while True:
        events = journal(secure)
        calls = {event["id"] for event in events if event.get("call_id") == call.call_id}
        routes = [event for event in events if event["type"] == "route" and event["id"] in calls]
        if any(event["outcome"] == "answered" for event in routes):
            return [(event["route"], event["outcome"], event["reason"]) for event in routes]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def journal(secure: Secure) -> list[dict[str, Any]]:
    """What the call process has written down."""
    text = b"".join(path.read_bytes() for path in sorted((secure.folder / "world/edge911-state/journal").iterdir()))
    return [json.loads(line[line.index(b"{") :]) for line in text.splitlines() if b'"type":' in line]


def dial(secure: Secure, far: FarEnd, at: Peer) -> tuple[Call, Peer]:
    """Dial 911 from a phone by UDP, be answered at this peer, hang up; the call, and the phone."""
    place = far.place
    with place.peer("phone") as phone:
        call = place.call(phone)
        call.dial()
        call.answered()
        invite = at.take("INVITE", call_id=call.call_id)
        at.take("ACK", call_id=call.call_id)
        assert b"application/pidf+xml" in invite.message.raw
        assert invite.message.body != call.body, "the location goes along"
        call.hang_up()
        at.take("BYE", call_id=call.call_id)
        assert len(at.messages("INVITE", call_id=call.call_id)) == 1
    return call, at


def stepped(secure: Secure, way: str) -> float:
    """How many calls stepped down to this way."""
    return secure.world.router.metric("edge911_events_total", event=f"stepped_down_to_{way}")


@pytest.mark.parametrize("name", ["good", "asks", "named", "uri", "pinned", "require-good"])
def test_a_good_provider_gets_the_call_by_tls_with_aes_256(secure: Secure, name: str) -> None:
    with FarEnd(secure, name) as far:
        call, _ = dial(secure, far, far.tcp)
        assert far.front is not None
        shaken = far.front.handshakes[-1]
        assert "AES_256" in shaken.cipher
        assert shaken.version == "TLSv1.3"
        invite = far.tcp.messages("INVITE", call_id=call.call_id)[0]
        assert invite.all("via")[0].startswith(f"SIP/2.0/TLS {secure.world.secure}")
        assert f"<sip:{secure.world.secure};transport=tls;lr" in invite.all("record-route")[0]
        wanted = dict(FAR[name].keys).get("name", "")
        assert shaken.server_name == wanted, "an IP address is no SNI"
        if name == "asks":
            assert shaken.shown == "router"
    assert not [step for step in steps_of(secure, call) if step[1] == "stepped-down"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("expired", "certificate-expired"),
        ("untrusted", "certificate-untrusted"),
        ("wrong-name", "certificate-name"),
        ("wildcard", "certificate-name"),
    ],
)
def test_a_certificate_that_does_not_verify_costs_the_verification_and_not_the_call(
    secure: Secure, name: str, why: str
) -> None:
    before = stepped(secure, "tls-unverified")
    with FarEnd(secure, name) as far:
        call, _ = dial(secure, far, far.tcp)
        assert far.front is not None
        assert "AES_256" in far.front.handshakes[-1].cipher
        gauge = secure.world.router.metric("edge911_trunk_steps_down", trunk=far.place.trunk("provider_a"))
        assert gauge == 1
    assert ("provider-a", "stepped-down", f"tls: {why}") in steps_of(secure, call)
    assert stepped(secure, "tls-unverified") == before + 1
    if name == "expired":
        (found,) = secure.world.router.records(call.call_id)
        assert [step["reason"] for step in found["routes"] if step["outcome"] == "stepped-down"] == [f"tls: {why}"]
    assert f"trunk {far.place.trunk('provider_a')}: " in secure.world.router.log
    assert why in secure.world.router.log


@pytest.mark.parametrize(
    ("name", "state"),
    [("probed-good", "up"), ("probed-expired", "up"), ("probed-udp-only", "up"), ("probed-require", "down")],
)
def test_a_probe_goes_by_every_way_that_a_call_would(secure: Secure, name: str, state: str) -> None:
    with FarEnd(secure, name) as far:
        trunk = far.place.trunk("provider_a")
        deadline = time.monotonic() + 30
        while json.loads(secure.world.router.get("/readyz")[1])["trunks"][trunk] != state:
            assert time.monotonic() < deadline, secure.world.router.log[-3000:]
            time.sleep(0.05)
        if state == "up":
            at = far.udp or far.tcp
            dial(secure, far, at)
            assert at.messages("OPTIONS")


def test_without_tls_the_call_goes_by_tcp(secure: Secure) -> None:
    with FarEnd(secure, "tcp-only") as far:
        call, peer = dial(secure, far, far.tcp)
        assert peer.messages("INVITE", call_id=call.call_id)[0].all("via")[0].startswith("SIP/2.0/TCP ")
    assert [step for step in steps_of(secure, call) if step[1] == "stepped-down"]
    assert stepped(secure, "tcp") >= 1


def test_without_tls_and_tcp_the_call_goes_by_udp(secure: Secure) -> None:
    with FarEnd(secure, "udp-only") as far:
        assert far.udp is not None
        call, peer = dial(secure, far, far.udp)
        assert peer.messages("INVITE", call_id=call.call_id)[0].all("via")[0].startswith("SIP/2.0/UDP ")
    reasons = [reason for _, outcome, reason in steps_of(secure, call) if outcome == "stepped-down"]
    assert reasons == ["tls: refused", "tcp: refused"]
    assert stepped(secure, "udp") >= 1


def test_a_handshake_that_nobody_answers_costs_half_a_second_at_the_most(secure: Secure) -> None:
    with FarEnd(secure, "silent") as far, far.place.peer("phone") as phone:
        assert far.udp is not None
        call = far.place.call(phone)
        began = time.monotonic()
        call.dial()
        arrived = far.udp.take("INVITE", call_id=call.call_id)
        assert arrived.at - began < 15, "of the route's 30 s"
        call.answered()
        call.hang_up()


def test_require_goes_by_the_next_route_rather_than_unverified(secure: Secure) -> None:
    name = "require-expired"
    with FarEnd(secure, name) as far, far.place.peer("provider_b", rule=answers(180, 200)) as other:
        call, _ = dial_to_other(far, other)
        assert not far.tcp.messages("INVITE", call_id=call.call_id)
    assert ("provider-a", "unreachable", "tls: certificate-expired") in steps_of(secure, call)


def dial_to_other(far: FarEnd, other: Peer) -> tuple[Call, Peer]:
    with far.place.peer("phone") as phone:
        call = far.place.call(phone)
        call.dial()
        call.answered()
        other.take("INVITE", call_id=call.call_id)
        call.hang_up()
    return call, other


# ---- phones by TLS ----


def phone_by_tls(secure: Secure, place: Place, pair: Pair | None) -> tuple[Peer, TlsTunnel]:
    """A phone that speaks TLS to the router, and listens nowhere."""
    phone = place.peer("phone", tcp=False)
    tunnel = TlsTunnel(endpoint(phone.at.address), secure.world.secure, secure.authority, pair)
    return phone, tunnel


def test_a_phone_by_tls_is_hung_up_on_over_its_own_connection(secure: Secure) -> None:
    with FarEnd(secure, "phones") as far:
        phone, tunnel = phone_by_tls(secure, far.place, secure.authority.issue("phone"))
        with phone, tunnel:
            call = Call(peer=phone, router=tunnel.at, user=far.place.device, transport="tcp", uri="sip:911@x.example")
            phone.send(as_tls(call.invite()), tunnel.at, "tcp")
            answered = phone.take(200, call_id=call.call_id).message
            assert answered.all("via")[0].startswith("SIP/2.0/TLS ")
            phone.send(as_tls(call.ack(answered)), tunnel.at, "tcp")
            invite = far.tcp.take("INVITE", call_id=call.call_id)
            far.tcp.take("ACK", call_id=call.call_id)
            # The provider hangs up: through the router, back down the connection that the phone opened.
            routes = "".join(f"Route: {value}\r\n" for value in invite.message.all("record-route"))
            to = invite.message.get("from")
            contact = invite.message.get("contact").partition("<")[2].partition(">")[0]
            bye = (
                f"BYE {contact} SIP/2.0\r\nVia: SIP/2.0/TLS {far.tcp.at};branch=z9hG4bKfar1\r\n{routes}"
                f"Max-Forwards: 70\r\nFrom: {answered.get('to')}\r\nTo: {to}\r\n"
                f"Call-ID: {call.call_id}\r\nCSeq: 7 BYE\r\nContent-Length: 0\r\n\r\n"
            )
            assert invite.connection is not None
            invite.connection.sendall(bye.encode())
            phone.take("BYE", call_id=call.call_id)


def as_tls(raw: bytes) -> bytes:
    """What a phone says of itself where the tunnel makes TLS of its TCP."""
    return raw.replace(b"SIP/2.0/TCP ", b"SIP/2.0/TLS ").replace(b";transport=tcp>", b";transport=tls>")


def test_a_phone_without_a_certificate_may_dial_911_and_nothing_else(secure: Secure) -> None:
    with FarEnd(secure, "phones") as far:
        phone, tunnel = phone_by_tls(secure, far.place, None)
        with phone, tunnel:
            call = Call(peer=phone, router=tunnel.at, user=far.place.device, transport="tcp", uri="sip:911@x.example")
            phone.send(as_tls(call.invite()), tunnel.at, "tcp")
            phone.take(200, call_id=call.call_id)
            other = Call(
                peer=phone, router=tunnel.at, user=far.place.device, transport="tcp", uri="sip:2125550187@x.example"
            )
            phone.send(as_tls(other.invite()), tunnel.at, "tcp")
            refused = phone.take(403, call_id=other.call_id).message
            assert "no-client-certificate" in refused.get("warning")


def shown(at: Endpoint, authority: Authority, **versions: ssl.TLSVersion) -> tuple[str, str]:
    """The common name that the router shows, and the version of TLS that it speaks."""
    context = verifying_context(str(authority.certificate))
    context.check_hostname = False
    context.set_ciphers("ALL:@SECLEVEL=0")
    for name, version in versions.items():
        setattr(context, name, version)
    with (
        socket.create_connection(at.pair, timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="edge.example.com") as connection,
    ):
        certificate: Any = connection.getpeercert()
        return str(certificate["subject"][0][0][1]), str(connection.version())


def test_tls_1_2_is_the_least(secure: Secure) -> None:
    at = secure.world.secure
    assert shown(at, secure.authority)[1] == "TLSv1.3"
    assert shown(at, secure.authority, maximum_version=ssl.TLSVersion.TLSv1_2)[1] == "TLSv1.2"
    with (
        pytest.warns(DeprecationWarning, match="TLSv1"),
        pytest.raises(OSError, match=r"(?i)alert|protocol|EOF|reset"),
    ):
        shown(at, secure.authority, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)


def test_a_new_certificate_is_shown_without_a_restart_and_connections_go_on(secure: Secure) -> None:
    at, home = secure.world.secure, secure.world.router.folder
    with FarEnd(secure, "phones") as far:
        phone, tunnel = phone_by_tls(secure, far.place, secure.authority.issue("phone2"))
        with phone, tunnel:
            before = Call(
                peer=phone, router=tunnel.at, user=far.place.device, transport="tcp", uri="sip:911@x.example"
            )
            phone.send(as_tls(before.invite()), tunnel.at, "tcp")
            phone.take(200, call_id=before.call_id)
            install(home, secure.authority.issue("renewed", "DNS:edge.example.com", days=20))
            deadline = time.monotonic() + 30
            while shown(at, secure.authority)[0] != "renewed":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            after = Call(
                peer=phone, router=tunnel.at, user=far.place.device, transport="tcp", uri="sip:911@x.example"
            )
            phone.send(as_tls(after.invite()), tunnel.at, "tcp")
            phone.take(200, call_id=after.call_id)
    left = secure.world.router.metric("edge911_certificate_expires_seconds", certificate="own")
    assert 18 * 86_400 < left <= 20 * 86_400
    # A bad one changes nothing.
    (home / "edge.key").write_text("not a key")
    deadline = time.monotonic() + 30
    while not secure.world.router.metric("edge911_events_total", event="certificates_refused"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert shown(at, secure.authority)[0] == "renewed"
    checked = secure.world.router.command("check")
    assert checked.returncode == 1
    assert "tls.private_key" in checked.stderr
