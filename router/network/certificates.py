"""Certificates: the PEM files of the configuration as TLS contexts, exchanged while connections go on.

Files are read again on a reload, and when they have changed. A file that cannot be used leaves in use what was read
before; it is said loudly, and `edge911 check` says it beforehand. No certificate stops the other listening points.
"""

import logging
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.load import LoadedConfig
from router.network.x509 import not_after
from sip.flow import TlsPeer

log = logging.getLogger(__name__)

WARN_SECONDS = 30 * 86_400.0
"""From so long before a certificate ends it is said in the log."""
SAY_AGAIN_SECONDS = 86_400.0
OWN = "own"

# AES-256 first, forward secrecy first; the last ones for equipment that has nothing better. The suites of TLS 1.3 are
# OpenSSL's own: TLS_AES_256_GCM_SHA384 is the first of them.
_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES256-SHA:AES256-GCM-SHA384:AES256-SHA256:AES256-SHA:"
    "AES128-GCM-SHA256:AES128-SHA"
)
_UNVERIFIED_CIPHERS = f"{_CIPHERS}:@SECLEVEL=1"
"""Where a certificate is not verified anyway, a short key or an old signature is no reason to go without TLS."""

Steps = tuple[str, ...]
Fingerprint = dict[Path, tuple[int, int, int] | None]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a file, and which key names it."""

    key: Steps
    message: str

    def __str__(self) -> str:
        return f"{'.'.join(self.key)}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The PEM files that a configuration names, each with the key that names it; absolute paths."""

    certificate: Path | None = None
    private_key: Path | None = None
    client_ca: Path | None = None
    authorities: Mapping[str, tuple[Steps, Path]] = field(default_factory=dict)
    """Files of authorities for peers, by the text that the configuration has for them."""
    peers: Mapping[str, str] = field(default_factory=dict)
    """Trunk → the name its certificate must carry."""
    needs_system: bool = False
    """True where a peer is to be verified by the system's authorities; to read them takes a while."""

    @property
    def all(self) -> list[Path]:
        """Every one of them."""
        own = [path for path in (self.certificate, self.private_key, self.client_ca) if path is not None]
        return [*own, *(path for _, path in self.authorities.values())]


def files_of(loaded: LoadedConfig) -> TlsFiles:
    """The files that a configuration names."""
    tls = loaded.config.tls
    authorities: dict[str, tuple[Steps, Path]] = {}
    if tls is not None and tls.ca is not None:
        authorities[tls.ca] = ("tls", "ca"), loaded.path(tls.ca)
    for name, trunk in loaded.config.trunks.items():
        if trunk.tls.ca is not None:
            authorities.setdefault(trunk.tls.ca, (("trunks", name, "tls", "ca"), loaded.path(trunk.tls.ca)))
    peers = {name: trunk.tls.name or trunk.host for name, trunk in loaded.config.trunks.items() if trunk.may_use_tls}
    has_default = tls is not None and tls.ca is not None
    needs_system = not has_default and any(
        trunk.may_use_tls and trunk.tls.ca is None for trunk in loaded.config.trunks.values()
    )
    if tls is None:
        return TlsFiles(authorities=authorities, peers=peers, needs_system=needs_system)
    return TlsFiles(
        certificate=loaded.path(tls.certificate) if tls.certificate is not None else None,
        private_key=loaded.path(tls.private_key) if tls.private_key is not None else None,
        client_ca=loaded.path(tls.client_ca) if tls.client_ca is not None else None,
        authorities=authorities,
        peers=peers,
        needs_system=needs_system,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was made of the files."""

    server: ssl.SSLContext | None
    own: bytes
    """Our certificate, DER; empty where there is none."""
    unverified: ssl.SSLContext
    verified: Mapping[str, ssl.SSLContext]
    """By the authorities' text; an empty text: the system's authorities."""
    troubles: tuple[Trouble, ...]


def read_material(files: TlsFiles, before: Material | None = None) -> Material:
    """Read the files; what cannot be used leaves in its place what `before` has."""
    troubles: list[Trouble] = []
    server, own, usable = None, b"", False
    if files.certificate is not None and files.private_key is not None:
        found = trouble_with_own(files)
        if found is None:
            usable = True
            own = ssl.PEM_cert_to_DER_cert(_first_certificate(files.certificate.read_text("latin-1")))
            server, trouble = _server_context(files)
            if trouble is not None:
                troubles.append(trouble)
        else:
            troubles.append(found)
        if server is None and before is not None:
            server = before.server
        if not own and before is not None:
            own = before.own
    presented = files if usable else None
    if presented is None and own and before is not None:
        # The old certificate is in the old contexts, and in no file any more.
        return Material(
            server=server,
            own=own,
            unverified=before.unverified,
            verified={**_verified_contexts(files, None, before, troubles), **before.verified},
            troubles=tuple(troubles),
        )
    return Material(
        server=server,
        own=own,
        unverified=_client_context(presented, verified=False),
        verified=_verified_contexts(files, presented, before, troubles),
        troubles=tuple(troubles),
    )


def _verified_contexts(
    files: TlsFiles, presented: TlsFiles | None, before: Material | None, troubles: list[Trouble]
) -> dict[str, ssl.SSLContext]:
    made: dict[str, ssl.SSLContext] = {}
    if files.needs_system:
        made[""] = _client_context(presented, verified=True)
        made[""].load_default_certs()
    for text, (key, path) in files.authorities.items():
        context = _client_context(presented, verified=True)
        trouble = _trust(context, key, path)
        if trouble is None:
            made[text] = context
            continue
        troubles.append(trouble)
        if before is not None and text in before.verified:
            made[text] = before.verified[text]
    return made


def _client_context(presented: TlsFiles | None, *, verified: bool) -> ssl.SSLContext:
    """For connections that we open; our certificate is shown where a peer asks for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # RFC 5922 says who is named: sip/server_identity.py
    context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
    context.set_ciphers(_CIPHERS if verified else _UNVERIFIED_CIPHERS)
    if presented is not None and presented.certificate is not None:
        context.load_cert_chain(presented.certificate, presented.private_key, password=_no_password)
    return context


def _server_context(files: TlsFiles) -> tuple[ssl.SSLContext | None, Trouble | None]:
    """For connections to us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Session tickets come after the handshake as records without data, on which simple clients (sipsak) give up; SIP
    # connections live too long for them to be of use.
    context.num_tickets = 0
    assert files.certificate is not None
    context.load_cert_chain(files.certificate, files.private_key, password=_no_password)
    if files.client_ca is None:
        return context, None
    # Asked for, and refused where it is a bad one. Without any, a client may dial 911 and nothing else.
    context.verify_mode = ssl.CERT_OPTIONAL
    trouble = _trust(context, ("tls", "client_ca"), files.client_ca)
    return (None, trouble) if trouble is not None else (context, None)


def trouble_with_own(files: TlsFiles) -> Trouble | None:
    """What stops our certificate and key from being used, or None."""
    assert files.certificate is not None
    for key, path in (("certificate", files.certificate), ("private_key", files.private_key)):
        try:
            text = path.read_text("latin-1") if path is not None else ""
        except OSError as error:
            return Trouble(("tls", key), _unreadable(path, error))
        if key == "certificate" and not _first_certificate(text):
            return Trouble(("tls", key), f"{path} holds no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)")
        if key == "private_key" and "PRIVATE KEY-----" not in text:
            return Trouble(("tls", key), f"{path} holds no private key; it must be PEM (-----BEGIN PRIVATE KEY-----)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.private_key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return Trouble(
                ("tls", "private_key"),
                f"{files.private_key} is not the key of {files.certificate}; give the two that belong together",
            )
        return Trouble(
            ("tls", "certificate"), f"{files.certificate} cannot be used: {_words(error)}; have it made anew"
        )
    except (OSError, ValueError) as error:
        return Trouble(("tls", "private_key"), f"{files.private_key} cannot be used: {error}")
    return None


def _trust(context: ssl.SSLContext, key: Steps, path: Path) -> Trouble | None:
    """Believe the certificates in a file."""
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        return Trouble(key, f"{path} holds no certificate that can be used: {_words(error)}; it must be PEM")
    except OSError as error:
        return Trouble(key, _unreadable(path, error))
    # A peer's own certificate may be named in place of an authority's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return None


def _first_certificate(text: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = text.find(begin)
    stop = text.find(end, start)
    return text[start : stop + len(end)] if 0 <= start < stop else ""


def _no_password() -> str:
    raise ValueError(
        "it is encrypted, and nobody is there to type a passphrase; decrypt it: openssl pkey -in OLD -out NEW"
    )


def _unreadable(path: Path | None, error: OSError) -> str:
    return f"{path} cannot be read: {error.strerror or error}; edge911 must be able to read it"


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")


class Certificates:
    """The TLS contexts of the moment, and when certificates end. Each handshake asks for its context."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self._read = fingerprint(files)
        self._noticed = self._read
        self.material = read_material(files)
        self._shown: dict[str, float] = {}
        self._said: dict[str, float] = {}

    # ---- sip.transport_tls.TlsContexts ----

    def server(self) -> ssl.SSLContext | None:
        """For connections to us; None where we have no usable certificate."""
        return self.material.server

    def client(self, peer: TlsPeer) -> ssl.SSLContext:
        """For a connection to a peer. Raises OSError where its authorities could not be read."""
        if not peer.verified:
            return self.material.unverified
        context = self.material.verified.get(peer.authorities)
        if context is None:
            raise ssl.SSLCertVerificationError(1, f"the authorities in {peer.authorities} could not be read")
        return context

    def seen(self, peer: TlsPeer, certificate: bytes) -> None:
        """A peer showed this certificate."""
        if len(self._shown) >= 10_000:
            self._shown.clear()
        try:
            self._shown[peer.name] = not_after(certificate)
        except ValueError:
            self._shown.pop(peer.name, None)

    # ---- exchanging ----

    def has_changed(self) -> bool:
        """True where files are others than those read, and have rested since this was asked last: a certificate and
        its key are seldom replaced in one moment. Asks the file system: not for the loop."""
        now = fingerprint(self.files)
        rested = now == self._noticed
        self._noticed = now
        return rested and now != self._read

    def read_again(self, files: TlsFiles) -> tuple[TlsFiles, Fingerprint, Material]:
        """Read the files, those of a new configuration perhaps. Blocks: not for the loop."""
        print_before = fingerprint(files)
        return files, print_before, read_material(files, self.material)

    def use(self, files: TlsFiles, read: Fingerprint, material: Material) -> None:
        """Take what was read; handshakes from now on use it."""
        self.files, self._read, self._noticed, self.material = files, read, read, material
        self._said.clear()

    # ---- endings ----

    def endings(self) -> Iterator[tuple[str, float]]:
        """Each certificate known (`own`, or `trunks.NAME`) and when it ends, seconds since 1970."""
        if self.material.own:
            yield OWN, not_after(self.material.own)
        for trunk, name in self.files.peers.items():
            if name in self._shown:
                yield f"trunks.{trunk}", self._shown[name]

    def seconds_left(self) -> dict[str, float]:
        """Each certificate known, and the seconds until it ends; negative after that."""
        now = time.time()
        return {name: round(end - now) for name, end in self.endings()}

    def warn(self) -> None:
        """Say in the log, once a day, which certificates end within WARN_SECONDS."""
        now = time.time()
        for name, end in self.endings():
            if end - now > WARN_SECONDS or now - self._said.get(name, 0.0) < SAY_AGAIN_SECONDS:
                continue
            self._said[name] = now
            whose = "our certificate" if name == OWN else f"the certificate of trunk {name.partition('.')[2]}"
            day = time.strftime("%d %b %Y", time.gmtime(end))  # no number to be hidden in the log
            if end < now:
                log.error("%s has expired on %s: who verifies it refuses it; replace the file", whose, day)
            else:
                log.warning("%s expires on %s, in %d days; replace it in time", whose, day, int((end - now) / 86_400))


def fingerprint(files: TlsFiles) -> Fingerprint:
    """What tells that a file has changed: time, size and number of each."""
    found: Fingerprint = {}
    for path in files.all:
        try:
            status = os.stat(path)
        except OSError:
            found[path] = None
        else:
            found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found
