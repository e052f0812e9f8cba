"""Several nodes on one database, real ones of both kinds: signs of life, and changes that reach those who listen."""

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import Engine, update

from router.notices.node_beat import NodeBeat
from router.store import followed as followed_module
from router.store.devices import upsert_devices
from router.store.engine import open_store, reading, writing
from router.store.followed import ChangeSignal, revisions_of
from router.store.nodes import (
    FORGOTTEN_SECONDS,
    SILENT_SECONDS,
    all_nodes,
    beat,
    database_time,
    forget_nodes,
    nodes,
    silent_nodes,
)
from tests.router.notices_runner import wait_until


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    opened = open_store(store_url)
    yield opened
    opened.dispose()


def names(engine: Engine) -> list[str]:
    with reading(engine) as conn:
        return [node.name for node in all_nodes(conn)]


def age(engine: Engine, name: str, seconds: float) -> None:
    """Node `name` was seen so long ago."""
    with writing(engine) as conn:
        at = database_time(conn) - seconds
        conn.execute(update(nodes).where(nodes.c.name == name).values(seen_at=at))


def test_a_node_is_silent_after_a_while_and_lives_again_with_its_next_beat(engine: Engine) -> None:
    with writing(engine) as conn:
        for name in ("hq-1", "hq-2"):
            beat(conn, name, 1000.0)
        assert [node.name for node in all_nodes(conn)] == ["hq-1", "hq-2"]
        assert silent_nodes(conn, "hq-1") == []
    age(engine, "hq-2", SILENT_SECONDS + 1)
    with writing(engine) as conn:
        assert silent_nodes(conn, "hq-1") == ["hq-2"]
        beat(conn, "hq-2", 2000.0)
        assert silent_nodes(conn, "hq-1") == []
        assert all_nodes(conn)[1].started_at == 2000.0


def test_a_node_never_calls_itself_silent_and_is_forgotten_in_the_end(engine: Engine) -> None:
    with writing(engine) as conn:
        beat(conn, "hq-1", 1000.0)
    age(engine, "hq-1", FORGOTTEN_SECONDS + 1)
    with writing(engine) as conn:
        assert silent_nodes(conn, "hq-1") == []
        forget_nodes(conn)
        assert all_nodes(conn) == []


def test_two_nodes_see_each_other_and_one_hears_that_the_other_ended(store_url: str, engine: Engine) -> None:
    first, second = NodeBeat(store_url, "hq-1"), NodeBeat(store_url, "hq-2")
    first.start()
    second.start()
    try:
        wait_until(lambda: len(names(engine)) == 2, "both nodes are there")
        second.stop(30)
        wait_until(lambda: first.silent == ("hq-2",), "one hears that the other is silent")
    finally:
        first.stop(30)
        second.stop(30)


def test_changes_of_a_followed_table_are_counted_whoever_makes_them(engine: Engine) -> None:
    with reading(engine) as conn:
        before = revisions_of(conn)["leases"]
    with writing(engine) as conn:
        conn.exec_driver_sql(
            "INSERT INTO leases (number, caller, since, until, document) VALUES ('+12125550191', 'x', 1, 2, '{}')"
        )
    with writing(engine) as conn:
        conn.exec_driver_sql("UPDATE leases SET until = 3")
        conn.exec_driver_sql("DELETE FROM leases")
    with reading(engine) as conn:
        assert revisions_of(conn)["leases"] == before + 3


def test_postgresql_tells_of_a_change_within_a_second(postgresql_database: str) -> None:
    opened = open_store(postgresql_database)
    signal = ChangeSignal(postgresql_database)
    stopping = threading.Event()
    try:
        assert signal.listen()
        assert signal.is_listening
        assert not signal.wait(0.05, stopping), "nothing has changed"
        with writing(opened) as conn:
            upsert_devices(conn, [{"device": "4001"}])
        began = time.monotonic()
        assert signal.wait(30.0, stopping)
        assert time.monotonic() - began < 25.0  # told, not looked for: the wait was not over
    finally:
        signal.close()
        opened.dispose()


def test_a_listener_that_loses_its_connection_goes_back_to_looking(
    postgresql_server: str, postgresql_database: str
) -> None:
    open_store(postgresql_database).dispose()
    signal = ChangeSignal(postgresql_database)
    assert signal.listen()
    with psycopg.connect(postgresql_server, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'edge911 l%%' AND datname = %s",
            [postgresql_database.partition("?")[0].rpartition("/")[2]],
        )
    stopping = threading.Event()
    wait_until(lambda: not signal.wait(0.05, stopping) and not signal.is_listening, "it looks for itself")
    signal.close()


def test_a_signal_that_can_have_no_descriptor_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for changes is a thread that would end, and no change would reach calls any more."""

    class Listening:
        def execute(self, _: str) -> None: ...

        def close(self) -> None: ...

        def notifies(self, **_: object) -> None:
            raise OSError(24, "Too many open files")

    def connect(*_: object, **__: object) -> Listening:
        return found.pop()()

    def nothing() -> Listening:
        raise OSError(24, "Too many open files")

    found: list[Callable[[], Listening]] = [Listening, nothing]
    monkeypatch.setattr(psycopg, "connect", connect)
    monkeypatch.setattr(followed_module, "CONNECT_AGAIN", 0.0)
    signal = ChangeSignal("postgresql://127.0.0.1/nowhere")
    assert not signal.listen()
    assert not signal.wait(0.0, threading.Event())
    assert signal.listen()
    assert not signal.wait(0.01, threading.Event())
    assert not signal.is_listening, "it is tried anew"


def test_sqlite_has_nothing_to_listen_to(tmp_path: object) -> None:
    signal = ChangeSignal(f"sqlite:///{tmp_path}/edge911.db")
    assert not signal.listen()
    assert not signal.is_listening
    assert not signal.wait(0.01, threading.Event())
