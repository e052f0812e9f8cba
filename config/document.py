"""Strict YAML: a file becomes a tree of texts, lists and maps that know where they stand.

Nothing is converted here: `off`, `0123`, `NO` and `2:04` stay the text they are, and the schema decides what
they mean. Only an empty value, `null` and `~` are null (text is None). Tags, merge keys (`<<`), several
documents in one file and keys that are not text are refused; a key written twice is an error that names both
places. Anchors and aliases are allowed, within the limits below.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from config.problem import Place, Problem, quoted

MAX_BYTES = 8 * 1024 * 1024
"""Largest file read."""
MAX_DEPTH = 32
"""Deepest nesting; a configuration needs about eight levels."""
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep; no setting is that deep"
MAX_VALUES = 500_000
"""Most keys and values in one file, aliases written out: what a file of aliases of aliases runs into."""
MAX_TABLE_BYTES = 64 * 1024 * 1024
MAX_TABLE_VALUES = 10_000_000
"""The same of a file that is one long list: 100,000 devices with every column have 8 million."""
MAX_PROBLEMS = 1000
"""Most problems listed; a file with more is another kind of file."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = ("", "~", "null")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Scalar:
    """One text as written, or None for null."""

    text: str | None
    place: Place
    written: str | None = None
    """With a secret put in: the text as it stands in the file."""
    broken: bool = False
    """A secret is missing: that was reported, and nothing more can be said about the value."""
    size: int = 1


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple["Node", ...]
    place: Place
    size: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """A map: for each key, where the key stands and its value."""

    entries: dict[str, tuple[Place, "Node"]]
    place: Place
    size: int

    def get(self, key: str) -> "Node | None":
        """The value of a key, or None."""
        entry = self.entries.get(key)
        return entry[1] if entry else None


Node = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Table:
    """A file that is one long list under `key`: `item` gets each of its items when it was read, and none is kept."""

    key: str
    item: Callable[[Node], None]


def parse_document(data: bytes, file: str, table: Table | None = None) -> tuple[Mapping | None, list[Problem]]:
    """The file's top-level map and every problem; the map is None where the file cannot be used at all.

    With a `table` the file may be longer, and its list is empty in the map.
    """
    most, remedy = (MAX_BYTES, "split it up with `include:`") if table is None else (MAX_TABLE_BYTES, "split it up")
    if len(data) > most:
        return None, [_at_start(file, f"larger than {most // 1024**2} MiB; {remedy}")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place_of(data[: error.start].decode("utf-8", "replace"), file)
        return None, [Problem.at(place, (), f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8")]
    if strange := _UNPRINTABLE.search(text):
        place = _place_of(text[: strange.start()], file)
        message = f"U+{ord(strange[0]):04X} is a control character, which YAML does not allow; remove it"
        return None, [Problem.at(place, (), message)]
    tree = _Tree(file, table)
    try:
        root = tree.build(text)
    except _StopError as stop:
        return None, [*tree.problems, stop.problem]
    if not isinstance(root, Mapping):
        return None, [*tree.problems, _not_a_map(root, file)]
    return root, tree.problems


def _not_a_map(root: Node | None, file: str) -> Problem:
    if root is None or (isinstance(root, Scalar) and root.text is None):
        return _at_start(file, "the file is empty; write `key: value` lines, beginning with `listen:`")
    found = "a list" if isinstance(root, Sequence) else "a text"
    return Problem.at(root.place, (), f"the file holds {found}; write `key: value` lines, such as `listen:`")


def _at_start(file: str, message: str) -> Problem:
    return Problem.at(Place(file), (), message)


def _place_of(before: str, file: str) -> Place:
    lines = _LINE_BREAK.split(before)
    return Place(file, len(lines), len(lines[-1]) + 1)


class _StopError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(slots=True)
class _Open:
    """A list or map whose end has not come yet."""

    place: Place
    anchor: str | None
    is_map: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, tuple[Place, Node]] = field(default_factory=dict)
    key: str | None = None
    key_place: Place | None = None
    drop_value: bool = False
    size: int = 1


class _Tree:
    """Builds the tree from the parser's events, one at a time, so that it can stop in the middle."""

    def __init__(self, file: str, table: Table | None = None) -> None:
        self.file = file
        self.table = table
        self.most_values = MAX_VALUES if table is None else MAX_TABLE_VALUES
        self.problems: list[Problem] = []
        self.open: list[_Open] = []
        self.anchors: dict[str, Node] = {}
        self.root: Node | None = None
        self.documents = 0

    def build(self, text: str) -> Node | None:
        for event in self._events(text):
            place = Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)
            if isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    self._stop(place, "a second document begins here; keep one document in a file (one `---`)")
            elif isinstance(event, yaml.AliasEvent):
                self._add(self._aliased(event.anchor, place), place)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event, place)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._begin(event, place)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end()
        return self.root

    def _events(self, text: str) -> Iterator[Any]:
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if "unexpected end of stream" in (error.problem or ""):
                mark = error.context_mark or mark  # where the quote was opened
            place = _within(text, Place(self.file, mark.line + 1, mark.column + 1)) if mark else Place(self.file)
            self._stop(place, _syntax_message(error, _character_at(text, place)))
        except yaml.YAMLError as error:
            self._stop(Place(self.file), f"not YAML: {str(error).splitlines()[0]}")

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> None:
        self._refuse_tag(event.tag, place)
        plain = not event.style
        value = None if plain and event.value in _NULLS else event.value
        if plain and event.value == "<<" and self.open and self.open[-1].is_map and self.open[-1].key is None:
            self._report(place, "merge keys (<<) are not supported; write the keys out")
            self.open[-1].drop_value = True
        node = Scalar(value, place)
        self._keep(event.anchor, node)
        self._add(node, place)

    def _begin(self, event: Any, place: Place) -> None:
        self._refuse_tag(event.tag, place)
        if len(self.open) >= MAX_DEPTH:
            self._stop(place, _TOO_DEEP)
        if event.anchor is not None:
            self.anchors.pop(event.anchor, None)
        self.open.append(_Open(place, event.anchor, isinstance(event, yaml.MappingStartEvent)))

    def _end(self) -> None:
        done = self.open.pop()
        node: Node
        if done.is_map:
            node = Mapping(done.entries, done.place, done.size)
        else:
            node = Sequence(tuple(done.items), done.place, done.size)
        self._keep(done.anchor, node)
        self._add(node, done.place)

    def _keep(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self.anchors[anchor] = node

    def _aliased(self, anchor: str | None, place: Place) -> Node:
        if any(opened.anchor == anchor for opened in self.open) and anchor not in self.anchors:
            self._stop(place, f"*{anchor} stands inside the value it names; write the value out")
        node = self.anchors.get(anchor or "")
        if node is None:
            self._stop(place, f"no anchor &{anchor} above; put text that begins with * in quotes")
        return node

    def _add(self, node: Node, place: Place) -> None:
        if not self.open:
            self.root = node
            return
        inner = self.open[-1]
        inner.size += node.size
        if inner.size > self.most_values:
            self._stop(place, f"more than {self.most_values} values (aliases written out); split the file up")
        if not inner.is_map:
            if self.table is not None and len(self.open) == 2 and self.open[0].key == self.table.key:
                self.table.item(node)
            else:
                inner.items.append(node)
        elif inner.key is None:
            self._key(inner, node, place)
        else:
            self._value(inner, node)

    def _key(self, inner: _Open, node: Node, place: Place) -> None:
        if isinstance(node, Scalar):
            inner.key = node.text if node.text is not None else ""
        else:
            self._report(place, "a key must be a text; put it in quotes if it begins with [ or {")
            inner.key = ""
            inner.drop_value = True
        inner.key_place = place

    def _value(self, inner: _Open, node: Node) -> None:
        key, place = inner.key or "", inner.key_place or inner.place
        first = inner.entries.get(key)
        if inner.drop_value:
            pass
        elif first:
            inner.key = None
            message = f"duplicate key; {quoted(key)} also stands at {first[0]}; keep one of them"
            self._report(place, message, key)
        else:
            inner.entries[key] = (place, node)
        inner.key, inner.drop_value = None, False

    def _refuse_tag(self, tag: str | None, place: Place) -> None:
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._report(place, f"the tag {quoted(shown)} is not accepted; remove it, each setting knows its type")

    def _report(self, place: Place, message: str, *steps: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem.at(place, (*self._path(), *steps), message))

    def _stop(self, place: Place, message: str) -> NoReturn:
        raise _StopError(Problem.at(place, self._path(), message))

    def _path(self) -> list[str | int]:
        path: list[str | int] = []
        for opened in self.open:
            if not opened.is_map:
                path.append(len(opened.items))
            elif opened.key is not None:
                path.append(opened.key)
        return path


def _within(text: str, place: Place) -> Place:
    """The place, or the end of the text where it lies behind that."""
    lines = _LINE_BREAK.split(text)
    return place if place.line <= len(lines) else Place(place.file, len(lines), len(lines[-1]) + 1)


_SYNTAX = (
    ("could not find expected ':'", "a key without a colon; write `key: value`"),
    ("mapping values are not allowed", "a colon too many, or wrong indentation; put text that holds `: ` in quotes"),
    ("unexpected end of stream", "a quote is opened here and never closed"),
    ("',' or ']'", "a list{opened} with [ is not closed; write a comma between items and ] at the end"),
    ("',' or '}'", "a map{opened} with { is not closed; write a comma between entries and } at the end"),
    ("did not find expected key", "the indentation does not fit the lines above"),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("expected '-' indicator", "the indentation does not fit: an item of the list above begins with `- `"),
    ("expected node content", "a value is missing, or a bracket too many"),
    ("unknown escape character", "an unknown \\ escape; in double quotes write \\\\ for one backslash"),
    ("incompatible YAML document", "a YAML version we do not know; remove the %YAML line"),
)


def _syntax_message(error: yaml.MarkedYAMLError, character: str) -> str:
    problem = error.problem or error.context or "unreadable"
    if "maximum nesting depth" in problem:  # libyaml looks ahead further than it tells
        return _TOO_DEEP
    if "cannot start any token" in problem:
        if character == "\t":
            return "not YAML: a tab in the indentation; indent with spaces"
        return f"not YAML: a text cannot begin with {character}; put it in quotes"
    opened = f" opened in line {error.context_mark.line + 1}" if error.context_mark else ""
    for part, message in _SYNTAX:
        if part in problem:
            return f"not YAML: {message.replace('{opened}', opened)}"
    return f"not YAML: {problem}"


def _character_at(text: str, place: Place) -> str:
    lines = _LINE_BREAK.split(text)
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    return line[place.column - 1 : place.column]
