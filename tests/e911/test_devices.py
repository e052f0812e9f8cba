"""The table of registered devices: keys, matching, and no stale entry after a change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e911.devices import DeviceTable, canonical_host, device_key
from e911.location import Device
from e911.numbers import canonical_user


def table(*names: str) -> DeviceTable:
    devices = DeviceTable()
    for name in names:
        devices.put(Device(device=name))
    return devices


def matched(devices: DeviceTable, user: str, host: str) -> list[str]:
    return [device.device for device in devices.match(user, host).devices]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("4102", "4102"),
        (" sip:4102 ", "4102"),
        ("tel:+1-212-555-0123", "+12125550123"),
        ("2125550123", "+12125550123"),
        ("Alice@PBX.Example", "alice@pbx.example"),
        ("SIPS:alice@PBX.example;transport=tls", "alice@pbx.example"),
        ("<sip:4102@10.0.0.5:5070>", "4102@10.0.0.5:5070"),
        ("00:11:22:AA:BB:CC", "00:11:22:aa:bb:cc"),
        ("sip:4102;x=y@h", "4102@h"),
    ],
)
def test_device_key(written: str, key: str) -> None:
    assert device_key(written) == key
    assert device_key(key) == key


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("PBX.Example", "pbx.example"),
        ("pbx.example:5060", "pbx.example"),
        ("pbx.example.", "pbx.example"),
        ("[2001:DB8::1]:5060", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("pbx.example;transport=udp", "pbx.example"),
    ],
)
def test_canonical_host(host: str, canonical: str) -> None:
    assert canonical_host(host) == canonical


def test_address_of_record_comes_before_user_part() -> None:
    devices = table("4102", "4102@a.example", "4102@b.example")
    assert matched(devices, "4102", "B.example:5060") == ["4102@b.example"]
    assert devices.match("4102", "b.example").exact
    assert matched(devices, "4102", "192.0.2.7") == ["4102", "4102@a.example", "4102@b.example"]
    assert not devices.match("4102", "192.0.2.7").exact
    assert matched(devices, "4103", "b.example") == []
    assert matched(devices, "", "") == []


def test_who_calls_from_the_domain_of_others_is_nobody_of_another_domain() -> None:
    devices = table(
        "alice@a.example", "bob@b.example", "carol@sip.c.example", "dave@c.example", "4102", "erin@10.0.0.5"
    )
    devices.put(Device(device="4103@a.example", number="+12125550103", username="frank"))
    assert matched(devices, "alice", "b.example") == []
    assert devices.match("alice", "B.example:5070").is_of_another_domain
    assert matched(devices, "4103", "b.example") == matched(devices, "frank", "b.example") == []
    assert not devices.match("nobody", "b.example").is_of_another_domain, "nobody has that user part"
    assert matched(devices, "alice", "192.0.2.7") == ["alice@a.example"], "an address says nothing of who calls"
    assert matched(devices, "alice", "pbx.example") == ["alice@a.example"], "nor does a name that no device has"
    assert matched(devices, "alice", "") == ["alice@a.example"]
    for host, found in (
        ("other.example:5070", []),
        ("sip.a.example", ["alice@a.example"]),
        ("192.0.2.7", ["alice@a.example"]),
    ):
        assert [one.device for one in devices.match("alice", host, is_own_domain=True).devices] == found, host
    assert [one.device for one in devices.match("4102", "other.example", is_own_domain=True).devices] == ["4102"]
    assert devices.match("2125550103", "other.example", is_own_domain=True).devices, "a number is one everywhere"
    assert matched(devices, "carol", "c.example") == ["carol@sip.c.example"], "a domain within the other"
    assert matched(devices, "dave", "sip.c.example") == ["dave@c.example"]
    assert matched(devices, "4102", "b.example") == ["4102"], "registered by the user part alone"
    assert matched(devices, "erin", "b.example") == ["erin@10.0.0.5"], "of no domain"
    assert matched(devices, "2125550103", "b.example") == ["4103@a.example"], "a number is one everywhere"
    devices.put(Device(device="alice", aor="alice@b.example"))
    assert matched(devices, "alice", "b.example") == ["alice"]
    assert devices.remove("alice")
    assert devices.remove("bob@b.example")
    assert matched(devices, "alice", "b.example") == ["alice@a.example"], "the domain of nobody any more"


def test_every_spelling_of_a_number_finds_the_device() -> None:
    devices = table("tel:+12125550123")
    for user in ("2125550123", "+1-212-555-0123", "1(212)5550123", "%2B12125550123;ext=1"):
        assert matched(devices, user, "pbx.example") == ["tel:+12125550123"]


def test_replacing_leaves_nothing_of_the_old() -> None:
    devices = table("alice@pbx.example", "alice@home.example")
    devices.put(Device(device="sip:ALICE@PBX.example", name="new"))
    assert len(devices) == 2
    assert {device.name for device in devices.match("alice", "x").devices} == {"", "new"}
    assert [device.name for device in devices.match("alice", "pbx.example").devices] == ["new"]
    assert devices.remove("<sip:alice@pbx.example>")
    assert not devices.remove("alice@pbx.example")
    assert matched(devices, "alice", "pbx.example") == ["alice@home.example"]
    assert devices.get("alice@pbx.example") is None


def test_a_device_is_found_by_each_of_its_names_and_by_none_that_it_had() -> None:
    devices = DeviceTable()
    whole = Device(
        device="4102",
        aor="sip:nora@pbx.example",
        number="2125550123",
        username="NQ",
        mac="00:0B:82:1A:2B:3C",
    )
    devices.put(whole)
    devices.put(Device(device="4103", username="nq"))
    for user in ("4102", "+12125550123", "nora"):
        assert matched(devices, user, "192.0.2.7") == ["4102"]
    assert devices.match("nora", "PBX.example:5070").exact
    assert matched(devices, "nq", "") == ["4102", "4103"]
    assert [device.device for device in devices.with_hardware("000b821a2b3c")] == ["4102"]
    devices.put(Device(device="4102", number="+12125550199"))
    assert matched(devices, "nora", "pbx.example") == matched(devices, "2125550123", "") == []
    assert matched(devices, "nq", "") == ["4103"]
    assert matched(devices, "2125550199", "") == ["4102"]
    assert not devices.has_hardware
    assert devices.remove("4102")
    assert devices.remove("4103")
    assert matched(devices, "2125550199", "") == matched(devices, "nq", "") == []


NAMES = st.sampled_from(
    ["4102", "4102@a", "4102@b", "4102@b:5070", "41-02", "+12125550123", "2125550123", "Bob@a", "bob@A", "bob"]
)


@given(st.lists(st.tuples(st.sampled_from(["put", "remove"]), NAMES)))
def test_indexes_agree_with_what_was_put(changes: list[tuple[str, str]]) -> None:
    devices = DeviceTable()
    expected: dict[str, Device] = {}
    for number, (change, name) in enumerate(changes):
        if change == "put":
            # A second name never makes a device stand twice, or stay when it goes.
            expected[device_key(name)] = device = Device(
                device=name, name=str(number), username=name.partition("@")[0]
            )
            devices.put(device)
        else:
            assert devices.remove(name) == (expected.pop(device_key(name), None) is not None)
    assert len(devices) == len(expected)
    assert sorted(device.name for device in devices) == sorted(device.name for device in expected.values())
    for user in ("4102", "+12125550123", "bob"):
        of_user = {key: d for key, d in expected.items() if canonical_user(key.partition("@")[0]) == user}
        assert set(devices.match(user, "nowhere").devices) == set(of_user.values())
        for host in ("a", "b"):
            exact = {d for key, d in of_user.items() if canonical_host(key.partition("@")[2]) == host}
            fitting = set(of_user.values())
            if any(canonical_host(key.partition("@")[2]) == host for key in expected):
                fitting = {d for key, d in of_user.items() if "@" not in key}
            assert set(devices.match(user, host).devices) == (exact or fitting)
