"""Contact URLs that can never work: found before the start, not by the notice that nobody gets."""

import warnings
from pathlib import Path

from config.files import read_source
from config.load import LoadedConfig
from config.problem import Problem
from config.validate import locate


def unusable_urls(loaded: LoadedConfig, path: Path) -> list[Problem]:
    """A problem, with its place in the file, for each `contacts.*.send` that no channel knows. The URL itself is not
    shown: it may hold a password. Imports Apprise, so it is not for the call process."""
    import apprise

    found: list[Problem] = []
    root = read_source(path).root
    for name, contact in loaded.config.contacts.items():
        for index, url in enumerate(contact.send):
            if url.lower().startswith(("sip:", "sips:")):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # modules that some plugins still import
                known = apprise.Apprise.instantiate(url, suppress_exceptions=True)
            if known is None and root is not None:
                place, steps, _ = locate(root, ("contacts", name, "send", index))
                scheme = url.partition(":")[0][:20]
                found.append(
                    Problem.at(
                        place,
                        steps,
                        f"not a channel that Apprise knows, or its URL is incomplete ({scheme}:…); "
                        "write mailto://HOST?from=…&to=…, json://HOST/PATH, or another URL of Apprise's",
                    )
                )
    return found
