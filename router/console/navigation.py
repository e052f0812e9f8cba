"""The console's menu: every page that may be there. Those that are built and allowed are shown."""

from dataclasses import dataclass
from typing import Any

from router.store.users import Role


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; its words are `nav.KEY` in the catalogue."""

    key: str
    path: str
    role: Role = Role.VIEWER
    group: str = "operate"


ENTRIES = (
    Entry("live", "/live"),
    Entry("calls", "/calls"),
    Entry("locations", "/locations", group="places"),
    Entry("unlocated", "/unlocated", group="places"),
    Entry("wiremap", "/wiremap", group="places"),
    Entry("sites", "/sites", group="places"),
    Entry("elins", "/elins", group="places"),
    Entry("trunks", "/trunks", group="network"),
    Entry("contacts", "/contacts", group="network"),
    Entry("readiness", "/readiness", group="proof"),
    Entry("self_test", "/tests", group="proof"),
    Entry("evidence", "/evidence", group="proof"),
    Entry("audit", "/audit", Role.ENGINEER, group="admin"),
    Entry("users", "/users", Role.ADMIN, group="admin"),
    Entry("tokens", "/tokens", Role.ADMIN, group="admin"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry as it stands in the menu of one page."""

    key: str
    path: str
    is_current: bool


def entries_for(app: Any, role: Role | None, path: str) -> list[list[Shown]]:
    """The menu of a user, in groups: pages that this application has and the role may open."""
    if role is None:
        return []
    built: frozenset[str] = app.state.paths
    groups: dict[str, list[Shown]] = {}
    for entry in ENTRIES:
        if entry.path in built and role.covers(entry.role):
            is_current = path == entry.path or path.startswith(f"{entry.path}/")
            groups.setdefault(entry.group, []).append(Shown(entry.key, entry.path, is_current))
    return list(groups.values())


def first_page(app: Any) -> str:
    """Where one gets after the login."""
    built: frozenset[str] = app.state.paths
    return next((entry.path for entry in ENTRIES if entry.path in built), "/login")
