"""Where SIP and HTTP are received, and our certificates."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from config.addresses import parse_advertised
from config.schema.section import Section
from config.values import Name, check_address, split_url


class Listen(Section):
    """One listening point. A plain URL means {url: URL}."""

    url: str = Field(description="udp://ADDRESS:PORT, tcp://ADDRESS:PORT or tls://ADDRESS:PORT")
    name: Name | None = Field(
        None, description="name of the interface, used by trunks.X.listen; its udp, tcp and tls items may share it"
    )
    advertise: str | None = Field(
        None, description="ADDRESS[:PORT] that others see, where this host is behind NAT; in Via, Record-Route, Path"
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        remedy = "write udp://ADDRESS:PORT or tcp://ADDRESS:PORT, such as udp://192.0.2.10:5060"
        parts, _ = split_url(value, remedy)
        if parts.scheme not in ("udp", "tcp", "tls"):
            raise ValueError(f"{parts.scheme!r} is not a transport known here; {remedy}")
        check_address(parts.hostname or "", remedy)
        return value

    @field_validator("advertise")
    @classmethod
    def _check_advertise(cls, value: str | None) -> str | None:
        if value is not None:
            parse_advertised(value)
        return value

    @property
    def advertised(self) -> tuple[str, int] | None:
        """Host and port that others see, where they differ from those listened on."""
        if self.advertise is None:
            return None
        host, port = parse_advertised(self.advertise)
        return host, port or self.port

    @property
    def transport(self) -> str:
        """`udp`, `tcp` or `tls`."""
        return split_url(self.url, "")[0].scheme

    @property
    def host(self) -> str:
        """The address listened on, without brackets."""
        return split_url(self.url, "")[0].hostname or ""

    @property
    def port(self) -> int:
        """The port listened on; 5060, or 5061 for TLS, where none is written."""
        return split_url(self.url, "")[1] or (5061 if self.transport == "tls" else 5060)


def parse_listen(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class Tls(Section):
    """Our certificate, for tls:// listening points and for trunks that ask for one, and whom we believe."""

    certificate: str | None = Field(None, description="PEM file with our certificate and its chain")
    private_key: str | None = Field(None, description="PEM file with its private key")
    client_ca: str | None = Field(
        None, description="PEM file with the CAs whose clients are let in; without a certificate only 911 is served"
    )
    ca: str | None = Field(None, description="PEM file with the CAs of trunks; default: the system's")

    @model_validator(mode="after")
    def _check_pair(self) -> "Tls":
        if (self.certificate is None) != (self.private_key is None):
            missing = "private_key" if self.private_key is None else "certificate"
            raise ValueError(f"{missing} is missing; certificate and private_key belong together")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca without a certificate of ours; add certificate and private_key")
        return self


class HttpListen(Section):
    """Where an HTTP service of ours listens."""

    listen: str = Field(description="http://ADDRESS:PORT")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        remedy = "write http://ADDRESS:PORT, such as http://127.0.0.1:8910"
        parts, port = split_url(value, remedy)
        if parts.scheme != "http" or port is None:
            raise ValueError(f"not a listening point; {remedy}")
        return value

    @property
    def host(self) -> str:
        """The address listened on."""
        return split_url(self.listen, "")[0].hostname or ""

    @property
    def port(self) -> int:
        """The port listened on."""
        return split_url(self.listen, "")[1] or 80
