"""The contract of the REST API: /api/openapi.json, and a page of it that needs no internet."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from router.console.pages import Page, visitor

router = APIRouter(include_in_schema=False)


@router.get("/api/openapi.json")
def contract(request: Request) -> Response:
    """OpenAPI 3.1, for generators of clients."""
    return JSONResponse(request.app.openapi(), headers={"Cache-Control": "max-age=300"})


@router.get("/api/docs")
def docs(page: Annotated[Page, Depends(visitor)]) -> Response:
    """The same for people."""
    document: dict[str, Any] = page.request.app.openapi()
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


def _shape(document: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, type, description) of the fields of a body."""
    if reference := schema.get("$ref"):
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    return [
        (name, str(field.get("type", "")), str(field.get("description", "")))
        for name, field in schema.get("properties", {}).items()
    ]
