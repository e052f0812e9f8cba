"""ELIN pools as people see them, on the command line and in the console: how many are lent, to whom, until when."""

from typing import Any

from e911.elin import Lease, LeaseKind, Leases, Pool
from router.callback.leasing import address_of_record, instance_of
from router.store.audit import Change


def pool_rows(leases: Leases, now: float) -> list[dict[str, Any]]:
    """Each pool: its place, how many ELINs it has, how many are free, lent, shared, and its state."""
    rows = []
    for pool in leases.pools.all:
        use = leases.use_of((pool,), now)
        shared = sum(len(leases.live(number, now)) > 1 for number in pool.numbers)
        rows.append(
            {
                "pool": pool.name,
                "site": pool.site,
                "zone": pool.zone,
                "total": use.total,
                "free": use.free,
                "leased": use.total - use.free,
                "shared": shared,
                "state": use.state.value,
            }
        )
    return rows


def number_rows(leases: Leases, pool: Pool, now: float) -> list[dict[str, Any]]:
    """Each ELIN of a pool: who has it, who called last first; of a free one when it was in use last."""
    return [
        {
            "number": number,
            "pool": pool.name,
            "last_used": leases.last_used(number, now) or None,
            "leases": [lease_row(lease) for lease in reversed(leases.live(number, now))],
        }
        for number in pool.numbers
    ]


def own_numbers(leases: Leases, now: float) -> list[dict[str, Any]]:
    """Numbers of phones of their own that dialled 911 lately: calls to them go to those very phones."""
    found = [lease for lease in leases.all() if lease.kind is LeaseKind.OWN and lease.is_live(now)]
    return [lease_row(lease) for lease in sorted(found, key=lambda lease: -lease.until)]


def lease_row(lease: Lease) -> dict[str, Any]:
    """One lease: who, since when and until when, of which call, and the way back."""
    way = lease.way_back
    return {
        "number": lease.number,
        "kind": lease.kind.value,
        "pool": lease.pool,
        "who": lease.who,
        "caller": lease.caller,
        "site": lease.site,
        "zone": lease.zone,
        "call": lease.call,
        "node": lease.node,
        "since": lease.since,
        "until": lease.until,
        "is_test": lease.is_test,
        "reason": lease.reason,
        "way_back": {
            "trunk": way.trunk,
            "user": way.user,
            "address_of_record": address_of_record(way.aor),
            "instance": instance_of(way.contact),
            "flow": f"{way.transport} {way.host} {way.port}" if way.host else "",
        },
    }


def release_change(lease: Lease) -> Change:
    """What the audit trail says of a lease that was ended by hand."""
    before = {"caller": lease.who or lease.caller, "call": lease.call, "until": lease.until}
    return Change(action="release", subject=f"elin:{lease.number}", before=before, after={}, site=lease.site)
