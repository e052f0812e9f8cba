"""Which way leads to which URL: ours, or Apprise's."""

import logging
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as NotYet
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from config.channel_urls import (
    Receiver,
    SipReceiver,
    SnmpReceiver,
    SyslogReceiver,
    is_ours,
    is_sip_call,
    read_receiver,
)
from router.notices.outbox import Attempt
from router.notices.receivers.apprise_way import AppriseWay
from router.notices.receivers.desk_call import ANSWER_SECONDS, Announcement, DeskCalls
from router.notices.receivers.job import Job, Way
from router.notices.receivers.sip_agent import MESSAGE_SECONDS, SipAgent
from router.notices.receivers.syslog import SyslogWay

if TYPE_CHECKING:
    from router.notices.receivers.snmp import SnmpAgent

_DIGITS = re.compile(r"\b\d(?: \d){6,}\b")

log = logging.getLogger(__name__)


class Ways:
    """Opens ways. The SIP agent, its thread and its sockets are made when the first phone is to be told."""

    def __init__(
        self, node: str, on_key: Callable[[Any, str], None], is_inside: Callable[[str], bool] = lambda _: False
    ) -> None:
        """is_inside: whether a host is an address of `networks.inside`."""
        self._node = node
        self._is_inside = is_inside
        self._on_key = on_key
        self._lock = threading.Lock()
        self._agent: SipAgent | None = None
        self._calls: DeskCalls | None = None
        self._snmp: SnmpAgent | None = None

    def open(self, url: str) -> Way:
        """The way to a URL. Never raises for one that cannot be read: each attempt then says so."""
        if not is_ours(url):
            return AppriseWay(url)
        try:
            receiver = _receiver(url)
        except ValueError as error:
            return _UnreadableWay(str(error))
        match receiver:
            case SyslogReceiver():
                return SyslogWay(receiver, self._node)
            case SnmpReceiver():
                from router.notices.receivers.snmp import SnmpWay

                return SnmpWay(self._traps(), receiver)
        agent, calls = self._phones()
        return _CallWay(calls, receiver) if receiver.is_call else _MessageWay(agent, receiver)

    def open_phone(self, receiver: SipReceiver) -> Way:
        """The way to a phone that is sent messages."""
        return _MessageWay(self._phones()[0], receiver)

    def patience(self, url: str) -> float:
        """Seconds that an attempt may take at least before it counts as failed: a phone may ring for long."""
        if not is_sip_call(url):
            return 0.0
        try:
            receiver = _receiver(url)
        except ValueError:
            return 0.0
        return _call_seconds(receiver) if isinstance(receiver, SipReceiver) else 0.0

    def prepare(self, urls: Iterable[str]) -> None:
        """Load what ways to these URLs need, in a thread."""
        wanted = sorted({url.partition(":")[0].lower() for url in urls if is_ours(url)})
        if wanted:
            threading.Thread(target=self._prepare, args=(wanted,), daemon=True, name="channel-prepare").start()

    def _prepare(self, schemes: list[str]) -> None:
        try:
            if "snmp" in schemes:
                self._traps()
            if any(scheme.startswith("sip") for scheme in schemes):
                self._phones()
            if any(scheme.endswith("-call") for scheme in schemes):
                from router.notices.receivers.audio import to_mulaw
                from router.notices.receivers.speech import attention, installed

                to_mulaw(())
                attention()
                names = ", ".join(program.name for program in installed()) or "none: tones and clips are used"
                log.info("speech-programs", extra={"event_fields": {"found": names}})
        except Exception as error:  # the first notice finds out, and says so
            log.error("channel-not-prepared", extra={"event_fields": {"reason": type(error).__name__}})

    def _traps(self) -> "SnmpAgent":
        from router.notices.receivers.snmp import SnmpAgent

        with self._lock:
            if self._snmp is None:
                self._snmp = SnmpAgent(self._node)
            return self._snmp

    def _phones(self) -> tuple[SipAgent, DeskCalls]:
        with self._lock:
            if self._agent is None or self._calls is None:
                self._agent = SipAgent(is_inside=self._is_inside)
                self._calls = DeskCalls(self._agent, self._on_key)
            return self._agent, self._calls

    def close(self) -> None:
        """End the agents, and with them calls that are still up."""
        with self._lock:
            if self._agent is not None:
                self._agent.close()
                self._agent = self._calls = None
            if self._snmp is not None:
                self._snmp.close()
                self._snmp = None


class _MessageWay:
    """A phone that is sent messages."""

    def __init__(self, agent: SipAgent, receiver: SipReceiver) -> None:
        self._agent = agent
        self._receiver = receiver

    def send(self, job: Job) -> Attempt:
        """One MESSAGE."""
        future = self._agent.message(self._receiver, job.body or job.subject)
        try:
            return future.result(MESSAGE_SECONDS + 5)
        except NotYet:
            future.cancel()
            return Attempt(delivered=False, reason="timeout", words="no answer in time")

    def close(self) -> None:
        """The agent is for all."""


class _CallWay:
    """A phone that is called."""

    def __init__(self, calls: DeskCalls, receiver: SipReceiver) -> None:
        self._calls = calls
        self._receiver = receiver

    def send(self, job: Job) -> Attempt:
        """Until somebody has picked up; what is said then goes on without us."""
        announcement = Announcement(
            text=job.body or job.subject, language=job.language, numbers=_number_in(job.body), token=job.token
        )
        try:
            return self._calls.call(self._receiver, announcement).result(_call_seconds(self._receiver))
        except NotYet:
            return Attempt(delivered=False, reason="timeout", words="no answer in time")

    def close(self) -> None:
        """The agent is for all."""


class _UnreadableWay:
    """What the configuration says of a channel cannot be read."""

    def __init__(self, words: str) -> None:
        self._words = words

    def send(self, job: Job) -> Attempt:
        """No."""
        return Attempt(delivered=False, unusable=True, reason="channel-not-available", words=self._words)

    def close(self) -> None:
        """Nothing."""


def _number_in(text: str) -> str:
    """The callback number in what is to be spoken, where its digits stand by themselves (e911.notice_forms)."""
    found = _DIGITS.search(text)
    return found[0].replace(" ", "") if found else ""


@lru_cache(maxsize=256)
def _receiver(url: str) -> Receiver:
    return read_receiver(url)


def _call_seconds(receiver: SipReceiver) -> float:
    return receiver.ring + ANSWER_SECONDS + 10.0
