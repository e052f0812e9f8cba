"""Contact URLs that can never work: found before the start, not by the notice that nobody gets."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from config.channel_urls import is_ours
from config.document import Mapping, Scalar, Sequence
from config.files import read_source
from config.problem import Problem
from config.substitution import substitute

APART_SECONDS = 30.0

log = logging.getLogger(__name__)


def unusable_urls_apart(path: Path) -> list[str]:
    """The same as text, found by another process: for the call process, which is to stay small and quick.

    Empty, and said in the log, where that process cannot do it: what it would have found stops no reload.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "router.notices.contact_urls", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=APART_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("contacts were not looked at: %s", type(error).__name__)
        return []
    if done.returncode:
        log.warning("contacts were not looked at: exit code %d", done.returncode)
    return done.stdout.splitlines()


def unusable_urls(path: Path) -> list[Problem]:
    """A problem, with its place in the file, for each `contacts.*.send` that no channel knows.

    Reads the file itself, so that these are found beside whatever else is wrong with it. The URL is not shown: it may
    hold a password. Imports Apprise, so it is not for the call process.
    """
    from router.notices.apprise_plugins import plugin_of

    found: list[Problem] = []
    for name, index, value in _urls(path):
        url = value.text or ""
        if not url or value.broken or is_ours(url):  # config/checks.py has looked at ours
            continue
        if plugin_of(url) is None:
            scheme = url.partition(":")[0][:20]
            found.append(
                Problem.at(
                    value.place,
                    ("contacts", name, "send") if index is None else ("contacts", name, "send", index),
                    f"not a channel that Apprise knows, or its URL is incomplete ({scheme}:…); "
                    "write mailto://HOST?from=…&to=…, json://HOST/PATH, sip:USER@HOST, or another URL of Apprise's",
                )
            )
    return found


def unusable_templates(path: Path) -> list[Problem]:
    """A problem for each template of a contact that cannot be read, or that fails with a call such as there are."""
    from router.notices.template_trials import failing_templates

    root = read_source(path).root
    contacts = substitute(root, path.parent)[0].get("contacts") if root is not None else None
    found: list[Problem] = []
    for name, (_, contact) in contacts.entries.items() if isinstance(contacts, Mapping) else ():
        if not isinstance(contact, Mapping):
            continue
        folder, language = contact.get("templates"), contact.get("language")
        if isinstance(folder, Scalar) and folder.text:
            place = path.parent / folder.text
            words = (
                failing_templates(place, str(language.text) if isinstance(language, Scalar) else "en")
                if place.is_dir()
                else ["no such folder; `edge911 contacts templates` makes one"]
            )
            found += [Problem.at(folder.place, ("contacts", name, "templates"), one) for one in words]
    return found


def unusable_contacts(path: Path) -> list[Problem]:
    """All that could never be sent: URLs and templates."""
    return [*unusable_urls(path), *unusable_templates(path)]


def _urls(path: Path) -> Iterator[tuple[str, int | None, Scalar]]:
    """Contact, position in its list (None for a single value), and the value, secrets put in."""
    root = read_source(path).root
    if root is None:
        return
    contacts = substitute(root, path.parent)[0].get("contacts")
    for name, (_, contact) in contacts.entries.items() if isinstance(contacts, Mapping) else ():
        send = contact.get("send") if isinstance(contact, Mapping) else None
        if isinstance(send, Scalar):
            yield name, None, send
        for index, item in enumerate(send.items if isinstance(send, Sequence) else ()):
            if isinstance(item, Scalar):
                yield name, index, item


if __name__ == "__main__":
    for problem in unusable_contacts(Path(sys.argv[1])):
        print(problem)
