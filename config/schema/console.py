"""The web console, its logins, and test calls that are placed by themselves."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from config.schema.listening import HttpListen
from config.schema.section import Section
from config.values import Network, Strings, split_url


class Oidc(Section):
    """Login by another system (OpenID Connect), beside users with passwords of ours."""

    issuer: str = Field(
        pattern=r"^https?://[^\s]+$", description="its URL, below which /.well-known/openid-configuration is"
    )
    client_id: str = Field(min_length=1, description="as it knows us")
    client_secret: str = Field("", description="as it gave it; better ${file:PATH} or ${env:NAME}", repr=False)
    label: str = Field("", description="name of that system on the login page")
    scopes: Strings = Field(default_factory=lambda: ["openid", "profile", "email"], description="what is asked for")
    username_claim: str = Field("preferred_username", description="claim that holds the user's name; else email, sub")
    role_claim: str = Field("roles", description="claim that holds the user's roles or groups, a text or a list")
    roles: dict[str, Literal["viewer", "desk", "engineer", "admin"]] = Field(
        default_factory=dict, description="value of that claim → role here; empty: values that are roles here count"
    )
    default_role: Literal["viewer", "desk", "engineer", "none"] = Field(
        "none", description="role of those to whom none of the values gives one; none: they are not let in"
    )
    ca: str | None = Field(None, description="PEM file with the CAs of the issuer; default: the system's")


class Console(HttpListen):
    """The web console and the REST API: a process of its own, on which no call depends."""

    listen: str = Field(description="http://ADDRESS:PORT or https://ADDRESS:PORT")
    certificate: str | None = Field(None, description="PEM file with the certificate and its chain, for https://")
    private_key: str | None = Field(None, description="PEM file with its private key")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+$",
        description="how browsers reach it where that is not `listen`: https://e911.example.com; also in notices",
    )
    proxies: list[Network] = Field(
        default_factory=list, description="reverse proxies in front whose X-Forwarded-For is believed"
    )
    session_minutes: int = Field(480, ge=5, le=10_080, description="a login ends so many minutes after its last use")
    api_requests_per_minute: int = Field(
        600,
        ge=1,
        le=1_000_000,
        description="requests a minute of one token, and of one address, to the API; more get 429",
    )
    keep_messages_days: float = Field(
        30,
        ge=0,
        le=36_500,
        description="SIP messages of emergency calls are kept so many days, for the ladder and the incident bundle; "
        "0: none are kept. Records are always kept",
    )
    oidc: Oidc | None = Field(None, description="login by another system (OpenID Connect)")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        remedy = "write http://ADDRESS:PORT or https://ADDRESS:PORT, such as http://127.0.0.1:8911"
        parts, port = split_url(value, remedy)
        if parts.scheme not in ("http", "https") or port is None:
            raise ValueError(f"not a listening point; {remedy}")
        return value

    @model_validator(mode="after")
    def _check_certificate(self) -> "Console":
        if (self.certificate is None) != (self.private_key is None):
            missing = "private_key" if self.private_key is None else "certificate"
            raise ValueError(f"{missing} is missing; certificate and private_key belong together")
        if self.is_https and self.certificate is None:
            raise ValueError("https:// needs a certificate; add certificate: FILE and private_key: FILE")
        if self.certificate is not None and not self.is_https:
            raise ValueError("a certificate, and listen is http://; write https:// there")
        return self

    @property
    def is_https(self) -> bool:
        """True where it speaks TLS itself."""
        return self.listen.lower().startswith("https:")

    @property
    def url(self) -> str:
        """Where browsers find it, without a slash at the end."""
        return self.public_url or self.listen


class SelfTest(Section):
    """Test calls that edge911 places itself, for each site by each E911 route, and judges by what it hears."""

    at: str = Field(
        "03:15", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="when, HH:MM in the time zone of each site"
    )
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(
        default_factory=list, description="on these days; empty: every day"
    )
    sites: list[str] = Field(default_factory=list, description="ids of sites; empty: all")
    listen_seconds: float = Field(
        20.0, ge=2, le=120, description="how long at most to listen to the read-back, seconds"
    )
    at_once: int = Field(
        2, ge=1, le=8, description="test calls at the same time by one trunk; fewer than it has channels"
    )
    media_address: str | None = Field(
        None,
        description="address at which the provider's media reaches this host; default: the one the system sends from",
    )
