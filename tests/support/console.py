"""A console in this process, and browsers and programs that use it, over ASGI: no socket, the real store."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import yaml
from fastapi import FastAPI

from config.load import load_config
from router.console import passwords
from router.console.app import create_app, make_console
from router.console.settings import Console
from router.store.audit import Author
from router.store.engine import open_store
from router.store.tokens import TokenRole, add_token
from router.store.users import Role, User, add_user

BASE_URL = "http://127.0.0.1:8911"
PASSWORD = "correct horse battery"
AUTHOR = Author(who="test", via="test")
CONFIG: dict[str, Any] = {
    "node": "test-node",
    "listen": ["udp://127.0.0.1:5060"],
    "networks": {"inside": ["127.0.0.0/8"]},
    "trunks": {"a": {"target": "sip:192.0.2.7"}},
    "emergency": {
        "default": {"site": "hq"},
        "routes": [{"name": "one", "trunk": "a"}],
        "basic": [{"name": "two", "trunk": "a", "number": "+12125550140"}],
    },
    "sites": [
        {
            "id": "hq",
            "name": "Head office",
            "timezone": "America/New_York",
            "callback": "+12125550100",
            "notify": ["desk"],
            "address": {"country": "US", "state": "NY", "city": "Albany", "street": "Lake", "house_number": "1"},
            "zones": [{"id": "hq-1", "name": "Lobby", "floor": "1"}, {"id": "hq-3e", "floor": "3"}],
        },
        {
            "id": "lab",
            "callback": "+12125550101",
            "notify": ["desk"],
            "address": {"country": "CA", "state": "QC", "city": "Laval", "street": "Nord", "house_number": "7"},
        },
    ],
    "contacts": {"desk": {"send": ["json://127.0.0.1:9/desk"]}},
    "console": {"listen": "http://127.0.0.1:8911"},
}


class Http:
    """An HTTP client of one application, without a network; each request runs in a loop that ends with it."""

    def __init__(self, app: FastAPI, *, base_url: str, headers: Mapping[str, str]) -> None:
        self._app = app
        self._base_url = base_url
        self._headers = dict(headers)
        self.cookies = httpx.Cookies()

    def request(self, method: str, path: str, *, content: Any = None, **options: Any) -> httpx.Response:
        """A request; redirects are not followed. `content` may come in pieces."""
        if not isinstance(content, str | bytes | None):
            content = _pieces(content)
        return asyncio.run(self._request(method, path, content=content, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """POST."""
        return self.request("POST", path, **options)

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url=self._base_url, headers=self._headers, cookies=self.cookies
        ) as client:
            answer = await client.request(method, path, **options)
            self.cookies = client.cookies
            return answer


async def _pieces(content: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


class Browser:
    """Somebody with a browser: cookies, forms as the pages hold them, redirects seen and not followed."""

    def __init__(self, app: FastAPI, *, language: str = "en", base_url: str = BASE_URL) -> None:
        self.http = Http(app, base_url=base_url, headers={"Accept-Language": language})

    def get(self, path: str, **options: Any) -> Any:
        """GET."""
        return self.http.get(path, **options)

    def csrf(self, path: str) -> str:
        """The token of the forms on a page."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(path).text)
        assert found, f"no form on {path}"
        return found[1]

    def submit(self, page: str, to: str | None = None, files: Any = None, **values: str) -> Any:
        """Open a page, fill in its form and send it (to `to`, or to the page itself)."""
        data = {"csrf": self.csrf(page), **values}
        return self.http.post(to or page, data=data, files=files)

    def log_in(self, username: str, password: str = PASSWORD, **values: str) -> Any:
        """Log in; the answer."""
        return self.submit("/login", username=username, password=password, **values)


class Program:
    """A program with a token."""

    def __init__(self, app: FastAPI, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = Http(app, base_url=BASE_URL, headers=headers)

    def __call__(self, method: str, path: str, **options: Any) -> Any:
        """A request to /api/v1 and `path`."""
        return self.http.request(method, f"/api/v1{path}", **options)


REAL_MEMORY_KIB = passwords.MEMORY_KIB
passwords.MEMORY_KIB = 64  # as slow as it should be is too slow for so many logins; one test uses the real one
_HASH = passwords.hash_password(PASSWORD)


class ConsoleWorld:
    """A console with its store, to which users and tokens are added."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.app = create_app(console)

    def user(self, name: str, role: str = "viewer", sites: tuple[str, ...] | None = None) -> None:
        """Add a user, with PASSWORD."""
        with self.console.store.writing() as conn:
            add_user(conn, User(username=name, role=Role(role), sites=sites), _HASH, AUTHOR)

    def browser(self, name: str = "", role: str = "admin", sites: tuple[str, ...] | None = None) -> Browser:
        """A browser, logged in as a new user where a name is given."""
        found = Browser(self.app)
        if name:
            self.user(name, role, sites)
            assert found.log_in(name).status_code == 303
        return found

    def token(
        self, role: str = "write", sites: tuple[str, ...] | None = None, expires_at: float | None = None
    ) -> str:
        """The text of a new token."""
        with self.console.store.writing() as conn:
            return add_token(conn, "crm", TokenRole(role), AUTHOR, sites=sites, expires_at=expires_at)[1]

    def program(self, role: str = "write", sites: tuple[str, ...] | None = None) -> Program:
        """A program with a new token."""
        return Program(self.app, self.token(role, sites))


@cache
def _empty_store() -> bytes:
    """The file of a store of the newest revision with nothing in it."""
    with TemporaryDirectory() as folder:
        open_store(f"sqlite:///{folder}/edge911.db").dispose()
        return (Path(folder) / "edge911.db").read_bytes()


def _put_store(file: Path) -> None:
    """A store where none is: to make each anew would cost most of many tests."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_empty_store())


@contextmanager
def console_world(folder: Path, database: str = "", **sections: Any) -> Iterator[ConsoleWorld]:
    """A console on a store (default: SQLite in the folder); `sections` replace those of CONFIG."""
    config = {**CONFIG, **sections}
    if database:
        config["locations"] = {"database": database}
    file = folder / "edge911.yaml"
    file.write_text(yaml.safe_dump(config))
    console = make_console(load_config(file))
    if console.loaded.database_url.startswith("sqlite:///"):
        _put_store(Path(console.loaded.database_url.removeprefix("sqlite:///")))
    try:
        yield ConsoleWorld(console)
    finally:
        console.store.close()
