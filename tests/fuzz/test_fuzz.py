"""A bounded part of `make fuzz`, and proof that it finds what it looks for: bugs planted on purpose."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from sip import headers, message
from sip.stack import Stack
from tests.fuzz import bulk, target
from tests.fuzz.target import FindingError

MESSAGES = 8_000
"""Of each run here."""


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_escapes_takes_long_or_piles_up(seed: int) -> None:
    fuzz = bulk.run(MESSAGES, seed, says=False)
    router = fuzz.world.router
    assert len(router.stack.drops) > 15, "it gets to many a refusal"
    assert router.counts["emergency_calls"] > 100, "and far beyond them"
    assert router.counts["ordinary_requests"] > 100
    assert router.counts["route_ringing"] + router.counts["route_answered"] > 0


def test_a_planted_exception_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that does not expect a second tag."""
    right = headers.tag_of_line

    def wrong(line: bytes) -> bytes:
        if line.count(b";tag=") > 1:
            raise IndexError("planted")
        return right(line)

    monkeypatch.setattr(message, "tag_of_line", wrong)
    with pytest.raises(FindingError, match="IndexError: planted") as found:
        bulk.run(100_000, 1, says=False)
    assert found.value.data.count(b";tag=") > 1


def test_a_planted_exception_behind_a_catch_all_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In what the router would survive: the decision about a 911 call."""
    from router.emergency import emergency_requests

    right: Callable[..., object] = emergency_requests.plan_call

    def wrong(rules: object, devices: object, request: message.Request, *more: object, **named: object) -> object:
        if len(request.values("contact")) > 1:
            raise KeyError("planted")
        return right(rules, devices, request, *more, **named)

    monkeypatch.setattr(emergency_requests, "plan_call", wrong)
    with pytest.raises(FindingError, match="KeyError: 'planted'"):
        bulk.run(100_000, 1, says=False)


def test_a_planted_slowness_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pattern that goes back too often would cost."""
    right = headers.split_top

    def wrong(value: bytes) -> tuple[bytes, bytes]:
        if value.count(b",") > 1000:
            until = time.process_time() + 2 * target.SLOWEST
            while time.process_time() < until:
                pass
        return right(value)

    monkeypatch.setattr(message, "split_top", wrong)
    with pytest.raises(FindingError, match=" ms: "):
        bulk.run(100_000, 1, says=False)


@pytest.mark.long
def test_a_planted_leak_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []
    right = Stack.receive

    def wrong(self: Stack, data: bytes, *more: object) -> None:
        kept.append(bytes(8192) + data[:1])
        right(self, data, *more)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(Stack, "receive", wrong)
    monkeypatch.setattr(bulk, "STRIDE", 1000)
    with pytest.raises(FindingError, match="memory grew"):
        bulk.run(12_000, 1, says=False)


@pytest.mark.long
@pytest.mark.skipif(find_spec("atheris") is None, reason="Atheris has no wheel for this Python or system")
def test_the_guided_run_reaches_code_and_keeps_what_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.guided", str(tmp_path), "-runs=200", "-max_len=20000"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env={**os.environ}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(tmp_path.iterdir())) > 5
