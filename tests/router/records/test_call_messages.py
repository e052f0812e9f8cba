"""Kept messages of emergency calls, on SQLite and PostgreSQL, and the thread that keeps them."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from router.records import call_messages
from router.records.call_messages import MessageKeeper
from router.store.call_messages import MOST_OF_A_CALL, forget_messages, messages_of, store_messages
from router.store.engine import StoreError, open_store, reading, writing
from router.trace.messages import Traced
from router.trace.server import TraceServer
from sip.transport import SipEdge
from tests.router.trace.test_followed_calls import FLOW, message
from tests.router.trace.test_trace_server import in_a_loop, until


@pytest.fixture
def store(store_url: str) -> Iterator[Engine]:
    engine = open_store(store_url)
    yield engine
    engine.dispose()


def traced(call: str, at: float, data: bytes = b"") -> Traced:
    return Traced(
        at=at,
        sent=True,
        transport="udp",
        source=("127.0.0.1", 5060),
        destination=("::1", 5061),
        data=data or message(call),
    )


def test_what_is_kept_comes_back_byte_for_byte_and_in_order(store: Engine) -> None:
    odd = message("one") + b"\x00\xff body"
    with writing(store) as conn:
        assert store_messages(conn, "hq-1", [(traced("one", 2.0, odd), "ers-a"), (traced("two", 1.0), "")]) == 2
    with writing(store) as conn:
        store_messages(conn, "hq-1", [(traced("one", 3.0), "")])
        store_messages(conn, "hq-2", [(traced("one", 1.5), "")])
    with reading(store) as conn:
        found = messages_of(conn, "one")
    assert [(one.at, trunk) for one, trunk in found] == [(1.5, ""), (2.0, "ers-a"), (3.0, "")]
    assert found[1][0] == traced("one", 2.0, odd)


def test_a_call_that_never_ends_is_kept_in_part(store: Engine) -> None:
    with writing(store) as conn:
        store_messages(conn, "hq-1", [(traced("one", float(n)), "") for n in range(MOST_OF_A_CALL + 50)])
    with writing(store) as conn:
        assert store_messages(conn, "hq-1", [(traced("one", 9999.0), "")]) == 0
    with reading(store) as conn:
        assert len(messages_of(conn, "one")) == MOST_OF_A_CALL


def test_old_ones_are_forgotten_and_nul_in_a_call_id_harms_nothing(store: Engine) -> None:
    with writing(store) as conn:
        store_messages(conn, "hq-1", [(traced("old", 10.0), ""), (traced("n\0l", 20.0), ""), (traced("", 20.0), "")])
        assert forget_messages(conn, 15.0) == 1
    with reading(store) as conn:
        assert messages_of(conn, "old") == []
        assert len(messages_of(conn, "n\0l")) == 1


def test_the_keeper_keeps_through_a_database_that_is_away_and_a_call_process_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_messages, "GATHER_SECONDS", 0.01)
    monkeypatch.setattr(call_messages, "CONNECT_AGAIN_SECONDS", 0.01)
    engine = open_store(f"sqlite:///{tmp_path}/edge911.db")
    is_away = [True]

    def opened() -> AbstractContextManager[Connection]:
        if is_away[0]:
            raise StoreError("database-locked", "for a while")
        return writing(engine)

    def kept(call: str) -> int:
        with reading(engine) as conn:
            return len(messages_of(conn, call))

    keeper = MessageKeeper(tmp_path, "hq-1", opened, keep_seconds=1e12)
    keeper.start()
    expected = [3, 6]

    async def work(edge: SipEdge, server: TraceServer) -> None:
        messages = expected.pop(0)
        await until(lambda: server.listeners == 1)
        assert edge.tap is not None
        edge.tap(message("one"), FLOW, False)
        server.call_began("one")
        edge.tap(message("one", "SIP/2.0 200 OK"), FLOW, True)
        await until(lambda: not is_away[0] or "for a while" in keeper.problem)
        is_away[0] = False
        edge.tap(message("one", "BYE sip:911@example.com SIP/2.0"), FLOW, False)
        await until(lambda: kept("one") == messages)

    try:
        in_a_loop(tmp_path, work)
        in_a_loop(tmp_path, work)  # the same call once more, after a restart
    finally:
        keeper.stop()
    end = time.monotonic() + 20
    while kept("one") < 6 and time.monotonic() < end:
        time.sleep(0.01)
    assert kept("one") == 6
    assert not keeper.is_alive()
    engine.dispose()
