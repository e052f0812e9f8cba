"""In which form a channel is told: whole, in few words, or in spoken words."""

from enum import StrEnum
from functools import lru_cache
from typing import Any

from config.channel_urls import SnmpReceiver, is_ours, is_sip, is_sip_call, read_receiver

SHORT_LIMIT = 320
"""A channel of Apprise's without titles that takes no more characters than this is an SMS or a pager."""


class Form(StrEnum):
    """How much of a notice a channel is given."""

    FULL = "full"
    SHORT = "short"
    SPOKEN = "spoken"


class Thread(StrEnum):
    """How a channel keeps together what belongs to one call."""

    MAIL = "mail"
    KEY = "key"
    """It has a key for it (PagerDuty), or shows what has the same title together."""
    NONE = "none"


@lru_cache(maxsize=1024)
def form_of(url: str) -> Form:
    """The form for a URL."""
    if is_sip_call(url):
        return Form.SPOKEN
    plugin = None if is_ours(url) else _plugin(url)
    if plugin is None:
        return Form.FULL
    is_short = plugin.title_maxlen == 0 and 0 < plugin.body_maxlen <= SHORT_LIMIT
    return Form.SHORT if is_short else Form.FULL


@lru_cache(maxsize=1024)
def thread_of(url: str) -> Thread:
    """How follow-ups reach it; NONE for what would only be one more message: an SMS, a call, a webhook."""
    if is_ours(url):
        return Thread.KEY if url.lower().startswith(("syslog:", "snmp:")) else Thread.NONE
    plugin = _plugin(url)
    if plugin is None or form_of(url) is Form.SHORT:
        return Thread.NONE
    name = type(plugin).__module__.partition("plugins.")[2]
    if name.startswith("email"):
        return Thread.MAIL
    return Thread.NONE if name.startswith("custom_") else Thread.KEY


@lru_cache(maxsize=1024)
def has_answer(url: str) -> bool:
    """Whether the receiver says that it took a notice; what is only sent (a trap, syslog) proves nothing."""
    if not is_ours(url) or is_sip(url):
        return True
    receiver = read_receiver(url)
    return isinstance(receiver, SnmpReceiver) and receiver.is_inform


def _plugin(url: str) -> Any:
    """Apprise's plugin, for what it says of itself."""
    from router.notices.apprise_plugins import plugin_of

    return plugin_of(url)
