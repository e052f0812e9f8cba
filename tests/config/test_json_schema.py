"""The JSON Schema for editors: fresh, described throughout, and knowing every key of the example."""

import json
from pathlib import Path
from typing import Any

import yaml

from config.json_schema import SCHEMA_FILE, build_schema, schema_text

EXAMPLE = Path(__file__).parents[2] / "config" / "example.yaml"
SCHEMA = build_schema()


def test_the_shipped_schema_is_fresh() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "edge911 schema > config/schema.json"


def test_every_key_is_described() -> None:
    for name, section in {"(top)": SCHEMA, **SCHEMA["$defs"]}.items():
        for key, value in section.get("properties", {}).items():
            assert value.get("description"), f"{name}.{key} has no description"


def test_every_reference_resolves() -> None:
    text = json.dumps(SCHEMA)
    for name in {part.split('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}:
        assert name in SCHEMA["$defs"]


def test_the_example_fits_and_a_wrong_key_does_not() -> None:
    # What an editor sees: YAML 1.2 core types, in which off, yes and 2:04 are text.
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    assert list(misfits(document, SCHEMA, "")) == []
    document["sites"][0]["adress"] = {}
    document["trunks"]["pbx"]["side"] = "insde"
    document["listen"].append({"name": "no url"})
    assert len(list(misfits(document, SCHEMA, ""))) == 3


def misfits(value: Any, schema: dict[str, Any], path: str) -> list[str]:
    """The part of JSON Schema that ours uses: $ref, anyOf, type, enum, properties, items, required."""
    if "$ref" in schema:
        return misfits(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], path)
    if "anyOf" in schema:
        tries = [misfits(value, option, path) for option in schema["anyOf"]]
        return min(tries, key=len)
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} not in enum")
    kinds = schema.get("type", [])
    if kinds and kind_of(value) not in ([kinds] if isinstance(kinds, str) else kinds):
        return [f"{path}: {value!r} is not {kinds}"]
    if isinstance(value, dict):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties", True)
        for key, item in value.items():
            if key in known:
                found += misfits(item, known[key], f"{path}.{key}")
            elif isinstance(more, dict):
                found += misfits(item, more, f"{path}.{key}")
            elif more is False and "patternProperties" not in schema:
                found.append(f"{path}.{key}: unknown")
            for inner in schema.get("patternProperties", {}).values():
                found += misfits(item, inner, f"{path}.{key}")
        found += [f"{path}.{key}: missing" for key in schema.get("required", []) if key not in value]
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += misfits(item, schema.get("items", {}), f"{path}[{number}]")
    return found


def kind_of(value: Any) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")
