"""The live page and its stream: whose calls it gives, until when, and what goes on without the database."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import Request

from e911.record import CallbackEvent, CallbackOutcome, CallIntent, JournalEvent
from router.calls.call_state import StateFile
from router.console import evidence_page, live_feed, live_page
from router.console.live_feed import Change, LiveFeed, Watcher
from router.console.pages import _visitor_without_database, visitor
from router.console.problems import RequestProblem
from router.console.readiness_page import Doctor
from router.notices.confirmations import Confirmation, Requests, Step
from router.records.live_calls import MOST_CALLS
from router.store.confirmations import store_confirmations
from router.store.devices import upsert_devices
from router.store.records import apply_events
from router.store.users import Role, change_user, end_session, remove_user, set_password_hash
from tests.router.notice_events import intent
from tests.support.console import AUTHOR, Browser, ConsoleWorld, Program, console_world

HOSTILE = "<script>alert(1)</script>\u202eevil\u2066"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ConsoleWorld]:
    """A console on SQLite, whose database has a call of another node."""
    with console_world(tmp_path) as made:
        store(made, call("call-1"))
        yield made
        feed: LiveFeed | None = getattr(made.app.state, "live_feed", None)
        if feed is not None:
            rest(feed)


def call(name: str, **changed: Any) -> CallIntent:
    return replace(intent(name), at=time.time(), node="other-node", **changed)


def store(world: ConsoleWorld, *events: JournalEvent) -> None:
    with world.console.store.writing() as conn:
        apply_events(conn, list(events))


def feed_of(world: ConsoleWorld) -> LiveFeed:
    return live_page.feed_of(request_of(world, world.browser()))


def rest(feed: LiveFeed) -> None:
    """Wait until nobody watches and the thread has ended."""
    assert not feed._watchers
    thread = feed._thread
    if thread is not None:
        thread.join(30)
        assert not thread.is_alive()


async def next_of(watcher: Watcher) -> tuple[str, Any]:
    events = await asyncio.wait_for(watcher.take(), 60)
    assert events is not None
    name, _, data = events.partition(b"\ndata: ")
    return name.removeprefix(b"event: ").decode(), orjson.loads(data)


def watched(world: ConsoleWorld) -> None:
    """Have the feed load the calls of the database, as an open page does."""
    feed = feed_of(world)

    async def once() -> None:
        watcher = feed.watch(asyncio.get_running_loop(), None)
        try:
            assert [one["id"] for one in (await next_of(watcher))[1]] == ["call-1"]
        finally:
            feed.leave(watcher)

    asyncio.run(once())
    rest(feed)


def request_of(world: ConsoleWorld, browser: Browser) -> Request:
    cookies = "; ".join(f"{name}={value}" for name, value in browser.http.cookies.items())
    scope = {"type": "http", "app": world.app, "method": "GET", "path": "/live/events", "query_string": b""}
    return Request({**scope, "headers": [(b"cookie", cookies.encode())], "client": ("127.0.0.1", 5)})


def lose_database(world: ConsoleWorld) -> None:
    world.console.store.close()
    world.console.store.url = "sqlite:////proc/none/edge911.db"


async def stream_of(request: Request) -> AsyncIterator[bytes]:
    response: Any = await live_page.live_events(request, visitor(request))
    stream: AsyncIterator[bytes] = response.body_iterator
    return stream


def test_it_begins_with_the_database_and_tells_of_calls_of_other_nodes(world: ConsoleWorld) -> None:
    feed = feed_of(world)

    async def watch() -> tuple[tuple[str, Any], tuple[str, Any], tuple[str, Any]]:
        loop = asyncio.get_running_loop()
        first, other_site = feed.watch(loop, None), feed.watch(loop, ("lab",))
        try:
            begun = await next_of(first)
            store(world, call("call-2"))
            return begun, await next_of(first), await next_of(other_site)
        finally:
            feed.leave(first)
            feed.leave(other_site)

    begun, change, other = asyncio.run(watch())
    assert (begun[0], [(one["id"], one["node"]) for one in begun[1]]) == ("calls", [("call-1", "other-node")])
    assert (change[0], change[1]["id"]) == ("call", "call-2")
    assert other == ("calls", []), "nobody is told of another site's calls"


def test_an_acknowledgement_is_still_known_to_those_who_come_after_all_have_left(world: ConsoleWorld) -> None:
    watched(world)
    feed_of(world).acknowledged(["call-1"], "ada", time.time())
    feed = feed_of(world)

    async def watch() -> Any:
        watcher = feed.watch(asyncio.get_running_loop(), None)
        try:
            return (await next_of(watcher))[1]
        finally:
            feed.leave(watcher)

    assert [one["acknowledged_by"] for one in asyncio.run(watch())] == ["ada"]


def test_a_database_that_answers_late_keeps_nobody_from_coming_or_leaving(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, asked, go_on = feed_of(world), threading.Event(), threading.Event()
    look = LiveFeed._look

    def late(*arguments: Any, **options: Any) -> Any:
        asked.set()
        assert go_on.wait(60)
        return look(*arguments, **options)

    monkeypatch.setattr(LiveFeed, "_look", late)

    async def come_and_go() -> None:
        watcher = feed.watch(asyncio.get_running_loop(), None)
        assert await asyncio.to_thread(asked.wait, 60)
        assert feed._lock.acquire(blocking=False), "held while the database is read"
        feed._lock.release()
        feed.leave(feed.watch(asyncio.get_running_loop(), None))
        assert feed.get("call-1") is None
        feed.leave(watcher)

    try:
        asyncio.run(come_and_go())
    finally:
        go_on.set()


@pytest.mark.parametrize("what", ["logged-out", "other-sites"])
def test_a_stream_on_which_calls_flow_ends_with_the_login_and_with_a_change_of_its_sites(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(live_page, "USED_SECONDS", 0.0)
    monkeypatch.setattr(live_page, "ALIVE_SECONDS", 60.0)
    browser = world.browser("ada", "desk", ("hq",))
    request = request_of(world, browser)

    async def listen() -> list[bytes]:
        stream = await stream_of(request)
        while not (await anext(stream)).startswith(b"event: calls"):
            pass
        if what == "logged-out":
            await asyncio.to_thread(browser.submit, "/account", "/logout")
        else:
            with world.console.store.writing() as conn:
                change_user(conn, "ada", AUTHOR, role=Role.DESK, sites=("lab",))
        for watcher in live_page.feed_of(request)._watchers:
            watcher.put([Change(f"call-{number}", b"event: call\ndata: {}\n\n") for number in range(100)])
        return [chunk async for chunk in stream]

    chunks = asyncio.run(listen())
    assert chunks == ([b"event: ended\ndata: {}\n\n"] if what == "logged-out" else [])


def test_a_stream_goes_on_without_the_database(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "USED_SECONDS", 0.0)
    request = request_of(world, world.browser("ada", "desk"))

    async def listen() -> bytes:
        stream: Any = await stream_of(request)
        try:
            while not (await anext(stream)).startswith(b"event: calls"):
                pass
            lose_database(world)
            live_page.feed_of(request).acknowledged(["call-1"], "ada", 1.0)
            return bytes(await anext(stream))
        finally:
            await stream.aclose()

    chunk = asyncio.run(listen())
    assert chunk.startswith(b"event: call\n")
    assert orjson.loads(chunk.partition(b"data: ")[2])["acknowledged_by"] == "ada"


def test_who_goes_away_early_leaves_nothing_behind(world: ConsoleWorld) -> None:
    request = request_of(world, world.browser("ada", "desk"))

    async def listen() -> None:
        stream: Any = await stream_of(request)

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(listen())
    assert not live_page.feed_of(request)._watchers


def test_a_call_that_is_watched_is_acknowledged_without_the_database(world: ConsoleWorld) -> None:
    desk, lab = world.browser("ada", "desk", ("hq",)), world.browser("bob", "desk", ("lab",))
    program, stranger = world.program(), world.browser()
    assert program("GET", "/calls").status_code == 200
    tokens = {one: one.csrf("/account") for one in (desk, lab)}
    stranger.http.cookies.set("edge911", "x" * 43)
    watched(world)
    lose_database(world)

    def press(browser: Browser, call: str = "call-1") -> int:
        data = {"csrf": tokens.get(browser, "0" * 64)}
        headers = {"Accept": "application/json"}
        return int(browser.http.post(f"/live/{call}/acknowledge", data=data, headers=headers).status_code)

    assert press(stranger) == 503, "whose login was never seen does not count"
    assert press(lab) == 404
    assert press(desk, "call-9") == 503, "what is not watched the database must know"
    assert press(desk) == 204
    assert program("POST", "/calls/call-1/acknowledge?by=crm").status_code == 204
    said = [(one["how"], one["by"]) for one in Requests(world.console.state_directory).take()]
    assert said == [("console", "ada"), ("api", "crm")]
    call = feed_of(world).get("call-1")
    assert call is not None
    assert call.acknowledged_by == "ada"


def test_who_logged_out_acknowledges_nothing_when_the_database_goes_away(world: ConsoleWorld) -> None:
    desk = world.browser("ada", "desk")
    data, cookies = {"csrf": desk.csrf("/account")}, list(desk.http.cookies.items())
    desk.submit("/account", "/logout")
    for name, value in cookies:
        desk.http.cookies.set(name, value)
    watched(world)
    lose_database(world)
    assert desk.http.post("/live/call-1/acknowledge", data=data).status_code == 503


def test_acknowledging_where_the_state_directory_cannot_be_written(world: ConsoleWorld) -> None:
    desk = world.browser("ada", "desk")
    world.console.state_directory.mkdir(exist_ok=True)
    (world.console.state_directory / "requests").write_text("a file where the directory should be")
    data = {"csrf": desk.csrf("/account")}
    headers = {"Accept": "application/json"}
    assert desk.http.post("/live/call-1/acknowledge", data=data, headers=headers).status_code == 204
    program = world.program()
    assert program("POST", "/calls/call-1/acknowledge?by=crm").status_code == 204
    watched(world)
    lose_database(world)
    answer = program("POST", "/calls/call-1/acknowledge?by=crm")
    assert (answer.status_code, answer.json()["reason"]) == (503, "not-acknowledged")


def test_the_page_names_only_ones_own_sites_and_shows_what_a_phone_says_as_text(world: ConsoleWorld) -> None:
    caller = replace(intent("call-3").caller, device=HOSTILE, device_name=HOSTILE, display_name=HOSTILE)
    store(world, call("call-3", caller=caller, zone=HOSTILE))
    mine = world.browser("bob", "viewer", ("lab",)).get("/live").text
    assert "Head office" not in mine
    assert "hq-3e" not in mine
    everything = world.browser("ada").get("/live").text
    assert "Head office" in everything
    assert "&lt;script&gt;alert(1)" in everything
    assert HOSTILE not in everything
    assert not {"\u202e", "\u2066"} & {*everything}
    of_call = world.browser("cleo").get("/calls/call-3").text
    assert "&lt;script&gt;alert(1)" in of_call
    assert HOSTILE not in of_call
    assert not {"\u202e", "\u2066"} & {*of_call}


@pytest.mark.parametrize(
    ("validation", "english", "french"),
    [
        ("", "Validation: not validated", "Validation: non validée"),
        ("valid", "Validation: valid 2026-09-11", "Validation: valide 2026-09-11"),
        ("invalid: HNO", "Validation: invalid: HNO 2026-09-11", "Validation: invalide: HNO 2026-09-11"),
    ],
)
def test_the_page_of_a_call_says_whether_its_place_was_validated_and_when(
    world: ConsoleWorld, validation: str, english: str, french: str
) -> None:
    place = intent().location
    assert place is not None
    place = replace(place, validation=validation, validated_at=1_789_135_000.0 if validation else 0.0)
    store(world, call("call-7", location=place))
    browser = world.browser("ada")
    for language, told in (("en", english), ("fr", french)):
        browser.http.cookies.set("edge911-language", language)
        text = " ".join(re.sub(r"<[^>]*>", " ", browser.get("/calls/call-7").text).split())
        assert told in text


def test_a_bad_form_shows_nothing_of_another_sites_device(world: ConsoleWorld) -> None:
    with world.console.store.writing() as conn:
        upsert_devices(conn, [{"device": "4012", "site": "hq", "room": "secret room"}])
    erin = world.browser("erin", "engineer", ("lab",))
    answer = erin.submit("/locations/edit", is_new="0", device="4012", latitude="40", etag="x")
    assert answer.status_code == 404
    assert "secret room" not in answer.text


def test_nobody_waits_for_a_report_or_for_readiness(world: ConsoleWorld) -> None:
    viewer = world.browser("bob", "viewer")
    doctor = world.app.state.doctor = Doctor()
    with evidence_page._one_at_a_time, doctor.lock:
        answer = viewer.get("/evidence/hq.html")
        assert (answer.status_code, "evidence-busy" in answer.text) == (429, True)
        assert int(answer.headers["Retry-After"]) > 0
        assert viewer.get("/readiness").status_code == 503
        doctor.document = {"findings": [], "sites": []}
        assert viewer.get("/readiness").status_code == 200, "the last answer, with its age"


def test_many_calls_are_acknowledged_in_one_step_or_none_of_them(world: ConsoleWorld) -> None:
    store(world, call("call-2"), call("call-3", site="lab"))
    desk, viewer = world.browser("ada", "desk", ("hq",)), world.browser("vic", "viewer")
    headers = {"Accept": "application/json"}

    def press(browser: Browser, calls: str) -> int:
        data = {"csrf": browser.csrf("/account"), "calls": calls}
        return int(browser.http.post("/live/acknowledge", data=data, headers=headers).status_code)

    assert press(desk, "call-1 call-2 call-3") == 404, "one is of another site"
    assert press(desk, "") == 422
    assert press(desk, " ".join(f"call-{number}" for number in range(2000))) == 422
    assert press(viewer, "call-1 call-2") == 403
    assert Requests(world.console.state_directory).take() == []
    assert press(desk, "call-1 call-2") == 204
    assert sorted(one["call"] for one in Requests(world.console.state_directory).take()) == ["call-1", "call-2"]


def test_a_program_acknowledges_many_calls_or_none_of_them(world: ConsoleWorld) -> None:
    store(world, call("call-2"), call("call-3", site="lab"))
    write, read = world.program("write", ("hq",)), world.program("read")

    def send(program: Program, body: Any) -> int:
        return int(program("POST", "/calls/acknowledge", json=body).status_code)

    assert send(write, {"calls": ["call-1", "call-2", "call-3"], "by": "crm"}) == 404, "one is of another site"
    assert send(write, {"calls": ["call-1", "call-9"], "by": "crm"}) == 404
    assert send(read, {"calls": ["call-1"], "by": "crm"}) == 403
    assert send(Program(world.app, ""), {"calls": ["call-1"], "by": "crm"}) == 401
    many = [f"call-{number}" for number in range(2000)]
    wrong: list[Any] = [{"calls": [], "by": "crm"}, {"calls": many, "by": "crm"}, {"calls": ["call-1"], "by": ""}, []]
    assert [send(write, body) for body in wrong] == [422] * 4
    assert Requests(world.console.state_directory).take() == []
    assert send(write, {"calls": ["call-1", "call-2", "call-1"], "by": "crm"}) == 204
    said = [(one["call"], one["by"], one["how"]) for one in Requests(world.console.state_directory).take()]
    assert sorted(said) == [("call-1", "crm", "api"), ("call-2", "crm", "api")]


def test_one_who_reads_slowly_is_told_how_calls_stand_at_last_and_never_without_end() -> None:
    async def watch() -> tuple[bytes | None, bytes | None, bytes | None]:
        watcher = Watcher(asyncio.get_running_loop(), None)
        for step in range(5000):
            watcher.put([Change(f"call-{step % 200}", b"<%d>" % step)])
        first = await watcher.take()
        watcher.put([Change("call-1", b"<old>"), Change("", b"<all>"), Change("call-2", b"<new>")])
        second = await watcher.take()
        watcher.put([Change(f"call-{number}", b"") for number in range(live_feed.MOST_WAITING + 1)])
        return first, second, await watcher.take()

    first, second, third = asyncio.run(watch())
    assert first == b"".join(b"<%d>" % step for step in range(4800, 5000)), "the last of each call"
    assert second == b"<all><new>"
    assert third is None, "it begins anew"


def test_beyond_the_bound_watchers_are_told_to_come_again(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "MOST_WATCHERS", 1)
    request = request_of(world, world.browser("ada", "desk"))

    async def listen() -> int:
        stream: Any = await stream_of(request)
        try:
            await anext(stream)
            with pytest.raises(RequestProblem) as refused:
                await stream_of(request)
            return refused.value.status
        finally:
            await stream.aclose()

    assert asyncio.run(listen()) == 503


def test_a_storm_of_another_node_is_shown_whole(world: ConsoleWorld) -> None:
    feed = feed_of(world)

    async def watch() -> set[str]:
        watcher = feed.watch(asyncio.get_running_loop(), None)
        try:
            await next_of(watcher)
            storm = [call(f"storm-{number:03d}") for number in range(250)]
            await asyncio.to_thread(store, world, *storm)
            found: set[str] = set()
            while len(found) < 250:
                events = await asyncio.wait_for(watcher.take(), 60)
                assert events is not None
                found |= {
                    orjson.loads(one.partition(b"data: ")[2])["id"]
                    for one in events.split(b"\n\n")
                    if one.startswith(b"event: call\n")
                }
            return found
        finally:
            feed.leave(watcher)

    assert len(asyncio.run(watch())) == 250


def test_who_watches_one_site_sees_its_calls_however_many_there_are_elsewhere(world: ConsoleWorld) -> None:
    store(world, call("lab-1", site="lab"))
    store(world, *(call(f"storm-{number:03d}", site="hq") for number in range(MOST_CALLS)))
    feed = feed_of(world)

    async def watch() -> list[str]:
        watcher = feed.watch(asyncio.get_running_loop(), ("lab",))
        try:
            return [one["id"] for one in (await next_of(watcher))[1]]
        finally:
            feed.leave(watcher)

    assert asyncio.run(watch()) == ["lab-1"]


@pytest.mark.parametrize("what", ["removed", "logged-out", "other-sites", "password"])
def test_an_idle_stream_ends_as_soon_as_its_login_does(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(live_feed, "LOGINS_SECONDS", 0.0)
    browser = world.browser("ada", "desk", ("hq",))
    request = request_of(world, browser)

    async def listen() -> list[bytes]:
        stream = await stream_of(request)
        while not (await anext(stream)).startswith(b"event: calls"):
            pass
        with world.console.store.writing() as conn:
            if what == "removed":
                remove_user(conn, "ada", AUTHOR)
            elif what == "password":
                set_password_hash(conn, "ada", "another", AUTHOR)
            elif what == "other-sites":
                change_user(conn, "ada", AUTHOR, role=Role.DESK, sites=("lab",))
            else:
                end_session(conn, browser.http.cookies["edge911"])
        return [chunk async for chunk in stream if not chunk.startswith(b"event: alive")]

    chunks = asyncio.run(asyncio.wait_for(listen(), 60))
    assert chunks == ([] if what == "other-sites" else [b"event: ended\ndata: {}\n\n"])


def test_a_page_is_told_every_few_seconds_that_its_stream_lives_and_what_time_it_is(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_page, "ALIVE_SECONDS", 0.05)
    request = request_of(world, world.browser("ada", "desk"))

    async def listen() -> list[float]:
        stream: Any = await stream_of(request)
        found: list[float] = []
        try:
            async for chunk in stream:
                found += [float(said) for said in re.findall(rb'event: alive\ndata: {"now":([0-9.]+),', chunk)]
                if len(found) == 3:
                    break
        finally:
            await stream.aclose()
        return found

    assert all(abs(said - time.time()) < 60 for said in asyncio.run(listen()))


def test_the_page_and_its_stream_open_while_the_database_is_away_for_who_was_here_lately(world: ConsoleWorld) -> None:
    desk, stranger = world.browser("ada", "desk"), world.browser()
    assert desk.get("/live").status_code == 200
    lose_database(world)
    assert desk.get("/live").status_code == 200
    assert stranger.get("/live").status_code == 303

    async def listen() -> bytes:
        request = request_of(world, desk)
        response: Any = await live_page.live_events(request, _visitor_without_database(request))
        try:
            return bytes(await anext(response.body_iterator))
        finally:
            await response.body_iterator.aclose()

    assert asyncio.run(listen()).startswith(b"retry:")


def test_the_page_of_a_call_shows_who_saw_it_who_took_care_and_who_called_back(world: ConsoleWorld) -> None:
    back = CallbackEvent(
        id="call-1",
        at=time.time(),
        node="other-node",
        callback="b1",
        number="+12125550123",
        caller="+12125550911",
        trunk="carrier",
        outcome=CallbackOutcome.RECEIVED,
    )
    browser = world.browser("ada", "desk")
    assert "I take care" in browser.get("/calls/call-1").text
    with world.console.store.writing() as conn:
        apply_events(conn, [back])
        said = (Step.SEEN, "link"), (Step.ACKNOWLEDGED, "key")
        store_confirmations(
            conn,
            "other-node",
            [
                Confirmation(call="call-1", step=step, contact="desk", channel=0, by=HOSTILE, how=how, at=time.time())
                for step, how in said
            ],
        )
    page = browser.get("/calls/call-1").text
    assert "I take care" not in page, "somebody does"
    for wanted in ("acknowledged", "seen", "&lt;script&gt;", "takes care", "+12125550911", "Calls back"):
        assert wanted in page
    assert "<script>alert" not in page
    browser.http.cookies.set("edge911-language", "fr")
    assert "pris en charge" in browser.get("/calls/call-1").text


def test_one_login_with_all_the_pages_leaves_room_for_another(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "MOST_WATCHERS", 3)
    many, other = (request_of(world, world.browser(name, "desk")) for name in ("ada", "bob"))

    async def listen() -> tuple[int, list[bytes]]:
        streams: list[Any] = [await stream_of(many) for _ in range(3)]
        try:
            for stream in streams:
                await anext(stream)
            with pytest.raises(RequestProblem) as refused:
                await stream_of(many)
            streams.append(await stream_of(other))
            await anext(streams[-1])
            assert len(live_page.feed_of(many)._watchers) == 3
            ended = [asyncio.ensure_future(_rest(stream)) for stream in streams[:3]]
            done, going_on = await asyncio.wait(ended, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            for task in going_on:
                task.cancel()
            await asyncio.gather(*going_on, return_exceptions=True)
            return refused.value.status, [chunk for task in done for chunk in task.result()]
        finally:
            for stream in streams:
                await stream.aclose()

    status, rest_of_it = asyncio.run(listen())
    assert status == 503
    assert b"event: ended\ndata: {}\n\n" not in rest_of_it, "the login is good: it comes again"


async def _rest(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [chunk async for chunk in stream]


def test_a_page_is_told_whether_the_router_says_that_it_lives(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_page, "ALIVE_SECONDS", 0.02)
    monkeypatch.setattr(live_feed, "ROUTER_SECONDS", 0.0)
    request = request_of(world, world.browser("ada", "desk"))
    file = StateFile(world.console.state_directory)

    async def said(stream: Any, wanted: bytes) -> None:
        while wanted not in await anext(stream):
            pass

    async def listen() -> None:
        stream: Any = await stream_of(request)
        try:
            await said(stream, b'"is_router_heard":false')
            file.write({"serving": True, "database": "ok", "devices": 0, "trunks": {}})
            await said(stream, b'"is_router_heard":true')
        finally:
            await stream.aclose()

    asyncio.run(asyncio.wait_for(listen(), 60))
