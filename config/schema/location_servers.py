"""Servers that are asked of places: HELD (a LIS) and LoST (an LVF)."""

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from config.schema.section import Section
from config.values import Duration, check_web_url

IdentifiedBy = Literal["ip", "mac", "bssid", "lldp", "uri", "tel"]
"""What a device is named by to a location server."""


def _ip_and_mac() -> list[IdentifiedBy]:
    return ["ip", "mac"]


class _WebService(Section):
    """What is asked over HTTP: how it shows who it is, and how we do."""

    url: str
    token: str | None = Field(
        None,
        min_length=1,
        description="sent as Authorization: Bearer; better ${file:PATH} or ${env:NAME}",
        repr=False,
    )
    ca: str | None = Field(None, description="PEM file with its CA; default: tls.ca, else the system's")
    client_certificate: str | None = Field(None, description="PEM file with the certificate that we show it")
    client_key: str | None = Field(None, description="PEM file with its private key")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return check_web_url(value)

    @field_validator("token")
    @classmethod
    def _check_token(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value):
            raise ValueError("a token is one word of ASCII characters; is there a line break in its file?")
        return value

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.client_certificate is None) != (self.client_key is None):
            missing = "client_key" if self.client_key is None else "client_certificate"
            raise ValueError(f"{missing} is missing; client_certificate and client_key belong together")
        return self


class Lis(_WebService):
    """A location server (LIS) that is asked by HELD (RFC 5985) where a device is. A plain URL means {url: URL}."""

    url: str = Field(description="https://HOST[:PORT]/PATH; http:// on loopback and to inside addresses only")
    timeout: Duration = Field(
        0.3, le=5, description="a 911 call waits so long for the answer; later than that the last one is used"
    )
    identity: list[IdentifiedBy] = Field(
        default_factory=_ip_and_mac,
        min_length=1,
        description="by what a device is named to it (RFC 6155): its addresses, its access point and switch port "
        "(RFC 7105), its address of record, its number; what is known of these is sent",
    )
    fresh: Duration = Field(300, description="an answer no older than this is used without asking again")
    keep: Duration = Field(86_400, description="an older one is used so long, where the server is slow or down")

    @field_validator("identity")
    @classmethod
    def _check_identity(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("named twice; name each once")
        return value

    @property
    def is_secure(self) -> bool:
        """True for https."""
        return self.url.lower().startswith("https:")


class Lvf(_WebService):
    """A location validation function that registered addresses are checked with. A plain URL means {url: URL}."""

    url: str = Field(description="https://HOST[:PORT]/PATH; http:// on loopback only")
    timeout: Duration = Field(5, le=60, description="an answer that takes longer is none; calls never wait for it")
    every_days: int = Field(30, ge=1, le=3650, description="an address is validated anew after so many days")


def parse_lis(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value
