"""Reading configuration files: one file, and a main file with the files it includes.

`include:` at the top of a file names other files (a text or a list of texts, globs allowed, relative to the
including file). Their content is put together with the including file's: lists append, maps merge, and a key
that stands in two places is an error that names both. Merging goes one map deep: two files may each have
trunks, but not a trunk of the same name.
"""

import glob
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from config.document import MAX_BYTES, MAX_VALUES, Mapping, Node, Scalar, Sequence, parse_document
from config.problem import Place, Problem, on_one_line, quoted

MAX_FILES = 1000
"""Most files one configuration may consist of."""


@dataclass(slots=True)
class Source:
    """A configuration as read: its content, the files it came from, and what is wrong with them."""

    root: Mapping | None = None
    files: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    unusable: bool = False
    """A file could not be read or is not YAML: what is missing may be in it, so nothing more is checked."""


def read_source(path: Path) -> Source:
    """The main file with everything it includes; problems are collected, none is raised."""
    source = Source()
    source.root = _read_into(source, path, Place(str(path)), ())
    return source


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content of a regular file, one byte more than `limit` at most; OSError with a plain reason otherwise."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a directory" if path.is_dir() else "not a regular file"
            raise OSError(f"{kind}; name a file")
        with path.open("rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        raise OSError("there is no such file; check the name") from None
    except PermissionError:
        raise OSError("this user may not read it; check its owner and mode") from None
    except ValueError:
        raise OSError("not a file name") from None


def _read_into(source: Source, path: Path, named_at: Place, named_by: tuple[str | int, ...]) -> Mapping | None:
    real = os.path.realpath(path) if "\0" not in str(path) else str(path)
    if real in source.known:
        message = f"{on_one_line(path)} is included a second time; name it once"
        source.problems.append(Problem.at(named_at, named_by, message))
        return None
    source.known.add(real)
    source.files.append(path)
    try:
        data = read_bytes(path)
    except OSError as error:
        shown = (
            f"cannot read {on_one_line(path)}: {error.strerror or error}"
            if named_by
            else f"{error.strerror or error}"
        )
        source.problems.append(Problem.at(named_at, named_by, shown))
        source.unusable = True
        return None
    root, problems = parse_document(data, str(path))
    source.problems.extend(problems)
    if root is None:
        source.unusable = True
        return None
    return _with_included(source, path, root)


def _with_included(source: Source, path: Path, root: Mapping) -> Mapping:
    named = root.entries.pop("include", None)
    if named is None:
        return root
    for steps, pattern in _patterns(source, named[1]):
        for found in _matches(source, path, steps, pattern):
            if len(source.files) >= MAX_FILES:
                source.problems.append(Problem.at(pattern.place, steps, f"more than {MAX_FILES} files"))
                return root
            included = _read_into(source, found, pattern.place, steps)
            if included is not None:
                root = _merged(source, root, included)
    return root


def _patterns(source: Source, node: Node) -> list[tuple[tuple[str | int, ...], Scalar]]:
    if isinstance(node, Scalar):
        return [(("include",), node)] if node.text else []
    if isinstance(node, Sequence) and all(isinstance(item, Scalar) and item.text for item in node.items):
        return [(("include", n), item) for n, item in enumerate(node.items) if isinstance(item, Scalar)]
    message = "write a file name or a list of file names, such as sites.d/*.yaml"
    source.problems.append(Problem.at(node.place, ("include",), message))
    return []


def _matches(source: Source, path: Path, steps: tuple[str | int, ...], pattern: Scalar) -> list[Path]:
    text = pattern.text or ""
    if "\0" not in text and glob.has_magic(text):
        names = sorted(glob.glob(text, root_dir=path.parent))
        if not names:
            message = f"no file matches {on_one_line(Path(text))}: nothing is included by it"
            source.warnings.append(Problem.at(pattern.place, steps, message))
        return [path.parent / name for name in names]
    return [path.parent / text]


def _merged(source: Source, first: Mapping, second: Mapping) -> Mapping:
    entries = dict(first.entries)
    for key, (place, value) in second.entries.items():
        known = entries.get(key)
        entries[key] = (place, value) if known is None else (known[0], _joined(source, key, known, (place, value)))
    size = first.size + second.size
    if size > MAX_VALUES:
        message = f"more than {MAX_VALUES} values in all files together"
        source.problems.append(Problem.at(second.place, (), message))
        source.unusable = True
        return first
    return Mapping(entries, first.place, size)


def _joined(source: Source, key: str, first: tuple[Place, Node], second: tuple[Place, Node]) -> Node:
    """Two values of one top-level key from two files, as one."""
    one, two = first[1], second[1]
    if _is_null(two):
        return one
    if _is_null(one):
        return two
    if isinstance(one, Sequence) and isinstance(two, Sequence):
        return Sequence(one.items + two.items, one.place, one.size + two.size)
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return _joined_maps(source, key, one, two)
    _report_twice(source, (key,), first[0], second[0])
    return one


def _joined_maps(source: Source, key: str, one: Mapping, two: Mapping) -> Mapping:
    entries = dict(one.entries)
    for name, (place, value) in two.entries.items():
        known = entries.get(name)
        if known is None:
            entries[name] = (place, value)
        elif isinstance(known[1], Sequence) and isinstance(value, Sequence):
            items = known[1].items + value.items
            entries[name] = (known[0], Sequence(items, known[1].place, known[1].size + value.size))
        else:
            _report_twice(source, (key, name), known[0], place)
    return Mapping(entries, one.place, one.size + two.size)


def _report_twice(source: Source, path: tuple[str | int, ...], first: Place, second: Place) -> None:
    message = f"duplicate key; {quoted(str(path[-1]))} also stands at {first}; keep one of them"
    source.problems.append(Problem.at(second, path, message))


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.text is None
