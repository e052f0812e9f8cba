"""The process of scheduled test calls: `python -m router.self_test --config FILE`, started by `edge911 run` where
`self_test` is configured.

It may be killed at any moment: what was not placed is placed when it is back, or left out where that is too late.
"""

import logging
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import FrameType

from config.load import ConfigError, LoadedConfig, load_config
from router.calls.call_state import CallState, read_state
from router.notices.receivers.sip_agent import SipAgent
from router.process.child_process import begin, end
from router.process.signs_of_life import Heartbeat, release_signals
from router.process.telemetry import DeferredLog, configure_logging, say
from router.self_test.run import NotPossibleError, run_test
from router.self_test.schedule import Due, due_tests
from router.store.engine import open_store, reading, writing
from router.store.errors import StoreError
from router.store.self_tests import ABANDONED_SECONDS, SCHEDULE, SelfTest, abandoned, forget, last_begun

LOOK_SECONDS = 10.0
NICENESS = 10
START_SECONDS = 60.0
"""So long after our own start the call process is given to serve: both are started at once, and what is due then
would fail for no other reason."""

log = logging.getLogger("router.self_test")
_say = partial(say, log)


class Tester:
    """The whole process."""

    def __init__(self, path: Path, loaded: LoadedConfig, heartbeat: Heartbeat) -> None:
        self._path = path
        self._loaded = loaded
        self._heartbeat = heartbeat
        self._logs: DeferredLog = configure_logging(loaded.config.log, process="self-test", node=loaded.config.node)
        self._placed: dict[tuple[str, str], float] = {}
        """When each site and route was tested by this process: the database may be away."""
        self._began = time.time()
        self._wake = threading.Event()
        self._signals: set[str] = set()
        """`stop` and `reload`, as they were asked for."""

    def run(self, parent: int) -> int:
        """Until SIGTERM, until nothing is to be tested, or until the process that started us is gone."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        release_signals()
        _say(logging.INFO, "self-test-started")
        while not self._wants("stop") and os.getppid() == parent and self._loaded.config.self_test is not None:
            self._heartbeat.beat()
            if self._wants("reload"):
                self._signals.discard("reload")
                self._reread()
                continue
            for due in self._due():
                if self._signals:
                    break
                self._place(due)
            self._logs.render()
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
        self._logs.finish()
        return 0

    def _wants(self, what: str) -> bool:
        return what in self._signals

    def _due(self) -> list[Due]:
        if is_too_early(read_state(self._loaded.state_directory), self._began, time.time()):
            return []
        last = dict(self._placed)
        try:
            engine = open_store(self._loaded.database_url)
            try:
                now = time.time()
                with reading(engine) as conn:
                    given_up = abandoned(conn, now, self._loaded.config.node, self._began)
                if given_up:
                    # Ended in the middle, with the process or the node that placed them: they are due once more.
                    with writing(engine) as conn:
                        forget(conn, given_up, max(self._began, now - ABANDONED_SECONDS))
                    _say(logging.WARNING, "self-tests-interrupted", count=len(given_up))
                with reading(engine) as conn:
                    last |= {key: max(at, last.get(key, 0.0)) for key, at in last_begun(conn).items()}
            finally:
                engine.dispose()
        except StoreError as error:
            if not self._placed:
                # Nobody knows what was tested today: better not at all than again at each start.
                log.debug("self-tests wait for the database: %s", error.reason)
                return []
        return due_tests(self._loaded.config, last, time.time())

    def _place(self, due: Due) -> None:
        now = time.time()
        self._placed[due.site, due.route] = now
        node = self._loaded.config.node
        test = SelfTest(id=due.id, node=node, site=due.site, route=due.route, by=SCHEDULE, started_at=now)
        agent = SipAgent(name=node)
        try:
            run_test(self._loaded, agent, test)
        except NotPossibleError as error:
            _say(logging.ERROR, "self-test-not-possible", problem=str(error))
        except Exception:
            log.exception("self-test-fault")
        finally:
            agent.close()
        self._logs.render()
        self._heartbeat.beat()

    def _reread(self) -> None:
        try:
            self._loaded = load_config(self._path)
        except ConfigError:
            return  # the call process says what is wrong with it
        _say(logging.INFO, "configuration-reloaded")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.add("reload" if number == signal.SIGHUP else "stop")
        self._wake.set()


def is_too_early(calls: CallState, began: float, now: float) -> bool:
    """True shortly after the start (`began`), until the call process has said since that it serves. Times are seconds
    since 1970."""
    return abs(now - began) < START_SECONDS and not (calls.is_serving and calls.at is not None and calls.at >= began)


def main(arguments: list[str] | None = None) -> int:
    """Entry point. 0 where there is nothing (more) to do, 1 where the configuration is no good."""
    options = begin("router.self_test", __doc__, arguments, state="may")
    os.nice(NICENESS)
    try:
        loaded = load_config(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return Tester(options.config, loaded, options.heartbeat).run(options.parent)


if __name__ == "__main__":
    end(main())
