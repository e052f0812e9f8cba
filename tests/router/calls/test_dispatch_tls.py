"""TLS and sips: at the transaction user: what the messages say, who is let in, and what is refused."""

from pathlib import Path

import pytest

from sip.flow import UNCERTIFIED, TlsPeer
from tests.support.call_world import CARRIER, CONFIG, PROVIDER_A, CallWorld, invite, one, response

LISTEN = [*CONFIG["listen"], "tls://10.0.0.5:5061"]
OWN = {"certificate": "edge.crt", "private_key": "edge.key"}
SECURE_CARRIER = {
    **CONFIG["trunks"],
    "carrier": {"target": "sip:203.0.113.50;transport=tls", "probe": "off", "tls": {"name": "sbc.example.com"}},
}
TLS_CARRIER = ("203.0.113.50", 5061)


@pytest.fixture
def world(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path, listen=LISTEN, tls=OWN)


@pytest.fixture
def secure(tmp_path: Path) -> CallWorld:
    return CallWorld(tmp_path, listen=LISTEN, trunks=SECURE_CARRIER, tls={**OWN, "ca": "ca.pem"})


def dialled(uri: str, **keys: str) -> bytes:
    raw = invite(uri, transport="TLS", **keys)  # type: ignore[arg-type]
    if uri.startswith("sips:"):  # RFC 3261 section 8.1.1.8: then the Contact is one, too
        raw = raw.replace(b"Contact: <sip:4102@10.1.3.7:5060>", b"Contact: <sips:4102@10.1.3.7:5061>")
    return raw


def test_a_tls_trunk_gets_via_and_record_route_of_tls_and_its_certificate_a_name(secure: CallWorld) -> None:
    out = secure.receive(invite("sip:+12125550187@10.0.0.5"))
    sent = one(out, "INVITE", TLS_CARRIER)
    assert (sent.transport, sent.peer) == ("tls", TlsPeer("sbc.example.com", True, "ca.pem"))
    assert sent.message.all("via")[0].startswith("SIP/2.0/TLS 10.0.0.5:5061;")
    leaving, arrived = sent.message.all("record-route")
    assert leaving.startswith("<sip:10.0.0.5:5061;transport=tls;lr;t=")
    assert arrived.startswith("<sip:10.0.0.5:5060;lr;t=")


def test_a_sips_request_goes_by_tls_with_sips_record_routes(secure: CallWorld) -> None:
    out = secure.receive(dialled("sips:+12125550187@10.0.0.5:5061"), transport="tls")
    sent = one(out, "INVITE", TLS_CARRIER)
    assert sent.message.start == "INVITE sips:+12125550187@10.0.0.5:5061 SIP/2.0"
    (route,) = sent.message.all("record-route")
    assert route.startswith("<sips:10.0.0.5:5061;lr;t=")


def test_a_sips_request_is_refused_where_no_trunk_is_reached_by_tls(world: CallWorld) -> None:
    out = world.receive(dialled("sips:+12125550187@10.0.0.5:5061"), transport="tls")
    refused = one(out, 480).message
    assert refused.get("warning").startswith('380 10.0.0.5:5061 "SIPS Not Allowed')
    assert world.router.stack.drops["sips-not-allowed"] == 1


def test_911_by_sips_goes_out_by_whatever_there_is(world: CallWorld) -> None:
    out = world.receive(dialled("sips:911@10.0.0.5:5061"), transport="tls")
    sent = one(out, "INVITE", PROVIDER_A)
    leaving, arrived = sent.message.all("record-route")
    assert leaving.startswith("<sip:10.0.0.5:5060;lr")
    assert arrived.startswith("<sips:10.0.0.5:5061;lr")


def test_in_a_dialog_a_sips_contact_is_reached_by_tls(world: CallWorld) -> None:
    out = world.receive(dialled("sips:911@10.0.0.5:5061"), transport="tls")
    sent = one(out, "INVITE", PROVIDER_A)
    world.receive(response(sent.message, 200), PROVIDER_A)
    routes = "".join(f"Route: {value}\r\n" for value in sent.message.all("record-route"))
    bye = (
        "BYE sips:4102@10.1.3.7:5061 SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 203.0.113.31:5060;branch=z9hG4bKbye\r\n"
        f"{routes}Max-Forwards: 70\r\nFrom: {sent.message.get('to')};tag=psap\r\nTo: {sent.message.get('from')}\r\n"
        f"Call-ID: {sent.message.call_id}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
    )
    onward = one(world.receive(bye.encode(), PROVIDER_A), "BYE")
    assert (onward.transport, onward.to) == ("tls", ("10.1.3.7", 5061))


def test_a_client_without_its_certificate_may_dial_911_and_nothing_else(world: CallWorld) -> None:
    refused = one(world.receive(dialled("sip:+12125550187@10.0.0.5"), transport="tls", peer=UNCERTIFIED), 403).message
    assert "no-client-certificate" in refused.get("warning")
    assert world.router.stack.drops["no-client-certificate"] == 1
    out = world.receive(dialled("sip:911@10.0.0.5"), transport="tls", peer=UNCERTIFIED)
    sent = one(out, "INVITE", PROVIDER_A)
    answer = one(world.receive(response(sent.message, 200), PROVIDER_A), 200).message
    routes = "".join(f"Route: {value}\r\n" for value in reversed(answer.all("record-route")))
    bye = (
        "BYE sip:psap@203.0.113.31:5060 SIP/2.0\r\nVia: SIP/2.0/TLS 10.1.3.7:5060;branch=z9hG4bKbye2\r\n"
        f"{routes}Max-Forwards: 70\r\nFrom: {answer.get('from')}\r\nTo: {answer.get('to')}\r\n"
        f"Call-ID: {answer.call_id}\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n"
    )
    one(world.receive(bye.encode(), transport="tls", peer=UNCERTIFIED), "BYE", PROVIDER_A)


def test_what_is_to_be_proven_at_an_address_is_what_its_trunk_says(secure: CallWorld) -> None:
    trunks = secure.router.trunks
    assert trunks.tls_peer_at(*TLS_CARRIER) == TlsPeer("sbc.example.com", True, "ca.pem")
    assert trunks.tls_peer_at(TLS_CARRIER[0], 40_000) == TlsPeer("sbc.example.com", True, "ca.pem")
    assert trunks.tls_peer_at(PROVIDER_A[0], 5061) == TlsPeer(PROVIDER_A[0], False)
    assert CARRIER[0] == TLS_CARRIER[0]
