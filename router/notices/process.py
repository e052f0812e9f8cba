"""The notices process: `python -m router.notices --config FILE`, started and restarted by `edge911 run`.

Reads the journal, tells the contacts, and has records kept. It may be killed at any moment: the journal holds
what happened and the notice log what was told. It needs no database to deliver.
"""

import gc
import logging
import os
import queue
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from config.load import ConfigError
from config.schema import Config
from router.journal.segments import START, Cursor, LineReader
from router.notices.channel_identity import channel_id
from router.notices.channels import Channels, Report, prepare_process, privacy_url
from router.notices.confirmations import Requests, confirmation_from
from router.notices.confirming import Confirming
from router.notices.contact_tests import KIND as TEST_KIND
from router.notices.contact_tests import take_tests
from router.notices.database_threads import DatabaseThreads
from router.notices.intake import Intake, checkpoint_state
from router.notices.links import keep_secret, links_for
from router.notices.notice_jobs import Proofs, is_inside, job_of
from router.notices.notice_settings import Settings, last_good_settings, load_settings
from router.notices.noticelog import NoticeLog, restore
from router.notices.outbox import Attempt, Entry, Key, NoticeState, Outbox
from router.notices.passing_on import pass_on, share_watches
from router.notices.receivers.forms import form_of, thread_of
from router.notices.turn import take_turn
from router.process.child_process import begin
from router.process.signs_of_life import Heartbeat, release_signals
from router.process.telemetry import DeferredLog, configure_logging, say

POLL_SECONDS = 0.03
BUSY_LINES = 100
"""From so many lines at once on, the next are waited for longer, so that more of them come together."""
BUSY_POLL_SECONDS = 0.05
LINES_AT_ONCE = 2000
STORE_SECONDS = 0.1
CHECKPOINT_SECONDS = 60.0
CHECKPOINT_LINES = 20_000
HUNG_SECONDS = 45.0
"""How long a retry waits for an attempt that was given up but still goes on, lest the notice comes twice."""
REREAD_SECONDS = 5.0
FAULT_SECONDS = 0.5
"""Pause after a fault of edge911 itself that nothing else has caught."""
DRAIN_SECONDS = 3.0
STORE_AT_END_SECONDS = 2.0
HOLD_SECONDS = 10.0
"""So long what was owed before a restart waits, at the most, for the database's word whether another node told it."""
NOT_OPEN = "database-not-open"
UNSTORED_LIMIT = 50_000
"""Settled notices kept in memory while the database cannot be written; the oldest are dropped beyond it."""
CLOCK_SET_SECONDS = 1.0
"""A difference between the clocks that changes by more at once: somebody has set the time. Slewing changes less."""
COLLECT_AFTER = 50_000
"""Objects made and not freed before the collector looks for cycles."""

log = logging.getLogger("router.notices")
_say = partial(say, log)


class NoticesProcess:
    """Everything of the process, run by one thread; channels and recorder have threads of their own."""

    def __init__(
        self,
        settings: Settings,
        config_file: Path,
        refused: ConfigError | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._heartbeat = heartbeat or Heartbeat(None)
        self._logs = _start_logging(settings.config)
        if refused:
            _say(logging.ERROR, "configuration-refused", problems=str(refused), used="the last good one")
        self._config_file = config_file
        self._reread_at = 0.0
        state = settings.state_directory
        self._status_file = state / "notices.json"
        self._reader = LineReader(state / "journal")
        log_directory = state / "notices"
        restored = restore(log_directory)
        self._cursor: Cursor = restored.cursor
        self._log = NoticeLog(log_directory)
        self._outbox = Outbox()
        self._intake = Intake(self._outbox, self._log, settings.config, self._reread, restored)
        self._intake.links = links_for(settings.config, state)
        self._intake.directory = config_file.absolute().parent
        self._requests = Requests(state)
        self._confirming = Confirming(self._intake, self._outbox, self._log)
        for confirmation in restored.confirmations:
            self._confirming.take(confirmation, is_restored=True)
        self._channels = Channels(
            on_delivered=self._note_delivered,
            on_key=self._confirming.note_key,
            node=settings.config.node,
            is_inside=lambda host: is_inside(self._intake.config, host),
        )
        self._channels.prepare(_urls(settings.config))
        self._database = DatabaseThreads(settings, lambda: self._intake.config, config_file.parent)
        self._settings = settings
        self._replay_end = self._reader.end()
        self._is_replayed = False
        self._is_holding = False
        self._hold_until = 0.0
        self._delivered = 0
        self._failed = 0
        self._refused = 0
        self._dropped = 0
        self._stop = False
        self._reload = False
        self._faults: Counter[str] = Counter()
        self._told_unusable: set[str] = set()
        self._proofs = Proofs()
        self._unconfirmed: list[str] = []
        self._clocks_apart = time.time() - time.monotonic()
        self._next_second = 0.0
        self._next_store = 0.0
        self._next_checkpoint = time.monotonic() + CHECKPOINT_SECONDS

    def run(self, parent: int) -> None:
        """Until SIGTERM, or until the process that started us is gone."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_signal)
        release_signals()
        cursor = self._cursor
        _say(logging.INFO, "notices-started", pid=os.getpid(), segment=cursor.segment, offset=cursor.offset)
        if self._settings.database_url.startswith("postgresql"):
            # Another node may have taken over what waits since before we were silent: the database is asked first.
            self._intake.hold_seconds = HOLD_SECONDS
            self._is_holding, self._hold_until = True, time.monotonic() + HOLD_SECONDS
        self._intake.resume(time.monotonic(), time.time())
        self._database.start()
        pause = 0.0
        while not self._stop:
            try:
                self._take_reports(pause)
                read = self._tick()
            except Exception:
                # Whoever started anew would meet it again, and what is under way would be cut off.
                self._say_fault("looking for what is to be told")
                time.sleep(FAULT_SECONDS)
                read = 0
            if read == LINES_AT_ONCE:
                pause = 0.0
            else:
                pause = POLL_SECONDS if read < BUSY_LINES else BUSY_POLL_SECONDS
            if os.getppid() != parent:
                # Whoever starts in our place finds everything in the journal and the log.
                _say(logging.ERROR, "parent-gone")
                self._logs.finish()
                return
        self._drain()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._stop = True

    def _tick(self) -> int:
        """Read, send, keep; how many lines were read."""
        now, at = time.monotonic(), time.time()
        if self._reload:
            self._reload, self._reread_at = False, 0.0
            self._reread()
        lines, self._cursor = self._reader.read_lines(self._cursor, LINES_AT_ONCE)
        if lines and self._database.recorder is not None:
            self._database.recorder.look()
        for line in lines:
            self._intake.take_line(line, now, at)
        is_store_due, is_second_due = now >= self._next_store, now >= self._next_second
        if is_store_due:
            self._do("folding notices", self._intake.close_windows, now, at)
        for entry in self._outbox.due(now):
            try:
                self._send(entry)
            except Exception:
                self._say_fault("sending a notice")
                attempt = Attempt(delivered=False, reason="channel-fault", words="see the log of edge911")
                self._do("trying a notice again later", self._settle, entry.key, attempt, at)
        if is_store_due:
            self._next_store = now + STORE_SECONDS
            self._do("looking at the clock", self._look_at_the_clock, at - now)
            self._do("taking keys", self._confirming.take_keys)
            self._do("taking requests", self._take_requests)
            if self._is_replayed and (not self._is_holding or now >= self._hold_until):
                self._do("passing notices on", pass_on, self._intake, now, at)
            self._do("storing notices", self._store)
            self._do("writing the log", self._logs.render)
        if is_second_due:
            self._next_second = now + 1.0
            self._do("looking after notices", self._every_second, now)
        return len(lines)

    def _look_at_the_clock(self, apart: float) -> None:
        """Deadlines are by the time of day, so that they outlive a restart: where that is set, they go with it."""
        set_by = apart - self._clocks_apart
        self._clocks_apart = apart
        if abs(set_by) > CLOCK_SET_SECONDS:
            self._intake.watches.shift(set_by)
            _say(logging.WARNING, "clock-set", by_seconds=round(set_by, 1))

    def _do(self, doing: str, job: Callable[..., object], *arguments: object) -> None:
        """One thing to be done; a fault in it stops no other."""
        try:
            job(*arguments)
        except Exception:
            self._say_fault(doing)

    def _say_fault(self, doing: str) -> None:
        """The first of each kind, then each thousandth: what fails once a second must not fill the disk."""
        self._faults[doing] += 1
        if self._faults[doing] % 1000 == 1:
            log.exception("notices-fault", extra={"event_fields": {"doing": doing, "times": self._faults[doing]}})

    def _send(self, entry: Entry) -> None:
        contact = self._intake.config.contacts.get(entry.contact)
        job = job_of(entry, contact) if contact is not None else None
        if job is None:
            words = "this contact or channel is not in the configuration any more"
            attempt = Attempt(delivered=False, permanent=True, reason="contact-unknown", words=words)
            self._settle(entry.key, attempt, time.time())
            return
        self._channels.send(job)

    def _note_delivered(self, report: Report) -> None:
        """In the thread that delivered: nothing but the line that keeps a restart from telling it again."""
        words, target = report.attempt.words, channel_id(report.job.url)
        self._log.note_delivered(report.job.token, report.started_at, words, target)

    def _take_requests(self) -> None:
        """What other processes left for this one."""
        for data in self._requests.take():
            try:
                self._take_request(data)
            except (KeyError, TypeError, ValueError, OverflowError):
                self._requests.unreadable += 1
                _say(logging.WARNING, "request-not-readable", type=str(data.get("type"))[:40])
        self._requests.done()

    def _take_request(self, data: dict[str, Any]) -> None:
        now, at = time.monotonic(), time.time()
        match data["type"]:
            case "confirmation":
                self._confirming.take(confirmation_from(data))
            case "alarm":
                contacts = data["contacts"] if data["contacts"] is not None else list(self._intake.config.contacts)
                name, subject, body = str(data["name"]), str(data["subject"]), str(data["body"])
                told = self._intake.tell_alarm(name, subject[:300], body[:5000], contacts, now, at)
                _say(logging.WARNING, "alarm-told", alarm=name, contacts=told)
            case _:
                raise ValueError("no such request")

    def _take_reports(self, wait: float) -> None:
        """Write down what came of attempts; waits up to `wait` seconds for the first."""
        try:
            report = self._channels.reports.get(timeout=wait) if wait else self._channels.reports.get_nowait()
            while True:
                self._take_report(report)
                report = self._channels.reports.get_nowait()
        except queue.Empty:
            return

    def _take_report(self, report: Report) -> None:
        key: Key = report.job.token
        if report.late and not report.attempt.delivered:
            return
        if report.attempt.unusable:
            self._tell_unusable(report)
        not_before = time.monotonic() + HUNG_SECONDS if report.will_follow else 0.0
        self._settle(key, report.attempt, report.started_at, not_before)

    def _tell_unusable(self, report: Report) -> None:
        if report.job.url not in self._told_unusable:
            self._told_unusable.add(report.job.url)
            _say(logging.ERROR, "channel-not-available", url=privacy_url(report.job.url), words=report.attempt.words)

    def _settle(self, key: Key, attempt: Attempt, started_at: float, not_before: float = 0.0) -> None:
        now, at = time.monotonic(), time.time()
        if key[1] == TEST_KIND and not attempt.delivered:
            attempt = replace(attempt, unusable=True)  # a test says how it is now: it is not tried again
        entry = self._outbox.settle(key, attempt, now=now, at=at, started_at=started_at, not_before=not_before)
        if entry is None:
            self._log.forget_delivered(key)
            return
        self._log.note(entry)
        self._intake.settled(key, delivered=entry.state is NoticeState.DELIVERED or attempt.partly)
        self._proofs.note(entry, self._intake.config.contacts.get(entry.contact), started_at)
        fields: dict[str, Any] = {
            "call": entry.call,
            "kind": entry.kind,
            "contact": entry.contact,
            "channel": entry.channel + 1,
            "attempt": entry.attempts,
        }
        if entry.state is NoticeState.DELIVERED:
            self._delivered += 1
            waited = (entry.last_attempt_at or at) - entry.queued_at
            _say(logging.INFO, "notice-delivered", waited_seconds=round(waited, 3), **fields)
            return
        self._failed += 1
        fields |= {"reason": entry.reason, "words": entry.words}
        if entry.state is NoticeState.QUEUED:
            _say(logging.WARNING, "notice-failed", **fields)
            return
        self._refused += 1
        if not attempt.unusable:  # that was said once for the channel
            _say(logging.ERROR, "notice-given-up", **fields)

    def _store(self) -> None:
        recorder = self._database.recorder
        if recorder is None:
            return
        if recorder.link_secret and recorder.link_secret not in self._intake.links.secrets:
            keep_secret(self._settings.state_directory, recorder.link_secret)
            self._intake.links = links_for(self._intake.config, self._settings.state_directory)
        node_beat = self._database.node_beat
        if node_beat is not None and node_beat.silent != recorder.silent:
            recorder.silent = node_beat.silent
            recorder.look()
        if node_beat is not None and node_beat.returns != recorder.returns:
            recorder.returns = node_beat.returns
            recorder.look()
        share_watches(self._intake.watches, recorder)
        while not recorder.taken.empty():
            for key in recorder.taken.get():
                self._outbox.forget(key)
            self._hold_no_longer()
        if recorder.error not in ("", NOT_OPEN):
            self._hold_no_longer()
        while not recorder.recovered.empty():
            self._take_recovered(recorder.recovered.get())
        while not recorder.stored.empty():
            self._outbox.mark_stored(recorder.stored.get())
        while not recorder.stored_folds.empty():
            self._outbox.mark_folds_stored(recorder.stored_folds.get())
        while not recorder.stored_confirmations.empty():
            for stored in recorder.stored_confirmations.get():
                self._confirming.unstored.pop(stored.key, None)
        while not recorder.confirmed.empty():
            self._confirming.take(recorder.confirmed.get())
        if proofs := self._proofs.due():
            recorder.submit_proofs(proofs)
        if self._confirming.unstored:
            recorder.submit_confirmations(self._confirming.unstored.values())
        rows = self._outbox.take_rows()
        if rows:
            recorder.submit(rows)
        if self._outbox.folds:
            recorder.submit_folds(self._outbox.folds.values())

    def _hold_no_longer(self) -> None:
        if self._is_holding:
            self._is_holding = False
            self._intake.hold_seconds = 0.0
            self._outbox.retry_now(time.monotonic())

    def _take_recovered(self, entries: list[Entry]) -> None:
        """What only the database still knows was to be delivered: the state directory is not the old one."""
        seen = set(self._outbox.seen())
        for entry in entries:
            if self._outbox.take_back(entry.key) or (
                entry.key not in self._outbox.entries and entry.key[:3] not in seen
            ):
                _say(logging.WARNING, "notice-recovered", call=entry.call, kind=entry.kind, contact=entry.contact)
                self._outbox.is_new(*entry.key[:3])
                self._outbox.add(entry, time.monotonic())

    def _every_second(self, now: float) -> None:
        self._heartbeat.beat()
        for entry in take_tests(self._settings.state_directory, self._intake.config, time.time()):
            self._outbox.add(entry, now)
        self._channels.report_overdue()
        self._intake.watches.expire(time.time())
        self._unconfirmed = self._intake.watches.unconfirmed(time.time())
        if self._database.recorder is not None:
            self._database.recorder.watched = self._unconfirmed
        if not self._is_replayed and self._cursor >= self._replay_end:
            self._is_replayed = True
            self._intake.hold_seconds = 0.0
            self._next_checkpoint = now
        if self._is_replayed and (now >= self._next_checkpoint or self._log.lines > CHECKPOINT_LINES):
            self._next_checkpoint = now + CHECKPOINT_SECONDS
            self._checkpoint()
        self._write_status()

    def _checkpoint(self) -> None:
        dropped = self._outbox.drop_settled(UNSTORED_LIMIT)
        dropped_folds = self._outbox.drop_folds()
        if dropped or dropped_folds:
            count = len(dropped) + len(dropped_folds)
            self._dropped += count
            if self._database.recorder is not None:
                self._database.recorder.forget(dropped, [fold.key for fold in dropped_folds])
            _say(logging.ERROR, "notice-records-dropped", count=count)
        if not self._log.checkpoint(
            self._cursor, confirmations=self._confirming.unstored.values(), **checkpoint_state(self._intake)
        ):
            return
        stored = self._database.recorder.cursor if self._database.recorder is not None else None
        if stored is not None:
            # A cursor of an older journal than this one says nothing about it.
            keep = min(self._cursor.segment, stored.segment)
            self._reader.discard_before(Cursor(keep, 0))

    def _reread(self) -> Config:
        """The configuration as it is now; the old one stays where the file is no good."""
        now = time.monotonic()
        if now < self._reread_at:
            return self._intake.config
        self._reread_at = now + REREAD_SECONDS
        try:
            settings = load_settings(self._config_file)
        except ConfigError as error:
            _say(logging.ERROR, "configuration-refused", problems=str(error), used="the old one")
            return self._intake.config
        self._intake.config = settings.config
        self._intake.links = links_for(settings.config, self._settings.state_directory)
        self._channels.prepare(_urls(settings.config))
        self._intake.unknown_contacts.clear()
        self._logs.finish()
        self._logs = _start_logging(settings.config)
        _say(logging.INFO, "configuration-reloaded")
        self._database.reconfigured()
        return settings.config

    def _write_status(self) -> None:
        """Numbers for /metrics of the call process, replaced in one step."""
        oldest = self._outbox.oldest_queued_at()
        recorder = self._database.recorder
        status: dict[str, Any] = {
            "at": time.time(),
            "pid": os.getpid(),
            "queued": self._outbox.queued,
            "delivered_total": self._delivered,
            "failed_total": self._failed,
            "refused_total": self._refused,
            "folded_total": self._intake.folded_total,
            "escalated_total": self._intake.escalated_total,
            "nobody_told_total": self._intake.nobody_told_total,
            "unacknowledged": len(self._unconfirmed),
            "oldest_queued_seconds": max(time.time() - oldest, 0.0) if oldest is not None else 0.0,
            "database_ok": recorder.is_ok if recorder else False,
            "database_error": recorder.error if recorder else "database-not-open",
            "journal_lag_bytes": self._reader.bytes_after(self._cursor),
            "records_lag_bytes": self._reader.bytes_after((recorder.cursor if recorder else None) or START),
            "journal_corrupt_total": self._intake.corrupt,
            "journal_torn_total": self._reader.torn,
            "unknown_contacts": len(self._intake.unknown_contacts),
            "unstorable_total": (recorder.unstorable if recorder else 0) + self._dropped,
            "log_failures_total": self._log.failures,
        }
        temporary = self._status_file.with_suffix(".json.new")
        try:
            temporary.write_bytes(orjson.dumps(status))
            temporary.replace(self._status_file)
        except OSError as error:
            _say(logging.WARNING, "status-file-not-written", reason=error.strerror)

    def _drain(self) -> None:
        """Told to end: read what is left, try everything once, have it stored."""
        while self._tick() == LINES_AT_ONCE:
            pass
        self._intake.release(time.monotonic(), time.time())
        if not self._is_holding:
            self._outbox.retry_now(time.monotonic())
        for entry in self._outbox.due(time.monotonic()):
            self._send(entry)
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._outbox.in_flight and (left := deadline - time.monotonic()) > 0:
            self._take_reports(min(left, POLL_SECONDS))
        self._database.wait_until_started(STORE_AT_END_SECONDS)
        self._store()
        self._database.stop(STORE_AT_END_SECONDS)
        self._store()
        self._checkpoint()
        self._write_status()
        _say(logging.INFO, "notices-ended", queued=self._outbox.queued)
        self._logs.finish()


def _urls(config: Config) -> list[str]:
    """The URL of every channel, of which it is now known in which form it is told."""
    urls = [url for contact in config.contacts.values() for url in contact.send]
    for url in urls:
        form_of(url)
        thread_of(url)
    return urls


def _start_logging(config: Config) -> DeferredLog:
    handler = configure_logging(config.log, process="notices", node=config.node)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    return handler


def main(arguments: list[str] | None = None) -> int:
    """Run until told to end. 1 where the configuration is no good."""
    options = begin("router.notices", __doc__, arguments, state="may")
    refused: ConfigError | None = None
    try:
        settings = load_settings(options.config)
    except ConfigError as error:
        last_good = last_good_settings(options.state) if options.state else None
        if last_good is None:
            print(error, file=sys.stderr)
            return 1
        settings, refused = last_good, error
    if os.getppid() != options.parent:
        return 1
    lock = take_turn(settings.state_directory)
    prepare_process()
    process = NoticesProcess(settings, options.config, refused, options.heartbeat)
    # What is loaded stays, and what a call brings is in no cycle: the collector need not look at it often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    if lock is None:
        _say(logging.ERROR, "notices-not-alone", remedy="end the other notices process of this state directory")
    process.run(options.parent)
    return 0
