"""Others who are told where numbers are: provisioning targets and ALI records."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from config.schema.section import Section
from config.values import Duration, NumberToDial
from e911.ali import Variant


class ProvisioningTarget(Section):
    """A provider, or a system of yours, that is told where each registered device is."""

    kind: Literal["bandwidth", "webhook"] = Field(
        description="bandwidth: its E911 orders (XML); webhook: a JSON document for each device"
    )
    url: str = Field(
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="https://dashboard.bandwidth.com/api, or where the documents are posted",
    )
    account: str = Field("", pattern=r"^[A-Za-z0-9-]*$", description="account id at Bandwidth")
    username: str = Field("", description="as the provider gave it")
    password: str = Field("", description="as the provider gave it; better ${file:PATH} or ${env:NAME}", repr=False)
    secret: str = Field("", description="webhook: key of the signature in X-Edge911-Signature", repr=False)
    sites: list[str] = Field(default_factory=list, description="devices of these sites only; empty: all")
    ca: str | None = Field(None, description="PEM file with the CAs of its server; default: the system's")
    timeout: Duration = Field(10.0, ge=0.5, le=60, description="so long one request may take")

    @model_validator(mode="after")
    def _check_target(self) -> "ProvisioningTarget":
        if self.kind == "bandwidth" and not (self.account and self.username and self.password):
            raise ValueError("bandwidth needs account, username and password; add what is missing")
        host = urlsplit(self.url).hostname or ""
        if self.url.startswith("http://") and host != "localhost" and not host.startswith("127."):
            raise ValueError("it says where people are, so it goes by https:// (http:// only to this machine)")
        return self


AliKind = Literal["fixed", "nomadic", "softphone", "off-premises", "elin", "site"]
"""Whose number an ALI record is of: a device of that kind, an ELIN, or the callback of a site."""


class Ali(Section):
    """Records for the database operator who has the addresses of our numbers (NENA 02-010 version 2.1)."""

    company: str = Field(min_length=1, max_length=50, description="our name in header and trailer")
    company_id: str = Field("", max_length=5, description="our company id, as registered with NENA")
    customer_name: str = Field("", max_length=32, description="customer in each record; default: the site's name")
    main_number: NumberToDial | None = Field(None, description="billing or pilot number; default: the number itself")
    county_id: str = Field("", max_length=4, description="as the operator wants it")
    state: str = Field("", pattern="^([A-Za-z]{2})?$", description="state in the header, where the operator wants it")
    exchange: str = Field("", max_length=4, description="LEC exchange, as the operator wants it")
    customer_code: str = Field("", max_length=3, description="as the operator wants it")
    general_use: str = Field("", max_length=20, description="general use area of the header")
    release: str = Field("", max_length=3, description="release number in the header")
    format_version: str = Field("", max_length=1, description="format version in the header")
    class_of_service: dict[AliKind, str] = Field(
        default_factory=dict, description="letter or digit by kind of number; default: 4, business PBX"
    )
    type_of_service: dict[AliKind, str] = Field(
        default_factory=dict, description="digit by kind of number; default: 8 (PS/ALI) for ELINs, 0 for others"
    )
    site_numbers: bool = Field(
        False, description="records also for the numbers of sites (`numbers`) that no device has, each of a pattern"
    )
    variant: Variant = Field(
        Variant.STANDARD, description="century: no expanded date and no coordinates, the century in 398-399"
    )
    fill: Literal["zeros", "blanks"] = Field("zeros", description="before the cycle counter and the record count")

    @field_validator("class_of_service", "type_of_service")
    @classmethod
    def _check_codes(cls, value: dict[str, str]) -> dict[str, str]:
        for kind, code in value.items():
            if not re.fullmatch("[0-9A-Z]", code):
                raise ValueError(f"{code!r} of {kind} is not one digit or capital letter")
        return value
