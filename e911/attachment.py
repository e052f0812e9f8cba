"""Where a phone is attached to the network, as it says itself: the access point (BSSID), or switch and port (LLDP).

Texts of header fields in, one spelling of each identifier out, so that what a phone sends and what stands in the
wiremap meet: MAC addresses with any separators and in any case, names of interfaces long or short.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from e911.lists import split_list

LONGEST: Final = 255
"""Characters of an identifier that are looked at; LLDP allows no more (IEEE 802.1AB)."""
MOST_VALUES: Final = 8
"""Values of fields that are looked at."""

BSSID_UNREADABLE: Final = "bssid-unreadable"
PORT_UNREADABLE: Final = "switch-port-unreadable"

_SEPARATED = re.compile(r"[0-9A-Fa-f]{1,2}([:-])[0-9A-Fa-f]{1,2}(?:\1[0-9A-Fa-f]{1,2}){4}")
_DIGITS = re.compile(r"[0-9A-Fa-f]{12}")
_SUBTYPE = re.compile(r"(?:mac|ip|ifname|ifalias|local|locally-assigned|chassis-?id|port-?id)[ :=]\s*", re.IGNORECASE)
_INTERFACE = re.compile(r"([a-z][a-z-]*?)[ _]*([0-9].*)")
_NOBODYS = frozenset({"000000000000", "ffffffffffff", "020000000000"})
"""What phones send that may not tell, or do not know: never an access point's."""
_SHORT = {
    "fastethernet": "fa",
    "fasteth": "fa",
    "gigabitethernet": "gi",
    "gigabiteth": "gi",
    "gig": "gi",
    "gigabit": "gi",
    "twogigabitethernet": "tw",
    "fivegigabitethernet": "fi",
    "tengigabitethernet": "te",
    "tengige": "te",
    "tengig": "te",
    "twentyfivegige": "twe",
    "twentyfivegigabitethernet": "twe",
    "fortygigabitethernet": "fo",
    "fortygige": "fo",
    "hundredgige": "hu",
    "ethernet": "eth",
    "et": "eth",
    "port-channel": "po",
}
"""Names of interfaces as their vendors write them out, and as they shorten them."""
_JUNOS = re.compile(r"((?:fe|ge|mge|xe|et)-[0-9/:]+)\.0")
_CHASSIS_NAMES = frozenset({"chassis", "chassis-id", "chassisid", "chassis_id", "switch", "switch-id"})
_PORT_NAMES = frozenset({"port", "port-id", "portid", "port_id", "interface", "ifname"})
_BSSID_NAMES = ("i-wlan-node-id", "bssid", "wlan-node-id", "ap-mac")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An access point, or a switch and its port; with neither, the reason why what was sent could not be read."""

    bssid: str = ""
    """12 lower-case hexadecimal digits."""
    chassis: str = ""
    port: str = ""
    reason: str = ""

    @property
    def text(self) -> str:
        """For people: what it is and its identifier."""
        if self.chassis:
            port = f" port {mac_text(self.port)}" if self.port else ""
            return f"switch {mac_text(self.chassis)}{port}"
        return f"bssid {mac_text(self.bssid)}" if self.bssid else ""


def normal_mac(written: str) -> str:
    """A MAC address as 12 lower-case hexadecimal digits, whatever separates them; empty where it is none."""
    text = written.strip().strip('"').strip()
    if _SEPARATED.fullmatch(text):
        return "".join(f"{group:0>2}" for group in re.split("[:-]", text)).lower()
    digits = re.sub(r"[\s:.-]", "", text)
    return digits.lower() if len(text) <= 24 and _DIGITS.fullmatch(digits) else ""


def normal_bssid(written: str) -> str:
    """A BSSID as 12 digits; empty where it is no MAC address of one station (groups, all zeros, placeholders)."""
    mac = normal_mac(written)
    return "" if not mac or mac in _NOBODYS or int(mac[1], 16) & 1 else mac


def mac_text(identifier: str) -> str:
    """An identifier as people write it: pairs with colons where it is a MAC address."""
    if _DIGITS.fullmatch(identifier):
        return ":".join(identifier[at : at + 2] for at in range(0, 12, 2))
    return identifier


def normal_chassis(written: str) -> str:
    """A chassis ID: a MAC address as 12 digits, an IP address in its short form, any other text in lower case."""
    text = _plain(written)
    if mac := normal_mac(text):
        return "" if mac in _NOBODYS else mac
    try:
        return str(ip_address(text))
    except ValueError:
        return text.replace(" ", "_")


def normal_port(written: str) -> str:
    """A port ID: names of interfaces in their short form, MAC addresses as 12 digits, other text in lower case."""
    text = _plain(written)
    if _SEPARATED.fullmatch(text):
        return normal_mac(text)
    junos = _JUNOS.fullmatch(text)
    if junos:
        return junos[1]
    interface = _INTERFACE.fullmatch(text)
    if interface:
        name = interface[1]
        if name in _SHORT:
            return f"{_SHORT[name]}{interface[2].replace(' ', '')}"
        if text[len(name)] in " _":
            return f"{name}{interface[2].replace(' ', '')}"
    return text.replace(" ", "_")


def _plain(written: str) -> str:
    """Without quotes and an LLDP subtype's name before it, in lower case, blanks collapsed; empty if too long."""
    text = " ".join(written.strip().strip('"').split())
    text = _SUBTYPE.sub("", text, count=1) if _SUBTYPE.match(text) else text
    return text.lower() if len(text) <= LONGEST and text.isprintable() else ""


def read_attachment(
    access_network_info: Sequence[str] = (),
    bssids: Sequence[str] = (),
    switch_ports: Sequence[str] = (),
    chassis_and_ports: Sequence[tuple[str, str]] = (),
) -> Attachment | None:
    """Where a phone says that it is attached, from the values of its fields; None where none of them says anything.

    access_network_info: P-Access-Network-Info (RFC 7315); bssids: fields with a BSSID; switch_ports: fields with
    chassis and port; chassis_and_ports: the two from fields of their own. A cable (a switch port) counts before an
    access point: a phone with both uses the cable. Never raises.
    """
    said = False
    bssid = chassis = port = ""
    for written in _some(switch_ports):
        said = True
        chassis, port = read_switch_port(written)
        if chassis:
            return Attachment(chassis=chassis, port=port)
    for one, other in chassis_and_ports[:MOST_VALUES]:
        said = True
        chassis, port = normal_chassis(one), normal_port(other)
        if chassis:
            return Attachment(chassis=chassis, port=port)
    unreadable = PORT_UNREADABLE if said else ""
    for line in _some(access_network_info):
        for value in split_list(line)[:MOST_VALUES]:
            kind, parameters = _parameters(value)
            if kind.startswith(("ieee-802.3", "dsl", "xdsl", "vdsl", "adsl", "gpon", "xgpon")):
                for name in ("eth-location", "dsl-location"):
                    chassis, port = read_switch_port(parameters.get(name, ""))
                    if chassis:
                        return Attachment(chassis=chassis, port=port)
            for name in _BSSID_NAMES:
                if name in parameters:
                    bssid = bssid or normal_bssid(parameters[name])
                    unreadable = unreadable or BSSID_UNREADABLE
    for written in _some(bssids):
        kind, parameters = _parameters(written)
        values = [parameters[name] for name in _BSSID_NAMES if name in parameters]
        bssid = bssid or next(filter(None, map(normal_bssid, [*values, written, kind])), "")
        unreadable = unreadable or BSSID_UNREADABLE
    if bssid:
        return Attachment(bssid=bssid)
    return Attachment(reason=unreadable) if unreadable else None


def read_switch_port(written: str) -> tuple[str, str]:
    """Chassis and port of one text: `chassis=…;port=…`, or the two with a semicolon, comma, bar or blank between.

    The port is empty where only a switch is named. ("", "") where there is nothing to be read.
    """
    if len(written) > 4 * LONGEST:
        return "", ""
    pieces = [piece.strip() for piece in re.split(r"[;|]", written) if piece.strip()]
    named: dict[str, str] = {}
    for piece in pieces if len(pieces) > 1 else re.split(r"[;|,]", written):
        name, equals, value = piece.partition("=")
        if equals:
            named.setdefault(name.strip().lower(), value.strip())
    chassis = next((named[name] for name in named if name in _CHASSIS_NAMES), "")
    if chassis:
        return normal_chassis(chassis), normal_port(next((named[name] for name in named if name in _PORT_NAMES), ""))
    if named:
        return "", ""
    if normal_mac(_plain(written)):
        return normal_chassis(written), ""
    for separator in (r"[;|]", ",", r"\s+"):
        found = [piece.strip() for piece in re.split(separator, written.strip().strip('"')) if piece.strip()]
        if len(found) == 2:
            return normal_chassis(found[0]), normal_port(found[1])
    return "", ""


def _some(values: Iterable[str]) -> list[str]:
    return [value for value in values if value.strip()][:MOST_VALUES]


def _parameters(value: str) -> tuple[str, dict[str, str]]:
    """What stands before the first semicolon, and the parameters by name, both in lower case; quotes taken off."""
    kind, *rest = _split_parameters(value)
    found: dict[str, str] = {}
    for piece in rest:
        name, _, text = piece.partition("=")
        found.setdefault(name.strip().lower(), text.strip().strip('"'))
    if not rest and "=" in kind:
        name, _, text = kind.partition("=")
        found[name.strip().lower()] = text.strip().strip('"')
    return kind.strip().strip('"').lower(), found


def _split_parameters(value: str) -> list[str]:
    """The text at its semicolons, those within quotes left alone."""
    pieces = [""]
    quoted = False
    for character in value[: 8 * LONGEST]:
        if character == '"':
            quoted = not quoted
        if character == ";" and not quoted:
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces
