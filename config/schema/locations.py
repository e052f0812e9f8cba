"""Registered devices and location sources: database, wiremap, references, what users are asked."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from config.schema.location_servers import Lis, Lvf, parse_lis
from config.schema.section import Section
from config.values import Duration, FieldName, check_address, check_host_pattern, split_url
from e911.location import LocationSource


class SwitchPortFields(Section):
    """Header fields in which phones say which switch port they are at."""

    chassis: FieldName = Field(description="field with the chassis ID")
    port: FieldName = Field(description="field with the port ID")


def _parse_switch_port_fields(value: Any) -> Any:
    """A plain NAME: one field with both."""
    return {"chassis": value, "port": value} if isinstance(value, str) else value


class Wiremap(Section):
    """What phones say of their access point and switch port; the table itself is kept by `edge911 wiremap`."""

    access_network_info: bool = Field(
        True, description="read P-Access-Network-Info (RFC 7315): access point of Wi-Fi phones, switch port"
    )
    bssid_headers: list[FieldName] = Field(
        default_factory=list, description="further header fields with the BSSID of the phone's access point"
    )
    lldp_headers: list[Annotated[SwitchPortFields, BeforeValidator(_parse_switch_port_fields)]] = Field(
        default_factory=list,
        description="header fields with switch and port as the phone heard them (LLDP): NAME of one with both, such "
        "as chassis=00:1b:54:aa:bb:cc;port=Gi1/0/14, or {chassis: NAME, port: NAME}",
    )
    bssid_ignored_bits: int = Field(
        0,
        ge=0,
        le=8,
        description="so many of its last bits tell apart only the networks of one access point: 4 for the last digit",
    )


class ReferenceServer(Section):
    """Where references to locations are answered (HELD, RFC 6753), for profiles with `location: reference`. A process
    of its own; where it does not live the location goes along by value."""

    listen: str = Field(description="https://ADDRESS:PORT; http:// only where a proxy in front speaks TLS")
    url: str = Field(
        pattern=r"^https://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~-]+)*$",
        description="what providers and PSAPs reach it by, such as https://e911.example.com:8443/held",
    )
    certificate: str | None = Field(None, description="PEM file with the certificate and its chain, for https://")
    private_key: str | None = Field(None, description="PEM file with its private key")
    client_ca: str | None = Field(None, description="PEM file with the CAs whose clients may ask; none: all may")
    lifetime: Duration = Field(6 * 3600.0, ge=60, le=86_400, description="a reference is answered for so long")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        remedy = "write https://ADDRESS:PORT, such as https://192.0.2.10:8443"
        parts, port = split_url(value, remedy)
        if parts.scheme not in ("http", "https") or port is None:
            raise ValueError(f"not a listening point; {remedy}")
        check_address(parts.hostname or "", remedy)
        return value

    @model_validator(mode="after")
    def _check_certificate(self) -> "ReferenceServer":
        if (self.certificate is None) != (self.private_key is None):
            missing = "private_key" if self.private_key is None else "certificate"
            raise ValueError(f"{missing} is missing; certificate and private_key belong together")
        is_https = self.listen.lower().startswith("https:")
        if is_https and self.certificate is None:
            raise ValueError("https:// needs a certificate; add certificate: FILE and private_key: FILE")
        if not is_https and (self.certificate is not None or self.client_ca is not None):
            raise ValueError("a certificate or client_ca, and listen is http://; write https:// there")
        return self

    @property
    def host(self) -> str:
        """The address listened on."""
        return split_url(self.listen, "")[0].hostname or ""

    @property
    def port(self) -> int:
        """The port listened on."""
        return split_url(self.listen, "")[1] or 443

    @property
    def path(self) -> str:
        """The path of `url`, below which references are; empty where it has none."""
        return urlsplit(self.url).path.rstrip("/")


class Unconfirmed(Section):
    """Softphones and nomadic phones seen on a network they were not on before: their user is asked where."""

    outbound: Literal["allow", "refuse"] = Field(
        "allow",
        description="ordinary outbound calls of such a phone until its location is given: refuse answers 403. 911, "
        "988, registration and incoming calls always pass",
    )
    message: bool = Field(True, description="send the link to the phone itself, as a SIP MESSAGE")
    mail: str | None = Field(
        None,
        description="Apprise mailto:// or mailtos:// URL to send the link by, to the device's `email`",
        repr=False,
    )
    again_after: Duration = Field(43_200, ge=60, description="no second link to one phone before this time is over")
    link_days: int = Field(14, ge=1, le=3650, description="a link is good for so many days")

    @field_validator("mail")
    @classmethod
    def _check_mail(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"mailtos?://.", value):
            raise ValueError("not a mail URL; write mailto://HOST:PORT?from=edge911@example.com, without to=")
        return value


class Locations(Section):
    """The registered devices, and the order in which location sources are asked."""

    database: str = Field(
        "sqlite:///edge911.db", description="sqlite:///FILE or postgresql://USER@HOST/DATABASE", repr=False
    )
    sources: list[LocationSource] = Field(
        default_factory=lambda: [
            LocationSource.CONVEYED,
            LocationSource.NETWORK,
            LocationSource.REGISTERED,
            LocationSource.SITE,
        ],
        description="who is asked where the caller is; the first that knows decides",
    )

    lis: Annotated[Lis | None, BeforeValidator(parse_lis)] = Field(
        None,
        description="location server (LIS) asked by HELD, for sites without one of their own; add held to sources",
    )
    lvf: Annotated[Lvf | None, BeforeValidator(parse_lis)] = Field(
        None, description="location validation function asked by LoST (RFC 5222): `edge911 locations validate`"
    )
    wiremap: Wiremap = Field(default_factory=Wiremap, description="access points and switch ports that phones name")
    unconfirmed: Unconfirmed = Field(
        default_factory=Unconfirmed, description="what follows when a softphone shows up on another network"
    )
    reference_timeout: Duration = Field(
        0.3, le=5, description="a location that the caller only refers to (https://…) is waited for so long"
    )
    reference_hosts: list[str] = Field(
        default_factory=list,
        description="hosts such locations are asked of: names, *.example.com, networks; empty: see decision 0012",
    )

    reference_server: ReferenceServer | None = Field(
        None, description="answers references of ours, for provider profiles with `location: reference`"
    )

    @field_validator("reference_hosts")
    @classmethod
    def _check_reference_hosts(cls, value: list[str]) -> list[str]:
        for host in value:
            check_host_pattern(host)
        return value

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: str) -> str:
        if not re.match(r"(sqlite:///|postgresql(\+psycopg)?://).", value):
            raise ValueError("not a database; write sqlite:///FILE or postgresql://USER@HOST/DATABASE")
        return value

    @field_validator("sources")
    @classmethod
    def _check_sources(cls, value: list[LocationSource]) -> list[LocationSource]:
        if len(set(value)) != len(value):
            raise ValueError("a source is named twice; name each once")
        return value
