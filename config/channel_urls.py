"""The URLs of contacts that are ours and not Apprise's: SIP messages and calls, syslog, SNMP traps.

    sip:100@10.0.0.10                    a SIP MESSAGE to a phone; sips: or ;transport=tcp where it is to be so
    sip-call:100@10.0.0.10?repeat=5      a call that is spoken to whoever answers
    syslog://10.0.0.9:514?facility=auth  RFC 5424 over udp, tcp or tls
    snmp://public@10.0.0.9               an SNMP trap (v2c), or version 3 with user and passwords

Each function reads one URL and raises ValueError, whose text names the remedy.
"""

from dataclasses import dataclass, field
from typing import Literal, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from config.values import parse_duration
from e911.numbers import CallKind, EmergencyNumbers, classify
from sip.errors import RemoteError
from sip.uri import SipUri, parse_sip_uri

SIP_SCHEMES = ("sip:", "sips:", "sip-call:", "sips-call:")
SYSLOG_TRANSPORTS = ("udp", "tcp", "tls")
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news"),
    *("uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)
"""Names by number, RFC 5424 section 6.2.1."""
_AUTH = ("md5", "sha", "sha224", "sha256", "sha384", "sha512")
_PRIVACY = ("des", "3des", "aes", "aes192", "aes256")
EMERGENCY = EmergencyNumbers(emergency=frozenset({"911", "9911"}), test=frozenset())
"""Who is never told, whatever `emergency.numbers` says: a machine that calls a PSAP takes a line from somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SipReceiver:
    """A phone to be sent a MESSAGE, or to be called."""

    uri: bytes
    """Request-URI, without options of ours."""
    parsed: SipUri
    is_call: bool
    username: str = ""
    password: str = field(default="", repr=False)
    sender: str = ""
    """Our address in From; empty: edge911 at the address we send from."""
    proxy: str = ""
    """HOST[:PORT] to send to in place of the host of the URI."""
    route: str = ""
    """Route value to send with; never from a URL."""
    repeat: int = 10
    """So often a call says its text before it ends by itself."""
    ring: float = 45.0
    """Seconds a phone rings before it counts as not answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogReceiver:
    """A syslog server."""

    host: str
    port: int
    transport: str
    facility: int
    severity: int
    authorities: str
    """PEM file of the authorities believed, for tls; empty: the system's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnmpReceiver:
    """A trap receiver. `community` for v2c; `user` and passwords for v3."""

    host: str
    port: int
    version: Literal["2c", "3"]
    community: str = field(default="public", repr=False)
    user: str = ""
    auth: str = ""
    auth_password: str = field(default="", repr=False)
    privacy: str = ""
    privacy_password: str = field(default="", repr=False)
    engine_id: str = ""
    """Hexadecimal; empty: derived from the node's name."""
    is_inform: bool = False
    """An InformRequest, which the receiver answers, in place of a trap, which it does not."""


Receiver = SipReceiver | SyslogReceiver | SnmpReceiver


def is_sip(url: str) -> bool:
    """Whether it is a phone: for a message or a call."""
    return url.lower().startswith(SIP_SCHEMES)


def is_sip_call(url: str) -> bool:
    """Whether it is a phone to be called."""
    return url.lower().startswith(("sip-call:", "sips-call:"))


def is_ours(url: str) -> bool:
    """Whether this module reads it; all others are Apprise's."""
    lower = url.lower()
    if lower.startswith("syslog://"):
        # Apprise's own is syslog://FACILITY, this machine's log; a server has a name with a dot, or an address.
        rest = lower[len("syslog://") :].split("/", 1)[0].split("?", 1)[0]
        return bool(rest) and rest not in FACILITIES
    return is_sip(lower) or lower.startswith("snmp://")


def read_receiver(url: str) -> Receiver:
    """One of our URLs. Raises ValueError with the remedy."""
    if is_sip(url):
        return read_sip(url)
    if url.lower().startswith("snmp://"):
        return read_snmp(url)
    return read_syslog(url)


def read_sip(url: str) -> SipReceiver:
    """`sip:USER@HOST` or `sip-call:USER@HOST`, with URI parameters, and options of ours after a question mark."""
    remedy = "write sip:100@10.0.0.10 (a message) or sip-call:100@10.0.0.10 (a call)"
    scheme, _, rest = url.partition(":")
    address, _, query = rest.partition("?")
    is_call = scheme.lower().endswith("-call")
    uri = f"{scheme.lower().removesuffix('-call')}:{address}".encode()
    try:
        parsed = parse_sip_uri(uri)
    except RemoteError:
        raise ValueError(f"not a SIP address; {remedy}") from None
    if not parsed.user:
        raise ValueError(f"no user before the @; {remedy}")
    if classify(uri.decode("latin-1"), EMERGENCY) is not CallKind.ORDINARY:
        raise ValueError(f"this dials an emergency number; a notice never calls a PSAP; {remedy}")
    if parsed.transport not in ("udp", "tcp", "tls"):
        raise ValueError("transport is one of udp, tcp and tls")
    options = _options(query, ("username", "password", "from", "proxy", "repeat", "ring"))
    if bool(options.get("username")) != bool(options.get("password")):
        raise ValueError("username and password belong together")
    sender = options.get("from", "")
    if sender and not sender.lower().startswith(("sip:", "sips:")):
        raise ValueError("from is a SIP address; write from=sip:911@example.com")
    if sender:
        _sip_uri(sender, "from")
    proxy = options.get("proxy", "")
    if proxy:
        _sip_uri(f"sip:{proxy}", "proxy")
    return SipReceiver(
        uri=uri,
        parsed=parsed,
        is_call=is_call,
        username=options.get("username", ""),
        password=options.get("password", ""),
        sender=sender,
        proxy=proxy,
        repeat=_number(options.get("repeat", "10"), "repeat", 1, 1000),
        ring=_seconds(options.get("ring", "45s"), "ring"),
    )


def read_syslog(url: str) -> SyslogReceiver:
    """`syslog://HOST[:PORT]?transport=udp|tcp|tls&facility=…&severity=…&ca=FILE`."""
    remedy = "write syslog://10.0.0.9:514?facility=local0"
    parts, port = _split(url, remedy)
    options = _options(parts.query, ("transport", "facility", "severity", "ca"))
    transport = options.get("transport", "udp").lower()
    if transport not in SYSLOG_TRANSPORTS:
        raise ValueError(f"transport is one of {', '.join(SYSLOG_TRANSPORTS)}")
    facility = options.get("facility", "local0").lower()
    if facility not in FACILITIES:
        raise ValueError(f"no such facility; it is one of {', '.join(FACILITIES)}")
    return SyslogReceiver(
        host=parts.hostname or "",
        port=port or (6514 if transport == "tls" else 514),
        transport=transport,
        facility=FACILITIES.index(facility),
        severity=_number(options.get("severity", "1"), "severity", 0, 7),
        authorities=options.get("ca", ""),
    )


def read_snmp(url: str) -> SnmpReceiver:
    """`snmp://COMMUNITY@HOST[:PORT]`, or `snmp://USER@HOST?version=3&auth=sha256&auth_password=…&privacy=aes&…`."""
    remedy = "write snmp://public@10.0.0.9, or snmp://USER@10.0.0.9?version=3&auth=sha256&auth_password=…"
    parts, port = _split(url, remedy)
    names = ("version", "auth", "auth_password", "privacy", "privacy_password", "engine_id", "inform")
    options = _options(parts.query, names)
    version = options.get("version", "2c").lower().removeprefix("v")
    if version not in ("2c", "3"):
        raise ValueError("version is 2c or 3")
    name = unquote(parts.username or "")
    if version == "2c":
        if unused := next((key for key in names[1:6] if key in options), None):
            raise ValueError(f"{unused} is for version=3; add version=3")
    elif not name:
        raise ValueError(f"no user; {remedy}")
    auth, privacy = options.get("auth", "").lower(), options.get("privacy", "").lower()
    _needs_password("auth", auth, _AUTH, options.get("auth_password", ""))
    _needs_password("privacy", privacy, _PRIVACY, options.get("privacy_password", ""))
    if privacy and not auth:
        raise ValueError("privacy without auth; add auth and auth_password, SNMPv3 encrypts nothing else")
    engine_id = options.get("engine_id", "").removeprefix("0x")
    try:
        long_enough = not engine_id or 5 <= len(bytes.fromhex(engine_id)) <= 32
    except ValueError:
        long_enough = False
    if not long_enough:
        raise ValueError("engine_id is 5 to 32 bytes in hexadecimal, such as 80001f8880e9a1b2c3d4")
    return SnmpReceiver(
        host=parts.hostname or "",
        port=port or 162,
        version=cast(Literal["2c", "3"], version),
        community=name or "public",
        user=name if version == "3" else "",
        auth=auth,
        auth_password=options.get("auth_password", ""),
        privacy=privacy,
        privacy_password=options.get("privacy_password", ""),
        engine_id=engine_id,
        is_inform=options.get("inform", "no").lower() in ("yes", "true", "1", "on"),
    )


def _needs_password(name: str, value: str, known: tuple[str, ...], password: str) -> None:
    if value and value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}")
    if bool(value) != bool(password):
        raise ValueError(f"{name} and {name}_password belong together")
    if password and len(password) < 8:
        raise ValueError(f"{name}_password has fewer than 8 characters, which SNMPv3 does not allow (RFC 3414)")


def _split(url: str, remedy: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"not a URL; {remedy}") from None
    if not parts.hostname or port == 0 or parts.path not in ("", "/"):
        raise ValueError(f"not a host; {remedy}")
    return parts, port


def _options(query: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"no option is called {name[:30]!r}; there are {', '.join(known)}")
        found[name] = value
    return found


def _number(text: str, name: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise ValueError(f"{name} is a number from {least} to {most}")
    return int(text)


def _seconds(text: str, name: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 300:
        raise ValueError(f"{name} is a time from 1s to 5m, such as 45s")
    return seconds


def _sip_uri(text: str, name: str) -> None:
    try:
        parse_sip_uri(text.encode())
    except RemoteError:
        raise ValueError(f"{name} is not an address; write {name}=HOST:PORT or a SIP address") from None
