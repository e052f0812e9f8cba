"""Where no file descriptor is left, calls go on, and the log does not fill the disk."""

import asyncio
import logging
from collections import Counter

import pytest

from router.loop_faults import NO_DESCRIPTOR, LoopFaults


def test_connections_that_cannot_be_accepted_are_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    counts: Counter[str] = Counter()
    time = 0.0
    faults = LoopFaults(counts, lambda: time)
    loop = asyncio.new_event_loop()
    try:
        with caplog.at_level(logging.ERROR):
            for second in range(61):
                time = float(second)
                for _ in range(16):
                    faults(loop, {"message": NO_DESCRIPTOR, "exception": OSError(24, "no")})
            said = len(caplog.records)
            faults(loop, {"message": "something else"})
    finally:
        loop.close()
    assert (said, counts["accept_failed"]) == (2, 61 * 16)
    assert len(caplog.records) == 3, "what else goes wrong is said"
