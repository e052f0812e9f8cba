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
from router.self_test.several import Several
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
        self._several = Several(self._wake.set)
        self._signals: set[str] = set()
        """`stop` and `reload`, as they were asked for."""

    def run(self, parent: int) -> int:
        """Until SIGTERM, until nothing is to be tested, or until the process that started us is gone."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        release_signals()
        _say(logging.INFO, "self-test-started")
        waiting: list[Due] = []
        looked_at = -LOOK_SECONDS
        while not self._wants("stop") and os.getppid() == parent and self._loaded.config.self_test is not None:
            self._heartbeat.beat()
            if self._wants("reload"):
                self._signals.discard("reload")
                self._reread()
                looked_at = -LOOK_SECONDS
            if time.monotonic() - looked_at >= LOOK_SECONDS:
                waiting, looked_at = self._due(), time.monotonic()
            waiting = self._begin(waiting)
            self._logs.render()
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
        # Those under way hang up when they are done: who is left in a call holds a channel of the provider.
        while len(self._several) and os.getppid() == parent:
            self._heartbeat.beat()
            self._wake.wait(1.0)
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

    def _begin(self, waiting: list[Due]) -> list[Due]:
        """Begin those that there is room for; the others."""
        config = self._loaded.config
        limit = config.self_test.at_once if config.self_test is not None else 1
        left = []
        for due in waiting:
            if self._several.has_room(due.trunk, limit):
                self._placed[due.site, due.route] = time.time()
                self._several.begin(due.trunk, partial(self._place, self._loaded, due))
            else:
                left.append(due)
        return left

    def _place(self, loaded: LoadedConfig, due: Due) -> None:
        """In a thread of its own."""
        node = loaded.config.node
        test = SelfTest(id=due.id, node=node, site=due.site, route=due.route, by=SCHEDULE, started_at=time.time())
        agent = SipAgent(name=node)
        try:
            run_test(loaded, agent, test)
        except NotPossibleError as error:
            _say(logging.ERROR, "self-test-not-possible", problem=str(error))
        except Exception:
            log.exception("self-test-fault")
        finally:
            agent.close()

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
