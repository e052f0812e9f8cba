"""Whom we believe when we ask another server over TLS.

Location and validation servers, providers' web services, mail, syslog, phones that are told. (Trunks have contexts of
their own: `router/network/certificates.py`.)
"""

import ssl


def verifying_context(ca: str | None = None) -> ssl.SSLContext:
    """A context that verifies the peer's certificate and name, TLS 1.2 and up.

    ca: file of authorities (PEM); None: those of the system. Raises OSError and ssl.SSLError for a file of no use.

    From Python 3.13 on the default also asks that certificates keep to RFC 5280 in form (VERIFY_X509_STRICT). The
    authorities that organisations make for themselves often do not (no key usage: what `openssl req -x509` makes),
    and a notice that was delivered yesterday must not be refused because the system got a newer Python.
    """
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
