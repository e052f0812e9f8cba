"""Certificates: what is read, what stays in use where a file is bad, and what is said of it."""

import os
import ssl
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config.load import load_config
from router.network.certificate_files import unusable_certificates
from router.network.certificates import Certificates, files_of
from router.network.x509 import not_after
from sip.flow import TlsPeer
from tests.support.call_world import CONFIG
from tests.support.certificates import Authority, Pair

SECURE = "sip:sbc.example.com;transport=tls"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Pair:
    return authority.issue("good", "DNS:edge.example.com", days=90)


@pytest.fixture(scope="module")
def other(authority: Authority) -> Pair:
    return authority.issue("other", "DNS:other.example.com", days=10)


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


class Node:
    """A configuration with certificates in its folder."""

    def __init__(self, folder: Path, authority: Authority, pair: Pair | None, **tls: Any) -> None:
        self.folder = folder
        self.file = folder / "edge911.yaml"
        self.place(pair)
        (folder / "ca.pem").write_bytes(authority.certificate.read_bytes())
        trunks = {**CONFIG["trunks"], "sbc": {"target": SECURE, "probe": "off", "tls": {"ca": "ca.pem"}}}
        keys = {"certificate": "edge.crt", "private_key": "edge.key", **tls}
        self.file.write_text(yaml.safe_dump({**CONFIG, "trunks": trunks, "tls": keys}))
        self.certificates = Certificates(files_of(load_config(self.file)))

    def place(self, pair: Pair | None, *, certificate: bytes | None = None, key: bytes | None = None) -> None:
        (self.folder / "edge.crt").write_bytes(
            certificate if certificate is not None else pair.certificate.read_bytes() if pair else b""
        )
        (self.folder / "edge.key").write_bytes(key if key is not None else pair.key.read_bytes() if pair else b"")

    def read(self) -> list[str]:
        """Read again; what is wrong."""
        self.certificates.use(*self.certificates.read_again(files_of(load_config(self.file))))
        return [str(trouble) for trouble in self.certificates.material.troubles]

    def checked(self) -> tuple[list[str], list[str]]:
        errors, warnings = unusable_certificates(self.file, load_config(self.file))
        return [str(one) for one in errors], [str(one) for one in warnings]


def test_when_a_certificate_ends_is_what_openssl_says(good: Pair, authority: Authority) -> None:
    for pair in (good, Pair(authority.certificate, authority.key), authority.issue("past", days=-400)):
        said = subprocess.run(
            ["openssl", "x509", "-in", str(pair.certificate), "-noout", "-enddate"], capture_output=True, check=True
        ).stdout.decode()
        assert not_after(der(pair)) == ssl.cert_time_to_seconds(said.strip().partition("=")[2])


def test_a_certificate_that_ends_after_2049_has_a_time_of_four_digits(authority: Authority) -> None:
    pair = authority.issue("late", days=365 * 40)
    assert datetime.fromtimestamp(not_after(der(pair)), UTC).year >= 2060


@given(st.data())
def test_what_is_no_certificate_is_a_value_error_and_nothing_else(data: st.DataObject) -> None:
    whole = bytes.fromhex("30820122a003020102020101300506032a0304")
    junk = data.draw(st.binary(max_size=60))
    cut = data.draw(st.integers(0, len(whole)))
    with pytest.raises(ValueError):  # noqa: PT011 - any, which strptime and decode raise too
        not_after(whole[:cut] + junk)


@pytest.mark.parametrize("verified", [True, False])
def test_towards_peers_aes_256_comes_first_and_tls_1_2_is_the_least(
    tmp_path: Path, authority: Authority, good: Pair, verified: bool
) -> None:
    context = Node(tmp_path, authority, good).certificates.client(TlsPeer("x", verified, "ca.pem"))
    ciphers = [cipher["name"] for cipher in context.get_ciphers()]
    assert ciphers[0] == "TLS_AES_256_GCM_SHA384"
    of_tls_1_2 = [name for name in ciphers if not name.startswith("TLS_")]
    assert [("AES256" in name) for name in of_tls_1_2[:3]] == [True] * 3
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert not any(word in name for name in ciphers for word in ("NULL", "RC4", "3DES", "MD5"))


def test_authorities_that_could_not_be_read_verify_nobody(tmp_path: Path, authority: Authority, good: Pair) -> None:
    node = Node(tmp_path, authority, good)
    with pytest.raises(ssl.SSLCertVerificationError):
        node.certificates.client(TlsPeer("x", True, "unknown.pem"))


BAD = {
    "missing": ("tls.certificate", "cannot be read: No such file or directory"),
    "empty": ("tls.certificate", "holds no certificate"),
    "no-key": ("tls.private_key", "holds no private key"),
    "key-of-another": ("tls.private_key", "is not the key of"),
    "cut": ("tls.certificate", "cannot be used"),
    "encrypted": ("tls.private_key", "it is encrypted"),
    "ca": ("trunks.sbc.tls.ca", "holds no certificate that can be used"),
    "ca-missing": ("trunks.sbc.tls.ca", "cannot be read"),
    "client-ca": ("tls.client_ca", "cannot be read"),
}


def spoil(node: Node, how: str, good: Pair, other: Pair) -> None:
    """Make a good node's files bad in one way."""
    if how == "missing":
        (node.folder / "edge.crt").unlink()
    elif how == "empty":
        node.place(good, certificate=b"")
    elif how == "no-key":
        node.place(good, key=good.certificate.read_bytes())
    elif how == "key-of-another":
        node.place(good, key=other.key.read_bytes())
    elif how == "cut":
        lines = good.certificate.read_bytes().splitlines(keepends=True)
        node.place(good, certificate=b"".join(lines[:3] + lines[5:]))
    elif how == "encrypted":
        secret = subprocess.run(
            ["openssl", "pkey", "-in", str(good.key), "-aes256", "-passout", "pass:secret"],
            capture_output=True,
            check=True,
        ).stdout
        node.place(good, key=secret)
    elif how == "ca":
        (node.folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    elif how == "ca-missing":
        (node.folder / "ca.pem").unlink()
    elif how == "client-ca":
        text = node.file.read_text().replace("private_key:", "client_ca: none.pem\n  private_key:")
        node.file.write_text(text)


@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_is_said_and_the_good_one_stays_in_use(
    tmp_path: Path, authority: Authority, good: Pair, other: Pair, how: str
) -> None:
    node = Node(tmp_path, authority, good)
    server, client = node.certificates.server(), node.certificates.client(TlsPeer("x", True, "ca.pem"))
    assert node.checked() == ([], [])
    spoil(node, how, good, other)
    key, words = BAD[how]
    (trouble,) = node.read()
    assert trouble.startswith(f"{key}: ")
    assert words in trouble
    # What is not affected may have been made anew; what is stays the very same.
    if key.startswith("tls."):
        assert node.certificates.server() is server
    else:
        assert node.certificates.client(TlsPeer("x", True, "ca.pem")) is client
    assert node.certificates.client(TlsPeer("x", True, "ca.pem")).get_ca_certs()
    assert node.certificates.client(TlsPeer("x", False)) is not None
    (error,), _ = node.checked()
    assert f": {key}: " in error
    assert words in error
    assert error.startswith(str(node.file))
    # As at a start: nothing to fall back to, and nothing raised.
    fresh = Certificates(files_of(load_config(node.file)))
    assert (fresh.server() is None) is key.startswith("tls.")
    if how != "client-ca":
        node.place(other)
        (node.folder / "ca.pem").write_bytes(authority.certificate.read_bytes())
        assert node.read() == []
        assert node.certificates.server() is not server


def test_a_certificate_that_ends_soon_is_said(
    tmp_path: Path, authority: Authority, good: Pair, other: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(tmp_path, authority, other)
    errors, (warning,) = node.checked()
    assert errors == []
    assert "tls.certificate: expires on " in warning
    node.certificates.warn()
    node.certificates.warn()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "our certificate expires on" in record.getMessage()
    assert 9 * 86_400 < node.certificates.seconds_left()["own"] <= 10 * 86_400
    # A peer's that has ended; nobody else's is remembered.
    node.certificates.seen(TlsPeer("sbc.example.com", False), der(authority.issue("ended", days=-3)))
    node.certificates.seen(TlsPeer("192.0.2.99", False), der(good))
    node.certificates.seen(TlsPeer("192.0.2.98", False), b"no certificate")
    node.certificates.warn()
    assert caplog.records[-1].levelname == "ERROR"
    assert "the certificate of trunk sbc has expired" in caplog.records[-1].getMessage()
    left = node.certificates.seconds_left()
    assert set(left) == {"own", "trunks.sbc"}
    assert left["trunks.sbc"] < -2 * 86_400


def test_an_expired_certificate_of_ours_is_a_warning_of_check(tmp_path: Path, authority: Authority) -> None:
    _, (warning,) = Node(tmp_path, authority, authority.issue("old", days=-3)).checked()
    assert "has expired on" in warning


def test_files_that_change_are_noticed_when_they_rest(
    tmp_path: Path, authority: Authority, good: Pair, other: Pair
) -> None:
    node = Node(tmp_path, authority, good)
    certificates = node.certificates
    assert not certificates.has_changed()
    node.place(other, key=good.key.read_bytes())
    os.utime(tmp_path / "edge.crt", ns=(1, 1))
    assert not certificates.has_changed(), "they may be in the middle of being replaced"
    node.place(other)
    os.utime(tmp_path / "edge.key", ns=(2, 2))
    assert not certificates.has_changed()
    assert certificates.has_changed()
    assert node.read() == []
    assert not certificates.has_changed()
    (tmp_path / "edge.key").unlink()
    assert [certificates.has_changed() for _ in range(2)] == [False, True]
    assert len(node.read()) == 1
    assert not certificates.has_changed(), "it is said once, not every two seconds"
    assert time.time() < not_after(der(other))
