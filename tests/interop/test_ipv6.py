"""Peers on ::1: calls from IPv6 to IPv4 and back, over datagrams and streams, through one router."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import Endpoint, endpoint, street
from tests.support.raw_sip import Call, Peer, sdp
from tests.support.router_process import RouterProcess
from tests.support.sip_text import Message

pytestmark = pytest.mark.peers


class Six:
    """A router that listens on both families; a phone and a carrier on ::1, a phone and a provider on 127/8."""

    def __init__(self, folder: Path) -> None:
        self.home = street()
        self.four, self.six = self.home["router"], endpoint("::1")
        self.phone_6, self.carrier_6 = endpoint("::1"), endpoint("::1")
        wan = {"large_messages": "udp", "probe": "off"}
        config = {
            "node": "six",
            "listen": [f"{kind}://{point}" for point in (self.four, self.six) for kind in ("udp", "tcp")],
            "health": {"listen": f"http://{self.home['desk']}"},
            "networks": {"inside": [self.home.phones, "::1/128"]},
            "trunks": {
                "carrier": {"target": f"sip:{self.carrier_6};transport=tcp", "probe": "off"},
                "ers-a": {"target": f"sip:{self.home['provider_a']}", **wan},
            },
            "routes": {"outbound": ["carrier"]},
            "emergency": {"routes": [{"name": "primary", "trunk": "ers-a", "profile": "number"}]},
            "contacts": {},
        }
        self.router = RouterProcess(folder, config, probe_from=self.home["phone"].address)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Six]:
    made = Six(tmp_path_factory.mktemp("six"))
    with made.router:
        yield made


def bye_of_callee(arrived: Message, source: Endpoint, transport: str = "UDP") -> bytes:
    """The called side hangs up: Route as the INVITE's Record-Route, Request-URI the caller's Contact."""
    lines = [
        f"BYE {arrived.get('contact').partition('<')[2].partition('>')[0]} SIP/2.0",
        f"Via: SIP/2.0/{transport} {source};branch=z9hG4bKbye{arrived.call_id[:8]};rport",
        "Max-Forwards: 70",
        *(f"Route: {value}" for value in arrived.all("record-route")),
        f"From: {arrived.get('to')};tag=to-{source.port}",
        f"To: {arrived.get('from')}",
        f"Call-ID: {arrived.call_id}",
        "CSeq: 5 BYE",
        "Content-Length: 0",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_911_from_ipv6_to_a_provider_on_ipv4(six: Six, transport: str) -> None:
    with Peer(six.phone_6) as phone, Peer(six.home["provider_a"]) as provider:
        call = Call(peer=phone, router=six.six, user="4102", transport=transport)
        call.dial()
        arrived = provider.take("INVITE")
        assert arrived.message.vias[0].startswith(f"SIP/2.0/UDP {six.four};")
        outer, inner = arrived.message.all("record-route")
        assert str(six.four) in outer
        assert str(six.six) in inner
        provider.respond(arrived, 200, body=sdp("192.0.2.9"))
        call.answered()
        provider.take("ACK")
        provider.send(bye_of_callee(arrived.message, six.home["provider_a"]), six.four)
        phone.respond(phone.take("BYE"), 200)
        provider.take(200, method="BYE")


def test_an_ordinary_call_from_ipv4_to_a_carrier_on_ipv6_over_tcp(six: Six) -> None:
    with Peer(six.home["phone"]) as phone, Peer(six.carrier_6) as carrier:
        call = Call(peer=phone, router=six.four, user="4102", uri=f"sip:2125550177@{six.four}")
        call.dial()
        arrived = carrier.take("INVITE")
        assert arrived.message.transport == "tcp"
        assert arrived.message.vias[0].startswith(f"SIP/2.0/TCP {six.six};")
        carrier.respond(arrived, 200, body=sdp("192.0.2.9"), contact=f"sip:c@{six.carrier_6};transport=tcp")
        call.answered()
        carrier.take("ACK")
        call.send(call.in_dialog("BYE"))
        carrier.respond(carrier.take("BYE"), 200)
        phone.take(200, method="BYE")
