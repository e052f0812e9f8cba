"""Test calls of our own: the proof they carry, their plan, when they are due, and how they are judged."""

import struct
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from config.load import LoadedConfig, load_config
from e911.locate import DeviceTable
from e911.numbers import CallKind
from e911.read_back import Heard, ReadBack
from e911.record import RouteEvent, RouteOutcome
from router.calls.call_state import NOTHING
from router.emergency.decision import plan_call
from router.emergency.explain import synthetic_invite
from router.emergency.rules import Rules
from router.network.sources import Side, Source
from router.notices.confirmations import Requests
from router.notices.receivers.audio import from_mulaw
from router.notices.receivers.sdp import offer, read_audio
from router.notices.receivers.sip_agent import SipAgent
from router.process.signs_of_life import Heartbeat
from router.self_test import __main__ as process
from router.self_test import run
from router.self_test.__main__ import START_SECONDS, is_too_early
from router.self_test.call import Placed, Recording
from router.self_test.plan import OTHER_ROUTE, plan_for
from router.self_test.proof import FIELD, VALID_SECONDS, Asked, asked_by, field_value
from router.self_test.run import judged
from router.self_test.schedule import due_tests, moment_before, routes_of, trunk_of, went_elsewhere
from router.self_test.several import AT_ONCE, Several
from router.self_test.words import REASONS, alarm_words
from router.store.engine import open_store, reading, writing
from router.store.self_tests import (
    KEPT_OF_EACH,
    RECORDINGS_OF_EACH,
    SelfTest,
    abandoned,
    claim,
    finish,
    forget,
    last_begun,
    latest,
    list_tests,
    recording_of,
)
from sip.message import Edits, Request

KEY = b"k" * 32
NOW = 1_790_000_000.0
INSIDE = Source(Side.INSIDE, is_trunk_address=False, trust_identity=False)
CONFIG = """
listen: [udp://127.0.0.1:5060]
networks: {inside: [127.0.0.0/8]}
trunks: {a: {target: "sip:192.0.2.7"}, b: {target: "sip:192.0.2.8"}, c: {target: "sip:192.0.2.9"}}
emergency:
  default: {site: hq}
  routes: [{name: one, trunk: a}, {name: two, trunk: b, covers: [US]}, {name: quebec, trunk: c, covers: [CA-QC]}]
  basic: [{name: relay, trunk: c, number: "+12125550140"}]
sites:
  - id: hq
    timezone: America/New_York
    callback: "+12125550100"
    address: {country: US, state: NY, city: Albany, street: Lake, house_number: "1"}
    notify: [desk]
  - id: laval
    timezone: America/Toronto
    callback: "+14505550100"
    address: {country: CA, state: QC, city: Laval, street: Nord, house_number: "7"}
    notify: [desk]
contacts: {desk: {send: ["json://127.0.0.1:9/x"]}}
self_test: {at: "03:15"}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedConfig:
    file = tmp_path / "edge911.yaml"
    file.write_text(CONFIG)
    return load_config(file)


def invite(asked: Asked, at: float = NOW, key: bytes = KEY, dialled: str = "933") -> Request:
    request = synthetic_invite("edge911-test", dialled, "127.0.0.1")
    value = field_value(key, asked, request.call_id.decode(), request.from_tag.decode(), at)
    return request.edited(Edits(append=(f"{FIELD}: {value}".encode(),)))


def test_the_proof_holds_for_this_call_and_a_minute() -> None:
    asked = Asked(site="hq", route="one")
    request = invite(asked)
    assert asked_by(KEY, request, NOW) == asked
    assert asked_by(KEY, request, NOW + VALID_SECONDS - 1) == asked
    assert asked_by(KEY, request, NOW + VALID_SECONDS + 1) is None
    assert asked_by(KEY, request, NOW - VALID_SECONDS - 2) is None
    assert asked_by(b"other" * 8, request, NOW) is None
    other_call = request.edited(Edits(replace={"call-id": (b"Call-ID: another",)}))
    assert asked_by(KEY, other_call, NOW) is None
    assert asked_by(KEY, synthetic_invite("x", "933", "127.0.0.1"), NOW) is None


@pytest.mark.parametrize("change", [("site=hq", "site=laval"), ("route=one", "route=two"), ("proof=", "proof=0")])
def test_a_changed_proof_is_none(change: tuple[str, str]) -> None:
    request = invite(Asked(site="hq", route="one"))
    line = request.lines(FIELD.lower())[0].replace(change[0].encode(), change[1].encode())
    assert asked_by(KEY, request.edited(Edits(replace={FIELD.lower(): (line,)})), NOW) is None


@pytest.mark.parametrize(
    "value", ["", "site=;route=;at=;proof=", "x" * 5000, "site=a b;route=c;at=1;proof=" + "0" * 40]
)
def test_nonsense_is_none(value: str) -> None:
    request = synthetic_invite("x", "933", "127.0.0.1")
    assert asked_by(KEY, request.edited(Edits(append=(f"{FIELD}: {value}".encode(),))), NOW) is None


def test_the_plan_is_that_of_the_site_by_that_route_alone(loaded: LoadedConfig) -> None:
    rules = Rules(loaded, [], KEY)
    request = synthetic_invite("edge911-test", "933", "127.0.0.1")
    plan = plan_call(rules, DeviceTable(), request, INSIDE, "127.0.0.1", CallKind.TEST)
    tried = plan_for(rules, plan, Asked(site="laval", route="quebec"))
    assert [step.name for step in tried.ladder] == ["quebec"]
    assert {step.name: step.skipped for step in tried.steps} == {
        "one": OTHER_ROUTE,
        "two": "does-not-cover",
        "quebec": "",
        "relay": "test-call",
    }
    assert tried.decision.location is not None
    assert tried.decision.location.civic.city == "Laval"
    assert tried.caller.callback == "+14505550100"
    assert tried.decision.contacts == ("desk",)
    # What is not there (any more) leaves the usual plan.
    assert plan_for(rules, plan, Asked(site="gone", route="gone")).ladder == plan.ladder


def test_what_is_tested_is_every_site_by_every_route_that_serves_it(loaded: LoadedConfig) -> None:
    assert [(site.id, route) for site, route in routes_of(loaded.config, [])] == [
        ("hq", "one"),
        ("hq", "two"),
        ("laval", "one"),
        ("laval", "quebec"),
    ]
    assert [site.id for site, _ in routes_of(loaded.config, ["laval"])] == ["laval", "laval"]


def at(text: str, zone: str = "America/New_York") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("now", "days", "moment"),
    [
        ("2026-11-27 03:14:59", [], "2026-11-26 03:15:00"),
        ("2026-11-27 03:15:00", [], "2026-11-27 03:15:00"),
        ("2026-11-27 23:00:00", ["mon"], "2026-11-23 03:15:00"),
        ("2026-11-23 03:00:00", ["mon"], "2026-11-16 03:15:00"),
    ],
)
def test_the_moment_it_was_due(now: str, days: list[str], moment: str) -> None:
    assert moment_before("03:15", days, "America/New_York", at(now)) == at(moment)


def test_a_day_without_that_time_and_one_that_has_it_twice_have_one_moment_each() -> None:
    zone = "America/New_York"
    spring = moment_before("02:30", [], zone, at("2026-03-08 12:00:00"))
    assert spring is not None
    assert at("2026-03-08 00:00:00") < spring < at("2026-03-08 04:00:00")
    first = moment_before("01:30", [], zone, at("2026-11-01 12:00:00"))
    assert first == datetime(2026, 11, 1, 1, 30, tzinfo=ZoneInfo(zone), fold=0).timestamp()


def test_due_once_a_day_and_not_long_after(loaded: LoadedConfig) -> None:
    config = loaded.config
    moment = at("2026-11-27 03:15:00")
    assert {(due.site, due.route) for due in due_tests(config, {}, moment + 60)} == {
        ("hq", "one"),
        ("hq", "two"),
        ("laval", "one"),
        ("laval", "quebec"),
    }
    last = {("hq", "one"): moment + 1, ("laval", "one"): moment - 86_400}
    assert {(due.site, due.route) for due in due_tests(config, last, moment + 60)} == {
        ("hq", "two"),
        ("laval", "one"),
        ("laval", "quebec"),
    }
    assert due_tests(config, {}, moment + 7 * 3600) == []
    assert due_tests(replace_section(config), {}, moment + 60) == []


def replace_section(config: object) -> object:
    return config.model_copy(update={"self_test": None})  # type: ignore[attr-defined]


def test_what_is_due_names_the_trunk_of_the_sites_own_route(loaded: LoadedConfig) -> None:
    hq, laval = loaded.config.sites
    other = [loaded.config.emergency.routes[0].model_copy(update={"trunk": "c"})]
    config = loaded.config.model_copy(update={"sites": [hq, laval.model_copy(update={"routes": other})]})
    trunks = {
        (due.site, due.route): due.trunk
        for due in due_tests(config, {}, at("2026-11-27 03:16:00"))
        if due.route == "one"
    }
    assert trunks == {("hq", "one"): "a", ("laval", "one"): "c"}
    assert trunk_of(config, hq, "gone") == ""


def test_several_are_under_way_at_once_and_few_by_one_trunk() -> None:
    over = threading.Event()
    under_way: Counter[str] = Counter()
    most: Counter[str] = Counter()
    lock = threading.Lock()
    several = Several()

    def place(trunk: str) -> None:
        with lock:
            under_way[trunk] += 1
            most[trunk] = max(most[trunk], under_way[trunk])
            most["all"] = max(most["all"], under_way.total())
        over.wait(10)
        with lock:
            under_way[trunk] -= 1

    waiting = [f"t{number % 5}" for number in range(60)]
    while waiting:
        for trunk in list(waiting):
            if several.has_room(trunk, 2):
                waiting.remove(trunk)
                several.begin(trunk, lambda trunk=trunk: place(trunk))
        full = len(several)
        assert full == AT_ONCE or over.is_set()
        over.set()  # those that wait go on, the others are through at once
        several.wait(lambda: len(several) < AT_ONCE)
    several.wait(lambda: not len(several))
    assert most["all"] == AT_ONCE
    assert {most[f"t{number}"] for number in range(5)} <= {1, 2}


def test_the_process_begins_what_there_is_room_for_and_keeps_the_rest(
    loaded: LoadedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    placed: list[str] = []

    def run_one(_loaded: LoadedConfig, _agent: object, test: SelfTest) -> None:
        placed.append(test.id)
        over.wait(10)

    monkeypatch.setattr(process, "run_test", run_one)
    tester = process.Tester(Path("edge911.yaml"), loaded, Heartbeat(None))
    waiting = [process.Due(site=f"s{number}", route="one", moment=NOW, trunk="a") for number in range(5)]
    left = tester._begin(waiting)
    assert left == waiting[2:]
    assert tester._begin(left) == left
    over.set()
    tester._several.wait(lambda: not len(tester._several))
    while left:
        left = tester._begin(left)
        tester._several.wait(lambda: not len(tester._several))
    assert sorted(placed) == [due.id for due in waiting]


def a_test(**changed: object) -> SelfTest:
    return replace(
        SelfTest(id="hq.one.1", node="n", site="hq", route="one", by="schedule", started_at=NOW),
        **changed,  # type: ignore[arg-type]
    )


def heard(kind: Heard) -> ReadBack:
    return ReadBack(heard=kind, seconds=9.0, voice_seconds=4.0 if kind is Heard.VOICE else 0.0)


@pytest.mark.parametrize(
    ("placed", "route", "reason"),
    [
        (
            Placed(call_id="c", started_at=NOW, answered_at=NOW + 1, status=200, read_back=heard(Heard.VOICE)),
            "one",
            "",
        ),
        (
            Placed(call_id="c", started_at=NOW, answered_at=NOW + 1, status=200, read_back=heard(Heard.VOICE)),
            "two",
            "other-route-answered",
        ),
        (
            Placed(call_id="c", started_at=NOW, answered_at=NOW + 1, status=200, read_back=heard(Heard.VOICE)),
            "",
            "route-unknown",
        ),
        (
            Placed(call_id="c", started_at=NOW, answered_at=NOW + 1, status=200, read_back=heard(Heard.REORDER)),
            "one",
            "reorder-tone",
        ),
        (
            Placed(call_id="c", started_at=NOW, answered_at=NOW + 1, status=200, read_back=heard(Heard.NOTHING)),
            "one",
            "no-media",
        ),
        (Placed(call_id="c", started_at=NOW, status=503, reason="refused"), "", "refused"),
        (Placed(call_id="c", started_at=NOW, reason="timeout"), "", "timeout"),
        (Placed(call_id="c", started_at=NOW), "", "not-answered"),
    ],
)
def test_the_verdict(placed: Placed, route: str, reason: str) -> None:
    done = judged(a_test(), placed, "r1", route)
    assert (done.verdict, done.reason) == ("failed" if reason else "passed", reason)
    if reason:
        assert reason in REASONS
        subject, body = alarm_words(done, None, "Head office")
        assert subject.startswith("TEST")
        assert "Head office" in body


def test_a_failure_right_after_works_again_is_an_alarm_of_its_own(loaded: LoadedConfig, tmp_path: Path) -> None:
    # The notices process tells an alarm of one name once a minute.
    failed = a_test(id="hq.one.a", verdict="failed", reason="silence")
    passed = a_test(id="hq.one.b", verdict="passed")
    again = replace(failed, id="hq.one.c")
    config = loaded.config.model_copy(update={"state_directory": str(tmp_path)})
    here = replace(loaded, config=config)
    for done, before in ((failed, None), (passed, failed), (again, passed)):
        run._tell(here, done, before)
    assert len({str(request["name"]) for request in Requests(tmp_path).take()}) == 3


@pytest.fixture
def store(store_url: str) -> object:
    engine = open_store(store_url)
    yield engine
    engine.dispose()


def test_a_test_that_another_node_has_begun_leaves_no_connection_open(
    loaded: LoadedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[Engine] = []

    def opened(url: str) -> Engine:
        engines.append(open_store(url))
        return engines[-1]

    monkeypatch.setattr(run, "open_store", opened)
    monkeypatch.setattr(run, "test_number", lambda _loaded: "933")
    monkeypatch.setattr(run, "claim", lambda _conn, _test: False)
    agent = SipAgent(name="node")
    try:
        assert run.run_test(loaded, agent, a_test()) is None
    finally:
        agent.close()
    assert [engine.pool.checkedin() for engine in engines] == [0]  # type: ignore[attr-defined]


def test_a_test_that_somebody_broke_off_does_not_stand_as_under_way_for_ever(
    loaded: LoadedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_store(loaded.database_url)
    with writing(engine) as conn:
        claim(conn, a_test(id="broken off", by="ann", started_at=time.time() - 3600))
        claim(conn, a_test(id="going on", by="ann", started_at=time.time() - 10))
    monkeypatch.setattr(run, "claim", lambda _conn, _test: False)
    agent = SipAgent(name="node")
    try:
        assert run.run_test(loaded, agent, a_test()) is None
    finally:
        agent.close()
    with reading(engine) as conn:
        assert [test.id for test in list_tests(conn)] == ["going on"]
    engine.dispose()


def test_one_node_alone_places_a_test_and_old_recordings_make_room(store: Engine) -> None:
    with writing(store) as conn:
        assert claim(conn, a_test())
        assert not claim(conn, a_test(node="other"))
        assert latest(conn) == {}
        for number in range(KEPT_OF_EACH + 20):
            test = a_test(id=f"t{number}", started_at=NOW + number, verdict="passed", words="200 O\0K", by="ann")
            assert claim(conn, test)
            finish(conn, test, b"\xff\x00" * 10)
    with reading(store) as conn:
        tests = list_tests(conn, limit=1000)
        assert len(tests) == KEPT_OF_EACH
        assert latest(conn)["hq", "one"].started_at == NOW + KEPT_OF_EACH + 19
        kept = [test.id for test in tests if recording_of(conn, test.id)]
        assert kept == [
            f"t{number}" for number in range(KEPT_OF_EACH + 19, KEPT_OF_EACH + 19 - RECORDINGS_OF_EACH, -1)
        ]
        assert last_begun(conn) == {}
    with writing(store) as conn:
        claim(conn, a_test(id="s", started_at=5.0))
        assert last_begun(conn) == {("hq", "one"): 5.0}


def test_a_test_that_was_ended_in_the_middle_is_due_once_more(store: Engine) -> None:
    started = NOW + 1000
    with writing(store) as conn:
        claim(conn, a_test(id="ours", started_at=NOW))
        claim(conn, a_test(id="asked for", by="ann", started_at=NOW))
        claim(conn, a_test(id="of another node", node="other", started_at=started - 5))
        claim(conn, a_test(id="going on", started_at=started + 1))
        claim(conn, a_test(id="done", route="two", started_at=NOW))
        finish(conn, a_test(id="done", route="two", started_at=NOW, verdict="passed"), b"")
        assert set(abandoned(conn, started + 2, "n", started)) == {"ours", "asked for"}
        assert abandoned(conn, NOW + 60, "n", started) == ["ours"]
        forget(conn, abandoned(conn, started + 2, "n", started), started)
        assert {test.id for test in list_tests(conn)} == {"of another node", "going on", "done"}
        assert not claim(conn, a_test(id="of another node"))
        assert claim(conn, a_test(id="ours", started_at=started + 3))
        forget(conn, ["ours", "done"], started)
        assert {test.id for test in list_tests(conn)} == {"ours", "of another node", "going on", "done"}


def test_the_providers_own_refusal_is_said() -> None:
    refused = Placed(call_id="c", started_at=NOW, status=503, reason="refused", words="503 Service Unavailable")
    assert (
        judged(a_test(), refused, "r1", "", "486 Busy Here").words == "486 Busy Here (one); 503 Service Unavailable"
    )
    assert judged(a_test(), refused, "r1", "").words == "503 Service Unavailable"


def test_a_test_of_where_a_route_led_before_is_known(loaded: LoadedConfig) -> None:
    config = loaded.config

    def sent(uri: str, route: str = "one") -> list[RouteEvent]:
        return [
            RouteEvent(
                id="r", at=NOW, route=route, kind="e911", attempt=0, outcome=RouteOutcome.STARTED, request_uri=uri
            ),
            RouteEvent(id="r", at=NOW, route=route, kind="e911", attempt=0, outcome=RouteOutcome.ANSWERED),
        ]

    site = config.sites[0]
    assert went_elsewhere(config, site, "one", sent("sip:933@192.0.2.7")) == ""
    assert went_elsewhere(config, site, "one", sent("sip:933@192.0.2.99")) == "sip:933@192.0.2.99"
    assert went_elsewhere(config, site, "one", sent("sip:933@192.0.2.99", "two")) == ""
    assert went_elsewhere(config, site, "one", []) == "", "nobody knows"


def test_a_provider_that_speaks_a_law_is_heard() -> None:
    offered = offer("192.0.2.1", 4000, 1, with_alaw=True).decode()
    assert "m=audio 4000 RTP/AVP 0 8 101" in offered
    assert " 8 " not in offer("192.0.2.1", 4000, 1).decode(), "who speaks, speaks µ-law"
    answer = b"v=0\r\nc=IN IP4 192.0.2.7\r\nm=audio 5000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
    assert read_audio(answer) is None
    found = read_audio(answer, with_alaw=True)
    assert found is not None
    assert (found.payload_type, found.alaw_type) == (8, 8)
    both = read_audio(answer.replace(b"AVP 8", b"AVP 8 0"), with_alaw=True)
    assert both is not None
    assert (both.payload_type, both.alaw_type) == (0, 8)
    heard = Recording(payload_type=0, alaw_type=8)
    for number, (kind, sound) in enumerate([(8, b"\xd5\x55\xaa\x2a"), (0, b"\x80\x00"), (9, b"x")]):
        heard.add(struct.pack("!BBHII", 0x80, kind, number, 0, 7) + sound, 0.0)
    # ITU-T G.711: the least and the greatest of either sign, A-law of 4,096 steps and µ-law of 8,159.
    assert [abs(one) < 10 for one in from_mulaw(heard.packets[0])[:2]] == [True, True]
    loud = from_mulaw(heard.packets[0])[2:]
    assert loud[0] > 31_000
    assert loud[1] < -31_000
    assert heard.packets[1] == b"\x80\x00"
    assert 2 not in heard.packets


def test_what_is_due_at_the_start_waits_until_calls_are_served() -> None:
    serving = replace(NOTHING, at=NOW, is_serving=True)
    assert is_too_early(NOTHING, NOW, NOW + 1)
    assert is_too_early(replace(serving, is_serving=False), NOW, NOW + 1)
    assert is_too_early(replace(serving, at=NOW - 1), NOW, NOW + 1), "that is what the one before it said"
    assert not is_too_early(serving, NOW, NOW + 1)
    assert not is_too_early(NOTHING, NOW, NOW + START_SECONDS + 1), "a router that does not serve fails its test"
