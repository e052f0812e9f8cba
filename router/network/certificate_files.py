"""What `edge911 check` says of certificates, with the place in the configuration. Reads the files; needs no loop."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from config.files import read_source
from config.load import LoadedConfig
from config.problem import Problem
from config.substitution import substitute
from config.validate import locate
from router.network.certificates import WARN_SECONDS, Trouble, files_of, read_material
from router.network.x509 import not_after


def unusable_certificates(path: Path, loaded: LoadedConfig) -> tuple[list[Problem], list[Problem]]:
    """Errors and warnings about the PEM files that the configuration in `path` names."""
    root = read_source(path).root
    if root is None:
        return [], []
    tree = substitute(root, path.parent)[0]

    def placed(trouble: Trouble) -> Problem:
        place, steps, _ = locate(tree, trouble.key)
        return Problem.at(place, steps, trouble.message)

    material = read_material(files_of(loaded))
    doubts = [*_endings(material.own), *_no_authorities(loaded)]
    return [placed(one) for one in material.troubles], [placed(one) for one in doubts]


def _endings(own: bytes) -> Iterator[Trouble]:
    if not own:
        return
    end = not_after(own)
    day = time.strftime("%Y-%m-%d", time.gmtime(end))
    if end < time.time():
        yield Trouble(("tls", "certificate"), f"has expired on {day}: who verifies it refuses it; replace it")
    elif end - time.time() < WARN_SECONDS:
        yield Trouble(("tls", "certificate"), f"expires on {day}; replace it in time")


def _no_authorities(loaded: LoadedConfig) -> Iterator[Trouble]:
    config = loaded.config
    if has_authorities() or (config.tls is not None and config.tls.ca is not None):
        return
    for name, trunk in config.trunks.items():
        if trunk.uses_tls and trunk.tls.ca is None:
            yield Trouble(
                ("trunks", name),
                "its certificate cannot be verified: this system has no authorities (package ca-certificates), "
                "and neither tls.ca nor trunks.*.tls.ca names any",
            )


def has_authorities() -> bool:
    """Whether this system has certificates of authorities."""
    paths = ssl.get_default_verify_paths()
    folder = Path(paths.capath or "/nonexistent")
    return bool(paths.cafile) or (folder.is_dir() and any(folder.iterdir()))
