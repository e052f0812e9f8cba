"""Whom a certificate stands for in SIP (RFC 5922): the identities in it, and whether one is the name expected."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

Certificate = Mapping[str, Any]
"""A certificate as Python's ssl.SSLSocket.getpeercert() gives it."""


def identities(certificate: Certificate) -> frozenset[str]:
    """The SIP domains and IP addresses that a certificate names (section 7.1), in lower case.

    sip: URIs in subjectAltName without a user part; where there is none, its DNS names; its IP addresses, for peers
    that are configured by address. The common name counts only where there is no subjectAltName at all.
    """
    names = list(certificate.get("subjectAltName", ()))
    uris = {domain for kind, value in names if kind == "URI" and (domain := _domain_of(value))}
    domains = uris or {_tidy(value) for kind, value in names if kind == "DNS"}
    addresses = {_address(value) for kind, value in names if kind == "IP Address"}
    if not names:
        domains = {_tidy(value) for key, value in _subject(certificate) if key == "commonName"}
    return frozenset(domains | addresses) - {""}


def identifies(certificate: Certificate, name: str) -> bool:
    """True where a certificate stands for this domain or IP address.

    Compared whole: section 7.2 knows no wildcards, so `*.example.com` stands for nobody but one who is configured by
    that very text.
    """
    return (_address(name) or _tidy(name)) in identities(certificate)


def _domain_of(uri: str) -> str:
    """The host of a sip: URI that names a domain; empty for another scheme, or one with a user part."""
    scheme, _, rest = uri.partition(":")
    host = rest.partition(";")[0].partition("?")[0]
    if scheme.lower() != "sip" or "@" in host or not host:
        return ""
    if host.startswith("["):
        return _address(host[1:].partition("]")[0])
    return _tidy(host.partition(":")[0])


def _subject(certificate: Certificate) -> Iterable[tuple[str, str]]:
    for relative in certificate.get("subject", ()):
        yield from relative


def _tidy(name: str) -> str:
    return name.strip().rstrip(".").lower()


def _address(text: str) -> str:
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return ""
