"""The SIPp scenarios against each other, without a router: the peers play what they say they play.

It also shows that the checks can fail: the strict PSAP refuses a call that no router has put a location into.
"""

from pathlib import Path

import pytest

from tests.support.ports import street
from tests.support.sipp import SCENARIOS, Sipp, running

pytestmark = pytest.mark.peers

PAIRS = [
    ("caller_dials", "psap_answers", {}, {}),
    ("caller_dials", "carrier_answers", {}, {}),
    ("caller_dials", "provider_answers_late", {}, {"pause_ms": 300}),
    ("caller_dials_delayed_offer", "psap_answers", {}, {}),
    ("caller_dials_with_odd_headers", "carrier_answers", {}, {}),
    ("caller_cancels_while_ringing", "provider_rings_until_cancelled", {}, {}),
    ("caller_cancels_while_failing_over", "provider_tries_then_is_silent", {"pause_ms": 100}, {}),
    ("caller_is_refused_503", "provider_refuses_503", {}, {}),
    ("caller_is_refused_503", "provider_rings_then_fails", {}, {"pause_ms": 50}),
    ("caller_is_hung_up_on", "psap_hangs_up", {}, {"pause_ms": 100}),
    ("caller_reinvites", "psap_answers_reinvite", {}, {}),
    ("caller_uses_every_method", "callee_takes_every_method", {}, {}),
    ("phone_registers", "registrar_accepts", {}, {}),
]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(("caller", "callee", "caller_options", "callee_options"), PAIRS)
def test_both_sides_complete(
    tmp_path: Path,
    caller: str,
    callee: str,
    caller_options: dict[str, int],
    callee_options: dict[str, int],
    tcp: bool,
) -> None:
    here = street()
    answering = Sipp(callee, at=here["provider_a"], folder=tmp_path, tcp=tcp, **callee_options)  # type: ignore[arg-type]  # options by name
    dialling = Sipp(
        caller,
        at=here["phone"],
        to=here["provider_a"],
        folder=tmp_path,
        tcp=tcp,
        keys={"caller": "4102"},
        **caller_options,  # type: ignore[arg-type]  # options by name
    )
    with running(answering, dialling):
        dialling.succeed()
        answering.succeed()
        sent, received = dialling.sent(), answering.requests()
    invite = next((one for one in sent if one.method == "INVITE"), None)
    for one in sent:
        if one.method == "CANCEL" or (one.method == "ACK" and "200" not in f"{dialling.statuses()}"):
            assert invite is not None
            assert one.branch == invite.branch, f"{one.method} is not of the INVITE's transaction"
    assert {one.method for one in sent} == {one.method for one in received}
    assert {one.raw for one in received} == {one.raw for one in sent}, "wired directly, every byte arrives"


def test_a_strict_psap_fails_a_call_without_location(tmp_path: Path) -> None:
    here = street()
    strict = Sipp("psap_demands_location", at=here["provider_a"], folder=tmp_path)
    phone = Sipp(
        "caller_dials", at=here["phone"], to=here["provider_a"], folder=tmp_path, keys={"caller": "4102"}, timeout=5
    )
    with running(strict, phone):
        assert strict.wait() == 1
        strict.request("INVITE")


def test_a_caller_that_must_be_refused_fails_when_it_is_answered(tmp_path: Path) -> None:
    here = street()
    psap = Sipp("psap_answers", at=here["provider_a"], folder=tmp_path)
    phone = Sipp(
        "caller_is_refused_503",
        at=here["phone"],
        to=here["provider_a"],
        folder=tmp_path,
        keys={"caller": "4102"},
        timeout=5,
    )
    with running(psap, phone):
        assert phone.wait() == 1


def test_every_scenario_says_how_to_run_it() -> None:
    files = sorted(SCENARIOS.glob("*.xml"))
    assert len(files) >= 20
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert f"-sf {file.name}" in text, f"{file.name} has no command line in its comment"
        assert f"{file.name}" in (SCENARIOS / "README.md").read_text(encoding="utf-8"), (
            f"{file.name} is not in README.md"
        )
