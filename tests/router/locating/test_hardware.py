"""Where phones tell their hardware address, and what is not one; found so, a phone decides the place of its call."""

from pathlib import Path

import pytest

from e911.location import CivicAddress, Device
from router.locating.hardware import hardware_address
from sip.message import Request
from sip.parsing import parse_message
from tests.support.call_world import PROVIDER_A, CallWorld, invite, one

MAC = "000b821a2b3c"


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("Mac: 00:0B:82:1a:2b:3c", MAC),
        ("X-MAC: 000B821A2B3C", MAC),
        ("User-Agent: PolyEdge-Edge_E350-UA/8.2.1 000b821a2b3c", MAC),
        ("User-Agent: Yealink SIP-T46U 108.86.0.20 00:0b:82:1a:2b:3c", MAC),
        ('Contact: <sip:4@192.0.2.4>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-000B821A2B3C>"', MAC),
        ("Mac: 00:0B:82:1a:2b", ""),
        ("Mac: 00:0B-82:1a:2b:3c", ""),
        ("User-Agent: phone 000b821a2b3c4d", ""),
        ("User-Agent: phone 00:0b:82:1a:2b:3c:4d", ""),
        ("Contact: <sip:4@192.0.2.4>;+sip.instance=urn:uuid:1", ""),
        ("User-Agent: <script>", ""),
        ("Subject: 000b821a2b3c", ""),
    ],
)
def test_where_it_is_told(field: str, address: str) -> None:
    request = parse_message(
        b"REGISTER sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1\r\nFrom: <sip:4@x>;tag=1\r\n"
        b"To: <sip:4@x>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n" + field.encode() + b"\r\n\r\n"
    )
    assert isinstance(request, Request)
    assert hardware_address(request) == address


def test_a_911_call_is_located_by_the_phone_it_comes_from(tmp_path: Path) -> None:
    desk = Device(device="desk-7", mac=MAC, site="hq", civic=CivicAddress(floor="7", room="712"))
    user = Device(device="4102", site="hq", civic=CivicAddress(floor="3", room="312"), callback="+12125550142")
    world = CallWorld(tmp_path, devices=(desk, user))
    for extra, room in (((), "312"), ((f"Mac: {MAC}",), "712")):
        sent = one(world.receive(invite(extra=extra)), "INVITE", PROVIDER_A)
        assert [room in line for line in sent.message.raw.decode().splitlines() if "ROOM>" in line] == [True]
        assert "+12125550142" in sent.message.get("p-asserted-identity")
