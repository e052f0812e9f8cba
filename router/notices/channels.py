"""The channels: each in threads of its own, so none delays another. How each sends is in router/notices/receivers.

A channel is one URL of a contact's `send`. Its threads are started when there is something to send and end
when there is not. A way (a plugin of Apprise's, a connection) belongs to one thread.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from router.notices.outbox import Attempt
from router.notices.receivers.apprise_way import prepare_process, privacy_url, shown_url
from router.notices.receivers.job import Job, Way
from router.notices.receivers.ways import Ways

__all__ = ["Channels", "Job", "Report", "prepare_process", "privacy_url", "shown_url"]

ATTEMPT_SECONDS = 15.0
"""A longer attempt counts as failed; its thread goes on, and may yet succeed."""
LANE_THREADS = 4
"""Threads at work for one channel."""
LANE_HUNG = 4
"""Threads of one channel that may be stuck before no more are started for it."""
IDLE_SECONDS = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a job."""

    job: Job
    attempt: Attempt
    started_at: float
    """Seconds since 1970."""
    late: bool = False
    """True where the job was reported as timed out before."""
    will_follow: bool = False
    """True for a time-out: a later report says how it ended."""


@dataclass(slots=True)
class _Running:
    job: Job
    started: float
    started_at: float
    overdue: bool = False


class Channels:
    """Sends jobs in threads; what came of them is read from `reports`."""

    def __init__(
        self,
        *,
        attempt_seconds: float = ATTEMPT_SECONDS,
        on_delivered: Callable[[Report], None] = lambda _: None,
        on_key: Callable[[Any, str], None] = lambda _token, _key: None,
        node: str = "edge911",
        is_inside: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """on_delivered is called by the thread that delivered, before anything else is done with the report.

        on_key is called with the token of what was said to a desk: with an empty key when somebody picked up, with
        the key when one was pressed; in a thread of its own. is_inside: whether a host is an address of ours, to
        which a phone may send a notice on.
        """
        # Not a SimpleQueue: a signal during its timed get can make that wait for ever (seen with Python 3.11).
        self.reports: queue.Queue[Report] = queue.Queue()
        self._attempt_seconds = attempt_seconds
        self._on_delivered = on_delivered
        self._lanes: dict[str, _Lane] = {}
        self._ways = Ways(node, on_key, is_inside)

    def prepare(self, urls: Iterable[str]) -> None:
        """Load what these channels need, so that the first notice does not wait for it. Returns at once."""
        self._ways.prepare(urls)

    def send(self, job: Job) -> None:
        """Start sending; returns at once. One report follows, two where the first says `will_follow`."""
        lane = self._lanes.get(job.url)
        if lane is None:
            lane = self._lanes[job.url] = _Lane(job.url, self.reports, self._on_delivered, self._ways)
        lane.put(job)

    def report_overdue(self) -> None:
        """Report the attempts that take too long as failed; call it about once a second."""
        now = time.monotonic()
        for url, lane in list(self._lanes.items()):
            lane.report_overdue(now - max(self._attempt_seconds, self._ways.patience(url)))
            if lane.is_idle():
                del self._lanes[url]

    def close(self) -> None:
        """Let the threads end as soon as what they are doing is done; what was not begun is not sent."""
        for lane in self._lanes.values():
            lane.close()
        self._ways.close()


@dataclass(slots=True)
class _Lane:
    """One channel: its jobs, first attempts before retries, and its threads."""

    url: str
    reports: "queue.Queue[Report]"
    on_delivered: Callable[[Report], None]
    ways: Ways
    first: deque[Job] = field(default_factory=deque)
    retries: deque[Job] = field(default_factory=deque)
    running: dict[int, _Running] = field(default_factory=dict)
    threads: int = 0
    waiting: int = 0
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, job: Job) -> None:
        with self.changed:
            (self.retries if job.is_retry else self.first).append(job)
            self._start_thread_if_needed()
            self.changed.notify()

    def is_idle(self) -> bool:
        with self.changed:
            return not (self.threads or self.first or self.retries)

    def report_overdue(self, limit: float) -> None:
        with self.changed:
            for running in self.running.values():
                if running.started < limit and not running.overdue:
                    running.overdue = True
                    attempt = Attempt(delivered=False, reason="timeout", words="no answer in time")
                    self.reports.put(
                        Report(job=running.job, attempt=attempt, started_at=running.started_at, will_follow=True)
                    )
            self._start_thread_if_needed()

    def _start_thread_if_needed(self) -> None:
        jobs = len(self.first) + len(self.retries)
        hung = sum(1 for running in self.running.values() if running.overdue)
        if jobs > self.waiting and self.threads - hung < LANE_THREADS and hung < LANE_HUNG:
            thread = threading.Thread(target=self._work, daemon=True, name="channel")
            try:
                thread.start()
            except RuntimeError:  # no more threads to be had; those that run take the job
                log.error("channel-thread-not-started", extra={"event_fields": {"url": privacy_url(self.url)}})
                return
            self.threads += 1

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _has_news(self) -> bool:
        return bool(self.first or self.retries or self.closed)

    def _work(self) -> None:
        way: Way | None = None
        while True:
            with self.changed:
                self.waiting += 1
                found = self.changed.wait_for(self._has_news, timeout=IDLE_SECONDS)
                self.waiting -= 1
                if not found or self.closed:
                    self.threads -= 1
                    break
                job = self.first.popleft() if self.first else self.retries.popleft()
                running = _Running(job, time.monotonic(), time.time())
                self.running[id(running)] = running
                self._start_thread_if_needed()
            try:
                if way is None:
                    way = self.ways.open(self.url)
                attempt = way.send(job)
            except Exception as error:  # a plugin may raise anything; its name is the reason
                attempt = Attempt(delivered=False, reason="channel-fault", words=type(error).__name__)
            if attempt.delivered:
                report = Report(job=job, attempt=attempt, started_at=running.started_at)
                with suppress(Exception):  # told twice, where it fails; but the thread goes on
                    self.on_delivered(report)
            with self.changed:
                del self.running[id(running)]
                self.reports.put(
                    Report(job=job, attempt=attempt, started_at=running.started_at, late=running.overdue)
                )
        if way is not None:
            with suppress(Exception):  # whatever a library makes of it: the thread ends anyhow
                way.close()
