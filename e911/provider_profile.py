"""Provider profiles: how one kind of E911 provider wants identity, location and priority. Data, not code."""

import re
from dataclasses import dataclass
from enum import StrEnum

from e911.additional_data import DataBlock
from e911.numbers import dialled
from e911.provider_uris import check_template

_TEST_NUMBER = re.compile(r"\+?[0-9*]{2,16}")
_REQUEST_URI = re.compile(r"(?:sips?|tel|urn):[!-~]+")
_RESOURCE_PRIORITY = re.compile(r"[A-Za-z0-9!%*_+`'~-]+\.[A-Za-z0-9!%*_+`'~-]+")


class LocationConveyance(StrEnum):
    """How the caller's location goes along."""

    VALUE = "value"
    """A PIDF-LO body part, named by a Geolocation cid: URI (RFC 6442)."""
    REFERENCE = "reference"
    """A Geolocation https: URI, which our HELD server answers (RFC 6753); by value where it cannot."""
    ID = "id"
    """The provider's own id of the place in Geolocation (`geolocation`); by value where the place has none."""
    NONE = "none"
    """Not at all: the provider knows the address by the callback number."""


class AddLocation(StrEnum):
    """Whether a location that the caller did not send is added."""

    AUTO = "auto"
    """Where ours decided."""
    NEVER = "never"
    """The next hop does that; a call goes there without a location, too."""


class LocationPosition(StrEnum):
    """Where our Geolocation value stands beside values of the caller's that stay."""

    LAST = "last"
    """RFC 6442 section 4.2: an added value goes last."""
    TOP_MOST = "top-most"
    """First, where the caller's own is missing or of no use; last, where it is good (NENA-STA-010: the top-most
    value is the one to route by)."""


class DataConveyance(StrEnum):
    """How blocks of additional data go along."""

    VALUE = "value"
    """As body parts."""
    REFERENCE = "reference"
    """By https: URIs, which our server of references answers; by value where it cannot."""


class IdentityFields(StrEnum):
    """What becomes of the caller's P-Asserted-Identity and Privacy."""

    CALLBACK = "callback"
    """One P-Asserted-Identity, the callback number; caller-ID withholding is overridden."""
    KEEP = "keep"
    """Both stay as they came where the identity is trusted; the callback number where there is none."""


class CallerField(StrEnum):
    """What becomes of a field in which the caller's side names the caller (P-Preferred-Identity, Remote-Party-ID)."""

    KEEP = "keep"
    REMOVE = "remove"
    CALLBACK = "callback"
    """It names the callback number, for providers that look there; as it came where no such number is known."""


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
    geolocation: str = "{location_id}"
    """With `location: id`, the Geolocation value, such as <https://lis.example.com/{location_id}>; in angle brackets
    where the provider wants them."""
    needs_location: bool = True
    """False where the call may go to this provider with no location known."""
    caller_location: CallerLocation = CallerLocation.KEEP
    add_location: AddLocation = AddLocation.AUTO
    location_position: LocationPosition = LocationPosition.LAST
    resolve_reference: bool = True
    """A reference of the caller's that was fetched goes along by value, too."""
    identity: IdentityFields = IdentityFields.CALLBACK
    identity_uri: str = ""
    """What P-Asserted-Identity names in place of the callback number, such as sip:{endpoint_id}@{domain}; the
    callback number where something in it is not known. Only with `identity: callback`."""
    from_uri: str = ""
    """The URI that From shows, such as sip:{callback}@{domain} or sip:{location_id}@{domain} (decision 0044); From
    stays as it came where empty, and where something in it is not known."""
    preferred_identity: CallerField = CallerField.REMOVE
    """P-Preferred-Identity: a phone's wish of whom to assert; who asserts takes it off (RFC 3325 section 6)."""
    remote_party_id: CallerField = CallerField.KEEP
    """Remote-Party-ID, which older equipment reads in place of P-Asserted-Identity."""
    geolocation_routing: str = "yes"
    """Value of Geolocation-Routing; `if-absent` sends yes where the caller sent none; empty to send none."""
    call_info: bool = True
    """Add emergency-CallId and emergency-IncidentId (NENA-STA-010) where absent."""
    resource_priority: str = "esnet.1"
    """Resource-Priority value to add where absent; empty to send none."""
    priority: str = ""
    """Value of Priority on emergency calls, such as emergency (RFC 3261 section 20.26); empty to leave it."""
    additional_data: tuple[DataBlock, ...] = ()
    """Blocks of RFC 7852 that go along on emergency calls, each named by Call-Info."""
    additional_data_by: DataConveyance = DataConveyance.VALUE
    occupant: str = ""
    """What stands in NAM of our PIDF-LO, such as {callback_digits} for gateways that read an ELIN there; the
    location's own name where empty, and where something in it is not known."""

    @property
    def has_templates(self) -> bool:
        """True where something in it is filled in for each call."""
        if self.location is LocationConveyance.ID or self.from_uri or self.identity_uri or self.occupant:
            return True
        return "{" in self.request_uri.replace("{host}", "")

    def __post_init__(self) -> None:
        """Refuse, with ValueError, what would make a 911 call a test, a test a 911 call, or a broken header."""
        if not _TEST_NUMBER.fullmatch(self.test_number) or "911" in self.test_number:
            raise ValueError(f"test_number {self.test_number!r} is not a test number; write 933")
        if not _REQUEST_URI.fullmatch(self.request_uri):
            raise ValueError(f"request_uri {self.request_uri!r} is not a URI; write sip:911@{{host}}")
        if dialled(self.request_uri) == self.test_number.removeprefix("+"):
            raise ValueError(f"request_uri {self.request_uri!r} would send 911 calls to the test number")
        for template in (self.request_uri, self.identity_uri, self.from_uri, self.occupant):
            check_template(template)
        check_template(self.geolocation.removeprefix("<").removesuffix(">"))
        if self.geolocation_routing not in ("", "yes", "no", "if-absent"):
            raise ValueError(
                f"geolocation_routing {self.geolocation_routing!r} is neither yes, no, if-absent nor empty"
            )
        if self.resource_priority and not _RESOURCE_PRIORITY.fullmatch(self.resource_priority):
            raise ValueError(f"resource_priority {self.resource_priority!r} is not like esnet.1")
