"""The JSON Schema of edge911.yaml, for editors: completion, descriptions, and most mistakes as they are typed.

The loader is stricter (cross-checks) and looser (every plain value is text until the schema asks for more), so
a file that `edge911 check` accepts may be written with numbers where text is meant, and the schema says so.
"""

import json
from pathlib import Path
from typing import Any

from config.schema import Config

SCHEMA_FILE = Path(__file__).parent / "schema.json"
"""The schema as shipped; `edge911 schema > config/schema.json` renews it."""

_CIVIC = {
    "country": "two-letter country code: US, CA",
    "state": "two-letter state or province: NY, QC",
    "county": "county, parish",
    "city": "city, town",
    "pre_directional": "direction before the street name: N, SW",
    "street": "street name without its type and directions",
    "street_suffix": "type of the street: AVE, ST, BLVD",
    "post_directional": "direction after the street name: N, SW",
    "house_number": "house number, digits only",
    "house_number_suffix": "what follows the house number: A, 1/2",
    "postal_code": "ZIP or postal code",
    "building": "building",
    "floor": "floor",
    "unit": "unit, suite, apartment",
    "room": "room",
    "landmark": "landmark or vanity address",
    "additional": "what else helps to find it",
}


def build_schema() -> dict[str, Any]:
    """The schema as JSON data (draft 2020-12)."""
    schema = Config.model_json_schema()
    for name, text in _CIVIC.items():
        schema["$defs"]["CivicAddress"]["properties"][name]["description"] = text
    schema["$defs"]["CivicAddress"]["description"] = "A civic address; what is left out is not known."
    schema["$defs"]["CivicAddress"]["additionalProperties"] = False
    listen = schema["properties"]["listen"]["items"]
    schema["properties"]["listen"]["items"] = {"anyOf": [{"type": "string"}, listen]}
    schema["properties"]["include"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "other files, globs allowed, relative to this one: lists append, maps merge",
    }
    loosened = _loosened(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edge911.yaml",
        **{key: value for key, value in loosened.items() if key != "title"},
    }


def schema_text() -> str:
    """The schema as the text of a JSON file."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def _loosened(part: Any) -> Any:
    """Texts may be written as numbers, numbers as texts; pydantic's made-up titles go."""
    if isinstance(part, list):
        return [_loosened(item) for item in part]
    if not isinstance(part, dict):
        return part
    result = {
        key: {name: _loosened(item) for name, item in value.items()}
        if key in ("properties", "$defs")
        else _loosened(value)
        for key, value in part.items()
        if key != "title" or not isinstance(value, str)
    }
    if "enum" not in result and "const" not in result and result.get("type") in ("string", "number"):
        result["type"] = ["string", "number"]
    if result.get("type") == "boolean":
        result = {**result, "type": ["boolean", "string"]}
    return result
