"""Devices that callers cannot be told apart by: several at different places with one name (`ambiguous-device`).

An import that gives a number to one device while another still has it takes the location from both: who calls by it
is neither, unless the network that they call from decides. The plan of the import says so, also of devices that are
not in its file.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from sqlalchemy import Connection

from e911.devices import DeviceTable, names_of
from e911.locate import AMBIGUOUS_DEVICE, choose_device
from e911.location import Device
from router.locations.import_plan import ImportPlan, PlannedChange
from router.locations.location_plan import Judged, unwritten
from router.store.devices import device_names, get_devices

_AMBIGUOUS: Final = (AMBIGUOUS_DEVICE,)


def with_shared_names(
    conn: Connection, plan: ImportPlan[Device], judged: Judged, may_see: Callable[[str], bool] = lambda _: True
) -> ImportPlan[Device]:
    """The plan, with what its changes mean for devices that share a name; others' devices are not named."""
    if not plan.changes:
        return plan
    changed = {item.name: (_users(item.was), _users(item.becomes)) for item in plan.changes}
    before: dict[str, list[str]] = {user: [] for users in changed.values() for user in (*users[0], *users[1])}
    for device in device_names(conn):
        for user in changed[device[0]][0] if device[0] in changed else _users_of(*device):
            if user in before:
                before[user].append(device[0])
    after = {user: [name for name in names if name not in changed] for user, names in before.items()}
    for name, (_, users) in changed.items():
        for user in users:
            after[user].append(name)
    shared = [names for names in chain(before.values(), after.values()) if len(names) > 1]
    if not shared:
        return plan
    involved = set(chain.from_iterable(shared))
    others = get_devices(conn, involved - changed.keys())
    was = _ambiguous([*others.values(), *(item.was for item in plan.changes if item.name in involved)])
    becomes = _ambiguous([*others.values(), *(item.becomes for item in plan.changes if item.name in involved)])
    plan.changes = [_judged(item, was, becomes) for item in plan.changes]
    for name in sorted(others):
        item = _judged(unwritten(others[name], judged), was, becomes)
        if (item.gains or item.loses) and may_see(others[name].site):
            plan.others.append(item)
    for item in plan.changes:
        if item.name in becomes and item.dispatchable_after:
            plan.lacking[item.name] = item.dispatchable_after
    return plan


def _users(device: Device | None) -> list[str]:
    return [] if device is None else _users_of(device.device, device.aor, device.number, device.username)


def _users_of(device: str, aor: str, number: str, username: str) -> list[str]:
    """The user parts it is found by."""
    names = names_of(device, aor, number, username)
    return [names[0][0]] if len(names) == 1 else list({user for user, _ in names})


def _ambiguous(devices: Sequence[Device | None]) -> set[str]:
    """Which of the devices have a name by which a caller is none of them."""
    table = DeviceTable()
    there = [device for device in devices if device is not None]
    for device in there:
        table.put(device)
    return {
        device.device
        for device in there
        if any(
            choose_device(table.match_canonical(user, host), None)[1] == AMBIGUOUS_DEVICE
            for user, host in names_of(device.device, device.aor, device.number, device.username)
        )
    }


def _judged(item: PlannedChange[Device], was: set[str], becomes: set[str]) -> PlannedChange[Device]:
    before, after = item.dispatchable_before, item.dispatchable_after
    if before is not None and item.name in was:
        before += _AMBIGUOUS
    if after is not None and item.name in becomes:
        after += _AMBIGUOUS
    return replace(item, dispatchable_before=before, dispatchable_after=after)
