"""Kinds of values in the configuration: durations, networks, addresses, numbers; each says what would be right.

Validators get text and raise ValueError with one line that ends in the remedy.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from e911.location import IPNetwork

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h)?")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_TARGET = re.compile(
    r"sips?:(?:[^@\s;?<>]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::\d{1,5})?"
    r"(?:;transport=(?:udp|tcp|tls))?",
    re.IGNORECASE | re.ASCII,
)


def parse_duration(value: Any) -> float:
    """Seconds from `300ms`, `2s`, `1m`, `1h` or a plain number of seconds; ValueError otherwise."""
    match = None if isinstance(value, (list, dict)) else _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError("not a duration; write 300ms, 2s, 1m or a number of seconds")
    seconds = float(match[1]) * _UNIT_SECONDS[match[2]]
    if not 0 < seconds <= 86400:
        raise ValueError("a duration lies between 1ms and 24h")
    return seconds


def parse_network(value: Any) -> IPNetwork:
    """A network in CIDR form or one address; ValueError where bits are set behind the prefix."""
    if isinstance(value, (IPv4Network, IPv6Network)):
        return value
    remedy = "write 10.1.0.0/16, 192.0.2.7 or 2001:db8::/32"
    if not isinstance(value, str):
        raise ValueError(f"not a network; {remedy}")
    text = value.strip()
    try:
        return ip_network(text, strict=True)
    except ValueError:
        pass
    try:
        whole = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network; {remedy}") from None
    raise ValueError(f"{text!r} has bits set behind its prefix; write {whole} for the network")


def split_url(url: str, remedy: str) -> tuple[SplitResult, int | None]:
    """The parts of a listening URL and its port; ValueError for anything but SCHEME://ADDRESS[:PORT]."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"not a listening point; {remedy}") from None
    more = parts.path or parts.query or parts.fragment or parts.username is not None
    # urlsplit drops line breaks and tabs without a word.
    if not host or more or " " in url or not url.isprintable():
        raise ValueError(f"not a listening point; {remedy}")
    if port == 0:
        raise ValueError("port 0 is not a port others can send to; write the port")
    return parts, port


def check_address(host: str, remedy: str) -> None:
    """ValueError where this is not an IP address."""
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address; {remedy}") from None


def check_web_url(value: str) -> str:
    """A plain http(s) URL; ValueError otherwise."""
    remedy = "write https://lis.example.com/held"
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"not a URL; {remedy}") from None
    if parts.scheme not in ("http", "https") or not host or port == 0 or len(value) > 1000:
        raise ValueError(f"not an http(s) URL; {remedy}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a password in a URL shows up in logs; write token: ${file:PATH}")
    if parts.fragment or any(not "!" <= char <= "~" for char in value):
        raise ValueError(f"a character that no URL of a server has; {remedy}")
    return value


def check_host_pattern(value: str) -> None:
    """Raise ValueError unless this is a host name, *.NAME, an IP address or a network."""
    try:
        parse_network(value)
    except ValueError:
        if not re.fullmatch(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", value) or value[-1].isdigit():
            raise ValueError(
                f"{value!r} is neither a host name nor a network; write lis.example.com, *.example.com or 10.0.0.0/8"
            ) from None


_UNITS_OF_SIZE = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def parse_size(value: Any) -> Any:
    """Bytes of `100MB`, `2 GB`, `5000000`. ValueError for anything else, and below 1 MB."""
    found = re.fullmatch(r"([0-9]+)\s*(kb|mb|gb)?", str(value).strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"{value!r} is not a size; write 100MB or 2GB")
    size = int(found[1]) * _UNITS_OF_SIZE[(found[2] or "").lower()]
    if size < 1_000_000:
        raise ValueError("too small; write 1MB or more")
    return size


def check_collector(value: str) -> str:
    """Where HEP is sent: `udp://HOST:PORT`."""
    remedy = "write udp://HOST:PORT, such as udp://192.0.2.50:9060"
    parts, port = split_url(value, remedy)
    if parts.scheme != "udp" or port is None:
        raise ValueError(f"not a collector; {remedy}")
    return value


def check_target(value: str) -> str:
    """A trunk's target: a SIP URI of host, port and transport."""
    if not _TARGET.fullmatch(value):
        raise ValueError("not a trunk target; write sip:HOST, sip:HOST:PORT or sip:HOST:PORT;transport=tcp")
    hostport = hostport_of(value)
    host, colon, port = hostport.rpartition("]:" if hostport.startswith("[") else ":")
    if colon and not 0 < int(port) < 65536:
        raise ValueError(f"port {port} does not exist; write one from 1 to 65535, or none")
    host = (host if colon else hostport).strip("[]")
    if hostport.startswith("[") or re.fullmatch(r"[0-9.]+", host):
        check_address(host, "write sip:192.0.2.7 or sip:[2001:db8::7]")
    return value


@lru_cache(maxsize=1024)
def hostport_of(target: str) -> str:
    """Host and port of a SIP URI as they stand in it."""
    return target.partition(":")[2].partition(";")[0].rpartition("@")[2]


class PeerAddress(NamedTuple):
    """A trunk's target, in parts."""

    uri: str
    """As written."""
    host: str
    """Address or name, without brackets."""
    port: int | None
    """None where the name decides (RFC 3263); the transport's own port for an address."""
    transport: str
    """`udp`, `tcp` or `tls`; an empty string where the target does not say and the name may decide."""

    @property
    def hostport(self) -> str:
        """Host and port as they stand in the target, for Request-URIs."""
        return hostport_of(self.uri)

    @property
    def is_ip(self) -> bool:
        """True where the host is an IP address."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def default_port(self) -> int:
        """The port written, else the transport's own."""
        return self.port or (5061 if self.transport == "tls" else 5060)


def peer_address(target: str) -> PeerAddress:
    """The parts of a trunk's target that `check_target` has let through."""
    scheme, _, rest = target.partition(":")
    parameters = rest.partition(";")[2]
    address = hostport_of(target)
    transport = parameters.lower().removeprefix("transport=") or ("tls" if scheme.lower() == "sips" else "")
    if address.startswith("["):
        host, _, port = address[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = address.partition(":")
    return PeerAddress(target, host, int(port) if port else None, transport)


def parse_name_server(value: str) -> tuple[str, int]:
    """Address and port of a name server; ValueError where it is none. The port is 53 where none is written."""
    remedy = "write 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53"
    text = value.strip()
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"{value!r} is not a name server; {remedy}")
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    host = "127.0.0.1" if host.lower() == "localhost" else host
    check_address(host, remedy)
    if port and not (port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError(f"port {port} does not exist; {remedy}")
    return host, int(port) if port else 53


def _name_server(value: str) -> str:
    parse_name_server(value)
    return value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _dial_string(value: str) -> str:
    if not re.fullmatch(r"[0-9*#]{2,16}", value):
        raise ValueError(f"{value!r} is not a dial string; write digits, such as 911 or 933")
    return value


def _region(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2}(-[A-Za-z]{2,3})?", value):
        raise ValueError(f"{value!r} is not a country or a country and state; write US or CA-QC")
    return value.upper()


def _number_pattern(value: str) -> str:
    if not re.fullmatch(r"\+?[0-9X*#]+", value, re.IGNORECASE):
        raise ValueError(f"{value!r} is not a number pattern; write 4XXX or +1212555012X")
    return value


def _number_to_dial(value: str) -> str:
    if not re.fullmatch(r"\+?[0-9*#().\- ]{2,24}", value):
        raise ValueError(f"{value!r} is not a number to dial; write +12125550140 or 911")
    return re.sub(r"[().\- ]", "", value)


def _desk(value: str) -> str:
    if re.fullmatch(r"sips?:[^\s<>]+@[^\s<>@]+", value, re.IGNORECASE):
        return value
    number = re.sub(r"[().\- ]", "", value)
    if not re.fullmatch(r"\+?[0-9*#]{2,24}", number):
        raise ValueError(
            f"{value!r} is neither a number nor a SIP URI; write +12125550100, 100 or sip:desk@10.0.0.10"
        )
    return number


def _probe(value: str) -> str:
    if value.lower() not in ("off", "no", "false"):
        try:
            parse_duration(value)
        except ValueError as error:
            raise ValueError(f"{error}, or off") from None
    return value


_NOT_OF_THE_PHONE = {
    "contact": "write contact",
    "m": "write contact",
    "via": "write via",
    "v": "write via",
    **dict.fromkeys(
        ("from", "f", "to", "t", "call-id", "i", "cseq", "route", "record-route", "content-length", "l"),
        "a field of the PBX's own call; name the field in which it passes the phone's address on",
    ),
}
"""Fields that say nothing of a phone behind a PBX, or that have a word of their own."""


def field_name(value: str) -> str:
    """The name of a header field, in lower case; ValueError for what cannot be one (RFC 3261 section 25.1)."""
    name = value.strip().rstrip(":").strip()
    if not re.fullmatch(r"[A-Za-z0-9!%*_+`'~.-]{1,64}", name):
        raise ValueError(f"{value!r} is not the name of a header field; write one such as X-Phone-IP")
    return name.lower()


def _location_from(value: str) -> str:
    text = value.strip()
    scheme, colon, name = text.partition(":")
    if scheme.lower() == "header" and colon:
        key = field_name(name)
        if key in _NOT_OF_THE_PHONE:
            raise ValueError(f"header:{name.strip()}: {_NOT_OF_THE_PHONE[key]}")
        return f"header:{key}"
    if text.lower() not in ("none", "sdp", "contact", "via"):
        remedy = "write none, sdp, contact, via or header:NAME, such as header:X-Phone-IP"
        raise ValueError(f"{value!r} is no place in a request; {remedy}")
    return text.lower()


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "pattern": r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)?$"}),
]
Network = Annotated[
    IPNetwork,
    BeforeValidator(parse_network),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "description": "a network in CIDR form, or one address"}),
]
Strings = Annotated[
    list[str],
    BeforeValidator(_one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
ProviderId = Annotated[str, Field(pattern=r"^([A-Za-z0-9+][A-Za-z0-9+._~-]{0,127})?$")]
DialString = Annotated[str, AfterValidator(_dial_string)]
Region = Annotated[str, AfterValidator(_region)]
NumberPattern = Annotated[str, AfterValidator(_number_pattern)]
NumberToDial = Annotated[str, AfterValidator(_number_to_dial)]
Desk = Annotated[str, AfterValidator(_desk)]
NameServer = Annotated[str, AfterValidator(_name_server)]
Probe = Annotated[str, AfterValidator(_probe)]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": ["string", "integer"], "pattern": r"^[0-9]+\s*([kKmMgG][bB])?$"}),
]
Collector = Annotated[str, AfterValidator(check_collector)]
Target = Annotated[str, AfterValidator(check_target)]
LocationFrom = Annotated[
    str,
    AfterValidator(_location_from),
    WithJsonSchema({"type": "string", "pattern": r"^(none|sdp|contact|via|header:\s*[^\s:]+)$"}),
]
FieldName = Annotated[str, AfterValidator(field_name)]
