"""The ELIN pools in the console and the API: who has which number, and ending a lease."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e911.elin import Lease, LeaseKind, WayBack, lease_data
from router.store.audit import audit_rows
from router.store.leases import all_leases, store_leases
from tests.support.console import CONFIG, ConsoleWorld, console_world

ELIN, FREE, OTHER = "+12125550191", "+12125550192", "+12125550193"


@pytest.fixture
def world(store_url: str, tmp_path: Path) -> Iterator[ConsoleWorld]:
    """A console whose two sites have ELINs; one of each is lent."""
    hq, lab = CONFIG["sites"]
    sites = [{**hq, "elins": [ELIN, FREE]}, {**lab, "elins": [OTHER]}]
    now = time.time()
    way = WayBack(trunk="pbx", user="4102", aor="<sip:4102@pbx.example.com>", transport="udp", host="10.0.0.10")
    with console_world(tmp_path, store_url, sites=sites) as made:
        with made.console.store.writing() as conn:
            for number, site in ((ELIN, "hq"), (OTHER, "lab")):
                lease = Lease(
                    number=number,
                    caller=f"4102 of {site}",
                    who=f"Lobby <{site}>",
                    call=f"call of {site}",
                    kind=LeaseKind.ELIN,
                    pool=site,
                    site=site,
                    since=now,
                    until=now + 3600,
                    way_back=way,
                )
                store_leases(conn, [lease_data(lease)])
        yield made


def test_the_page_says_who_has_which_number_in_both_languages(world: ConsoleWorld) -> None:
    text = world.browser("ann").get("/elins").text
    assert "Lobby &lt;hq&gt;" in text
    assert "1 of 2 free" in text
    assert "0 of 1 free" in text
    assert "4102 · pbx" in text
    assert FREE in text
    french = world.browser("zoe")
    french.http.cookies.set("edge911-language", "fr")
    assert "1 libres sur 2" in french.get("/elins").text


def test_an_engineer_ends_a_lease_and_a_viewer_does_not(world: ConsoleWorld) -> None:
    viewer = world.browser("vic", "viewer")
    assert "/elins/release" not in viewer.get("/elins").text
    engineer = world.browser("eve", "engineer", sites=("hq",))
    page = engineer.get("/elins").text
    assert ELIN in page
    assert OTHER not in page, "another's site"
    assert engineer.submit("/elins", "/elins/release", number=OTHER).status_code == 404
    assert engineer.submit("/elins", "/elins/release", number=ELIN).status_code == 303
    with world.console.store.reading() as conn:
        assert [lease.number for lease in all_leases(conn, now=time.time())] == [OTHER]
        (row,) = [row for row in audit_rows(conn, limit=50) if row.action == "release"]
        assert (row.who, row.subject, row.site, row.before["call"]) == ("eve", f"elin:{ELIN}", "hq", "call of hq")


def test_the_same_for_programs(world: ConsoleWorld) -> None:
    reader, writer = world.program("read", sites=("hq",)), world.program("write")
    found = reader("GET", "/elins").json()
    (pool,) = found["pools"]
    assert (pool["pool"], pool["total"], pool["free"], pool["state"]) == ("hq", 2, 1, "elin-pool-low")
    assert [len(number["leases"]) for number in pool["numbers"]] == [1, 0]
    assert reader("POST", f"/elins/{ELIN}/release").status_code == 403
    ended = writer("POST", "/elins/2125550191/release")
    assert (ended.status_code, ended.json()[0]["who"]) == (200, "Lobby <hq>")
    assert writer("POST", f"/elins/{ELIN}/release").status_code == 404
    assert writer("POST", "/elins/nothing/release").status_code == 404
    assert writer("GET", "/elins").json()["pools"][0]["free"] == 2
