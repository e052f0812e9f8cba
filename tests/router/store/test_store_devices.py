"""The devices table on SQLite and PostgreSQL: partial changes, revisions, deltas."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from e911.location import CivicAddress, Device, DeviceKind, GeoPoint
from router.store.audit import Author, audit_rows
from router.store.devices import (
    COLUMNS,
    POINT_COLUMNS,
    TIME_COLUMNS,
    StaleRevisionError,
    UpsertCount,
    all_devices,
    changes_since,
    columns_of,
    current_revision,
    from_columns,
    get_device,
    mark_devices,
    remove_devices,
    trim_changes,
    upsert_devices,
)
from router.store.engine import StoreError, open_store, reading, writing


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    """An open, empty store."""
    opened = open_store(store_url)
    yield opened
    opened.dispose()


LOBBY = {
    "device": "4001",
    "name": "Lobby",
    "kind": "softphone",
    "callback": "+12125550101",
    "site": "hq",
    "zone": "hq-3e",
    "city": "Montréal",
    "floor": "3",
    "latitude": 40.7484,
    "longitude": -73.9857,
}


def test_a_device_comes_back_as_it_was_given(engine: Engine) -> None:
    with writing(engine) as conn:
        assert upsert_devices(conn, [LOBBY], now=100.5, by="nora") == UpsertCount(new=1, changed=0, unchanged=0)
    with reading(engine) as conn:
        assert all_devices(conn) == [
            Device(
                device="4001",
                name="Lobby",
                kind=DeviceKind.SOFTPHONE,
                callback="+12125550101",
                site="hq",
                zone="hq-3e",
                civic=CivicAddress(city="Montréal", floor="3"),
                point=GeoPoint(latitude=40.7484, longitude=-73.9857),
                confirmed_at=100.0,
                confirmed_by="nora",
                updated_at=100.5,
            )
        ]
        assert get_device(conn, "4001") == all_devices(conn)[0]
        assert get_device(conn, "4002") is None


def test_only_the_given_columns_change(engine: Engine) -> None:
    with writing(engine) as conn:
        upsert_devices(conn, [LOBBY], now=1.0)
        count = upsert_devices(conn, [{"device": "4001", "floor": "4", "zone": ""}], now=2.0)
        assert count == UpsertCount(new=0, changed=1, unchanged=0)
        found = get_device(conn, "4001")
    assert found is not None
    empty = {**dict.fromkeys(COLUMNS, ""), "expires_at": None}
    assert columns_of(found) == {**empty, **LOBBY, "floor": "4", "zone": "", "confirmed_at": 2.0}
    assert found.updated_at == 2.0


def test_a_point_is_cleared_by_nothing_and_never_halved(engine: Engine) -> None:
    with writing(engine) as conn:
        upsert_devices(conn, [LOBBY])
        with pytest.raises(ValueError, match="go together"):
            upsert_devices(conn, [{"device": "4001", "latitude": None}])
        upsert_devices(conn, [{"device": "4001", "latitude": "", "longitude": None}])
        found = get_device(conn, "4001")
    assert found is not None
    assert found.point is None


def test_a_location_is_confirmed_by_being_given_and_what_was_known_of_the_old_one_ends(engine: Engine) -> None:
    doubtful = {"unconfirmed": "new-network", "validation": "valid", "validated_at": 3.0}

    def after(change: dict[str, object], now: float) -> Device:
        with writing(engine) as conn:
            mark_devices(conn, {"4001": doubtful}, None)
            upsert_devices(conn, [{"device": "4001", **change}], now=now, by="ali")  # type: ignore[dict-item]
            found = get_device(conn, "4001")
        assert found is not None
        return found

    with writing(engine) as conn:
        upsert_devices(conn, [LOBBY], now=1.0, by="nora")
    renamed = after({"name": "Entrance"}, 5.0)
    assert (renamed.confirmed_at, renamed.confirmed_by, renamed.unconfirmed) == (1.0, "nora", "new-network")
    assert (renamed.validation, renamed.validated_at) == ("valid", 3.0)
    confirmed = after({"confirmed_at": 6.0, "confirmed_by": "luc"}, 7.0)
    assert (confirmed.confirmed_at, confirmed.confirmed_by, confirmed.unconfirmed) == (6.0, "luc", "")
    assert confirmed.validation == "valid"
    moved = after({"floor": "9"}, 8.9)
    assert (moved.confirmed_at, moved.confirmed_by, moved.unconfirmed) == (8.0, "ali", "")
    assert (moved.validation, moved.validated_at, moved.updated_at) == ("", 0.0, 8.9)
    emptied = after(dict.fromkeys(("site", "city", "floor", "latitude", "longitude"), ""), 20.0)
    assert emptied.confirmed_at == 8.0


def test_a_providers_id_ends_with_the_place_it_stood_for_unless_another_is_given_with_the_new_one(
    engine: Engine,
) -> None:
    def put(**columns: str) -> tuple[str, str]:
        with writing(engine) as conn:
            upsert_devices(conn, [{"device": "4001", **columns}])
            found = get_device(conn, "4001")
        assert found is not None
        return found.location_id, found.endpoint_id

    assert put(site="hq", location_id="L1", endpoint_id="E1") == ("L1", "E1")
    assert put(name="Desk", email="desk@example.com") == ("L1", "E1")
    assert put(room="312") == ("", "")
    assert put(location_id="L2") == ("L2", ""), "of where it is now"
    assert put(room="313", location_id="L2", endpoint_id="E2") == ("", "E2"), "the old place's id, sent along as read"
    assert put(location_id="L3") == ("L3", "E2")
    assert put(callback="+12125550107") == ("", "")
    assert put(callback="+12125550108", location_id="L4", endpoint_id="E4") == ("L4", "E4")
    assert put(location_id="") == ("", "E4")


def test_marks_reach_readers_and_bring_no_device_back(engine: Engine) -> None:
    with writing(engine) as conn:
        upsert_devices(conn, [LOBBY], now=1.0)
        start = current_revision(conn)
        mark_devices(conn, {"4001": {"unconfirmed": "new-network"}, "4009": {"unconfirmed": "new-network"}}, None)
        mark_devices(conn, {}, None)
        _, changed, removed = changes_since(conn, start)
    assert [(device.device, device.unconfirmed) for device in changed] == [("4001", "new-network")]
    assert removed == []


def test_what_does_not_change_makes_no_revision(engine: Engine) -> None:
    with writing(engine) as conn:
        upsert_devices(conn, [LOBBY], now=1.0)
    with writing(engine) as conn:
        before = current_revision(conn)
        assert upsert_devices(conn, [LOBBY], now=2.0) == UpsertCount(new=0, changed=0, unchanged=1)
        assert current_revision(conn) == before
        found = get_device(conn, "4001")
    assert found is not None
    assert found.updated_at == 1.0


def test_two_spellings_are_one_device(engine: Engine) -> None:
    with writing(engine) as conn:
        upsert_devices(conn, [{"device": "+1 (212) 555-0123", "name": "a"}])
        upsert_devices(conn, [{"device": "tel:2125550123", "floor": "2"}])
        (device,) = all_devices(conn)
        assert device.device == "+12125550123"
        assert (device.name, device.civic.floor) == ("a", "2")
        assert remove_devices(conn, ["12125550123"]) == ["+12125550123"]


def test_an_unknown_column_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="floors"), writing(engine) as conn:
        upsert_devices(conn, [{"device": "4001", "floors": "3"}])


def test_changes_tell_what_is_new_and_what_is_gone(engine: Engine) -> None:
    with writing(engine) as conn:
        upsert_devices(conn, [{"device": str(n)} for n in range(1, 5)])
    with reading(engine) as conn:
        start = current_revision(conn)
        assert changes_since(conn, start) == (start, [], [])
    with writing(engine) as conn:
        upsert_devices(conn, [{"device": "2", "name": "two"}, {"device": "9"}])
        remove_devices(conn, ["3", "4"])
        upsert_devices(conn, [{"device": "4", "name": "again"}])
        upsert_devices(conn, [{"device": "8"}])
        remove_devices(conn, ["8", "77"])
    with reading(engine) as conn:
        revision, changed, removed = changes_since(conn, start)
        assert revision == current_revision(conn)
        assert {(device.device, device.name) for device in changed} == {
            ("2", "two"),
            ("9", ""),
            ("4", "again"),
        }
        assert removed == ["3", "8"]
        assert changes_since(conn, revision) == (revision, [], [])


def test_a_reader_too_far_behind_or_ahead_is_told_to_load_everything(engine: Engine) -> None:
    with writing(engine) as conn:
        for n in range(10):
            upsert_devices(conn, [{"device": str(n)}])
        last = current_revision(conn)
        trim_changes(conn, keep=3)
        assert current_revision(conn) == last
        assert len(changes_since(conn, last - 3)[1]) == 3
        for revision in (0, last - 4, last + 1):
            with pytest.raises(StaleRevisionError):
                changes_since(conn, revision)
        trim_changes(conn, keep=0)
        assert current_revision(conn) == last
        upsert_devices(conn, [{"device": "new"}])
        assert current_revision(conn) == last + 1
        assert [device.device for device in changes_since(conn, last)[1]] == ["new"]


def test_the_revision_of_an_emptied_table_is_not_that_of_a_new_one(engine: Engine) -> None:
    with writing(engine) as conn:
        assert current_revision(conn) == 0
        upsert_devices(conn, [{"device": "1"}])
        remove_devices(conn, ["1"])
        assert all_devices(conn) == []
        assert current_revision(conn) == 2


@pytest.mark.long
def test_ten_thousand_rows(engine: Engine) -> None:
    rows = [{**LOBBY, "device": f"{n:05}", "name": f"Phone {n}"} for n in range(10_000)]
    with writing(engine) as conn:
        assert upsert_devices(conn, rows) == UpsertCount(new=10_000, changed=0, unchanged=0)
    with writing(engine) as conn:
        changed = [{**row, "floor": "9"} if n % 2 else row for n, row in enumerate(rows)]
        assert upsert_devices(conn, changed) == UpsertCount(new=0, changed=5_000, unchanged=5_000)
    with reading(engine) as conn:
        assert len(all_devices(conn)) == 10_000
        assert len(changes_since(conn, 10_000)[1]) == 5_000
    with writing(engine) as conn:
        assert len(remove_devices(conn, [f"{n:05}" for n in range(0, 10_000, 2)])) == 5_000
        assert len(all_devices(conn)) == 5_000


def test_writers_at_once_lose_nothing_and_a_reader_misses_nothing(store_url: str, engine: Engine) -> None:
    """Overlapping imports in opposite orders, while a reader follows the deltas."""
    failures: list[BaseException] = []

    def write(number: int) -> None:
        own = open_store(store_url, wait=60)
        names = [str(n) for n in range(100)]
        try:
            for turn in range(5):
                order = names if number % 2 else names[::-1]
                with writing(own) as conn:
                    upsert_devices(conn, [{"device": n, "name": f"{number}.{turn}"} for n in (*order, f"w{number}")])
        except StoreError as error:
            failures.append(error)
        finally:
            own.dispose()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    table: dict[str, Device] = {}
    revision = 0

    def follow() -> None:
        nonlocal revision
        with reading(engine) as conn:
            revision, changed, removed = changes_since(conn, revision)
        table.update((device.device, device) for device in changed)
        for name in removed:
            del table[name]

    with writing(engine) as conn:
        upsert_devices(conn, [{"device": "first"}])  # so that revision 1 is the first on both
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        follow()
    for writer in writers:
        writer.join()
    follow()
    assert failures == []
    with reading(engine) as conn:
        assert {device.device: device for device in all_devices(conn)} == table
    assert len(table) == 105


TEXTS = [name for name in COLUMNS if name not in {"kind", *POINT_COLUMNS, *TIME_COLUMNS}]


@given(st.fixed_dictionaries({}, optional={name: st.text(max_size=5) for name in TEXTS}))
def test_columns_and_devices_are_two_views_of_one_thing(values: dict[str, str]) -> None:
    device = from_columns(values)
    assert from_columns(columns_of(device)) == device


def test_many_devices_are_changed_with_few_statements(engine: Engine) -> None:
    # One statement for each device cost PostgreSQL 5 ms, with its triggers: eight minutes for 100,000.
    with writing(engine) as conn:
        upsert_devices(conn, [{"device": str(n), "site": "hq"} for n in range(2000)], now=1.0)
    told: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_conn: object, _cursor: object, statement: str, *_others: object) -> None:
        told.append(statement.split(maxsplit=1)[0])

    with writing(engine) as conn:
        count = upsert_devices(conn, [{"device": str(n), "name": "Lobby", "latitude": None} for n in range(2000)])
        mark_devices(conn, {str(n): {"validation": "valid", "validated_at": 5.0} for n in range(1, 2002)}, None)
    assert count == UpsertCount(new=0, changed=2000, unchanged=0)
    assert told.count("UPDATE") <= 10
    assert told.count("INSERT") <= 10
    with reading(engine) as conn:
        known = {device.device: device for device in all_devices(conn)}
    assert len(known) == 2000  # a device that is not there stays away
    assert {device.name for device in known.values()} == {"Lobby"}
    assert sum(device.validated_at == 5.0 and device.validation == "valid" for device in known.values()) == 1999
    assert all(device.site == "hq" and device.point is None for device in known.values())


def test_what_edge911_itself_finds_out_of_a_device_stands_in_the_audit_trail_once(engine: Engine) -> None:
    with writing(engine) as conn:
        upsert_devices(conn, [{"device": "4001", "site": "hq"}])
        author = Author(who="address validation", via="lost")
        for at in (1.0, 2.0):
            mark_devices(conn, {"4001": {"validation": "invalid: street", "validated_at": at}}, author)
        mark_devices(conn, {"4009": {"validation": "valid", "validated_at": 1.0}}, author)
        rows = [row for row in audit_rows(conn) if row.action == "mark"]
    assert [(row.who, row.via, row.subject, row.site) for row in rows] == [
        ("address validation", "lost", "device:4001", "hq")
    ]
    assert (rows[0].before, rows[0].after) == ({"validation": ""}, {"validation": "invalid: street"})
