"""Apprise's channels: mail, SMS gateways, chat, pagers, webhooks. What it logs is kept as the receiver's words."""

import hashlib
import logging
import os
import re
import socket
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import apprise

from config.channel_urls import is_ours, is_sip
from router.network import http_answers, mail_tls
from router.notices.apprise_plugins import plugin_of
from router.notices.outbox import Attempt
from router.notices.receivers.chat_text import as_markdown, harmless, shortened
from router.notices.receivers.job import Job
from router.notices.webhook import TRY_LATER, KeepAliveWebhook

SOCKET_SECONDS = 12
TAKEN_LIMIT = 5_000
"""Notices of which it is known that some of a channel's receivers have them; beyond it, the oldest are forgotten."""
THREAD_ROOTS = frozenset({"call", "test", "refused", "folded-call", "folded-test", "folded-refused", "alarm"})
"""Kinds of notices that are the first of their call."""
_KEYS = ("dedup", "alias")
"""Attributes of plugins that put what is sent under one incident."""
_PIECES = re.compile(r"[/:@#,]+")
_HTTP_STATUS = re.compile(r"\berror=(\d{3})\b|\bHTTP (\d{3})\b")
_SMTP_STATUS = re.compile(r"(?:refused: |\()([245]\d\d)\b")
_TOO_LONG = frozenset({400, 413, 422})
"""HTTP answers that a service may have for a text longer than it takes."""
_REQUEST_URL = re.compile(r"(?<=with url: )\S+")
"""What `requests` says of the URL it could not reach: for most services that is where the token stands."""
_SECRET_LENGTH = 8
"""What is shorter is not looked for: it would be found in plain words, too."""
_SKIPPED_WORDS = ("Sent ", "Sending email to", "Connection error while submitting")

log = logging.getLogger(__name__)


class _Taken:
    """Who behind a URL has a notice already, while others have not: a retry leaves them alone. For any thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, Any], set[str]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, job: Job) -> set[str]:
        """Those of a notice, to be added to."""
        with self._lock:
            return set(self._found.get((job.url, job.token), ()))

    def keep(self, job: Job, taken: set[str]) -> None:
        """They have it; empty: nobody is left, or nobody has it."""
        with self._lock:
            self._found.pop((job.url, job.token), None)
            if taken:
                self._found[job.url, job.token] = taken
            while len(self._found) > TAKEN_LIMIT:
                self._found.popitem(last=False)


_taken = _Taken()


class AppriseWay:
    """One thread's way to one URL."""

    def __init__(self, url: str) -> None:
        self._plugin = _plugin(url)
        mail_tls.use_for(self._plugin)
        self._webhook = KeepAliveWebhook.of(self._plugin) if self._plugin is not None else None
        module = type(self._plugin).__module__.partition("plugins.")[2]
        self._is_mail = module.startswith("email")
        if self._is_mail:
            mail_tls.keep_contexts()
        self._is_chat = not (self._is_mail or module.startswith("custom_") or self._plugin is None)
        self._is_markdown = self._is_chat and self._plugin.notify_format == apprise.NotifyFormat.MARKDOWN
        self._is_http = not self._is_mail and hasattr(sys.modules.get(type(self._plugin).__module__), "requests")
        self._given = {name for name in _KEYS if getattr(self._plugin, name, None)}
        self._each = (
            None if self._is_mail or any(hasattr(self._plugin, name) for name in _KEYS) else _targets_of(self._plugin)
        )
        self._headers: dict[str, str] = dict(getattr(self._plugin, "headers", None) or {}) if self._is_mail else {}

        self._secrets = _secrets_of(url, self._plugin, is_mail=self._is_mail)

    def send(self, job: Job) -> Attempt:
        """One notice. What the receiver said is kept without the channel's tokens and passwords: everybody who may
        see the call sees it."""
        attempt = self._send(job)
        words = _REQUEST_URL.sub("…", attempt.words)
        for secret in self._secrets:
            words = words.replace(secret, "…")
        return replace(attempt, words=words)

    def _send(self, job: Job) -> Attempt:
        if self._plugin is None:
            return Attempt(
                delivered=False,
                permanent=True,
                reason="channel-unknown",
                words="not a channel URL that Apprise knows; `edge911 check` says more",
            )
        subject, body = job.subject, job.body
        if self._is_mail:
            self._put_in_thread(job)
        elif self._is_chat:
            subject, body = harmless(subject), harmless(body)
            if self._is_markdown:
                body = as_markdown(body)
            self._put_under_key(job)
        if self._webhook is not None:
            attempt = self._webhook.send(job.subject, job.body, notify_type=job.notify_type)
            if attempt is not None:
                return attempt
        _heard.lines = []
        taken = _taken.of(job)
        mail_tls.begin(taken)
        http_answers.forget()
        delivered = self._notify_each(job, subject, body, taken) if self._each else self._notify(job, subject, body)
        _taken.keep(job, set() if delivered else taken)
        lines: list[str] = _heard.lines
        answer = mail_tls.words() if self._is_mail else http_answers.words()
        attempt = attempt_from_words(delivered, lines, answer)
        return replace(attempt, partly=bool(taken)) if not delivered else attempt

    def _notify(self, job: Job, subject: str, body: str) -> bool:
        """Whether it was taken: in as many words as the service takes, and by somebody who was asked."""
        http_answers.forget()
        delivered = self._notify_as(job.notify_type, subject, body)
        if not delivered and http_answers.status() in _TOO_LONG:
            shorter = self._shortened(subject, body)
            if shorter:
                delivered = self._notify_as(job.notify_type, subject, shorter)
        if delivered and self._is_http and not http_answers.words():
            # Some services add what is only news to the alert it belongs to. Where the plugin knows of none (a test,
            # a thread that has begun anew), it sends nothing and calls that a success: then it is an alert.
            delivered = self._notify_as("warning", subject, body) and bool(http_answers.words())
            if not delivered and not http_answers.words():
                _heard.lines.append("nothing was sent: by its options this channel sends no alerts")
        return delivered

    def _notify_as(self, notify_type: str, subject: str, body: str) -> bool:
        return bool(
            self._plugin.notify(
                body=body,
                title=subject,
                notify_type=apprise.NotifyType(notify_type),
                body_format=apprise.NotifyFormat.MARKDOWN if self._is_markdown else apprise.NotifyFormat.TEXT,
            )
        )

    def _shortened(self, subject: str, body: str) -> str:
        """A text in what the service takes; empty where it is no longer than that.

        A tenth is left to what a plugin puts before characters that its service would take for markup.
        """
        limit: int = self._plugin.body_maxlen
        if len(subject) + len(body) <= limit:
            return ""
        return shortened(body, limit * 9 // 10 - (0 if self._plugin.title_maxlen else len(subject) + 2))

    def _notify_each(self, job: Job, subject: str, body: str, taken: set[str]) -> bool:
        """One after the other, but for those who have it: Apprise only says whether all of them took it."""
        found = self._each or []
        for number, target in enumerate(found):
            if str(number) not in taken:
                self._plugin.targets = [target]
                if self._notify(job, subject, body):
                    taken.add(str(number))
        return len(taken) == len(found)

    def _put_in_thread(self, job: Job) -> None:
        """Mails about one call to one mailbox are a thread: the first has a Message-ID that the others name."""
        if not job.call:
            mail_tls.name_next("")
            return
        root = message_id(job.call, job.contact, job.url)
        is_root = job.kind in THREAD_ROOTS
        mail_tls.name_next(root if is_root else message_id(job.call, job.contact, job.url, job.kind))
        answers = {} if is_root else {"In-Reply-To": root, "References": root}
        self._plugin.headers = {**self._headers, **answers}

    def _put_under_key(self, job: Job) -> None:
        """What is about one call is one incident, where the service knows such a thing and the URL names none."""
        for name in _KEYS:
            if job.call and hasattr(self._plugin, name) and name not in self._given:
                setattr(self._plugin, name, f"edge911-{job.call}")

    def close(self) -> None:
        """End the connection, if any."""
        if self._webhook is not None:
            self._webhook.close()


def message_id(call: str, contact: str, url: str, kind: str = "") -> str:
    """The Message-ID of a notice: the same whenever it is sent again, so that mail programs show it once."""
    text = "\n".join((call, contact, url, kind)).encode("utf-8", "surrogatepass")
    return f"<{hashlib.blake2b(text, digest_size=16).hexdigest()}@edge911.invalid>"


def attempt_from_words(delivered: bool, lines: list[str], answer: str = "") -> Attempt:
    """What came of an attempt, from Apprise's yes or no, the lines it logged, and the receiver's last answer."""
    telling = [line for line in lines if not line.startswith(_SKIPPED_WORDS)] or lines
    if answer and (delivered or not telling or "; write that" in answer):
        telling = [answer] if delivered else [answer, *telling]
    words = " | ".join(dict.fromkeys(telling))[:500]
    if delivered:
        return Attempt(delivered=True, words=words)
    http = [int(first or second) for first, second in _HTTP_STATUS.findall(words)]
    smtp = [int(code) for code in _SMTP_STATUS.findall(words)]
    if http:
        permanent = http[-1] in http_answers.TURNS_TO_GET or (400 <= http[-1] < 500 and http[-1] not in TRY_LATER)
    else:
        permanent = bool(smtp) and smtp[-1] >= 500
    reason = "refused" if http or smtp else "unreachable"
    return Attempt(delivered=False, permanent=permanent, reason=reason, words=words)


def privacy_url(url: str) -> str:
    """The URL as it may be logged: without passwords and tokens."""
    if is_ours(url):
        scheme, _, rest = url.partition("?")[0].partition(":")
        _, _, host = rest.rpartition("@")
        return f"{scheme}:{rest}" if is_sip(url) else f"{scheme}://{host.lstrip('/')}"
    with suppress(Exception):  # then not even the URL is shown
        plugin = plugin_of(url)
        if plugin is not None:
            shown: Any = plugin
            return str(shown.url(privacy=True)).partition("?")[0]
    return f"{url.partition(':')[0]}://…"


@lru_cache(maxsize=1024)
def shown_url(url: str) -> str:
    """The same, remembered."""
    return privacy_url(url)


def prepare_process() -> None:
    """Set up what plugins share in this process: their log, and how they see the network. Call it once."""
    http_answers.keep_answers()
    logger = logging.getLogger("apprise")
    logger.handlers = [_Listener(level=logging.DEBUG)]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    # A proxy for the outside world must not be asked to reach this machine.
    for name in ("no_proxy", "NO_PROXY"):
        given = os.environ.get(name, "")
        os.environ[name] = ",".join(filter(None, (given, "127.0.0.0/8", "localhost", "::1", "[::1]")))
    # smtplib asks DNS for our own name before each mail; a dead DNS would hold the notice back for long.
    own_name = socket.gethostname()
    socket.getfqdn = lambda name="": own_name if name in ("", "0.0.0.0", "::") else name


def _plugin(url: str) -> Any:
    """Apprise's plugin for a URL, or None where it knows none."""
    plugin = plugin_of(url, _asset())
    if plugin is None:
        return None
    # The pause between two sends of one plugin: a second call must not wait for it.
    plugin.request_rate_per_sec = 0
    if "rto=" not in url:
        plugin.socket_read_timeout = SOCKET_SECONDS
    if "cto=" not in url:
        plugin.socket_connect_timeout = min(plugin.socket_connect_timeout, SOCKET_SECONDS)
    return plugin


def _secrets_of(url: str, plugin: Any, *, is_mail: bool) -> list[str]:
    """Pieces of a URL that are not shown anywhere (privacy_url), the longest first."""
    with suppress(Exception):  # whatever a plugin makes of it: its URL is then not told apart
        if is_mail:
            return [plugin.password] if plugin.password else []
        shown = unquote(str(plugin.url(privacy=True)).partition("?")[0])
        place, _, query = url.partition("://")[2].partition("?")
        values = [pair.partition("=")[2] for pair in query.split("&")]
        pieces = {one for piece in (*_PIECES.split(place), *values) for one in (piece, unquote(piece))}
        secrets = (one for one in pieces if len(one) >= _SECRET_LENGTH and one not in shown)
        return sorted(secrets, key=len, reverse=True)
    return []


def _targets_of(plugin: Any) -> list[Any] | None:
    """The several receivers of a plugin that sends to each by itself; None for any other."""
    targets = getattr(plugin, "targets", None)
    if not isinstance(targets, list) or len(targets) < 2 or len(plugin) != len(targets):
        return None
    plugin.targets = targets[:1]
    is_counted = len(plugin) == 1
    plugin.targets = targets
    return list(targets) if is_counted else None


def _asset() -> Any:
    # No pictures: Apprise's are on a web server of its own.
    return apprise.AppriseAsset(
        app_id="edge911", app_desc="edge911", app_url="", image_url_mask="", image_url_logo="", async_mode=False
    )


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
