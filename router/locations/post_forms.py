"""The post's forms of what is registered: suggested, and taken in one step. The place stays the same one."""

import time
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection

from e911.dispatchable import device_dispatchability, device_of
from e911.location import Device
from e911.places import Places
from router.store.devices import get_devices, overlaid, settled, take_turn, write_devices


def forms_of(device: Device, places: Places) -> dict[str, str]:
    """Column → the form that USPS or Canada Post writes, where the device's own is another; none of its site's."""
    return device_of(device, device_dispatchability(device, places, 0.0).suggestions)


def take_forms(conn: Connection, names: Iterable[str], places: Places, *, by: str, via: str) -> list[str]:
    """Write the post's forms over those of the named devices; the canonical names of those that changed.

    That somebody is there is not confirmed by it, and a doubt stays. What a provider or an LVF said of the old
    spelling ends, as with every change.
    """
    take_turn(conn)
    now = time.time()
    writes: list[tuple[Device | None, Device]] = []
    for known in get_devices(conn, names).values():
        if forms := forms_of(known, places):
            after = settled(known, overlaid(known, forms), now, by)
            kept = {"confirmed_at": known.confirmed_at, "confirmed_by": known.confirmed_by}
            writes.append((known, replace(after, unconfirmed=known.unconfirmed, **kept)))  # type: ignore[arg-type]
    write_devices(conn, writes, now=now, by=by, via=via)
    return [after.device for _, after in writes]
