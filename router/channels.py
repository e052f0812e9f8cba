"""The ways out: Apprise for all its URLs, each channel in threads of its own, so none delays another.

A channel is one URL of a contact's `send`. Its threads are started when there is something to send and end
when there is not. A plugin object belongs to one thread. What Apprise logs is kept as the receiver's words.
"""

import logging
import os
import queue
import re
import socket
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import apprise

from router import mail_tls
from router.outbox import Attempt
from router.webhook import TRY_LATER, KeepAliveWebhook

ATTEMPT_SECONDS = 15.0
"""A longer attempt counts as failed; its thread goes on, and may yet succeed."""
SOCKET_SECONDS = 12
LANE_THREADS = 4
"""Threads at work for one channel."""
LANE_HUNG = 4
"""Threads of one channel that may be stuck before no more are started for it."""
IDLE_SECONDS = 30.0

_HTTP_STATUS = re.compile(r"\berror=(\d{3})\b|\bHTTP (\d{3})\b")
_SMTP_STATUS = re.compile(r"(?:refused: |\()([245]\d\d)\b")
_SKIPPED_WORDS = ("Sent ", "Sending email to", "Connection error while submitting")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One notice to be sent over one channel. `token` comes back with the report."""

    token: Any
    url: str
    subject: str
    body: str
    notify_type: str = "warning"
    """Apprise's: info, success, warning or failure."""
    is_retry: bool = False


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
    ) -> None:
        """on_delivered is called by the thread that delivered, before anything else is done with the report."""
        # Not a SimpleQueue: a signal during its timed get can make that wait for ever (seen with Python 3.11).
        self.reports: queue.Queue[Report] = queue.Queue()
        self._attempt_seconds = attempt_seconds
        self._on_delivered = on_delivered
        self._lanes: dict[str, _Lane] = {}

    def send(self, job: Job) -> None:
        """Start sending; returns at once. One report follows, two where the first says `will_follow`."""
        if job.url.lower().startswith(("sip:", "sips:")):
            attempt = Attempt(
                delivered=False,
                unusable=True,
                reason="channel-not-available",
                words="notices over SIP are not available in this version; add a mailto:// or json:// URL",
            )
            self.reports.put(Report(job=job, attempt=attempt, started_at=time.time()))
            return
        lane = self._lanes.get(job.url)
        if lane is None:
            lane = self._lanes[job.url] = _Lane(job.url, self.reports, self._on_delivered)
        lane.put(job)

    def report_overdue(self) -> None:
        """Report the attempts that take too long as failed; call it about once a second."""
        limit = time.monotonic() - self._attempt_seconds
        for url, lane in list(self._lanes.items()):
            lane.report_overdue(limit)
            if lane.is_idle():
                del self._lanes[url]

    def close(self) -> None:
        """Let the threads end as soon as what they are doing is done; what was not begun is not sent."""
        for lane in self._lanes.values():
            lane.close()


@dataclass(slots=True)
class _Lane:
    """One channel: its jobs, first attempts before retries, and its threads."""

    url: str
    reports: "queue.Queue[Report]"
    on_delivered: Callable[[Report], None]
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
        sender: _Sender | None = None
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
                if sender is None:
                    sender = _Sender(self.url)
                attempt = sender.send(job)
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
        if sender is not None:
            sender.close()


class _Sender:
    """One thread's way to one URL."""

    def __init__(self, url: str) -> None:
        self._plugin = _plugin(url)
        mail_tls.use_for(self._plugin)
        self._webhook = KeepAliveWebhook.of(self._plugin) if self._plugin is not None else None

    def send(self, job: Job) -> Attempt:
        if self._plugin is None:
            return Attempt(
                delivered=False,
                permanent=True,
                reason="channel-unknown",
                words="not a channel URL that Apprise knows; `edge911 check` says more",
            )
        if self._webhook is not None:
            attempt = self._webhook.send(job.subject, job.body, notify_type=job.notify_type)
            if attempt is not None:
                return attempt
        _heard.lines = []
        delivered = bool(
            self._plugin.notify(
                body=job.body,
                title=job.subject,
                notify_type=apprise.NotifyType(job.notify_type),
                body_format=apprise.NotifyFormat.TEXT,
            )
        )
        lines: list[str] = _heard.lines
        return attempt_from_words(delivered, lines)

    def close(self) -> None:
        """End the connection, if any."""
        if self._webhook is not None:
            self._webhook.close()


def attempt_from_words(delivered: bool, lines: list[str]) -> Attempt:
    """What came of an attempt, from Apprise's yes or no and the lines it logged meanwhile."""
    telling = [line for line in lines if not line.startswith(_SKIPPED_WORDS)] or lines
    words = " | ".join(dict.fromkeys(telling))[:500]
    if delivered:
        return Attempt(delivered=True, words=words)
    http = [int(first or second) for first, second in _HTTP_STATUS.findall(words)]
    smtp = [int(code) for code in _SMTP_STATUS.findall(words)]
    if http:
        permanent = 400 <= http[-1] < 500 and http[-1] not in TRY_LATER
    else:
        permanent = bool(smtp) and smtp[-1] >= 500
    reason = "refused" if http or smtp else "unreachable"
    return Attempt(delivered=False, permanent=permanent, reason=reason, words=words)


def privacy_url(url: str) -> str:
    """The URL as it may be logged: without passwords and tokens."""
    with suppress(Exception):  # whatever a plugin's parser raises: then not even the URL is shown
        plugin = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if plugin is not None:
            shown: Any = plugin
            return str(shown.url(privacy=True)).partition("?")[0]
    return f"{url.partition(':')[0]}://…"


def prepare_process() -> None:
    """Set up what plugins share in this process: their log, and how they see the network. Call it once."""
    logger = logging.getLogger("apprise")
    logger.handlers = [_Listener(level=logging.DEBUG)]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    # The first plugin loads all of them, which takes a quarter of a second: before the first call, then.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # modules that some plugins still import
        apprise.Apprise.instantiate("json://127.0.0.1:9/")
    mail_tls.keep_contexts()
    # A proxy for the outside world must not be asked to reach this machine.
    for name in ("no_proxy", "NO_PROXY"):
        given = os.environ.get(name, "")
        os.environ[name] = ",".join(filter(None, (given, "127.0.0.0/8", "localhost", "::1", "[::1]")))
    # smtplib asks DNS for our own name before each mail; a dead DNS would hold the notice back for long.
    own_name = socket.gethostname()
    socket.getfqdn = lambda name="": own_name if name in ("", "0.0.0.0", "::") else name


def _plugin(url: str) -> Any:
    """Apprise's plugin for a URL, or None where it knows none."""
    plugin = apprise.Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    if plugin is None:
        return None
    # The pause between two sends of one plugin: a second call must not wait for it.
    plugin.request_rate_per_sec = 0
    if "rto=" not in url:
        plugin.socket_read_timeout = SOCKET_SECONDS
    if "cto=" not in url:
        plugin.socket_connect_timeout = min(plugin.socket_connect_timeout, SOCKET_SECONDS)
    return plugin


def _asset() -> Any:
    return apprise.AppriseAsset(app_id="edge911", app_desc="edge911", app_url="", async_mode=False)


class _Heard(threading.local):
    """Lines that the plugin of this thread logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []


_heard = _Heard()


class _Listener(logging.Handler):
    """Keeps warnings, and of the debug lines those that quote the receiver."""

    _quotes = ("Response Details", "Socket Exception", "SMTP recipient")

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and not str(record.msg).startswith(self._quotes):
            return
        with suppress(Exception):  # a log line that cannot be formatted tells nothing
            line = " ".join(record.getMessage().replace("\\r\\n", " ").split())
            _heard.lines.append(line[:300])
