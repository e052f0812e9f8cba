"""What the notices process needs of a configuration; the last good one is kept for a restart."""

import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from config.load import ConfigError, load_config
from config.schema import Config
from router.notices.contact_urls import unusable_contacts
from router.process.telemetry import say

LAST_GOOD = "notices-settings.json"

_say = partial(say, logging.getLogger("router.notices"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What this process needs of a configuration."""

    config: Config
    database_url: str
    state_directory: Path


def load_settings(config_file: Path) -> Settings:
    """The settings in a configuration file, kept as the last good ones. Raises ConfigError.

    As for the call process, contacts that could never be told, or not in their own words, make it one that is
    not taken.
    """
    loaded = load_config(config_file)
    unusable = unusable_contacts(config_file)
    if unusable:
        raise ConfigError(unusable)
    settings = Settings(
        config=loaded.config, database_url=loaded.database_url, state_directory=loaded.state_directory
    )
    kept = {"config": loaded.config.model_dump_json(), "database_url": settings.database_url}
    try:
        settings.state_directory.mkdir(parents=True, exist_ok=True)
        path = settings.state_directory / LAST_GOOD
        temporary = path.with_suffix(".new")
        # It holds the passwords of channels.
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(kept))
        temporary.replace(path)
    except OSError as error:
        _say(logging.WARNING, "last-good-settings-not-written", reason=error.strerror)
    return settings


def last_good_settings(state_directory: Path) -> Settings | None:
    """What the last good configuration said, so that a restart in the middle of an edit still tells people."""
    try:
        kept = orjson.loads((state_directory / LAST_GOOD).read_bytes())
        config = Config.model_validate_json(kept["config"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Settings(config=config, database_url=kept["database_url"], state_directory=state_directory)
