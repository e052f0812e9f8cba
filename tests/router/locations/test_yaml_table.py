"""Long tables as YAML: longer than any configuration, and no file of a few lines becomes a large one."""

import pytest

from config import document
from e911.location import CivicAddress, Device
from router.locations.locations_yaml import read_yaml_rows, written_yaml
from router.process.csv_table import CsvError

PLACES = {"hq": frozenset({"hq-1"})}


def test_a_table_longer_than_a_configuration_may_be_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [
        Device(device=f"4{number:03d}", site="hq", civic=CivicAddress(floor="3", room=str(number)))
        for number in range(500)
    ]
    data = "".join(written_yaml(devices)).encode()
    monkeypatch.setattr(document, "MAX_BYTES", len(data) // 2)
    monkeypatch.setattr(document, "MAX_VALUES", 1000)
    assert [row.device for row in read_yaml_rows(data, PLACES)] == [device.device for device in devices]


def test_the_list_is_found_wherever_it_stands_and_nothing_beside_it_is_taken() -> None:
    rows = read_yaml_rows(b"devices: [{device: 4001, site: hq}, {device: 4002}]\n", PLACES)
    assert [row.device for row in rows] == ["4001", "4002"]
    for data, told in (
        (b"other: [{device: 4001}]\ndevices: [{device: 4002}]\n", "1:1: other: unknown key"),
        (b"devices: [{device: 4001}]\ndevices: [{device: 4002}]\n", "duplicate key"),
        (b"- {device: 4001}\n", "no list `devices`"),
        (b"devices: [{device: 4001}", "is not closed"),
        (b"devices: {device: 4001}\n", "no list `devices`"),
    ):
        with pytest.raises(CsvError) as caught:
            read_yaml_rows(data, PLACES)
        assert told in str(caught.value)


def test_a_few_lines_of_aliases_do_not_become_a_large_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_TABLE_VALUES", 10_000)
    wide = ", ".join(f"k{number}: 1" for number in range(100))
    bomb = f"devices:\n  - &a {{{wide}}}\n" + "  - *a\n" * 1000
    with pytest.raises(CsvError) as caught:
        read_yaml_rows(bomb.encode(), PLACES)
    assert len(caught.value.problems) <= document.MAX_PROBLEMS + 100
    empty = "devices:\n  - &a {device: x, name: [" + "[], " * 100 + "]}\n" + "  - *a\n" * 1000
    with pytest.raises(CsvError) as caught:
        read_yaml_rows(empty.encode(), PLACES)
    assert len(caught.value.problems) <= document.MAX_PROBLEMS + 2
