"""A finding: what is not as it should be, how bad that is, and what to do. Names stand in docs/reasons.md."""

from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad. The order is that of a monitoring system."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def exit_code(self) -> int:
        """As monitoring plugins end: 0, 1, 2."""
        return {Severity.OK: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One of them."""

    severity: Severity
    name: str
    """Hyphenated, as in docs/reasons.md."""
    site: str = ""
    """The site it is of; empty: of all."""
    subject: str = ""
    """The trunk, route, contact or device it is about."""
    message: str
    remedy: str

    def as_document(self) -> dict[str, str]:
        """Plain data for JSON."""
        return asdict(self) | {"severity": self.severity.value}


def worst(findings: list[Finding] | tuple[Finding, ...]) -> Severity:
    """The severity of the worst of them."""
    order = list(Severity)
    return max((finding.severity for finding in findings), key=order.index, default=Severity.OK)
