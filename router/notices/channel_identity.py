"""Which channel of a contact it is, wherever it stands in the list: proof that one works is proof of it alone."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from urllib.parse import urlsplit

WITH_HOST = frozenset(
    ("mailto", "mailtos", "json", "jsons", "xml", "xmls", "form", "forms", "syslog", "snmp", "ntfys", "mqtt", "mqtts")
)
"""Schemes whose URL has a host, and may have a password, where others carry a token."""


@lru_cache(maxsize=1024)
def channel_id(url: str) -> str:
    """The same for the same URL; another password makes no other channel. Tells nothing of what is secret in it."""
    scheme = url.partition(":")[0].strip().lower()
    known = url.strip()
    if scheme in WITH_HOST:
        try:
            password = urlsplit(known).password
        except ValueError:
            password = None
        if password:
            known = known.replace(f":{password}@", "@", 1)
    return sha256(known.encode("utf-8", "replace")).hexdigest()[:16]


def url_of(target: str, channel: int, send: Sequence[str]) -> str:
    """The URL of a channel that had this id and stood at this index (from 0) when its notice was made, among those
    that the contact has now; empty where there is none.

    A list that was put in another order is no reason to tell one channel twice and another never. A URL that is not
    there any more was mended: what stands in its place counts.
    """
    found = send[channel] if channel < len(send) else ""
    if not target or (found and channel_id(found) == target):
        return found
    return next((url for url in send if channel_id(url) == target), found)
