"""What phones say of their access point and switch port, in every spelling, meets what stands in the wiremap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.attachment import (
    Attachment,
    mac_text,
    normal_bssid,
    normal_chassis,
    normal_mac,
    normal_port,
    read_attachment,
    read_switch_port,
)
from e911.location import CivicAddress
from e911.wiremap import WiremapEntry, WiremapTable, entry_key, read_identifiers

MAC = "001b2c3d4e5f"
SPELLINGS = [
    "00:1B:2C:3D:4E:5F",
    "00-1b-2c-3d-4e-5f",
    "001b.2c3d.4e5f",
    "001B2C3D4E5F",
    "001b2c-3d4e5f",
    "0:1b:2c:3d:4e:5f",
    '"00:1b:2c:3d:4e:5f"',
    " 00 1b 2c 3d 4e 5f ",
]


@pytest.mark.parametrize("written", SPELLINGS)
def test_a_mac_address_in_any_spelling(written: str) -> None:
    assert normal_mac(written) == normal_bssid(written) == normal_chassis(written) == MAC


@pytest.mark.parametrize(
    "written",
    ["", "00:1b:2c:3d:4e", "00:1b:2c:3d:4e:5g", "00:1b:2c:3d:4e:5f:60", "ff:ff:ff:ff:ff:ff", "000000000000",
     "02:00:00:00:00:00", "01:00:5e:00:00:01", "00:1b-2c:3d-4e:5fx", "x" * 5000],
)  # fmt: skip
def test_what_is_no_access_point(written: str) -> None:
    assert normal_bssid(written) == ""


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("GigabitEthernet1/0/14", "gi1/0/14"),
        ("Gi1/0/14", "gi1/0/14"),
        ("Gig 1/0/14", "gi1/0/14"),
        ("ifname Gi1/0/14", "gi1/0/14"),
        ("TenGigE0/0/0/1", "te0/0/0/1"),
        ("TwentyFiveGigE1/0/1", "twe1/0/1"),
        ("Ethernet1/1", "eth1/1"),
        ("Eth1/1", "eth1/1"),
        ("ge-0/0/1.0", "ge-0/0/1"),
        ("ge-0/0/1", "ge-0/0/1"),
        ("et-0/0/1", "et-0/0/1"),
        ("xe-0/0/1:2.0", "xe-0/0/1:2"),
        ("swp14", "swp14"),
        ("14", "14"),
        ("A14", "a14"),
        ("00:1b:2c:3d:4e:5f", MAC),
        ("", ""),
    ],
)
def test_a_port_long_or_short(written: str, normal: str) -> None:
    assert normal_port(written) == normal


@pytest.mark.parametrize(
    ("written", "chassis", "port"),
    [
        ("chassis=00:1b:54:aa:bb:cc;port=Gi1/0/14", "001b54aabbcc", "gi1/0/14"),
        ('chassis-id="sw 3"; port-id="Gi 1/0/14"', "sw_3", "gi1/0/14"),
        ("switch=10.0.0.1,interface=7", "10.0.0.1", "7"),
        ("00-1b-54-aa-bb-cc;Gi1/0/14", "001b54aabbcc", "gi1/0/14"),
        ("001b.54aa.bbcc Gi1/0/14", "001b54aabbcc", "gi1/0/14"),
        ("SW-3-East.example.com|Gi1/0/14", "sw-3-east.example.com", "gi1/0/14"),
        ("mac 00:1b:54:aa:bb:cc", "001b54aabbcc", ""),
        ("2001:DB8::1, 7", "2001:db8::1", "7"),
        ("a b c", "", ""),
        ("port=7", "", ""),
        (";;;", "", ""),
        ("x" * 5000, "", ""),
    ],
)
def test_switch_and_port(written: str, chassis: str, port: str) -> None:
    assert read_switch_port(written) == (chassis, port)


def test_a_cable_counts_before_the_air() -> None:
    both = read_attachment(["IEEE-802.11;i-wlan-node-id=001b2c3d4e5f"], [], ["001b54aabbcc;7"])
    assert both == Attachment(chassis="001b54aabbcc", port="7")


def test_a_field_that_cannot_be_read_hides_no_other() -> None:
    assert read_attachment(["IEEE-802.11;i-wlan-node-id=ffffffffffff"], ["rubbish", MAC], ["?"]) == Attachment(
        bssid=MAC
    )


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_nothing_that_a_phone_sends_breaks_it(access: list[str], bssids: list[str], ports: list[str]) -> None:
    found = read_attachment(access, bssids, ports)
    if found is not None:
        assert bool(found.bssid) + bool(found.chassis) + bool(found.reason) == 1
        assert WiremapTable().find(found)[0] is None
        assert len(found.text) < 600


@given(st.binary(min_size=6, max_size=6), st.sampled_from([":", "-", ""]), st.booleans())
def test_every_spelling_of_an_address_is_one_address(octets: bytes, separator: str, upper: bool) -> None:
    text = separator.join(f"{octet:02x}" for octet in octets)
    assert normal_mac(text.upper() if upper else text) == octets.hex()
    assert normal_mac(mac_text(octets.hex())) == octets.hex()


@given(st.text(min_size=1, max_size=40))
def test_what_is_normal_stays_so(written: str) -> None:
    for normal in (normal_chassis, normal_port):
        once = normal(written)
        assert normal(once) == once


# The table


def entry(**given: str) -> WiremapEntry:
    room = given.pop("room", "")
    return WiremapEntry(site="hq", civic=CivicAddress(room=room), **given)  # type: ignore[arg-type]  # texts only


def test_a_switch_answers_for_ports_without_a_row() -> None:
    table = WiremapTable([entry(chassis="sw", port="1", room="a"), entry(chassis="sw", room="closet")])
    assert [table.find(Attachment(chassis="sw", port=port))[1] for port in ("1", "2", "")] == [
        "wiremap-port", "wiremap-switch", "wiremap-switch",
    ]  # fmt: skip
    assert table.find(Attachment(chassis="other", port="1")) == (None, "unknown-switch-port")


def test_several_addresses_of_one_access_point() -> None:
    rows = [entry(bssid="001b2c3d4e50", room="4"), entry(bssid="001b2c3d4e60", room="5")]
    assert WiremapTable(rows).find(Attachment(bssid="001b2c3d4e53"))[1] == "unknown-bssid"
    table = WiremapTable(rows, ignored_bits=4)
    assert table.find(Attachment(bssid="001b2c3d4e53"))[0] == rows[0]
    assert table.find(Attachment(bssid="001b2c3d4e6f"))[0] == rows[1]
    assert table.find(Attachment(bssid="001b2c3d4e70"))[1] == "unknown-bssid"
    table.put(entry(bssid="001b2c3d4e5f", room="6"))
    assert table.find(Attachment(bssid="001b2c3d4e53")) == (None, "ambiguous-bssid")
    assert table.find(Attachment(bssid="001b2c3d4e5f"))[1] == "wiremap-bssid", "the very address counts"
    assert table.remove("bssid 001b2c3d4e5f")
    assert table.find(Attachment(bssid="001b2c3d4e53"))[0] == rows[0]
    assert not table.remove("bssid 001b2c3d4e5f")


@given(
    st.lists(st.tuples(st.sampled_from(["put", "remove"]), st.integers(0, 40), st.sampled_from("ab")), max_size=40),
    st.integers(0, 8),
)
def test_changed_in_place_it_is_as_made_anew(steps: list[tuple[str, int, str]], ignored_bits: int) -> None:
    table, plain = WiremapTable(ignored_bits=ignored_bits), {}
    for step, number, room in steps:
        row = entry(bssid=f"{number:012x}", room=room)
        if step == "put":
            table.put(row)
            plain[row.key] = row
        else:
            assert table.remove(row.key) is (plain.pop(row.key, None) is not None)
    anew = WiremapTable(plain.values(), ignored_bits)
    assert len(table) == len(plain)
    for number in range(64):
        at = Attachment(bssid=f"{number:012x}")
        assert table.find(at) == anew.find(at) == table.with_ignored_bits(0).with_ignored_bits(ignored_bits).find(at)


@pytest.mark.parametrize(
    ("written", "identifiers"),
    [
        ("00:1B:2C:3D:4E:5F", (MAC, "", "")),
        ("00:1b:54:aa:bb:cc,Gi1/0/14", ("", "001b54aabbcc", "gi1/0/14")),
        ("sw-3,", ("", "sw-3", "")),
    ],
)
def test_what_people_name(written: str, identifiers: tuple[str, str, str]) -> None:
    assert read_identifiers(written) == identifiers
    assert entry_key(*identifiers).split()[0] in ("bssid", "switch")


@pytest.mark.parametrize("written", ["", ",", ",7", "sw-3", "ff:ff:ff:ff:ff:ff"])
def test_what_names_nothing(written: str) -> None:
    with pytest.raises(ValueError, match="write a BSSID"):
        read_identifiers(written)
