"""`edge911 check` sees in the database that ELINs are too few, or somebody's number."""

from pathlib import Path
from typing import Any

import yaml

from config.load import load_config
from router.callback.elin_doubts import elin_doubts
from router.store.devices import upsert_devices
from router.store.engine import open_store, writing
from tests.support.call_world import CONFIG

ELINS = ["+12125550191", "+12125550192"]


def check(folder: Path, database: str, **site: Any) -> list[str]:
    zones = [{"id": "hq-3", "elins": ["+12125550193"]}, {"id": "hq-4"}]
    config = {**CONFIG, "sites": [{**CONFIG["sites"][0], "elins": ELINS, "zones": zones, **site}]}
    file = folder / "edge911.yaml"
    file.write_text(yaml.safe_dump({**config, "locations": {"database": database}}))
    return [f"{one.path}: {one.message}" for one in elin_doubts(file, load_config(file))]


def test_pools_too_small_and_numbers_of_somebody_are_said_with_their_place(store_url: str, tmp_path: Path) -> None:
    engine = open_store(store_url)
    with writing(engine) as conn:
        upsert_devices(
            conn,
            [
                {"device": "4101", "site": "hq", "zone": "hq-3"},
                {"device": "4102", "site": "hq", "zone": "hq-3"},
                {"device": "4103", "site": "hq", "zone": "hq-4"},
                {"device": "4104", "site": "hq", "callback": "+12125550142"},
                {"device": "alice@pbx.example.com", "site": "hq", "callback": "212-555-0192"},
            ],
        )
    engine.dispose()
    found = check(tmp_path, store_url)
    assert len(found) == 3
    assert found[0].startswith("sites[0].elins: +12125550192 is also the number of device alice@pbx.example.com")
    assert found[1].startswith("sites[0].elins: 2 ELINs, and 3 registered phones")
    assert found[2].startswith("sites[0].zones[0].elins: 1 ELINs, and 2 registered phones")


def test_devices_whose_number_is_everybodys_are_counted(store_url: str, tmp_path: Path) -> None:
    engine = open_store(store_url)
    with writing(engine) as conn:
        upsert_devices(conn, [{"device": f"410{n}", "site": "hq", "callback": "+12125550100"} for n in range(3)])
    engine.dispose()
    (found,) = check(tmp_path, store_url, desk="100")
    assert found.startswith("sites[0].callback: +12125550100 is also the number of 3 registered devices")


def test_without_a_database_nothing_is_said_and_no_file_is_made(tmp_path: Path) -> None:
    assert check(tmp_path, "sqlite:///none.db") == []
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "bad.db").write_bytes(b"no database" * 100)
    assert check(tmp_path, "sqlite:///bad.db") == []
    assert check(tmp_path, "sqlite:///bad.db", elins=[], zones=[]) == []
