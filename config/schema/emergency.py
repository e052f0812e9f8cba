"""911 calls: which they are, their routes, and what is said of us (RFC 7852)."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from config.schema.section import Section
from config.values import DialString, Duration, Name, Network, NumberToDial, Region
from e911.provider_profile import AddLocation


class EmergencyRoute(Section):
    """An E911 route: a trunk, a provider profile, and how long to wait before the next route starts."""

    name: Name = Field(description="name in records, logs and `edge911 explain`")
    trunk: str = Field(description="name of the trunk to the provider")
    profile: str = Field("pidf-lo", description="provider profile: pidf-lo, number, i3, or one of your own")
    timeout: Duration = Field(2.0, description="to the first response of any kind")
    progress_timeout: Duration = Field(6.0, description="from 100 Trying to the first 18x or 2xx")
    covers: list[Region] = Field(
        default_factory=list, description="countries (US) or country-states (CA-QC); empty: everywhere"
    )
    add_location: AddLocation | None = Field(
        None,
        description="never: the next hop adds a location itself, none of ours goes along; default: the profile's",
    )
    number: NumberToDial | None = Field(
        None, description="number that a profile asks for ({number}), such as the ESRN of an i2 gateway"
    )


class BasicRoute(Section):
    """A basic 911 route: a number at a third-party emergency call service, to which no location goes along; or a
    provider profile, which says what goes along where it is known."""

    name: Name = Field(description="name in records, logs and `edge911 explain`")
    trunk: str = Field(description="name of the trunk to the emergency call service")
    number: NumberToDial | None = Field(
        None, description="number dialled there: +12125550140, or 911; may be left out where there is a profile"
    )
    profile: str | None = Field(None, description="provider profile, as in routes; a location is not required")
    add_location: AddLocation | None = Field(
        None, description="never: the next hop adds a location itself; default: the profile's"
    )
    timeout: Duration = Field(4.0, description="to the first response of any kind")
    progress_timeout: Duration = Field(
        20.0, description="from 100 Trying to the first 18x or 2xx; telephone networks are slow to ring"
    )

    @model_validator(mode="after")
    def _check_destination(self) -> "BasicRoute":
        if self.number is None and self.profile is None:
            raise ValueError('neither number nor profile; write number: "+12125550140", or profile: i3')
        return self


class DefaultCaller(Section):
    """Where callers belong whom no site claims."""

    site: str | None = Field(None, description="id of a site")


class ProviderDataConfig(Section):
    """Who we are, for the block ProviderInfo (RFC 7852 section 4.1)."""

    name: str = Field(min_length=1, description="name of the organisation whose telephones these are")
    contact: str = Field(
        pattern=r"^(sips?|tel):[!-;=?-~]+$", description="sip: or tel: URI that is answered day and night"
    )
    type: Literal["Client", "Access Network Provider", "Telecom Provider", "Telematics Provider", "Other"] = Field(
        "Client", description="what it is to the caller"
    )
    id: str = Field("", description="its registered id, where it has one")
    id_series: Literal["", "NENA", "EENA", "domain"] = Field("", description="who gave that id")
    language: str = Field("en", pattern=r"^[a-z]{2,3}$", description="language that is spoken there")

    @model_validator(mode="after")
    def _check_id(self) -> "ProviderDataConfig":
        if bool(self.id) != bool(self.id_series):
            raise ValueError("id and id_series belong together; write both, or neither")
        return self


class AdditionalData(Section):
    """What is said of us and our telephones to PSAPs (RFC 7852), for profiles with `additional_data`."""

    provider: ProviderDataConfig | None = Field(None, description="who we are")
    environment: Literal["Business", "Residence", "Unknown"] = Field("Business", description="where the phones are")
    service_type: str = Field(
        "MLTS-local",
        pattern=r"^[A-Za-z0-9-]{1,40}$",
        description="MLTS-local: a PBX of our own; MLTS-hosted; POTS, OTT and others of the IANA list",
    )
    comment: str = Field("", max_length=500, description="what everybody who answers should know")
    language: str = Field("en", pattern=r"^[a-z]{2,3}$", description="language of the comment")


class Emergency(Section):
    """Which calls are emergencies, and where they go."""

    numbers: list[DialString] = Field(
        default_factory=lambda: ["911", "9911"],
        description="dial strings that are emergency calls, beside urn:service:sos; 911 must be among them",
    )
    test_numbers: list[DialString] = Field(
        default_factory=lambda: ["933"], description="dial strings that try the way to the provider"
    )
    default: DefaultCaller = Field(default_factory=DefaultCaller, description="callers whom no site claims")
    routes: list[EmergencyRoute] = Field(
        default_factory=list, description="E911, tried in order: the caller's location goes along"
    )
    basic: list[BasicRoute] = Field(
        default_factory=list, description="basic 911, tried in order: no location known, or every route failed"
    )
    from_unlisted: Literal["refuse", "accept"] = Field(
        "refuse", description="911 calls from sources in no listed network"
    )
    additional_data: AdditionalData = Field(
        default_factory=AdditionalData, description="blocks of RFC 7852, sent where a profile asks for them"
    )
    flood: int = Field(
        10,
        ge=0,
        le=1_000_000,
        description="more 911 calls of one caller in a minute are an alarm; they are served, to block is for people "
        "(`edge911 block`). 0: no alarm",
    )
    callback_window: Duration = Field(
        10_800.0,
        description="so long after a 911 call its ELIN stays lent to the phone, and a call to its number goes to "
        "that very phone, past routes.inbound",
    )
    callback_timeout: Duration = Field(
        20.0, description="a phone that is called back and does not answer for so long gives way to the site's desk"
    )
    all_calls_from: list[Network] = Field(
        default_factory=list,
        description="sources whose every INVITE and MESSAGE is an emergency, whatever it is addressed to",
    )

    @field_validator("numbers")
    @classmethod
    def _check_911(cls, value: list[str]) -> list[str]:
        if "911" not in value:
            raise ValueError("911 itself is missing; add it, it must be dialled without a prefix (47 CFR 9.16(b)(1))")
        return value
