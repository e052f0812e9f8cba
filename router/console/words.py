"""What people read, in English and French: the catalogue in words/*.yaml, and which language somebody gets.

A file holds `key: {en: TEXT, fr: TEXT}`. {name} in a text is replaced. Where a text says {count}, `key.one` is the
same of one thing (and in French of none).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

LANGUAGES = ("en", "fr")
_FOLDER = Path(__file__).with_name("words")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml reads them in a tenth of the time, where it is there."""


class Words:
    """All texts by key."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        self.texts: dict[str, Mapping[str, str]] = {}
        for file in sorted(folder.glob("*.yaml")):
            found = yaml.load(file.read_text(encoding="utf-8"), _LOADER) or {}
            if twice := found.keys() & self.texts.keys():
                raise ValueError(f"{file.name}: {', '.join(sorted(twice))}: these keys are in another file too")
            self.texts.update(found)

    def say(self, language: str, key: str, /, **values: object) -> str:
        """The text of a key; the key itself where there is none: a page without a word beats no page."""
        one = ("0", "1") if language == "fr" else ("1",)
        if str(values.get("count")) in one and f"{key}.one" in self.texts:
            key = f"{key}.one"
        text = self.texts.get(key, {}).get(language)
        if text is None:
            return key
        return text.format_map(values) if values else text


def accepted_language(header: str) -> str:
    """The language of ours that comes first in an Accept-Language header (RFC 9110 section 12.5.4)."""
    best, weight = "en", 0.0
    for item in header.split(",")[:20]:
        tag, _, parameter = item.strip().partition(";")
        language = tag.strip().lower().partition("-")[0]
        quality = _quality(parameter)
        if language in LANGUAGES and quality > weight:
            best, weight = language, quality
    return best


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
