"""Trying a contact's channel: a TEST notice, really sent by the notices process, tried once, kept in the outbox.

The console leaves a file in the state directory; the notices process takes it within a second.
"""

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from config.schema import Config
from router.notices.channel_identity import channel_id
from router.notices.outbox import Entry

FOLDER = "contact-tests"
KIND = "contact-test"
OLD_SECONDS = 300.0
"""A request that waited longer is dropped: whoever asked does not look any more."""
MOST_AT_ONCE = 20

_WORDS = {
    "en": (
        "TEST of 911 notices",
        "TEST. Nobody has dialled 911. {by} tries whether notices of 911 calls reach {contact} (node {node}). "
        "Nothing is to be done.",
    ),
    "fr": (
        "ESSAI des avis 911",
        "ESSAI. Personne n’a composé le 911. {by} vérifie si les avis d’appels au 911 parviennent à {contact} "
        "(nœud {node}). Il n’y a rien à faire.",
    ),
}


def request_test(state_directory: Path, contact: str, url: str, by: str) -> str:
    """Ask for a test of the channel of a contact that has this URL; gives its id in the outbox. Raises OSError."""
    folder = state_directory / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{secrets.token_hex(8)}-{channel_id(url)}"
    request = {"contact": contact, "channel": channel_id(url), "by": by, "at": time.time()}
    temporary = folder / f".{name}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(orjson.dumps(request))
    temporary.replace(folder / f"{name}.json")
    return f"{KIND}-{name}"


def take_tests(state_directory: Path, config: Config, now: float) -> Iterator[Entry]:
    """The tests asked for since the last look, as entries of the outbox; their files are gone afterwards."""
    try:
        waiting = sorted((state_directory / FOLDER).glob("*.json"))[:MOST_AT_ONCE]
    except OSError:
        return
    for path in waiting:
        try:
            request: dict[str, Any] = orjson.loads(path.read_bytes())
            path.unlink()
            entry = _entry(f"{KIND}-{path.stem}", request, config, now)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if entry is not None:
            yield entry


def _entry(name: str, request: dict[str, Any], config: Config, now: float) -> Entry | None:
    contact = config.contacts.get(request["contact"])
    if contact is None or now - request["at"] > OLD_SECONDS:
        return None
    channels = [channel_id(url) for url in contact.send]
    if request["channel"] not in channels:
        return None
    subject, body = _WORDS[contact.language]
    values = {"by": request["by"], "contact": request["contact"], "node": config.node}
    return Entry(
        call=name,
        kind=KIND,
        contact=request["contact"],
        channel=channels.index(request["channel"]),
        target=request["channel"],
        queued_at=now,
        subject=subject,
        body=body.format(**values),
    )
