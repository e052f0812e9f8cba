"""Where no file descriptor is left, calls go on, and the log does not fill the disk."""

import asyncio
import logging
from collections import Counter

import pytest
import uvicorn

from router.process.loop_faults import NO_DESCRIPTOR, LoopFaults
from router.process.web_process import WebServer


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


def test_the_console_and_the_server_of_references_keep_to_that() -> None:
    async def served() -> object:
        server = WebServer(uvicorn.Config(lambda *_: None))
        server.take_signals(lambda _: None)
        return asyncio.get_running_loop().get_exception_handler()

    assert isinstance(asyncio.run(served()), LoopFaults)
