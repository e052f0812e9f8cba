"""Whom a certificate stands for (RFC 5922 section 7)."""

from typing import Any

import pytest

from sip.server_identity import identifies, identities


def certificate(*alternatives: tuple[str, str], common_name: str = "cn.example.com") -> dict[str, Any]:
    found: dict[str, Any] = {"subject": ((("organizationName", "X"),), (("commonName", common_name),))}
    if alternatives:
        found["subjectAltName"] = alternatives
    return found


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        (certificate(("DNS", "Sip.Example.com")), {"sip.example.com"}),
        (certificate(("URI", "sip:example.com"), ("DNS", "host7.example.com")), {"example.com"}),
        (certificate(("URI", "sip:alice@example.com"), ("DNS", "example.com")), {"example.com"}),
        (certificate(("URI", "sips:example.org"), ("DNS", "example.com")), {"example.com"}),
        (certificate(("URI", "SIP:Example.com:5061;transport=tls")), {"example.com"}),
        (certificate(("URI", "xmpp:example.com")), set()),
        (certificate(("URI", "sip:[2001:DB8::1]")), {"2001:db8::1"}),
        (certificate(("IP Address", "192.0.2.1"), ("DNS", "a.example.com")), {"192.0.2.1", "a.example.com"}),
        (certificate(("IP Address", "2001:DB8:0:0:0:0:0:1")), {"2001:db8::1"}),
        (certificate(("email", "a@example.com")), set()),
        (certificate(), {"cn.example.com"}),
        ({}, set()),
    ],
)
def test_identities(shown: dict[str, Any], names: set[str]) -> None:
    assert identities(shown) == names


@pytest.mark.parametrize(
    ("alternatives", "name", "fits"),
    [
        ((("DNS", "sbc.example.com"),), "SBC.example.com.", True),
        ((("DNS", "sbc.example.com"),), "example.com", False),
        ((("DNS", "example.com"),), "sbc.example.com", False),
        ((("DNS", "*.example.com"),), "sbc.example.com", False),
        ((("DNS", "*.example.com"),), "*.example.com", True),
        ((("IP Address", "2001:db8::1"),), "2001:DB8:0::1", True),
        ((("DNS", "192.0.2.1"),), "192.0.2.1", True),
        ((), "cn.example.com", True),
        ((("DNS", "sbc.example.com"),), "cn.example.com", False),
    ],
)
def test_a_certificate_identifies_a_name_as_a_whole(
    alternatives: tuple[tuple[str, str], ...], name: str, fits: bool
) -> None:
    assert identifies(certificate(*alternatives), name) is fits
