"""Provider profiles: YAML files that say how one kind of E911 provider wants identity, location and priority.

A profile is found by its name: a built-in one (config/providers), else NAME.yaml in `profiles/` beside the
configuration; or by a relative path that ends in .yaml. The keys are those of e911.provider.ProviderProfile
but `name`, which is the file's name.
"""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from config.document import parse_document
from config.files import read_bytes
from config.messages import did_you_mean
from config.problem import ConfigError, Place, Problem, quoted
from config.schema import Section
from config.validate import validate
from e911.additional_data import DataBlock
from e911.provider_profile import (
    AddLocation,
    CallerField,
    CallerLocation,
    DataConveyance,
    IdentityFields,
    LocationConveyance,
    LocationPosition,
    ProviderProfile,
)
from e911.provider_uris import check_template

BUILT_IN = Path(__file__).parent / "providers"

_DEFAULT = ProviderProfile(name="default")
_REQUEST_URI = re.compile(
    r"urn:service:sos(\.[a-z0-9-]+)*|sips?:([0-9A-Za-z+*#._-]+|\+?1?\{number\})@(\{host\}|[0-9A-Za-z.:\[\]-]+)(;[0-9A-Za-z;=._-]+)?"
)


class ProfileFile(Section):
    """A provider profile as written."""

    description: str = ""
    request_uri: str = _DEFAULT.request_uri
    test_number: str = _DEFAULT.test_number
    location: LocationConveyance = _DEFAULT.location
    geolocation: str = _DEFAULT.geolocation
    needs_location: bool = _DEFAULT.needs_location
    caller_location: CallerLocation = _DEFAULT.caller_location
    add_location: AddLocation = _DEFAULT.add_location
    location_position: LocationPosition = _DEFAULT.location_position
    resolve_reference: bool = _DEFAULT.resolve_reference
    identity: IdentityFields = _DEFAULT.identity
    identity_uri: str = _DEFAULT.identity_uri
    from_uri: str = _DEFAULT.from_uri
    preferred_identity: CallerField = _DEFAULT.preferred_identity
    remote_party_id: CallerField = _DEFAULT.remote_party_id
    geolocation_routing: Literal["yes", "no", "if-absent", ""] = "yes"
    call_info: bool = _DEFAULT.call_info
    resource_priority: str = _DEFAULT.resource_priority
    priority: Literal["emergency", "urgent", ""] = ""
    additional_data: list[DataBlock] = Field(default_factory=list)
    additional_data_by: DataConveyance = _DEFAULT.additional_data_by
    occupant: str = _DEFAULT.occupant

    @field_validator("request_uri")
    @classmethod
    def _check_request_uri(cls, value: str) -> str:
        if not _REQUEST_URI.fullmatch(value):
            raise ValueError("not a Request-URI for 911; write sip:911@{host} or urn:service:sos")
        return value

    @field_validator("occupant")
    @classmethod
    def _check_occupant(cls, value: str) -> str:
        check_template(value)
        return value

    @field_validator("geolocation")
    @classmethod
    def _check_geolocation(cls, value: str) -> str:
        check_template(value.removeprefix("<").removesuffix(">"))
        if "{location_id}" not in value:
            raise ValueError("nothing of the place is in it; write {location_id}, or <https://HOST/{location_id}>")
        return value

    @field_validator("identity_uri", "from_uri")
    @classmethod
    def _check_template(cls, value: str) -> str:
        check_template(value)
        if value and not re.match(r"sips?:[^@]+@[^@]+$|tel:", value):
            raise ValueError(f"{value!r} is no SIP or tel URI; write one such as sip:{{callback}}@{{domain}}")
        return value

    @field_validator("test_number")
    @classmethod
    def _check_test_number(cls, value: str) -> str:
        if not re.fullmatch(r"\+?[0-9*]{2,16}", value):
            raise ValueError(f"{value!r} is not a number to dial; write 933 or the provider's own")
        if "911" in value or value in ("112", "999"):
            raise ValueError("a test call must not reach an emergency number; write 933 or the provider's own")
        return value

    @field_validator("resource_priority")
    @classmethod
    def _check_resource_priority(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9!%*_+`'~-]+\.[A-Za-z0-9!%*_+`'~-]+", value):
            raise ValueError('not a Resource-Priority value (RFC 4412); write esnet.1, or "" to send none')
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> "ProfileFile":
        if re.match(rf"sips?:{re.escape(self.test_number)}@", self.request_uri):
            raise ValueError("request_uri sends 911 calls to the test number; write sip:911@{host}")
        if self.identity_uri and self.identity is IdentityFields.KEEP:
            raise ValueError("identity_uri beside identity: keep; take one of them out")
        if self.location is LocationConveyance.NONE and self.geolocation_routing:
            raise ValueError('no location goes along, so nothing can be routed by it; write geolocation_routing: ""')
        return self


def load_profile(name: str, directory: Path) -> ProviderProfile:
    """The profile of this name for a configuration in `directory`; ConfigError with every problem of its file."""
    path = find_profile(name, directory)
    if path is None:
        raise ConfigError([Problem.at(Place(name), (), not_found(name, directory))])
    return read_profile(path)


def find_profile(name: str, directory: Path) -> Path | None:
    """The file a profile is in; None where there is none."""
    if name.endswith(".yaml"):
        path = directory / name
        return path if "\0" not in name and path.is_file() else None
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        return None
    places = (BUILT_IN / f"{name}.yaml", directory / "profiles" / f"{name}.yaml")
    return next((place for place in places if place.is_file()), None)


def not_found(name: str, directory: Path) -> str:
    """What to say about a profile that is not there."""
    if name.endswith(".yaml"):
        return f"no file {quoted(name)} beside the configuration, in {directory}; check the name"
    own = directory / "profiles"
    names = sorted(path.stem for folder in (BUILT_IN, own) for path in folder.glob("*.yaml"))
    return f"no profile is called {quoted(name)}{did_you_mean(name, names)} (built in, or NAME.yaml in {own})"


def read_profile(path: Path) -> ProviderProfile:
    """The profile in this file; ConfigError with every problem."""
    file = str(path)
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ConfigError([Problem.at(Place(file), (), f"{error.strerror or error}")]) from None
    root, problems = parse_document(data, file)
    if root is None:
        raise ConfigError(problems)
    found = validate(ProfileFile, root)
    problems = [*problems, *found.problems]
    if problems or found.model is None:
        raise ConfigError(problems)
    try:
        values = found.model.model_dump()
        return ProviderProfile(**values | {"name": path.stem, "additional_data": tuple(values["additional_data"])})
    except ValueError as error:
        raise ConfigError([Problem.at(root.place, (), str(error))]) from None
