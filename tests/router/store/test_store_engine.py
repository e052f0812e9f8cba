"""Opening the store on SQLite files and a real PostgreSQL: migration, and the ways a database can be broken."""

import multiprocessing
import os
import sqlite3
import stat
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, select

from router.store import devices as device_store
from router.store.engine import StoreError, create_store_engine, migrate, open_store, reading, writing
from router.store.metadata import metadata
from router.store.migration import NEWEST_REVISION, revision_heads


def import_every_table() -> None:
    """Every module of router.store that declares tables."""
    import importlib
    import pkgutil

    import router.store

    for module in pkgutil.iter_modules(router.store.__path__, "router.store."):
        if not module.ispkg:
            importlib.import_module(module.name)


def test_a_new_store_is_migrated_to_what_the_program_declares(new_store_url: str) -> None:
    import_every_table()
    engine = open_store(new_store_url)
    try:
        with engine.connect() as conn:
            context = MigrationContext.configure(conn, opts={"compare_type": False})
            assert set(context.get_current_heads()) == set(revision_heads())
            assert compare_metadata(context, metadata) == []
    finally:
        engine.dispose()


def test_there_is_one_newest_revision() -> None:
    assert len(revision_heads()) == 1


def test_opening_again_keeps_what_is_there(new_store_url: str) -> None:
    engine = open_store(new_store_url)
    with writing(engine) as conn:
        device_store.upsert_devices(conn, [{"device": "4001"}])
    engine.dispose()
    engine = open_store(new_store_url)
    with reading(engine) as conn:
        assert [device.device for device in device_store.all_devices(conn)] == ["4001"]
    engine.dispose()


def _open(url: str) -> str:
    try:
        engine = open_store(url, wait=30)
    except StoreError as error:
        return str(error)
    try:
        with reading(engine) as conn:
            return str(device_store.current_revision(conn))
    finally:
        engine.dispose()


@pytest.mark.long
def test_several_processes_may_be_the_first_to_open_it(new_store_url: str) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_open, [new_store_url] * 8)) == ["0"] * 8


def test_sqlite_writes_ahead_so_that_readers_never_wait_for_a_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/edge911.db"
    engine = open_store(url, wait=0.1)
    with writing(engine) as conn:
        device_store.upsert_devices(conn, [{"device": "4001"}])
        with reading(engine) as reader:
            assert device_store.all_devices(reader) == []
    with reading(engine) as reader:
        assert len(device_store.all_devices(reader)) == 1
    engine.dispose()


def test_an_exception_undoes_everything_written(new_store_url: str) -> None:
    engine = open_store(new_store_url)
    with pytest.raises(ZeroDivisionError), writing(engine) as conn:  # noqa: PT012 (the write is the point)
        device_store.upsert_devices(conn, [{"device": "4001"}])
        raise ZeroDivisionError
    with reading(engine) as conn:
        assert device_store.all_devices(conn) == []
        assert device_store.current_revision(conn) == 0
    engine.dispose()


def test_a_database_newer_than_the_program_is_refused_and_left_alone(new_store_url: str) -> None:
    engine = open_store(new_store_url)
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(StoreError, match="9999") as caught:
        open_store(new_store_url)
    assert caught.value.reason == "database-newer"
    assert "newer edge911" in caught.value.remedy


@pytest.mark.parametrize(
    "content", [b"this is not a database at all, it is a text of some length\n" * 20, b"\x00" * 5000]
)
def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "edge911.db"
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{path}")
    assert caught.value.reason == "database-corrupt"
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_database_damaged_in_the_middle_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "edge911.db"
    url = f"sqlite:///{path}"
    engine = open_store(url)
    with writing(engine) as conn:
        device_store.upsert_devices(conn, [{"device": str(n), "name": "x" * 100} for n in range(2000)])
    engine.dispose()
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\xa5" * (len(content) - 8192 - 4096)
    path.write_bytes(content)
    engine = create_store_engine(url)
    with pytest.raises(StoreError) as caught, reading(engine) as conn:
        device_store.all_devices(conn)
    engine.dispose()
    assert caught.value.reason == "database-corrupt"


def test_a_missing_file_is_made_with_its_folder_or_named_missing(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "edge911.db"
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{path}", create=False)
    assert caught.value.reason == "database-missing"
    assert not path.parent.exists()
    open_store(f"sqlite:///{path}").dispose()
    assert path.exists()


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{tmp_path}/file/edge911.db")
    assert caught.value.reason == "database-unreachable"
    assert caught.value.remedy


def test_a_database_that_is_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(f"sqlite:///{tmp_path}")
    assert caught.value.reason == "database-missing"


@pytest.fixture
def locked_sqlite(tmp_path: Path) -> Iterator[str]:
    """A new SQLite database held exclusively by another connection."""
    path = tmp_path / "edge911.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (a)")
    other.execute("BEGIN EXCLUSIVE")
    yield f"sqlite:///{path}"
    other.close()


def test_a_database_locked_by_another_program_is_named(locked_sqlite: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(locked_sqlite, wait=0.1)
    assert caught.value.reason == "database-locked"


def test_a_writer_that_finds_the_store_locked_says_so(new_store_url: str) -> None:
    engine = open_store(new_store_url, wait=0.2)
    other = create_store_engine(new_store_url)
    with writing(other) as holder:
        device_store.take_turn(holder)
        with pytest.raises(StoreError) as caught, writing(engine) as conn:
            device_store.upsert_devices(conn, [{"device": "4001"}])
    other.dispose()
    engine.dispose()
    assert caught.value.reason == "database-locked"


def test_a_server_that_is_not_there_is_unreachable_and_its_password_stays_secret(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(f"postgresql://edge911:s3cret@/edge911?host={tmp_path}")
    assert caught.value.reason == "database-unreachable"
    assert "s3cret" not in str(caught.value)


def test_a_database_the_server_does_not_have_is_missing(postgresql_server: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(postgresql_server.replace("/postgres?", "/no_such_database?"))
    assert caught.value.reason == "database-missing"


def test_tables_one_may_not_read_are_an_access_error(postgresql_database: str) -> None:
    open_store(postgresql_database).dispose()
    with psycopg.connect(postgresql_database, autocommit=True) as admin:
        role = f"reader_{admin.info.dbname}"
        admin.execute(f'CREATE ROLE "{role}" LOGIN')
        admin.execute(f'GRANT SELECT ON alembic_version TO "{role}"')
    engine = open_store(postgresql_database.replace("//postgres:@", f"//{role}@"))
    with pytest.raises(StoreError) as caught, reading(engine) as conn:
        device_store.all_devices(conn)
    engine.dispose()
    assert caught.value.reason == "database-access-denied"


def test_a_file_one_may_not_write_is_an_access_error(tmp_path: Path) -> None:
    path = tmp_path / "edge911.db"
    open_store(f"sqlite:///{path}").dispose()
    engine = create_store_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    with pytest.raises(StoreError) as caught, writing(engine) as conn:
        conn.execute(insert(device_store.device_changes), [{"device": "x"}])
    engine.dispose()
    assert caught.value.reason == "database-access-denied"
    assert path.stat().st_mode & stat.S_IRUSR


@pytest.mark.parametrize(
    "url", ["", "edge911.db", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "postgresql+asyncpg://h/d"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert caught.value.reason == "database-url-invalid"


def test_migrate_by_hand_is_what_open_store_does(new_store_url: str) -> None:
    if new_store_url.startswith("sqlite"):
        Path(new_store_url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    engine = create_store_engine(new_store_url)
    migrate(engine)
    with engine.connect() as conn:
        assert conn.execute(select(device_store.devices)).all() == []
    engine.dispose()


def test_the_newest_revision_is_named_right() -> None:
    assert revision_heads() == (NEWEST_REVISION,)


def test_a_new_sqlite_file_is_its_owners_alone_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = tmp_path / "edge911.db"
        engine = open_store(f"sqlite:///{path}")
        with writing(engine) as conn:
            device_store.upsert_devices(conn, [{"device": "4001"}])
            assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
        engine.dispose()
        path.chmod(0o640)
        open_store(f"sqlite:///{path}").dispose()
        assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
