"""`edge911 ali` on both databases: what goes to the operator, what it answers, and what is sent afterwards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

from e911.ali import FunctionCode, read_file
from router.store.devices import remove_devices, upsert_devices
from router.store.engine import open_store, writing
from tests.support.commands import invoke

ADDRESS = {
    "country": "US",
    "state": "NY",
    "city": "New York",
    "house_number": "350",
    "street": "5th",
    "street_suffix": "Ave",
    "postal_code": "10118-0001",
}
ZONE = {"id": "3e", "floor": "3", "room": "East wing", "elins": ["+12125550192"]}
SITE = {
    "id": "hq",
    "name": "Head office",
    "address": ADDRESS,
    "callback": "+12125550100",
    "elins": ["+12125550191"],
    "zones": [ZONE],
    "latitude": 40.7484,
    "longitude": -73.9857,
}
ALI = {"company": "Example Corp", "company_id": "EXMPL", "class_of_service": {"softphone": "V"}}
DESK = {"device": "4102", "name": "Desk", "callback": "+12125550142", "site": "hq", "floor": "3", "room": "312"}


@dataclass
class Office:
    """A configuration and its database, used by the command."""

    folder: Path
    database: str

    def configure(self, **sections: Any) -> None:
        base = {
            "listen": ["udp://127.0.0.1:5060"],
            "networks": {"inside": ["127.0.0.0/8"]},
            "locations": {"database": self.database},
            "sites": [SITE],
            "ali": ALI,
        }
        (self.folder / "edge911.yaml").write_text(yaml.safe_dump({**base, **sections}))

    def run(self, *arguments: str) -> Result:
        return invoke(["ali", *arguments, "-c", str(self.folder / "edge911.yaml")])

    def export(self, *options: str) -> tuple[dict[str, tuple[FunctionCode, str]], int]:
        """Number → function and location, and the cycle counter; nothing where there is nothing to send."""
        out = self.folder / "out.ali"
        out.unlink(missing_ok=True)
        done = self.run("export", "--out", str(out), *options)
        assert done.exit_code == 0, done.output
        if not out.exists():
            assert "nothing changed" in done.output
            return {}, 0
        found = read_file(out.read_bytes().decode("ascii"))
        return {e.record.number: (e.function, e.record.location) for e in found.entries}, found.header.cycle

    def accept(self, *options: str) -> str:
        done = self.run("accept", *options)
        assert done.exit_code == 0, done.output
        return done.output

    def status(self) -> dict[str, Any]:
        done = self.run("status", "--json")
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def states(self) -> dict[str, tuple[str, str]]:
        return {one["number"]: (one["state"], one["words"]) for one in self.status()["records"]}

    def put(self, *devices: Mapping[str, str]) -> None:
        engine = open_store(self.database)
        with writing(engine) as conn:
            upsert_devices(conn, [dict(one) for one in devices])
        engine.dispose()

    def remove(self, *names: str) -> None:
        engine = open_store(self.database)
        with writing(engine) as conn:
            remove_devices(conn, names)
        engine.dispose()


@pytest.fixture
def office(tmp_path: Path, store_url: str) -> Office:
    found = Office(tmp_path, store_url)
    found.configure()
    found.put(DESK)
    return found


FIRST = {
    "2125550100": (FunctionCode.INSERT, ""),
    "2125550142": (FunctionCode.INSERT, "FLR 3 RM 312"),
    "2125550191": (FunctionCode.INSERT, ""),
    "2125550192": (FunctionCode.INSERT, "FLR 3 RM EAST WING"),
}


def test_from_the_first_file_to_the_third(office: Office) -> None:
    assert office.export() == (FIRST, 1)
    assert set(office.states().values()) == {("pending", "")}
    office.put({**DESK, "room": "313"})
    again, cycle = office.export()
    assert cycle == 1, "not answered yet: the same counter, all that changed since the last accepted file"
    assert again == {**FIRST, "2125550142": (FunctionCode.INSERT, "FLR 3 RM 313")}
    assert "4 records are as they should be, 0 refused" in office.accept()
    assert set(office.states().values()) == {("active", "")}
    assert office.export() == ({}, 0)
    office.put(
        {**DESK, "room": "314"}, {"device": "4103", "callback": "+12125550143", "site": "hq", "kind": "softphone"}
    )
    second, cycle = office.export()
    assert (cycle, second["2125550142"]) == (2, (FunctionCode.CHANGE, "FLR 3 RM 314"))
    assert second["2125550143"] == (FunctionCode.INSERT, "")
    office.remove("4103")
    second, cycle = office.export()
    assert second.keys() == {"2125550142"}, "inserted and deleted is nothing"
    office.accept("2")
    office.remove("4102")
    third, cycle = office.export()
    assert (third, cycle) == ({"2125550142": (FunctionCode.DELETE, "FLR 3 RM 314")}, 3)
    office.accept()
    assert "2125550142" not in office.states()
    assert (office.status()["cycle_accepted"], office.export()) == (3, ({}, 0))


def test_what_the_operator_refuses_is_kept_with_its_words(office: Office) -> None:
    office.export()
    office.accept("--refused", "2125550142=709 STREET NOT IN MSAG")
    assert office.states()["2125550142"] == ("refused", "709 STREET NOT IN MSAG")
    assert office.export() == ({}, 0), "the same again would be refused again"
    assert office.export("--again")[0] == {"2125550142": FIRST["2125550142"]}
    answer = office.folder / "answer.txt"
    answer.write_text("+1 (212) 555-0142 709 still not\n\n".replace("+1 (212) 555-0142", "212-555-0142"))
    office.accept("--answer", str(answer))
    assert office.states()["2125550142"] == ("refused", "709 still not")
    office.put({**DESK, "room": "400"})
    found, cycle = office.export()
    assert (found, cycle) == ({"2125550142": (FunctionCode.INSERT, "FLR 3 RM 400")}, 3)


def test_what_was_refused_and_is_wanted_no_more_is_as_the_operator_has_it(office: Office) -> None:
    office.export()
    office.accept("--refused", "2125550191=NOT YOURS")
    office.put({**DESK, "room": "400"}, {**DESK, "device": "4103", "callback": "+12125550143"})
    office.export()
    office.accept("--refused", "2125550142=BAD ROOM", "--refused", "2125550143=BAD NUMBER")
    office.put(DESK)
    office.remove("4103")
    assert office.export() == ({}, 0)
    assert office.states() == {
        "2125550100": ("active", ""),
        "2125550142": ("active", ""),
        "2125550191": ("refused", "NOT YOURS"),
        "2125550192": ("active", ""),
    }


@pytest.mark.parametrize(
    "device",
    [
        {"device": "+12125550160"},
        {"device": "sip:+1-212-555-0160@pbx.example.com"},
        {"device": "desk-7", "number": "2125550160"},
        {"device": "desk-7", "aor": "sip:12125550160@pbx.example.com"},
    ],
)
def test_a_phone_that_shows_its_own_number_has_a_record_without_a_callback_of_its_own(
    office: Office, device: dict[str, str]
) -> None:
    """It is what the PSAP sees of it, and asks the operator for."""
    office.put({**DESK, "callback": "", "room": "7", **device})
    assert office.export()[0]["2125550160"] == (FunctionCode.INSERT, "FLR 3 RM 7")


def test_a_company_whose_name_is_french(office: Office) -> None:
    office.configure(ali={**ALI, "company": "Société d'œuvres", "general_use": "Montréal"})
    assert office.export()[0] == FIRST
    header = read_file((office.folder / "out.ali").read_bytes().decode("ascii")).header
    assert (header.company, header.general_use) == ("SOCIETE D'OEUVRES", "MONTREAL")


def test_a_state_stands_in_the_header_where_the_operator_wants_it(office: Office) -> None:
    office.export()
    line = (office.folder / "out.ali").read_bytes().decode("ascii").split("\r\n")[0]
    assert line[67:73] == " " * 6
    office.configure(ali={**ALI, "county_id": "061", "state": "NY"})
    office.export()
    line = (office.folder / "out.ali").read_bytes().decode("ascii").split("\r\n")[0]
    assert (line[67:71], line[71:73], len(line)) == ("061 ", "NY", 512)


def test_a_word_that_says_what_it_is_stands_once(office: Office) -> None:
    office.put({**DESK, "building": "Bldg. A", "floor": "Étage 3", "room": "Room 312", "unit": "4B"})
    assert office.export()[0]["2125550142"] == (FunctionCode.INSERT, "BLDG. A ETAGE 3 UNIT 4B ROOM 312")


def test_numbers_that_are_ported(office: Office) -> None:
    assert office.run("ported", "+12125550142", "in").exit_code == 0
    assert office.export()[0]["2125550142"][0] is FunctionCode.MIGRATE
    office.accept()
    assert office.run("ported", "2125550142", "out").exit_code == 0
    assert office.export()[0] == {"2125550142": (FunctionCode.UNLOCK, "FLR 3 RM 312")}
    office.accept()
    assert office.export() == ({}, 0), "a device still shows the number, and it is not ours any more"
    assert office.run("ported", "2125550142", "neither").exit_code == 0
    assert office.export()[0]["2125550142"][0] is FunctionCode.INSERT


def test_an_address_that_does_not_fit_stays_with_the_operator_as_it_is(office: Office) -> None:
    office.export()
    office.accept()
    office.put({**DESK, "additional": "x" * 61})
    done = office.run("export")
    assert done.exit_code == 0
    assert "left out: 2125550142: location is" in done.output
    assert "device 4102" in done.output
    assert office.states()["2125550142"] == ("active", "")


def test_what_stands_in_a_record(office: Office) -> None:
    office.put({**DESK, "name": "Réception", "callback": "+12125550142"})
    office.export()
    (record,) = [
        entry.record
        for entry in read_file((office.folder / "out.ali").read_text()).entries
        if entry.record.number == "2125550192"
    ]
    assert (record.house_number, record.street_name, record.street_suffix) == ("350", "5TH", "AVE")
    assert (record.community, record.state, record.postal_code, record.postal_code_extension) == (
        "NEW YORK",
        "NY",
        "10118",
        "0001",
    )
    assert (record.class_of_service, record.type_of_service, record.company_id) == ("4", "8", "EXMPL")
    assert (record.x_coordinate, record.y_coordinate) == ("-73.98570", "40.748400")
    assert record.customer_name == "HEAD OFFICE"
    assert record.main_number == "2125550192"


def test_a_street_of_ones_own_brings_its_house_number_and_suffix(office: Office) -> None:
    """As in the call: 35 Broadway, not 35 Broadway AVE; and no house number where it gives none."""
    desk = {key: value for key, value in DESK.items() if key != "room"}
    office.put(
        {**desk, "device": "4104", "callback": "+12125550144", "street": "Broadway", "house_number": "35"},
        {**desk, "device": "4105", "callback": "+12125550145", "street": "Broadway"},
    )
    office.export()
    records = {
        entry.record.number: entry.record for entry in read_file((office.folder / "out.ali").read_text()).entries
    }
    own, bare = records["2125550144"], records["2125550145"]
    assert (own.house_number, own.street_name, own.street_suffix) == ("35", "BROADWAY", "")
    assert (bare.house_number, bare.street_name, bare.street_suffix) == ("", "BROADWAY", "")
    assert (own.community, own.state, own.location) == ("NEW YORK", "NY", "FLR 3")


def test_suffix_and_directionals_stand_in_the_form_of_the_post(office: Office) -> None:
    """Their fields hold no more; what the post has no form for is refused as before."""
    address = {**ADDRESS, "pre_directional": "West", "street": "57th", "street_suffix": "Street"}
    office.put(
        {"device": "4106", "name": "Annex", "callback": "+12125550146", **address, "post_directional": "North"}
    )
    office.export()
    records = {
        entry.record.number: entry.record for entry in read_file((office.folder / "out.ali").read_text()).entries
    }
    annex = records["2125550146"]
    assert (annex.prefix_directional, annex.street_suffix, annex.post_directional) == ("W", "ST", "N")


def test_a_number_of_several_devices_is_at_their_site(office: Office) -> None:
    office.put({**DESK, "device": "4103", "room": "999"})
    assert office.export()[0]["2125550142"] == (FunctionCode.INSERT, "")


def test_numbers_that_sites_claim_have_records_where_they_are_asked_for(office: Office) -> None:
    """A PBX shows the PSAP a number of its block for a phone that nobody registered."""
    other = {"id": "annex", "address": {**ADDRESS, "house_number": "9"}, "numbers": ["212555014X", "3XX"]}
    sites = [
        {**SITE, "numbers": ["4XXX", "+12125550145"]},
        other,
        {**other, "id": "far", "numbers": ["+1212XXXXXXX"]},
    ]
    office.configure(sites=sites)
    assert office.export()[0] == FIRST
    office.configure(sites=sites, ali={**ALI, "site_numbers": True})
    done = office.run("export", "--out", str(office.folder / "out.ali"))
    records = {one.record.number: one.record for one in read_file((office.folder / "out.ali").read_text()).entries}
    assert records.keys() == FIRST.keys() | {f"212555014{digit}" for digit in range(10)}
    assert {number for number, one in records.items() if one.house_number == "350"} == {*FIRST, "2125550145"}
    assert records["2125550142"].location == "FLR 3 RM 312"
    assert "left out: +1212XXXXXXX is more than 10000 numbers" in done.output


def test_another_counter_stays_until_the_file_is_accepted(office: Office) -> None:
    assert office.export("--cycle", "7")[1] == 7
    assert office.export()[1] == 7
    office.accept()
    office.put({**DESK, "room": "9"})
    assert office.export()[1] == 8


def test_read_shows_a_file(office: Office) -> None:
    office.export()
    done = invoke(["ali", "read", str(office.folder / "out.ali")])
    assert done.exit_code == 0
    assert "EXAMPLE CORP, cycle 1" in done.output
    assert "350 5TH AVE, FLR 3 RM 312, NEW YORK, NY" in done.output
    shown = invoke(["ali", "read", str(office.folder / "out.ali"), "--json"])
    assert len(json.loads(shown.stdout)["records"]) == 4
    bad = office.folder / "bad.ali"
    bad.write_text("UHL")
    refused = invoke(["ali", "read", str(bad)])
    assert refused.exit_code == 1
    assert "no ALI file" in refused.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("accept",), "no file waits"),
        (("ported", "911", "in"), "not a number of North America"),
        (("export", "--cycle", "0"), "cycle counter"),
        (("export", "--out", "/nonexistent/x"), "nothing is pending"),
    ],
)
def test_mistakes_change_nothing(office: Office, arguments: tuple[str, ...], words: str) -> None:
    done = office.run(*arguments)
    assert done.exit_code == 1
    assert words in done.output
    assert office.states() == {}


def test_an_answer_about_what_was_not_sent(office: Office) -> None:
    office.export()
    for arguments in (("accept", "7"), ("accept", "--refused", "2125550999=no")):
        assert office.run(*arguments).exit_code == 1
    assert set(office.states().values()) == {("pending", "")}


def test_without_the_section(office: Office) -> None:
    office.configure(ali=None)
    done = office.run("status")
    assert done.exit_code == 1
    assert "add ali: {company:" in done.output
