"""What Apprise's mail module is given by us: TLS contexts, and the Message-ID that makes mails of one call a thread.

One context for each channel thread, and none with authorities where mail goes without TLS.

Apprise makes one for every mail, with every authority that the system trusts, also where the URL says no TLS: thirty
milliseconds of processor time before the first byte of a notice.
"""

import ssl
import threading
from email.utils import make_msgid
from typing import Any

from router.network.trust import verifying_context


class _OfThread(threading.local):
    """A thread serves one URL, so what Apprise does to its context (`verify=no`) stays with that URL."""

    context: ssl.SSLContext | None = None
    is_plain: bool = False
    message_id: str = ""


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


def keep_contexts() -> None:
    """Have Apprise's mail plugin use the contexts of this module. Once more changes nothing."""
    from apprise.plugins.email import smtp

    module: Any = smtp
    if getattr(module, "ssl", None) is ssl:
        module.ssl = _Ssl()
    from apprise.plugins.email import base

    names: Any = base
    if getattr(names, "make_msgid", None) is make_msgid:
        names.make_msgid = _message_id


def _message_id(*arguments: Any, **options: Any) -> str:
    return _of_thread.message_id or make_msgid(*arguments, **options)


def name_next(message_id: str) -> None:
    """The Message-ID of what this thread sends next, angle brackets included; empty: one that Apprise makes."""
    _of_thread.message_id = message_id


def use_for(plugin: Any) -> None:
    """Say which plugin this thread sends with, from now on."""
    _of_thread.context = None
    _of_thread.is_plain = getattr(plugin, "secure_mode", "") == "insecure"
