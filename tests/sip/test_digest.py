"""Digest answers: the examples of the RFCs, and which of several challenges is answered."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip.digest import Challenge, Credentials, answer, challenges_of
from sip.message import Response
from sip.parsing import parse_message

MUFASA = Credentials("Mufasa", "Circle of Life")
RFC_7616 = b'realm="http-auth@example.org", qop="auth, auth-int", algorithm=%b, ' + (
    b'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


def response(*lines: bytes, status: int = 401) -> Response:
    head = [
        b"SIP/2.0 %d Unauthorized" % status,
        b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
        b"From: <sip:a@example.com>;tag=1",
        b"To: <sip:911@example.com>;tag=2",
        b"Call-ID: 1",
        b"CSeq: 1 INVITE",
        *lines,
        b"Content-Length: 0",
        b"",
        b"",
    ]
    found = parse_message(b"\r\n".join(head))
    assert isinstance(found, Response)
    return found


def challenge(text: bytes) -> Challenge:
    (found,) = challenges_of(response(b"WWW-Authenticate: Digest " + text))
    return found


def parameters(line: bytes) -> dict[str, str]:
    return {
        name: value.strip('"')
        for name, value in re.findall(r'([a-z]+)=("(?:[^"\\]|\\.)*"|[^",\s]+)', line.decode().partition("Digest ")[2])
    }


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (b"MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        (b"SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: bytes, expected: str) -> None:
    line = answer(
        challenge(RFC_7616 % algorithm),
        MUFASA,
        method=b"GET",
        uri=b"/dir/index.html",
        body=b"",
        cnonce=b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    found = parameters(line)
    assert line.startswith(b"Authorization: Digest ")
    assert found["response"] == expected
    assert (found["qop"], found["nc"], found["algorithm"]) == ("auth", "00000001", algorithm.decode())
    assert found["opaque"] == "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
    assert found["uri"] == "/dir/index.html"


def test_the_example_of_rfc_2069() -> None:
    """Without qop; the response is that of the RFC's errata."""
    text = b'realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", ' + (
        b'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    line = answer(
        challenge(text),
        Credentials("Mufasa", "CircleOfLife"),
        method=b"GET",
        uri=b"/dir/index.html",
        body=b"",
        cnonce=b"unused",
    )
    assert parameters(line) == {
        "username": "Mufasa",
        "realm": "testrealm@host.com",
        "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093",
        "uri": "/dir/index.html",
        "response": "1949323746fe6a43ef61f9606e7febea",
        "opaque": "5ccc069c403ebaf9f0171e9517f40e41",
    }


def test_the_body_is_protected_where_only_that_is_offered() -> None:
    first, second = (
        answer(
            challenge(b'realm="r", nonce="n", qop="auth-int"'),
            MUFASA,
            method=b"INVITE",
            uri=b"sip:911@x",
            body=body,
            cnonce=b"c",
        )
        for body in (b"one", b"two")
    )
    assert parameters(first)["qop"] == "auth-int"
    assert parameters(first)["response"] != parameters(second)["response"]


def test_a_session_key_needs_the_client_nonce_even_without_qop() -> None:
    line = answer(
        challenge(b'realm="r", nonce="n", algorithm=md5-SESS'),
        MUFASA,
        method=b"INVITE",
        uri=b"sip:911@x",
        body=b"",
        cnonce=b"c",
    )
    found = parameters(line)
    assert found["algorithm"] == "MD5-sess"
    assert found["cnonce"] == "c"
    assert "qop" not in found


def test_of_several_challenges_the_topmost_known_of_each_realm_is_answered() -> None:
    found = challenges_of(
        response(
            b'Proxy-Authenticate: Basic realm="p"',
            b'Proxy-Authenticate: Digest realm="p", nonce="1", algorithm=SHA3-512',
            b'Proxy-Authenticate: digest realm="p",nonce="2",algorithm="SHA-256", qop="auth"',
            b'Proxy-Authenticate: Digest realm="p", nonce="3"',
            b'Proxy-Authenticate: Digest realm="q", nonce="4", qop="future"',
            b'Proxy-Authenticate: Digest realm="q", nonce="5", stale=TRUE',
            b'WWW-Authenticate: Digest realm="p", nonce="6"',
            status=407,
        )
    )
    assert [(one.answer_field, one.realm, one.nonce, one.stale) for one in found] == [
        (b"Authorization", b"p", b"6", False),
        (b"Proxy-Authorization", b"p", b"2", False),
        (b"Proxy-Authorization", b"q", b"5", True),
    ]


@pytest.mark.parametrize(
    "text", [b"", b"Digest", b"Digest realm=x", b"Digest nonce=x", b'Bearer realm="r", nonce="n"']
)
def test_what_is_no_digest_challenge_is_not_answered(text: bytes) -> None:
    assert challenges_of(response(b"WWW-Authenticate: " + text)) == []


def test_quotes_and_letters_beyond_ascii_stay_in_their_strings() -> None:
    line = answer(
        challenge(b'realm="a \\"b\\"", nonce="n,=", qop="auth"'),
        Credentials('o"neil\\é', "pässwörd"),
        method=b"INVITE",
        uri=b"sip:911@x",
        body=b"",
        cnonce=b"c",
    )
    assert b'username="o\\"neil\\\\\xc3\xa9", realm="a \\"b\\"", nonce="n,="' in line


def test_a_password_is_shown_nowhere() -> None:
    assert "Circle" not in repr(MUFASA)


@given(st.binary(max_size=200))
def test_any_challenge_is_answered_or_not(text: bytes) -> None:
    text = text.replace(b"\r", b"").replace(b"\n", b"")
    for found in challenges_of(response(b"WWW-Authenticate: Digest " + text)):
        answer(found, MUFASA, method=b"INVITE", uri=b"sip:911@x", body=b"", cnonce=b"c")
