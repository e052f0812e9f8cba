"""Provider profiles: how one kind of E911 provider wants identity, location and priority (data, not code)."""

from dataclasses import dataclass
from enum import StrEnum


class LocationConveyance(StrEnum):
    """How the caller's location goes along."""

    VALUE = "value"
    """A PIDF-LO body part, named by a Geolocation cid: URI (RFC 6442)."""
    NONE = "none"
    """Not at all: the provider knows the address by the callback number."""


class CallerLocation(StrEnum):
    """Which Geolocation values are shown when the caller sent one too; body parts are kept in any case."""

    KEEP = "keep"
    WINNER_ONLY = "winner-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderProfile:
    """One provider profile, as read from a YAML file in config/providers or beside the configuration."""

    name: str
    description: str = ""
    request_uri: str = "sip:911@{host}"
    """`{host}` is the trunk's host (and port); `urn:service:sos` for an ESInet."""
    test_number: str = "933"
    """Test calls go to sip:TEST_NUMBER@{host}, without any emergency marking."""
    location: LocationConveyance = LocationConveyance.VALUE
    needs_location: bool = True
    """False where the call may go to this provider with no location known."""
    caller_location: CallerLocation = CallerLocation.KEEP
    geolocation_routing: str = "yes"
    """Value of Geolocation-Routing; empty to send none."""
    call_info: bool = True
    """Add emergency-CallId and emergency-IncidentId (NENA-STA-010) where absent."""
    resource_priority: str = "esnet.1"
    """Resource-Priority value to add where absent; empty to send none."""
