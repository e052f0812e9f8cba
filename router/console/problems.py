"""What went wrong with a request: a page for people, problem+json (RFC 9457) for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi.responses import JSONResponse, Response

MEDIA_TYPE = "application/problem+json"
_TEXT: Final = {"type": "string"}
PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "what went wrong (RFC 9457)",
    "required": ["type", "title", "status", "reason"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "reason": {"type": "string", "description": "its name, which stays the same: see docs/reasons.md"},
        "detail": {"type": "string", "description": "what, and what would be right"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": _TEXT, "message": _TEXT, "remedy": _TEXT},
            },
        },
    },
}
"""The same for the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """What is wrong with one field, and what would be right."""

    field: str
    message: str
    remedy: str = ""

    @classmethod
    def of(cls, field: str, text: str) -> "FieldProblem":
        """From a text of ours, in which the remedy stands behind the last semicolon."""
        message, separator, remedy = text.rpartition("; ")
        return cls(field=field, message=message, remedy=remedy) if separator else cls(field=field, message=text)

    def as_document(self) -> dict[str, str]:
        """Plain data for JSON."""
        found = {"field": self.field, "message": self.message}
        return {**found, "remedy": self.remedy} if self.remedy else found


class RequestProblem(Exception):  # noqa: N818 (RFC 9457's noun)
    """Ends a request: `reason` is a name of docs/reasons.md, `detail` says what, and what would be right."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str = "",
        *,
        fields: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or reason)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.fields = tuple(fields)
        self.headers = dict(headers or {})

    def as_response(self) -> Response:
        """As programs read it."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "reason": self.reason,
        }
        if self.detail:
            content["detail"] = self.detail
        if self.fields:
            content["errors"] = [field.as_document() for field in self.fields]
        return JSONResponse(content, self.status, headers=self.headers, media_type=MEDIA_TYPE)


class NotSignedIn(Exception):  # noqa: N818 (no error: the login page follows)
    """A page for users, and nobody is logged in."""
