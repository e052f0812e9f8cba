"""What a provisioning target is told of devices, and what of the configuration decides it."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from config.schema import Config, ProvisioningTarget
from e911.bandwidth import LONGEST_LINE, line_two
from e911.devices import shown_numbers
from e911.location import CIVIC_FIELDS, CivicAddress, Device
from router.emergency.rules import places_of
from router.provisioning.ali_records import place_of


class Teller:
    """Makes what a target is told of devices."""

    def __init__(self, config: Config, section: ProvisioningTarget) -> None:
        self.section = section
        self._places = places_of(config)

    def document_of(self, device: Device) -> tuple[dict[str, Any], str]:
        """What is said of a device, and why it cannot be said (empty where it can).

        `id` is a hash of all the rest; location_id and endpoint_id are derived from it, so that another address has
        other ids.
        """
        place = place_of(device, self._places)
        document: dict[str, Any] = {
            "device": device.device,
            "name": device.name or device.device,
            "kind": device.kind.value,
            "callback": next(iter(shown_numbers(device)), ""),
            "language": device.language,
            "site": device.site,
            "zone": device.zone,
            "address": {name: value for name in CIVIC_FIELDS if (value := getattr(place.civic, name))},
            "latitude": place.point.latitude if place.point else None,
            "longitude": place.point.longitude if place.point else None,
        }
        digest = hashlib.blake2b(orjson.dumps(document), digest_size=15, person=b"provisioning").digest()
        text = base64.b32encode(digest).decode()
        document |= {"id": digest.hex(), "location_id": f"L{text}", "endpoint_id": f"E{text}"}
        return document, _problem(self.section, document)


def _problem(section: ProvisioningTarget, document: Mapping[str, Any]) -> str:
    address = document["address"]
    missing = [name for name in ("country", "state", "city", "street") if not address.get(name)]
    if missing:
        return f"its address has no {', '.join(missing)}"
    if section.kind == "bandwidth":
        if not document["callback"].startswith("+1"):
            return "no callback number of North America"
        if not address.get("house_number"):
            return "its address has no house_number"
        line = line_two(CivicAddress(**address))
        if len(line) > LONGEST_LINE:
            return f"floor, room and the like are {len(line)} characters, {LONGEST_LINE} is the most"
    return ""


def basis_of(config: Config, section: ProvisioningTarget) -> str:
    """Stands for what of the configuration decides what is said: with another one everything is compared anew."""
    said = {"id", "name", "address", "latitude", "longitude", "zones"}
    sites = [site.model_dump(include=said) for site in config.sites]
    data = orjson.dumps(
        [section.kind, section.url, section.account, section.sites, sites], default=str, option=orjson.OPT_SORT_KEYS
    )
    return hashlib.blake2b(data, digest_size=8).hexdigest()
