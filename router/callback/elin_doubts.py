"""What `edge911 check` says of ELINs and the devices in the database, with the place in the configuration."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from config.files import read_source
from config.findings import Steps
from config.load import LoadedConfig
from config.problem import Problem
from config.schema import Config
from config.substitution import substitute
from config.validate import locate
from e911.elin import Pools
from e911.location import Device
from e911.numbers import dialable
from router.callback.leasing import number_in, pools_of
from router.store.devices import all_devices
from router.store.engine import StoreError, create_store_engine, reading, sqlite_path

LISTED = 20
"""Warnings of one kind that are given."""


def elin_doubts(path: Path, loaded: LoadedConfig) -> list[Problem]:
    """Warnings; none where there are no ELINs, or the database cannot be read. Changes nothing."""
    pools = pools_of(loaded.config)
    if not pools:
        return []
    root = read_source(path).root
    if root is None:
        return []
    tree = substitute(root, path.parent)[0]
    found = []
    for steps, message in [*shortages(loaded.config, pools, _devices(loaded.database_url))]:
        place, known, _ = locate(tree, steps)
        found.append(Problem.at(place, known, message))
    return found


def _devices(url: str) -> list[Device]:
    try:
        file = sqlite_path(url)
        if file is not None and not file.exists():
            return []
        engine = create_store_engine(url, wait=1.0)
        try:
            with reading(engine) as conn:
                return all_devices(conn)
        finally:
            engine.dispose()
    except StoreError:
        return []


def shortages(config: Config, pools: Pools, devices: Iterable[Device]) -> Iterator[tuple[Steps, str]]:
    """Pools with fewer ELINs than registered phones without a number of their own, ELINs that are a device's number,
    and devices whose number is everybody's: setting and message."""
    shared: Counter[str] = Counter()
    without: Counter[tuple[str, str]] = Counter()
    places = dict(_places(config))
    said = 0
    for device in devices:
        own = [dialable(text) for text in (device.callback, device.number, device.device.partition("@")[0]) if text]
        shared.update(pools.of_all.intersection(own))
        for number in filter(None, own):
            pool = pools.by_number.get(number)
            if pool is not None and said < LISTED:
                said += 1
                yield (
                    places[pool.site, pool.zone],
                    f"{number} is also the number of device {device.device}: while it is lent, that person's calls "
                    "go to a phone that dialled 911; use a number of its own",
                )
        if not any(own):
            zone = device.elin_zone or device.zone
            without.update({(device.site, zone), (device.site, "")})
    for number, steps in _numbers_of_all(config).items():
        if shared[number]:
            yield (
                steps,
                f"{number} is also the number of {shared[number]} registered devices: a call back to it does not go "
                "to the phone that dialled 911; give them numbers of their own, or none, so that an ELIN is lent",
            )
    for pool in pools.all:
        phones = without[pool.site, pool.zone]
        if phones > len(pool.numbers):
            yield (
                places[pool.site, pool.zone],
                f"{len(pool.numbers)} ELINs, and {phones} registered phones there have no number of their own: where "
                "more of them dial 911 within the lease, ELINs are shared",
            )


def _numbers_of_all(config: Config) -> dict[str, Steps]:
    """Numbers that are everybody's, and where each stands first."""
    found: dict[str, Steps] = {}
    for position, site in enumerate(config.sites):
        for key, text in (("callback", site.callback), ("desk", site.desk)):
            if text and (number := number_in(text)):
                found.setdefault(number, ("sites", position, key))
    return found


def _places(config: Config) -> Iterator[tuple[tuple[str, str], Steps]]:
    """Site and zone, and where their ELINs stand."""
    for number, site in enumerate(config.sites):
        yield (site.id, ""), ("sites", number, "elins")
        for position, zone in enumerate(site.zones):
            yield (site.id, zone.id), ("sites", number, "zones", position, "elins")
