"""The contract of the REST API: /api/openapi.json, and a page of it that needs no internet."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from router.console.pages import Page, visitor
from router.console.problems import MEDIA_TYPE, PROBLEM_SCHEMA

router = APIRouter(include_in_schema=False)

_ANYWHERE: Final = {
    "401": "no token, or one that is unknown, expired or revoked",
    "403": "the token's role is too low, or it is for some sites only",
    "429": "too many requests; Retry-After says for how long",
    "503": "the database cannot be used now; Retry-After says when to try again",
}
_WITH_NAME: Final = {"404": "there is none of this name, or it is not yours"}
_WITH_VALUES: Final = {"422": "`errors` names each value that is wrong, and what would be right; nothing was changed"}
_WITH_BODY: Final = {"400": "the body cannot be read", "413": "the body is too long"}
_FRAMEWORKS_OWN: Final = ("HTTPValidationError", "ValidationError")
"""FastAPI writes these where it believes that it answers itself."""


@router.get("/api/openapi.json")
def contract(request: Request) -> Response:
    """OpenAPI 3.1, for generators of clients."""
    return JSONResponse(contract_of(request.app), headers={"Cache-Control": "max-age=300"})


@router.get("/api/docs")
def docs(page: Annotated[Page, Depends(visitor)]) -> Response:
    """The same for people."""
    document = contract_of(page.request.app)
    operations = [
        {
            "method": method.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "description": operation.get("description", ""),
            "parameters": operation.get("parameters", []),
            "bodies": [
                {"media_type": media_type, "schema": _shape(document, content.get("schema", {}))}
                for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
            ],
            "answers": [
                {"status": status, "description": answer.get("description", "")}
                for status, answer in operation.get("responses", {}).items()
            ],
        }
        for path, methods in document.get("paths", {}).items()
        for method, operation in methods.items()
    ]
    return page.render("api_docs.html", operations=operations)


def contract_of(app: FastAPI) -> dict[str, Any]:
    """The contract, with all that an operation answers where it does not do what was asked (RFC 9457)."""
    document = app.openapi()
    schemas = document["components"]["schemas"]
    if "Problem" in schemas:
        return document
    schemas["Problem"] = PROBLEM_SCHEMA
    for name in _FRAMEWORKS_OWN:
        schemas.pop(name, None)
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        wrong = dict(_ANYWHERE)
        is_named = any(parameter["in"] == "path" for parameter in operation.get("parameters", ()))
        has_body = "requestBody" in operation
        wrong |= _WITH_NAME if is_named else {}
        wrong |= _WITH_BODY if has_body else {}
        wrong |= _WITH_VALUES if has_body or operation.get("parameters") else {}
        said = operation["responses"]
        if "HTTPValidationError" in str(said.get("422", "")):
            del said["422"]
        for status, description in wrong.items():
            said.setdefault(status, {"description": description})
        for status in said:
            if status >= "400":
                said[status]["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        operation["responses"] = dict(sorted(said.items()))
    return document


def _shape(document: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, type, description) of the fields of a body."""
    if reference := schema.get("$ref"):
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    return [
        (name, str(field.get("type", "")), str(field.get("description", "")))
        for name, field in schema.get("properties", {}).items()
    ]
