"""References of ours to locations, as calls use them: which URI, and whether it will be answered."""

from collections.abc import Mapping
from pathlib import Path

from config.schema import ReferenceServer
from e911.provider_profile import (
    DataConveyance,
    LocationConveyance,
)
from router.emergency.call_routes import RouteStep
from router.emergency.provider_invite import NO_SERVER, Reference
from router.references.spool import ReferenceSpool

SERVER_DOWN = Reference("", "reference-server-down")
NOT_KEPT = Reference("", "reference-not-kept")


class References:
    """What the call process knows of the process that answers references; nothing where there is none."""

    def __init__(self) -> None:
        self._server: ReferenceServer | None = None
        self._spool: ReferenceSpool | None = None

    def use(self, server: ReferenceServer | None, state: Path, key: bytes) -> None:
        """Take another configuration."""
        self._server = server
        if server is not None and self._spool is None:
            self._spool = ReferenceSpool(state, key)

    def look(self, now: float) -> None:
        """See whether references are answered (now: seconds since 1970). Once a second."""
        if self._spool is not None and self._server is not None:
            self._spool.look(now)

    def to(self, call: str, step: RouteStep, *, with_location: bool) -> Reference:
        """Under which URI the location of a call would be answered, where the route's profile asks for that."""
        profile = step.profile
        if profile is None:
            return NO_SERVER
        is_data = profile.additional_data and profile.additional_data_by is DataConveyance.REFERENCE
        if not is_data and not (with_location and profile.location is LocationConveyance.REFERENCE):
            return NO_SERVER
        if self._server is None or self._spool is None:
            return NO_SERVER
        if not self._spool.is_answered:
            return SERVER_DOWN
        return Reference(f"{self._server.url.rstrip('/')}/{self._spool.reference_of(call)}")

    def hand_over(self, call: str, documents: Mapping[str, bytes], at: float) -> bool:
        """Have the reference of a call that began at this moment answered; False where that cannot be."""
        if self._server is None or self._spool is None:
            return False
        return self._spool.hand_over(call, documents, at + self._server.lifetime)

    def close(self) -> None:
        """End what it has; no call is served any more."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
