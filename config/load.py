"""Loading the configuration: everything that is wrong with it at once, or a configuration that can be run.

The way: find the file, read it with what it includes (config/files, config/document), put the secrets in
(config/substitution), make the models (config/validate, config/schema), load the provider profiles
(config/profiles), check what belongs together (config/checks).
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from config.checks import Findings, check
from config.document import Node, Scalar, Sequence
from config.files import read_source
from config.problem import ConfigError, Place, Problem
from config.schema import Config
from config.substitution import substitute
from config.validate import key_place, locate, original_path, validate, without_secrets
from e911.provider_profile import (
    ProviderProfile,
)

__all__ = ["ConfigError", "LoadedConfig", "Problem", "find_config", "load_config"]

DEFAULT_PATHS = (Path("edge911.yaml"), Path("/etc/edge911/edge911.yaml"))

# Takes the place of a `listen` that is wrong, so that the rest of the file can be checked in the same go.
_STAND_INS: dict[str, Node] = {"listen": Sequence((Scalar("udp://192.0.2.1:5060", Place("")),), Place(""), 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A configuration without errors, and what belongs to it."""

    config: Config
    files: tuple[Path, ...]
    """Every file it was read from, the main file first; then included files, then profiles of its own."""
    directory: Path
    """The main file's, absolute: where relative paths begin."""
    warnings: tuple[Problem, ...]
    profiles: dict[str, ProviderProfile]
    """By the name routes call them by."""

    def path(self, text: str) -> Path:
        """A path of the configuration; relative ones begin at the main file."""
        return self.directory / text

    @property
    def state_directory(self) -> Path:
        """Where the journal and key of this node live. EDGE911_STATE_DIRECTORY in the environment goes first."""
        return self.path(os.environ.get("EDGE911_STATE_DIRECTORY") or self.config.state_directory)

    @property
    def database_url(self) -> str:
        """`locations.database`, the path of an SQLite file made absolute."""
        url = self.config.locations.database
        prefix = "sqlite:///"
        if not url.startswith(prefix) or url.startswith(f"{prefix}:memory:"):
            return url
        return f"{prefix}{self.path(url.removeprefix(prefix))}"


def find_config(option: Path | None) -> Path:
    """The configuration file to use: the option, else EDGE911_CONFIG, else the first of DEFAULT_PATHS.

    One that was named is returned unseen (loading it says what is wrong); ConfigError lists where was looked.
    """
    if option is not None:
        return option
    if named := os.environ.get("EDGE911_CONFIG"):
        return Path(named)
    for path in DEFAULT_PATHS:
        if path.exists():
            return path
    looked = " and ".join(str(path) for path in DEFAULT_PATHS)
    message = f"no configuration found; looked at {looked}; name one with -c FILE or in EDGE911_CONFIG"
    raise ConfigError([Problem.at(Place(str(DEFAULT_PATHS[0])), (), message)])


def load_config(path: Path) -> LoadedConfig:
    """The configuration in this file and all it includes.

    Raises ConfigError with every error found, in the order of the files and their lines; warnings come along
    where nothing was wrong with the parts they are about. Never raises anything else for bad content.
    """
    source = read_source(path)
    if source.root is None or source.unusable:
        raise ConfigError(_in_order(source.problems, source.files))
    # Files named in the configuration are read, and shown in messages, as relative as the main file was named.
    beside = Path(path).parent
    root, missing = substitute(source.root, beside)
    validated = validate(Config, root, _STAND_INS)
    errors = [*source.problems, *missing, *validated.problems]
    if validated.model is None:
        raise ConfigError(_in_order(errors, source.files))
    found = check(validated.model, root, beside, validated.incomplete)
    files = [*source.files, *found.files]

    def placed(findings: Findings) -> list[Problem]:
        problems = []
        for finding in findings:
            place, steps, node = locate(root, original_path(finding.path, validated))
            if finding.at_key:
                place = key_place(root, steps)
            problems.append(Problem.at(place, steps, without_secrets(finding.message, node)))
        return problems

    warnings = [] if errors else _in_order([*source.warnings, *placed(found.warnings)], files)
    errors += [*placed(found.errors), *found.problems]
    if errors:
        raise ConfigError(_in_order(errors, files), warnings)
    return LoadedConfig(
        config=validated.model,
        files=tuple(files),
        directory=Path(os.path.abspath(path)).parent,
        warnings=tuple(warnings),
        profiles=found.profiles,
    )


def _in_order(problems: Iterable[Problem], files: Iterable[Path]) -> list[Problem]:
    """By file, in the order they were read, then by line and column; the same problem once."""
    order = {str(path): number for number, path in enumerate(files)}

    def position(problem: Problem) -> tuple[int, int, int]:
        return order.get(problem.file, len(order)), problem.line, problem.column

    return sorted(dict.fromkeys(problems), key=position)
