"""STUN on a SIP port: the address that a phone is seen at, by the test vectors of RFC 5769."""

import pytest

from sip.stun import binding_response

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
REQUEST = bytes.fromhex("000100002112a442") + TRANSACTION
# RFC 5769 sections 2.2 and 2.3: 192.0.2.1 port 32853, and 2001:db8:1234:5678:11:2233:4455:6677 port 32853.
SEEN_4 = bytes.fromhex("002000080001a147e112a643")
SEEN_6 = bytes.fromhex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9")


@pytest.mark.parametrize(
    ("host", "attribute"), [("192.0.2.1", SEEN_4), ("2001:db8:1234:5678:11:2233:4455:6677", SEEN_6)]
)
def test_the_vectors_of_rfc_5769(host: str, attribute: bytes) -> None:
    answer = binding_response(REQUEST, host, 32853)
    header = bytes.fromhex("0101") + len(attribute).to_bytes(2) + bytes.fromhex("2112a442") + TRANSACTION
    assert answer == header + attribute


@pytest.mark.parametrize(
    "data", [b"", b"\0\1", REQUEST[:19], REQUEST + b"x", b"\1\1" + REQUEST[2:], b"\0\1\0\0" + b"x" * 16]
)
def test_what_is_no_binding_request(data: bytes) -> None:
    assert binding_response(data, "192.0.2.1", 5060) is None
