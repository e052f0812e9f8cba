"""The evidence report: what is proven, what is only configured, what is missing; in English and French."""

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pypdf import PdfReader

from config.load import load_config
from router.notices.channel_identity import channel_id
from router.notices.outbox import Entry, NoticeState
from router.readiness.look import look
from router.readiness.phones import SitePhones
from router.records.record import CallSummary
from router.reports.document import Item, Verdict
from router.reports.evidence import Evidence, evidence_report
from router.reports.gather import gather
from router.self_test.call import CALLER
from router.store.engine import open_store, writing
from router.store.self_tests import SelfTest, claim
from tests.router.readiness.test_readiness import CONFIG, folder, run

__all__ = ["folder"]

NOW = 1_790_000_000.0


def evidence(tmp_path: Path, **changed: object) -> Evidence:
    (tmp_path / "edge911.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "edge911.yaml").config
    made: dict[str, object] = {
        "now": NOW,
        "config": config,
        "site": config.sites[0],
        "phones": SitePhones(site="hq", phones=2, dispatchable=2),
        "calls": [],
        "notices": [],
        "proven": {},
        "tests": {},
    }
    return Evidence(**{**made, **changed})  # type: ignore[arg-type]


def verdicts(found: Evidence, language: str = "en") -> dict[str, Verdict]:
    from zoneinfo import ZoneInfo

    report = evidence_report(found, language, ZoneInfo("America/New_York"))
    return {block.text: block.verdict for block in report.blocks if isinstance(block, Item)}


def call(**changed: object) -> CallSummary:
    made: dict[str, object] = dict.fromkeys(CallSummary.__dataclass_fields__, "")
    made |= {
        "id": "c1",
        "kind": "emergency",
        "dialled": "911",
        "outcome": "answered",
        "status": 200,
        "ended_at": None,
    }
    return CallSummary(**{**made, "started_at": NOW - 3600, **changed})  # type: ignore[arg-type]


DESK = channel_id("json://127.0.0.1:9/x")


def a_test(verdict: str, age: float) -> SelfTest:
    return SelfTest(
        id="t", node="n", site="hq", route="one", by="x", started_at=NOW - age, verdict=verdict, reason="busy-tone"
    )


def test_nothing_is_called_proven_that_was_not_tried(tmp_path: Path) -> None:
    found = verdicts(evidence(tmp_path))
    by_start = {text.split(" ")[0]: verdict for text, verdict in found.items()}
    assert by_start["911"] is Verdict.CONFIGURED
    assert by_start["When"] is Verdict.CONFIGURED
    assert by_start["desk,"] is Verdict.CONFIGURED
    assert by_start["Route"] is Verdict.CONFIGURED
    assert by_start["All"] is Verdict.PROVEN


def test_what_was_tried_lately_is_proven_and_what_failed_is_missing(tmp_path: Path) -> None:
    notice = Entry(
        call="c1",
        kind="call",
        contact="desk",
        channel=0,
        state=NoticeState.DELIVERED,
        queued_at=NOW,
        first_attempt_at=NOW,
    )
    good = evidence(
        tmp_path,
        calls=[call()],
        notices=[notice],
        proven={("desk", DESK): NOW - 60},
        tests={("hq", "one"): a_test("passed", 60)},
    )
    assert set(verdicts(good).values()) == {Verdict.PROVEN, Verdict.CONFIGURED}
    assert [text for text, verdict in verdicts(good).items() if verdict is Verdict.CONFIGURED] == [
        "Where no location is known or no provider takes the call, it goes by basic 911: relay."
    ]
    bad = evidence(
        tmp_path,
        phones=SitePhones(site="hq", phones=5, dispatchable=1, located=2, basic=2, without_callback=3),
        proven={("desk", DESK): NOW - 200 * 86_400},
        tests={("hq", "one"): a_test("failed", 60)},
    )
    missing = [text for text, verdict in verdicts(bad).items() if verdict is Verdict.MISSING]
    assert len(missing) == 3
    assert any("1 of 5" in text for text in missing)
    assert any("busy-tone" in text for text in missing)
    old = evidence(tmp_path, tests={("hq", "one"): a_test("passed", 50 * 86_400)})
    assert Verdict.PROVEN not in [verdict for text, verdict in verdicts(old).items() if text.startswith("Route")]


def test_a_call_of_the_routers_own_does_not_prove_that_phones_can_dial(tmp_path: Path) -> None:
    test = call(kind="test", dialled="933")
    own = verdicts(evidence(tmp_path, calls=[test], self_placed={"c1"}))
    forgotten = verdicts(evidence(tmp_path, calls=[call(kind="test", dialled="933", number=CALLER)]))
    assert [verdict for text, verdict in forgotten.items() if text.startswith("911 is")] == [Verdict.CONFIGURED]
    dialled = verdicts(evidence(tmp_path, calls=[test], self_placed={"c2"}))
    assert [verdict for text, verdict in own.items() if text.startswith("911 is")] == [Verdict.CONFIGURED]
    assert [verdict for text, verdict in dialled.items() if text.startswith("911 is")] == [Verdict.PROVEN]


def test_a_test_of_another_place_than_the_route_leads_to_proves_nothing(tmp_path: Path) -> None:
    tests = {("hq", "one"): a_test("passed", 60)}
    found = verdicts(evidence(tmp_path, tests=tests, tested_elsewhere={("hq", "one"): "sip:933@192.0.2.99"}))
    assert [verdict for text, verdict in found.items() if "192.0.2.99" in text] == [Verdict.CONFIGURED]
    assert Verdict.PROVEN not in [verdict for text, verdict in found.items() if text.startswith("Route")]


def test_the_routers_own_calls_are_known_from_its_tests(folder: Path) -> None:
    loaded = load_config(folder / "edge911.yaml")
    with writing(open_store(loaded.database_url)) as conn:
        claim(conn, replace(a_test("passed", 60), call="c7"))
    assert "c7" in gather(look(loaded), loaded.config.sites[0]).self_placed


def test_a_notice_that_was_never_tried_is_not_called_delivered(tmp_path: Path) -> None:
    told = Entry(
        call="c1",
        kind="call",
        contact="desk",
        channel=0,
        state=NoticeState.DELIVERED,
        queued_at=NOW,
        first_attempt_at=NOW,
    )
    never = replace(told, channel=1, state=NoticeState.REFUSED, first_attempt_at=None)
    unwanted = replace(never, state=NoticeState.SKIPPED)
    found = verdicts(evidence(tmp_path, notices=[told, never]))
    assert [verdict for text, verdict in found.items() if text.startswith("Of 2")] == [Verdict.FOR_INFORMATION]
    found = verdicts(evidence(tmp_path, notices=[replace(never, first_attempt_at=NOW)]))
    assert [verdict for text, verdict in found.items() if text.startswith("Of 1")] == [Verdict.MISSING]
    found = verdicts(evidence(tmp_path, notices=[told, unwanted]))
    assert [verdict for text, verdict in found.items() if text.startswith("Of 1")] == [Verdict.PROVEN]


@pytest.mark.parametrize(("language", "word"), [("en", "Direct dialling"), ("fr", "Composition directe")])
def test_the_command_writes_it(folder: Path, language: str, word: str) -> None:
    for form in ("html", "pdf"):
        file = folder / f"report.{form}"
        code, said = run(folder, "evidence", "hq", "-o", str(file), "--lang", language)
        assert code == 0, said
        text = file.read_bytes()
        if form == "pdf":
            shown = "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(text)).pages)
        else:
            shown = text.decode()
        assert word in shown
        assert "Head office" in shown
        assert "{" not in shown.partition("</style>")[2]
    assert run(folder, "evidence", "nowhere")[0] == 1
    assert run(folder, "evidence", "hq", "-o", "x.doc")[0] == 1
    assert time.time() > NOW


@pytest.mark.parametrize(("language", "word"), [("en", "answered: call c1"), ("fr", "répondu : appel c1")])
def test_a_call_that_proves_is_said_in_the_language_of_the_report(tmp_path: Path, language: str, word: str) -> None:
    from zoneinfo import ZoneInfo

    report = evidence_report(evidence(tmp_path, calls=[call()]), language, ZoneInfo("America/New_York"))
    assert any(word in proof for block in report.blocks if isinstance(block, Item) for proof in block.proofs)


def test_a_test_of_a_call_that_is_made_otherwise_by_now_proves_nothing(tmp_path: Path) -> None:
    changed = {("hq", "one")}
    for verdict, found in (("passed", Verdict.CONFIGURED), ("failed", Verdict.MISSING)):
        tests = {("hq", "one"): a_test(verdict, 60)}
        items = verdicts(evidence(tmp_path, tests=tests, tested_otherwise=changed))
        assert [one for text, one in items.items() if text.startswith("Route")] == [found]
