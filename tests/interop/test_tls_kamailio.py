"""TLS with a border controller that others wrote and use: Kamailio verifies us, and we it, both ways; and sipsak."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.support import kamailio_hosts
from tests.support.certificates import Authority
from tests.support.ports import Endpoint, free_port
from tests.support.raw_sip import Call, answers
from tests.support.tls_front import TlsFront
from tests.support.world import Plan, World, world

pytestmark = pytest.mark.peers("kamailio", "sipsak")


def at(address: str) -> Endpoint:
    return Endpoint(address=address, port=free_port(address))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def install(folder: Path, authority: Authority, *names: str) -> dict[str, str]:
    """Our certificate and the authority's beside the configuration."""
    pair = authority.issue("router", *names)
    (folder / "edge.crt").write_bytes(pair.certificate.read_bytes())
    (folder / "edge.key").write_bytes(pair.key.read_bytes())
    (folder / "ca.pem").write_bytes(authority.certificate.read_bytes())
    return {"certificate": "edge.crt", "private_key": "edge.key", "client_ca": "ca.pem", "ca": "ca.pem"}


@pytest.mark.long
def test_kamailio_as_the_provider_takes_a_call_by_tls_and_hangs_up_by_it(
    tmp_path: Path, authority: Authority
) -> None:
    plans = {"place": Plan(tls=("provider_a",), timeout="8s", trunk_keys={"provider_a": {"tls": "require"}})}
    home = tmp_path / "world"
    home.mkdir()
    with world(home, plans, tls=install(home, authority, "DNS:edge.example.com")) as built:
        place = built["place"]
        sbc = place.street["provider_a"]
        psap = place.peer("provider_b", tcp=False, rule=answers(180, 200))
        pair = authority.issue("sbc", f"IP:{sbc.address}")
        kamailio = kamailio_hosts.border(
            tmp_path / "k",
            udp=at(sbc.address),
            tls=sbc,
            inner=psap.at,
            outer=built.secure,
            authority=authority,
            pair=pair,
        )
        with kamailio, psap, place.peer("phone") as phone:
            wait_for_tls(built, place.trunk("provider_a"))
            call = place.call(phone)
            call.dial()
            answer = call.answered()
            invite = psap.take("INVITE", call_id=call.call_id)
            psap.take("ACK", call_id=call.call_id)
            assert b"application/pidf+xml" in invite.message.raw
            said = kamailio.log
            assert "RX INVITE sip:911@" in said
            line = next(line for line in said.splitlines() if "RX INVITE" in line)
            assert " by tls:" in line
            assert "AES_256" in line or "AES256" in line
            assert line.rstrip().endswith("router"), "our certificate was asked for and shown"
            # The PSAP hangs up: UDP to Kamailio, TLS to us, UDP to the phone.
            psap.send(bye_from(invite.message, answer, psap.at), invite_source(invite.source), "udp")
            phone.take("BYE", call_id=call.call_id)
            assert "RX BYE" in kamailio.log


def invite_source(source: tuple[str, int]) -> Endpoint:
    return Endpoint(address=source[0], port=source[1])


def bye_from(invite: object, answer: object, own: Endpoint) -> bytes:
    """The BYE of whoever answered this INVITE with this 200."""
    from tests.support.sip_text import Message

    assert isinstance(invite, Message)
    assert isinstance(answer, Message)
    routes = "".join(f"Route: {value}\r\n" for value in invite.all("record-route"))
    contact = invite.get("contact").partition("<")[2].partition(">")[0]
    return (
        f"BYE {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKpsap1\r\n{routes}"
        f"Max-Forwards: 70\r\nFrom: {answer.get('to')}\r\nTo: {invite.get('from')}\r\n"
        f"Call-ID: {invite.call_id}\r\nCSeq: 3 BYE\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def wait_for_tls(built: World, trunk: str) -> None:
    """Until the connection held to a trunk stands."""
    deadline = time.monotonic() + 30
    while built.router.metrics().get(f"edge911_trunk_steps_down{{trunk={trunk}}}") != 0:
        assert time.monotonic() < deadline, built.router.log[-3000:]
        time.sleep(0.1)


@pytest.mark.long
def test_kamailio_as_the_pbx_dials_911_by_tls(tmp_path: Path, authority: Authority) -> None:
    plans = {"place": Plan(tls=("provider_a",), timeout="8s", trunk_keys={"provider_a": {"tls": "require"}})}
    home = tmp_path / "world"
    home.mkdir()
    with world(home, plans, tls=install(home, authority, "DNS:edge.example.com")) as built:
        place = built["place"]
        pbx = built.street["pbx"]
        provider = place.peer("provider_b", udp=False, rule=answers(180, 200))
        front = TlsFront(
            place.street["provider_a"],
            provider.at,
            authority.issue("provider", f"IP:{place.street['provider_a'].address}"),
        )
        kamailio = kamailio_hosts.border(
            tmp_path / "k",
            udp=pbx,
            tls=at(pbx.address),
            inner=place.street["phone"],
            outer=built.secure,
            authority=authority,
            pair=authority.issue("pbx", f"IP:{pbx.address}"),
        )
        with front, provider, kamailio, place.peer("phone") as phone:
            wait_for_tls(built, place.trunk("provider_a"))
            call = Call(peer=phone, router=pbx, user=place.device)
            call.dial()
            call.answered()
            invite = provider.take("INVITE", call_id=call.call_id)
            provider.take("ACK", call_id=call.call_id)
            assert b"application/pidf+xml" in invite.message.raw
            assert invite.message.all("via")[0].startswith("SIP/2.0/TLS ")
            assert "AES_256" in front.handshakes[-1].cipher
            call.hang_up()
            provider.take("BYE", call_id=call.call_id)
        assert not built.router.metric("edge911_dropped_total")


@pytest.mark.long
def test_sipsak_gets_its_answer_by_tls(tmp_path: Path, authority: Authority) -> None:
    home = tmp_path / "world"
    home.mkdir()
    keys = install(home, authority, "DNS:edge.example.com")
    del keys["client_ca"]
    with world(home, {"place": Plan()}, tls=keys) as built:
        done = subprocess.run(
            ["sipsak", "-E", "tls", "-s", f"sip:{built.secure}", "-l", str(free_port(built.secure.address)), "-vv"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        assert "SIP/2.0 200" in done.stdout or "SIP/2.0 403" in done.stdout
