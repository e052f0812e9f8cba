"""Sites and their zones: places, and the callers they claim."""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from config.schema.emergency import BasicRoute, EmergencyRoute
from config.schema.location_servers import Lis, parse_lis
from config.schema.section import Section
from config.values import Desk, Name, Network, NumberPattern, ProviderId
from e911.location import CivicAddress, GeoPoint


class ZoneConfig(Section):
    """An emergency response location (ERL) within a site."""

    id: Name = Field(description="id, as devices name it")
    name: str = Field("", description="name people know it by")
    networks: list[Network] = Field(default_factory=list, description="phones seen from here are in this zone")
    building: str = Field("", description="building")
    floor: str = Field("", description="floor")
    unit: str = Field("", description="unit, suite, apartment")
    room: str = Field("", description="room")
    landmark: str = Field("", description="landmark or vanity address")
    additional: str = Field("", description="what else helps to find it")
    location_id: ProviderId = Field("", description="the provider's id of this place, for profiles that show it")
    endpoint_id: ProviderId = Field("", description="the provider's id of a line here, for profiles that show it")
    elins: list[str] = Field(
        default_factory=list, description="numbers lent to phones of this zone, before those of the site"
    )


class SiteConfig(Section):
    """A place with a street address, the callers it claims and the contacts told of its 911 calls."""

    id: Name = Field(description="id, as devices name it")
    name: str = Field("", description="name people know it by; also sent as the location's name")
    timezone: str = Field("UTC", description="IANA time zone of notices, such as America/New_York")
    address: CivicAddress = Field(default_factory=CivicAddress, description="civic address of the site")
    latitude: float | None = Field(None, ge=-90, le=90, description="degrees, WGS 84")
    longitude: float | None = Field(None, ge=-180, le=180, description="degrees, WGS 84")
    networks: list[Network] = Field(
        default_factory=list, description="phones seen from here are at this site (never the PBX's own address)"
    )
    numbers: list[NumberPattern] = Field(
        default_factory=list, description="callers with these numbers belong here; patterns, X stands for one digit"
    )
    callback: str = Field("", description="number shown to the PSAP for phones without a number of their own")
    elins: list[str] = Field(
        default_factory=list, description="numbers (ELINs) lent to such phones during and after a 911 call"
    )
    desk: Desk | None = Field(
        None,
        description="number, extension or SIP URI that takes callbacks which a phone does not; default: the site's "
        "callback, by routes.inbound",
    )
    location_id: ProviderId = Field("", description="as of a zone; for callers in no zone, or one without its own")
    endpoint_id: ProviderId = Field("", description="as of a zone; for callers in no zone, or one without its own")
    notify: list[str] = Field(default_factory=list, description="names of the contacts told of 911 calls from here")
    multi_storey: bool = Field(False, description="true: a phone here needs a floor or room to be found")
    floors: list[str] = Field(
        default_factory=list, description="names of the floors, as devices and zones name them; makes it multi_storey"
    )
    lis: Annotated[Lis | None, BeforeValidator(parse_lis)] = Field(
        None, description="location server of this site, in place of locations.lis"
    )
    routes: list[EmergencyRoute] | None = Field(None, description="replaces emergency.routes for this site")
    basic: list[BasicRoute] | None = Field(None, description="replaces emergency.basic for this site")
    zones: list[ZoneConfig] = Field(
        default_factory=list, description="emergency response locations (ERL) within the site"
    )

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{value!r} is not a time zone; write one such as America/New_York") from None
        return value

    @property
    def point(self) -> GeoPoint | None:
        """The site's coordinates, where both are given."""
        if self.latitude is None or self.longitude is None:
            return None
        return GeoPoint(latitude=self.latitude, longitude=self.longitude)
