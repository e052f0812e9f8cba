"""What every page and endpoint works with: the configuration in use, the store, words, templates, limits."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from jinja2 import Environment
from sqlalchemy import Connection, Engine

from config.load import LoadedConfig
from config.schema import Config
from config.schema import Console as ConsoleSection
from router.console.lately import Lately
from router.console.rate import Rates
from router.console.uploads import Uploads
from router.console.words import Words
from router.locations.location_cells import Places, places_of
from router.store.engine import open_store, reading, sqlite_path, writing
from router.store.tokens import ApiToken
from router.store.users import Session

LONGEST_SESSION = 7 * 86_400.0
"""Seconds after which a login ends also where it is always used."""


_WAIT_FOR_OTHERS: Final = 15.0
"""Seconds until something is stored, at most: an import of 100,000 devices lets nobody else write while it does."""


class Store:
    """The database, opened when it is first needed and again after the file was replaced. For many threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read from. Raises StoreError."""
        with reading(self._open()) as conn:
            yield conn

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end, undone on any exception. Raises StoreError."""
        with writing(self._open()) as conn:
            yield conn

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _open(self) -> Engine:
        with self._lock:
            identity = self._identity()
            if self._engine is not None and identity != self._file:
                self._engine.dispose()
                self._engine = None
            if self._engine is None:
                self._engine = open_store(self.url, wait=_WAIT_FOR_OTHERS)
                self._file = self._identity()
            return self._engine

    def _identity(self) -> tuple[int, int] | None:
        path = sqlite_path(self.url)
        if path is None:
            return None
        try:
            status = os.stat(path)
        except OSError:
            return None
        return status.st_dev, status.st_ino


@dataclass(slots=True, kw_only=True)
class Console:
    """One per process; `loaded` is replaced whole at a reload."""

    loaded: LoadedConfig
    section: ConsoleSection
    store: Store
    state_directory: Path
    words: Words
    templates: Environment
    rates: Rates = field(default_factory=Rates)
    uploads: Uploads = field(default_factory=Uploads)
    logins: Lately[Session] = field(default_factory=Lately)
    tokens: Lately[ApiToken] = field(default_factory=Lately)

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self.loaded.config

    @property
    def places(self) -> Places:
        """The sites and zones that devices may name."""
        return places_of(self.loaded.config)

    @property
    def is_secure(self) -> bool:
        """True where browsers come by https: cookies are then marked so."""
        return self.section.url.startswith("https:")

    @property
    def cookie(self) -> str:
        """Name of the session's cookie; over https with the prefix that keeps other hosts from setting it."""
        return "__Host-edge911" if self.is_secure else "edge911"

    @property
    def form_cookie(self) -> str:
        """Name of the cookie that forms without a login are bound to."""
        return f"{self.cookie}-form"

    @property
    def oidc_cookie(self) -> str:
        """Name of the cookie that a login by another system begins with."""
        return f"{self.cookie}-oidc"

    @property
    def known_cookie(self) -> str:
        """Name of the cookie by which a browser shows that its user has logged in with it before."""
        return f"{self.cookie}-known"

    def is_own_host(self, host: str) -> bool:
        """True for a Host that is ours: an address (no name can be made to point to us by others), localhost, this
        machine's name, or that of `public_url`."""
        name = urlsplit(f"//{host}").hostname or ""
        try:
            ip_address(name)
        except ValueError:
            return name in ("localhost", os.uname().nodename.lower(), urlsplit(self.section.url).hostname)
        return True

    def is_proxy(self, host: str) -> bool:
        """True where X-Forwarded-For of this peer is believed."""
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.section.proxies)
