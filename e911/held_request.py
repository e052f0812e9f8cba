"""Asking a location server (LIS) where somebody else's device is: HELD (RFC 5985) with device identity (RFC 6155).

What the network knows of the device's attachment goes along as measurements (RFC 7105): the access point's BSSID, the
switch and port that LLDP names.
"""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from xml.sax.saxutils import escape

from e911.attachment import Attachment, normal_mac
from e911.conveyed import judge
from e911.held_server import HELD
from e911.location import DispatchableLocation, LocationSource
from e911.pidf_reader import UnreadableError, parse_document

HELD_ID: Final = "urn:ietf:params:xml:ns:geopriv:held:id"
MEASUREMENTS: Final = "urn:ietf:params:xml:ns:geopriv:lm"

LASTING: Final = frozenset(
    {
        "locationUnknown",
        "notLocatable",
        "badIdentifier",
        "unsupportedMessage",
        "requestError",
        "xmlError",
        "cannotProvideLiType",
    }
)
"""HELD errors (RFC 5985 section 6.3, RFC 6155 section 3.8) that say something of the device or the question: an older
answer is then no answer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldIdentity:
    """By what a device is named to a location server; empty where it is not."""

    ip: str = ""
    mac: str = ""
    """12 lower-case hexadecimal digits."""
    uri: str = ""
    tel: str = ""
    """+E.164."""
    attachment: Attachment | None = None

    @property
    def is_empty(self) -> bool:
        """True where it names nobody."""
        return not (self.ip or self.mac or self.uri or self.tel or self.attachment)

    @property
    def text(self) -> str:
        """For people."""
        attachment = self.attachment.text if self.attachment else ""
        mac = f"mac {self.mac}" if self.mac else ""
        return ", ".join(filter(None, (self.ip, mac, attachment, self.uri, self.tel)))


class HeldRefusedError(Exception):
    """The server answered with a HELD error."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    @property
    def is_lasting(self) -> bool:
        """True where what it said before is no answer any more."""
        return self.code in LASTING


@lru_cache(maxsize=1024)
def location_request(identity: HeldIdentity, milliseconds: int) -> bytes:
    """The locationRequest document, valid against RFC 5985 and RFC 6155; milliseconds: the time the server has."""
    device = []
    if identity.ip:
        device.append(f'<ip v="{ip_address(identity.ip).version}">{escape(identity.ip)}</ip>')
    if identity.mac:
        device.append(f"<mac>{_hyphenated(identity.mac)}</mac>")
    if identity.uri:
        device.append(f"<uri>{escape(identity.uri)}</uri>")
    if identity.tel:
        device.append(f"<uri>tel:{escape(identity.tel)}</uri>")
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><locationRequest xmlns="{HELD}" responseTime="{milliseconds}">'
        '<locationType exact="false">civic geodetic</locationType>'
        f'<device xmlns="{HELD_ID}">{"".join(device)}</device>{_measurements(identity.attachment)}</locationRequest>'
    ).encode()


def _measurements(attachment: Attachment | None) -> str:
    if attachment is None:
        return ""
    if attachment.bssid:
        found = (
            f'<wifi xmlns="{MEASUREMENTS}:wifi"><ap serving="true"><bssid>{_hyphenated(attachment.bssid)}</bssid>'
            "</ap></wifi>"
        )
    elif attachment.chassis:
        chassis, chassis_type = _lldp(attachment.chassis, address=4, text=7)
        port, port_type = _lldp(attachment.port, address=3, text=5)
        ports = f'<port type="{port_type}">{port}</port>' if port else ""
        found = f'<lldp xmlns="{MEASUREMENTS}:lldp"><chassis type="{chassis_type}">{chassis}</chassis>{ports}</lldp>'
    else:
        return ""
    return f'<measurements xmlns="{MEASUREMENTS}">{found}</measurements>'


def _lldp(identifier: str, *, address: int, text: int) -> tuple[str, int]:
    """An LLDP identifier in hexadecimal, and its subtype (IEEE 802.1AB tables 8-2 and 8-3)."""
    mac = normal_mac(identifier)
    return (mac, address) if mac == identifier and mac else (identifier.encode().hex(), text)


def _hyphenated(mac: str) -> str:
    return "-".join(mac[at : at + 2] for at in range(0, 12, 2)).upper()


def error_code(body: bytes) -> str:
    """The code of a HELD error document; empty for anything else. Never raises."""
    try:
        root = parse_document(body)
    except UnreadableError:
        return ""
    return root.get("code", "unknown") if root.tag == f"{{{HELD}}}error" else ""


def located_by_server(document: bytes, at: float) -> DispatchableLocation:
    """The place in a location server's PIDF-LO; at: when it answered, for a document that does not say its time.

    Raises UnreadableError where help could not be sent there, with the reason.
    """
    found = judge(document)
    return DispatchableLocation(
        civic=found.civic,
        point=found.point,
        source=LocationSource.HELD,
        method=found.method,
        occupant=found.occupant,
        updated_at=min(found.updated_at or at, at),
    )
