"""Which channel of a contact it is, wherever it stands in the list: proof that one works is proof of it alone."""

from hashlib import sha256
from urllib.parse import urlsplit

WITH_HOST = frozenset(
    ("mailto", "mailtos", "json", "jsons", "xml", "xmls", "form", "forms", "syslog", "snmp", "ntfys", "mqtt", "mqtts")
)
"""Schemes whose URL has a host, and may have a password, where others carry a token."""


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
