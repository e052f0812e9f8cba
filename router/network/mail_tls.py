"""What Apprise's mail module is given by us: TLS contexts, the Message-ID that makes mails of one call a thread, and
an SMTP that keeps what the server said and leaves out whoever has the mail already.

One context for each channel thread, and none with authorities where mail goes without TLS.

Apprise makes one for every mail, with every authority that the system trusts, also where the URL says no TLS: thirty
milliseconds of processor time before the first byte of a notice.
"""

import smtplib
import ssl
import threading
from collections.abc import Sequence
from email.utils import make_msgid
from typing import Any

from router.network.trust import verifying_context


class _OfThread(threading.local):
    """A thread serves one URL, so what Apprise does to its context (`verify=no`) stays with that URL."""

    context: ssl.SSLContext | None = None
    is_plain: bool = False
    message_id: str = ""
    words: str = ""
    taken: set[str] | None = None


_of_thread = _OfThread()


class _Ssl:
    """What Apprise's mail module has in place of `ssl`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ssl, name)

    def create_default_context(self, *arguments: Any, **options: Any) -> ssl.SSLContext:
        """A context that verifies peers, as the real one gives it; for plain mail one that trusts nobody."""
        if arguments or options:
            return ssl.create_default_context(*arguments, **options)
        if _of_thread.context is None:
            trusts_nobody = _of_thread.is_plain
            _of_thread.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if trusts_nobody else verifying_context()
        return _of_thread.context


class _KeepsWords(smtplib.SMTP):
    """Keeps the server's answer to a mail, and who has it: it is sent again to those who have not."""

    def data(self, msg: Any) -> tuple[int, bytes]:
        code, said = super().data(msg)
        _of_thread.words = f"SMTP {code} {said.decode('utf-8', 'replace')}"
        return code, said

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Sequence[str],
        msg: Any,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, tuple[int, bytes]]:
        """Those whom the server refused, as the real one gives them."""
        taken = _of_thread.taken if _of_thread.taken is not None else set()
        wanted = [to_addrs] if isinstance(to_addrs, str) else to_addrs
        left = [one for one in wanted if one not in taken]
        if not left:
            return {}
        refused = super().sendmail(from_addr, left, msg, mail_options, rcpt_options)
        taken.update(one for one in left if one not in refused)
        return refused


class _KeepsWordsOverTls(_KeepsWords, smtplib.SMTP_SSL):
    """The same for mailtos:// with TLS from the first byte."""


class _Smtplib:
    """What Apprise's mail module has in place of `smtplib`."""

    SMTP = _KeepsWords
    SMTP_SSL = _KeepsWordsOverTls

    def __getattr__(self, name: str) -> Any:
        return getattr(smtplib, name)


def keep_contexts() -> None:
    """Have Apprise's mail plugin use the contexts and the SMTP of this module. Once more changes nothing."""
    from apprise.plugins.email import smtp

    module: Any = smtp
    if getattr(module, "ssl", None) is ssl:
        module.ssl = _Ssl()
        module.smtplib = _Smtplib()
    from apprise.plugins.email import base

    names: Any = base
    if getattr(names, "make_msgid", None) is make_msgid:
        names.make_msgid = _message_id


def _message_id(*arguments: Any, **options: Any) -> str:
    return _of_thread.message_id or make_msgid(*arguments, **options)


def name_next(message_id: str) -> None:
    """The Message-ID of what this thread sends next, angle brackets included; empty: one that Apprise makes."""
    _of_thread.message_id = message_id


def begin(taken: set[str]) -> None:
    """This thread is about to send a mail. taken: who has it already; whoever takes it now is added."""
    _of_thread.taken, _of_thread.words = taken, ""


def words() -> str:
    """What the server said to the last mail of this thread; empty where it came to no answer."""
    return _of_thread.words


def use_for(plugin: Any) -> None:
    """Say which plugin this thread sends with, from now on."""
    _of_thread.context = None
    _of_thread.is_plain = getattr(plugin, "secure_mode", "") == "insecure"
