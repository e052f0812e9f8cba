"""How long it takes to find where a caller is, with 100,000 devices and 20,000 rows of the wiremap in memory.

`python -m simulations.bench.locating`: for each kind of caller the p50, p99 and worst of one decision, microseconds
of processor time (the collector rests, as in the call process), and the time and memory to make the tables. No
network, no database.
"""

import argparse
import gc
import random
import time
import tracemalloc
from ipaddress import ip_network

from e911.attachment import Attachment
from e911.devices import DeviceTable
from e911.locate import CallerIdentity, HeldAnswer, LocationQuery, Places, locate
from e911.location import CivicAddress, Device, DispatchableLocation, LocationSource, Site, Zone
from e911.wiremap import WiremapEntry, WiremapTable

SITES = 200
FLOORS = 10
ORDER = (
    LocationSource.CONVEYED,
    LocationSource.HELD,
    LocationSource.NETWORK,
    LocationSource.REGISTERED,
    LocationSource.SITE,
)


def sites() -> list[Site]:
    """Sites with a subnet for each floor."""
    return [
        Site(
            id=f"s{number}",
            name=f"Site {number}",
            address=CivicAddress(country="US", state="NY", city="Albany", house_number=str(number), street="Lake"),
            networks=(ip_network(f"10.{number}.0.0/16"),),
            zones=tuple(
                Zone(
                    id=f"s{number}-{floor}",
                    networks=(ip_network(f"10.{number}.{floor}.0/24"),),
                    finer=CivicAddress(floor=str(floor)),
                )
                for floor in range(FLOORS)
            ),
        )
        for number in range(SITES)
    ]


def devices(count: int) -> DeviceTable:
    """Desk phones, each with a room."""
    table = DeviceTable()
    for number in range(count):
        site, floor = number % SITES, number // SITES % FLOORS
        table.put(
            Device(
                device=f"+1212{5550000 + number:07d}",
                site=f"s{site}",
                zone=f"s{site}-{floor}",
                civic=CivicAddress(room=str(number % 40)),
            )
        )
    return table


def wiremap(count: int) -> WiremapTable:
    """Half access points, half switch ports."""
    rows = []
    for number in range(count // 2):
        site, floor = number % SITES, number // SITES % FLOORS
        site_id, zone = f"s{site}", f"s{site}-{floor}"
        rows.append(WiremapEntry(bssid=f"00{number:09x}0", site=site_id, zone=zone))
        room = CivicAddress(room=str(number % 40))
        chassis, port = f"sw{number // 48}", f"gi1/0/{number % 48}"
        rows.append(WiremapEntry(chassis=chassis, port=port, civic=room, site=site_id, zone=zone))
    return WiremapTable(rows, ignored_bits=4)


def query(kind: str, number: int, rows: int) -> LocationQuery:
    """One caller."""
    site, floor = number % SITES, number // SITES % FLOORS
    row = number % (rows // 2)
    found = LocationQuery(
        identity=CallerIdentity(user=f"+1212{5550000 + number:07d}", host="pbx.example.com"),
        source_address=f"10.{site}.{floor}.{number % 250 + 1}",
    )
    if kind == "access point":
        found.attachment = Attachment(bssid=f"00{row:09x}{number % 16:x}")
    elif kind == "switch port":
        found.attachment = Attachment(chassis=f"sw{row // 48}", port=f"gi1/0/{row % 48}")
    elif kind == "behind a PBX":
        found.behind_trunk, found.phone_address = True, found.source_address
    elif kind == "location server":
        civic = CivicAddress(country="US", state="NY", city="Albany", house_number=str(site), street="Lake")
        place = DispatchableLocation(civic=civic, point=None, source=LocationSource.HELD, method="LLDP-MED")
        found.held = HeldAnswer(location=place, reason="held-answered")
    elif kind == "nobody known":
        found.identity.user, found.source_address = f"+1313{number:07d}", "192.0.2.9"
    return found


KINDS = ("subnet and device", "access point", "switch port", "behind a PBX", "location server", "nobody known")


PASSES = 5
"""Each caller is located so often, far apart, and the quickest counts: the others show the machine's other work."""


def measure(kind: str, table: DeviceTable, rows: WiremapTable, places: Places, runs: int) -> list[float]:
    """Microseconds of each decision, callers in random order."""
    generated = random.Random(911)
    count = len(table)
    queries = [query(kind, generated.randrange(count), len(rows)) for _ in range(runs)]
    times = [1e9] * runs
    for _ in range(PASSES):
        for number, one in enumerate(queries):
            began = time.thread_time()
            locate(one, table, places, ORDER, rows)
            times[number] = min(times[number], (time.thread_time() - began) * 1e6)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m simulations.bench.locating", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the wiremap")
    parser.add_argument("--runs", type=int, default=20_000)
    options = parser.parse_args()
    tracemalloc.start()
    places = Places(sites=sites(), default_site="s0", all_contacts=(), trunk_addresses=())
    table = devices(options.devices)
    before, began = tracemalloc.get_traced_memory()[0], time.perf_counter()
    rows = wiremap(options.rows)
    seconds, memory = time.perf_counter() - began, tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    gc.collect()
    gc.freeze()
    gc.disable()
    print(f"{len(table):,} devices; {len(rows):,} rows of the wiremap: {seconds:.2f} s, {memory / 2**20:.1f} MiB")
    print(f"{'µs for one decision':<22}{'p50':>8}{'p99':>8}{'worst':>9}")
    for kind in KINDS:
        times = sorted(measure(kind, table, rows, places, options.runs))
        print(f"{kind:<22}{times[len(times) // 2]:>8.1f}{times[len(times) * 99 // 100]:>8.1f}{times[-1]:>9.1f}")


if __name__ == "__main__":
    main()
