"""What pydantic found wrong, said to a network engineer: what is wrong here, and what would be right."""

import types
import typing
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from config.document import Mapping, Node, Scalar, Sequence
from config.problem import quoted

_TOO_MANY_TO_LIST = 24

_PATTERNS = {
    "name": "a name holds letters, digits, dots, hyphens and underscores, at most 64, a letter or digit first",
    "domain": "not a full domain name; write one with a dot, such as sbc.example.com",
}


def message_of(error: ErrorDetails, node: Node | None, model: Any) -> str:
    """One line for one of pydantic's errors; `node` is the value meant, None for a missing one."""
    kind = error["type"]
    context = error.get("ctx", {})
    step = str(error["loc"][-1]) if error["loc"] else ""
    if kind == "missing":
        return "missing; this setting is required"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key{did_you_mean(step, keys_at(model, error['loc'][:-1]))}"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if isinstance(node, Scalar) and node.text is None:
        return "is empty; write a value or remove the key"
    if kind.endswith("_type"):
        return _wrong_shape(kind, node)
    if kind in ("literal_error", "enum"):
        choices = choices_at(model, error["loc"])
        return f"not a value known here{did_you_mean(_text(node), choices, otherwise='write one of')}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS["domain" if step == "domain" else "name"]
    return _wrong_value(kind, context)


def did_you_mean(text: str, known: Iterable[str], *, otherwise: str = "known here:") -> str:
    """`; did you mean "callback"?`, else the names there are after `otherwise`, else that there are none."""
    names = list(known)
    by_form = {_form(name): name for name in names}
    close = get_close_matches(_form(text), list(by_form), n=1, cutoff=0.6)
    if close:
        return f"; did you mean {quoted(by_form[close[0]])}?"
    if not names:
        return "; there are none"
    shown = ", ".join(name or '""' for name in names[:_TOO_MANY_TO_LIST])
    return f"; {otherwise} {shown}{', …' if len(names) > _TOO_MANY_TO_LIST else ''}"


def keys_at(model: Any, path: Iterable[str | int]) -> list[str]:
    """The keys a section may have, for the section at this path of a model."""
    found = _type_at(model, path)
    if isinstance(found, type) and issubclass(found, BaseModel):
        return list(found.model_fields)
    if is_dataclass(found):
        return [item.name for item in fields(found)]
    return []


def choices_at(model: Any, path: Iterable[str | int]) -> list[str]:
    """The values a setting may have, for the setting at this path of a model."""
    found = _type_at(model, path)
    if isinstance(found, type) and issubclass(found, Enum):
        return [str(item.value) for item in found]
    return [str(item) for item in get_args(found)] if get_origin(found) is typing.Literal else []


def _type_at(model: Any, path: Iterable[str | int]) -> Any:
    found = _bare(model)
    for step in path:
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.model_fields.get(str(step))
            found = _bare(field.annotation) if field else None
        elif is_dataclass(found):
            found = _bare({item.name: item.type for item in fields(found)}.get(str(step)))
        else:
            inner = get_args(found)
            found = _bare(inner[-1]) if inner else None
    return found


def _bare(annotation: Any) -> Any:
    """The type without Annotated and without `| None`."""
    while True:
        origin = get_origin(annotation)
        if origin is typing.Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(part for part in get_args(annotation) if part is not type(None))
        else:
            return annotation


def _form(text: str) -> str:
    return text.lower().replace("-", "_").replace(" ", "_")


def _text(node: Node | None) -> str:
    return node.text or "" if isinstance(node, Scalar) else ""


def _wrong_shape(kind: str, node: Node | None) -> str:
    found = {Sequence: "a list", Mapping: "a map of keys", Scalar: "a single value"}.get(type(node), "this")
    if kind == "list_type":
        return f"a list is needed here, not {found}; write [ITEM, ITEM] or one `- ITEM` to a line"
    if kind in ("dict_type", "model_type", "dataclass_type", "model_attributes_type", "mapping_type"):
        return f"keys with values are needed here, not {found}; write {{KEY: VALUE}} or one `KEY: VALUE` to a line"
    return f"a single value is needed here, not {found}"


def _wrong_value(kind: str, context: dict[str, Any]) -> str:
    if kind == "bool_parsing":
        return "write true or false"
    if kind in ("float_parsing", "int_parsing", "int_from_float", "finite_number"):
        return "not a number; write digits, with a point where there are decimals"
    if kind in ("greater_than_equal", "greater_than"):
        return f"too small; the least is {context.get('ge', context.get('gt')):g}"
    if kind in ("less_than_equal", "less_than"):
        return f"too large; the most is {context.get('le', context.get('lt')):g}"
    if kind == "too_short":
        return "empty; at least one is needed"
    return "not a value this setting can have"
