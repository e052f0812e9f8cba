"""Certificates for tests, made by the openssl command: an authority, and what it signs, good or wrong in one way."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM files."""

    certificate: Path
    key: Path

    @property
    def both(self) -> Path:
        """One file with both, as some peers want it."""
        path = self.certificate.with_suffix(".both.pem")
        path.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        return path


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "ca.pem"
        self.key = folder / "ca.key"
        _openssl(
            "req",
            "-x509",
            *_KEY,
            "-keyout",
            self.key,
            "-out",
            self.certificate,
            "-days",
            "30",
            "-subj",
            f"/CN={name}",
        )

    def issue(self, name: str, *alternatives: str, days: int = 30) -> Pair:
        """A certificate for these subjectAltNames (`DNS:…`, `IP:…`, `URI:sip:…`), without any where none is given;
        negative days: expired so long. name: of the files and the common name."""
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        _openssl("req", *_KEY, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
        extensions.write_text(f"subjectAltName={','.join(alternatives)}\n" if alternatives else "")
        now = datetime.now(UTC)
        begin = now + timedelta(days=min(days, 0) - 1)
        _openssl(
            *("ca", "-batch", "-notext", "-config", self._config(), "-in", request, "-out", pair.certificate),
            *("-startdate", f"{begin:%Y%m%d%H%M%SZ}", "-enddate", f"{now + timedelta(days=days):%Y%m%d%H%M%SZ}"),
            *("-extfile", extensions),
        )
        return pair

    def _config(self) -> Path:
        """What `openssl ca` wants to be told; it is the one command that takes dates."""
        path = self.folder / "ca.conf"
        if not path.exists():
            (self.folder / "index.txt").write_text("")
            path.write_text(
                "[ca]\ndefault_ca=us\n[us]\n"
                f"database={self.folder}/index.txt\nnew_certs_dir={self.folder}\nrand_serial=yes\n"
                f"certificate={self.certificate}\nprivate_key={self.key}\n"
                "default_md=sha256\nunique_subject=no\npolicy=any\n[any]\ncommonName=supplied\n"
            )
        return path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)
