"""What the fields of a device mean, for the published contract. Which there are is said by router.store.devices."""

from typing import Any

from e911.location import DeviceKind
from router.store.devices import COLUMNS, POINT_COLUMNS, STATE_COLUMNS, TIME_COLUMNS

MEANINGS = {
    "device": "number, user or address of record, as the phone calls itself",
    "name": "who is there; the PSAP and the front desk see it",
    "kind": "fixed, nomadic, softphone or off-premises",
    "aor": "another address of record it is known by",
    "number": "another number it is known by",
    "username": "another user part it is known by",
    "mac": "its hardware address",
    "callback": "the number a PSAP calls back: +12125550112",
    "language": "en or fr, of the person whose phone it is",
    "email": "where that person is written to",
    "site": "a site of the configuration",
    "zone": "a zone of that site",
    "elin_zone": "the zone whose ELIN it is lent, where that is another one",
    "country": "two letters: US, CA",
    "latitude": "degrees, WGS 84; both or none",
    "longitude": "degrees, WGS 84; both or none",
    "confirmed_at": "when somebody last said that it is there",
    "confirmed_by": "who said so",
    "expires_at": "until when its location holds",
    "unconfirmed": "why its location is in doubt until somebody confirms it",
    "validation": "what the location validation function said: valid, invalid or unknown, with elements",
    "validated_at": "when it said so",
    "updated_at": "when it was last changed",
    "provisioning": "what became of telling the provider where it is: pending, active, or refused with its words",
    "location_id": "the provider's id of its place; it ends with that place, where no other is given",
    "endpoint_id": "the provider's id of the device; likewise",
}


def _property(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": ["string", "null"]}
    if name in POINT_COLUMNS:
        found = {"type": ["number", "null"]}
    elif name == "kind":
        found = {"type": "string", "enum": [kind.value for kind in DeviceKind]}
    elif name in TIME_COLUMNS or name.endswith("_at"):
        found = {"type": ["string", "null"], "format": "date-time"}
    return {**found, "description": MEANINGS.get(name, "")} if name in MEANINGS else found


COLUMNS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Device",
    "properties": {name: _property(name) for name in COLUMNS},
    "additionalProperties": False,
}
"""What is written of a device."""
DEVICE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Device",
    "properties": {
        **{name: _property(name) for name in (*COLUMNS, *STATE_COLUMNS)},
        "not_dispatchable": {
            "type": "array",
            "items": {"type": "string"},
            "readOnly": True,
            "description": "why help could not be sent to its location by that alone; empty: it could",
        },
    },
}
"""What is read of it."""
