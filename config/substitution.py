"""Secrets in the configuration: `${file:PATH}` and `${env:NAME}` inside any value.

They are put in after parsing, so their content is always text and never YAML. `$${` stands for a plain `${`.
A file's last line break is not part of the secret. What a secret holds is never shown in a message.
"""

import os
import re
from collections.abc import Mapping as AbcMapping
from dataclasses import replace
from pathlib import Path

from config.document import Mapping, Node, Scalar, Sequence
from config.files import read_bytes
from config.problem import Problem, on_one_line, quoted

MAX_SECRET_BYTES = 64 * 1024

_REFERENCE = re.compile(r"\$(\$\{)|\$\{([^}]*)(\}?)")


def substitute(
    root: Mapping, directory: Path, environment: AbcMapping[str, str] | None = None
) -> tuple[Mapping, list[Problem]]:
    """The tree with every secret put in, and one problem for each that is missing.

    `directory` is where relative PATHs begin (that of the main file). A value with a missing secret is marked
    `broken`, so that nothing else is said about it.
    """
    work = _Substitution(directory, os.environ if environment is None else environment)
    return work.mapping(root, ()), work.problems


class _Substitution:
    def __init__(self, directory: Path, environment: AbcMapping[str, str]) -> None:
        self.directory = directory
        self.environment = environment
        self.problems: list[Problem] = []
        self.done: dict[int, Node] = {}

    def mapping(self, node: Mapping, path: tuple[str | int, ...]) -> Mapping:
        entries = {key: (place, self.node(value, (*path, key))) for key, (place, value) in node.entries.items()}
        return Mapping(entries, node.place, node.size)

    def node(self, node: Node, path: tuple[str | int, ...]) -> Node:
        known = self.done.get(id(node))
        if known is None:
            known = self._substituted(node, path)
            self.done[id(node)] = known
        return known

    def _substituted(self, node: Node, path: tuple[str | int, ...]) -> Node:
        if isinstance(node, Mapping):
            return self.mapping(node, path)
        if isinstance(node, Sequence):
            items = tuple(self.node(item, (*path, n)) for n, item in enumerate(node.items))
            return Sequence(items, node.place, node.size)
        if node.text is None or "${" not in node.text:
            return node
        return self._scalar(node, node.text, path)

    def _scalar(self, node: Scalar, text: str, path: tuple[str | int, ...]) -> Scalar:
        missing: list[str] = []

        def put_in(match: re.Match[str]) -> str:
            if match[1]:
                return "${"
            try:
                return self._secret(match[2], closed=bool(match[3]))
            except (OSError, ValueError) as error:
                missing.append(str(error))
                return ""

        result = _REFERENCE.sub(put_in, text)
        self.problems.extend(Problem.at(node.place, path, message) for message in missing)
        return replace(node, text=result, written=text, broken=bool(missing))

    def _secret(self, reference: str, *, closed: bool) -> str:
        kind, colon, name = reference.partition(":")
        if not closed or not colon or kind not in ("env", "file") or not name:
            raise ValueError(
                f"{quoted('${' + reference + ('}' if closed else ''))} is not a secret we know; "
                "write ${env:NAME} or ${file:PATH}, or $${ for a plain ${"
            )
        if kind == "env":
            if name not in self.environment:
                raise ValueError(f"the environment variable {quoted(name)} is not set; set it and start again")
            value = self.environment[name]
            if not value.isprintable() and any("\ud800" <= character <= "\udfff" for character in value):
                raise ValueError(f"the environment variable {quoted(name)} is not UTF-8 text")
            return value
        path = self.directory / name
        try:
            data = read_bytes(path, MAX_SECRET_BYTES)
        except OSError as error:
            raise ValueError(f"cannot read the secret in {on_one_line(path)}: {error.strerror or error}") from None
        if len(data) > MAX_SECRET_BYTES:
            raise ValueError(f"the secret in {on_one_line(path)} is larger than {MAX_SECRET_BYTES // 1024} KiB")
        try:
            return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise ValueError(f"the secret in {on_one_line(path)} is not UTF-8 text") from None
