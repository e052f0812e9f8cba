"""From the tree of texts to a model: positions for every error, and a look at the rest where parts are wrong."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.document import MAX_PROBLEMS, Mapping, Node, Scalar, Sequence
from config.messages import message_of
from config.problem import Place, Problem

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

_ROUNDS = 8
_WORD = re.compile(r"\w{2,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated(Generic[Model]):
    """What came of a tree: a model where it could be made, and every problem found on the way.

    With problems the model stands for the rest of the file only: what is wrong has been left out of `tree`
    (the tree the model was made from), so that references can be checked too. Its values must not be used.
    """

    model: Model | None
    tree: Mapping
    problems: list[Problem]
    indexes: dict[Path, tuple[int, ...]]
    """For each list something was left out of: the positions, in the file, of the items that remain."""
    incomplete: frozenset[str]
    """The top-level keys something was left out of."""


def validate(model: type[Model], root: Mapping, stand_ins: dict[str, Node] | None = None) -> Validated[Model]:
    """Make the model from the tree; `stand_ins` take the place of required top-level keys that are wrong."""
    result, errors = _attempt(model, root)
    problems = [problem for error in errors[:MAX_PROBLEMS] if (problem := _problem(error, root, model))]
    if len(errors) > MAX_PROBLEMS:
        place = locate(root, errors[MAX_PROBLEMS]["loc"])[0]
        problems.append(Problem.at(place, (), f"and {len(errors) - MAX_PROBLEMS} more errors from here on"))
    tree, dropped = root, set[Path]()
    indexes: dict[Path, tuple[int, ...]] = {}
    for _ in range(_ROUNDS):
        if result is not None:
            break
        wrong = {_to_drop(error, tree) for error in errors}
        dropped |= {_original(path, indexes) for path in wrong}
        indexes = {}
        pruned = _without(root, (), (), dropped, indexes)
        tree = _standing_in(pruned, stand_ins or {}, {str(path[0]) for path in dropped if path})
        result, errors = _attempt(model, tree)
    return Validated(
        model=result,
        tree=tree,
        problems=problems,
        indexes=indexes,
        incomplete=frozenset(str(path[0]) for path in dropped if path),
    )


def locate(root: Mapping, path: Path) -> tuple[Place, Path, Node | None]:
    """Where the value at a path stands, the path as far as the file goes, and the value.

    A path may go on where the file has a single value (`send: URI` for a list of one): it ends there. Where
    the last key is missing the place is that of the map it is missing from, and the value None.
    """
    node: Node = root
    walked: Path = ()
    for number, step in enumerate(path):
        if isinstance(node, Scalar):
            break
        following = _child(node, step)
        if following is None:
            return node.place, (*walked, *path[number:]), None
        node, walked = following, (*walked, step)
    return node.place, walked, node


def key_place(root: Mapping, path: Path) -> Place:
    """Where the last key of a path stands; the value's place where it is an item of a list."""
    _, _, parent = locate(root, path[:-1])
    if isinstance(parent, Mapping) and (entry := parent.entries.get(str(path[-1]))):
        return entry[0]
    return locate(root, path)[0]


def data_of(node: Node) -> Any:
    """The tree as texts, None, lists and dicts."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Sequence):
        return [data_of(item) for item in node.items]
    return {key: data_of(value) for key, (_, value) in node.entries.items()}


def scalars(node: Node) -> Iterator[Scalar]:
    """Every text in the tree."""
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from scalars(item)
    else:
        for _, value in node.entries.values():
            yield from scalars(value)


def without_secrets(message: str, node: Node | None) -> str:
    """The message without those of its parts (between semicolons) that share a word with a secret in the value."""
    secrets = [scalar for scalar in scalars(node) if scalar.written is not None] if node else []
    if not secrets:
        return message
    text = " ".join((scalar.text or "").lower() for scalar in secrets)
    parts = message.split("; ")
    kept = [part for part in parts if not any(word in text for word in _WORD.findall(part.lower()))]
    if len(kept) == len(parts):
        return message
    return "; ".join([f"the value of {secrets[0].written} does not fit here", *kept])


def _attempt(model: type[Model], root: Mapping) -> tuple[Model | None, list[ErrorDetails]]:
    try:
        return model.model_validate(data_of(root)), []
    except ValidationError as error:
        return None, error.errors(include_url=False, include_input=False)


def _problem(error: ErrorDetails, root: Mapping, model: type[BaseModel]) -> Problem | None:
    """One of pydantic's errors where it stands in the file; None where a missing secret was reported for it."""
    if error["loc"] and error["loc"][-1] == "[key]":
        path = error["loc"][:-1]
        return Problem.at(key_place(root, path), path, message_of(error, None, model))
    place, path, node = locate(root, error["loc"])
    if node is not None and any(scalar.broken for scalar in scalars(node)):
        return None
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        place = key_place(root, path)
    return Problem.at(place, path, without_secrets(message_of(error, node, model), node))


def _to_drop(error: ErrorDetails, tree: Mapping) -> Path:
    """The part of the tree to leave out for one error: the value, or for a missing one what misses it."""
    loc = error["loc"]
    if loc and loc[-1] == "[key]":
        return loc[:-1]
    _, path, node = locate(tree, loc)
    return path if node is not None else path[:-1]


def _original(path: Path, indexes: dict[Path, tuple[int, ...]]) -> Path:
    """A path in a pruned tree as a path in the file."""
    found: Path = ()
    for number, step in enumerate(path):
        positions = indexes.get(path[:number])
        found = (*found, positions[step] if positions is not None and isinstance(step, int) else step)
    return found


def original_path(path: Path, validated: Validated[Any]) -> Path:
    """A path in the tree a model was made from as a path in the file."""
    return _original(path, validated.indexes)


def _without(
    node: Mapping, path: Path, new_path: Path, dropped: set[Path], indexes: dict[Path, tuple[int, ...]]
) -> Mapping:
    entries = {
        key: (place, _kept(value, (*path, key), (*new_path, key), dropped, indexes))
        for key, (place, value) in node.entries.items()
        if (*path, key) not in dropped
    }
    return Mapping(entries, node.place, node.size)


def _kept(node: Node, path: Path, new_path: Path, dropped: set[Path], indexes: dict[Path, tuple[int, ...]]) -> Node:
    if isinstance(node, Mapping):
        return _without(node, path, new_path, dropped, indexes)
    if isinstance(node, Sequence):
        positions = tuple(n for n in range(len(node.items)) if (*path, n) not in dropped)
        if len(positions) < len(node.items):
            indexes[new_path] = positions
        items = tuple(
            _kept(node.items[old], (*path, old), (*new_path, new), dropped, indexes)
            for new, old in enumerate(positions)
        )
        return Sequence(items, node.place, node.size)
    return node


def _standing_in(tree: Mapping, stand_ins: dict[str, Node], dropped: set[str]) -> Mapping:
    entries = dict(tree.entries)
    for key, node in stand_ins.items():
        value = tree.get(key)
        if value is None or (isinstance(value, Sequence) and not value.items and key in dropped):
            entries[key] = (tree.place, node)
    return Mapping(entries, tree.place, tree.size)


def _child(node: Mapping | Sequence, step: str | int) -> Node | None:
    if isinstance(node, Mapping):
        return node.get(str(step))
    return node.items[step] if isinstance(step, int) and step < len(node.items) else None
