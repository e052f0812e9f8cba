"""Blocks of RFC 7852: valid against the schemas, whatever names people have, and nothing made up."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from e911.additional_data import CallData, DataBlock, ProviderData, build_blocks
from e911.location import CivicAddress, Device, DeviceKind
from tests.e911.worlds import TRUNK, decide, places

SCHEMAS = Path(__file__).parent.parent / "data" / "schemas"
DESK = Device(device="4102", name="Réception", site="hq", mac="02005e004102", civic=CivicAddress(room="312"))
DATA = CallData(
    provider=ProviderData(
        name="Example & Sons", contact="tel:+12125550100", id="example.com", id_series="domain", language="en"
    ),
    comment="Ring the <night> bell",
)
ALL = tuple(DataBlock)


@cache
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(str(SCHEMAS / "all.xsd")))


def blocks(device: Device | None = DESK, data: CallData = DATA, name: str = "") -> dict[str, etree._Element]:
    decision = decide(device, user="4102", address=TRUNK) if device else decide(among=places(default=None))
    found, missing = build_blocks(ALL, data, decision, reference="c1@example.com", display_name=name, is_private=True)
    roots = {block.name: etree.fromstring(block.document) for block in found}
    for root in roots.values():
        schema().assertValid(root)
        assert root[0].text == "c1@example.com", "the same reference in all blocks of one call"
    assert len(roots) + len(missing) == len(ALL)
    return roots


def text(root: etree._Element, name: str) -> list[str | None]:
    return [element.text for element in root.iter("{*}" + name)]


def test_every_block() -> None:
    found = blocks()
    assert list(found) == ["ProviderInfo", "ServiceInfo", "DeviceInfo", "SubscriberInfo", "Comment"]
    provider = found["ProviderInfo"]
    assert text(provider, "DataProviderString") == ["Example & Sons"]
    assert text(provider, "TypeOfProvider") == ["Client"]
    assert text(provider, "ProviderIDSeries") == ["domain"]
    assert text(found["ServiceInfo"], "ServiceType") == ["MLTS-local"]
    assert text(found["ServiceInfo"], "ServiceMobility") == ["Fixed"]
    assert text(found["DeviceInfo"], "UniqueDeviceID") == ["02-00-5E-00-41-02".lower()]
    subscriber = found["SubscriberInfo"]
    assert subscriber.get("privacyRequested") == "true"
    assert text(subscriber, "text")[0] == "Réception"
    assert text(subscriber, "uri") == ["tel:+12125550100"]
    assert text(found["Comment"], "Comment") == ["Ring the <night> bell"]


def test_a_softphone_may_move() -> None:
    found = blocks(replace(DESK, kind=DeviceKind.SOFTPHONE))
    assert text(found["ServiceInfo"], "ServiceMobility") == ["Nomadic"]
    assert text(found["DeviceInfo"], "DeviceClassification") == ["unknown-device"]


def test_what_is_not_known_is_not_said() -> None:
    decision = decide(among=places(default=None))
    found, missing = build_blocks(ALL, CallData(), decision, reference="c@d", display_name="", is_private=False)
    assert [block.name for block in found] == ["ServiceInfo"]
    assert missing == ("no-provider-data", "no-device-data", "no-subscriber-data", "no-comment-data")
    assert text(etree.fromstring(found[0].document), "ServiceMobility") == ["Unknown"]


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_name_makes_a_valid_block(name: str, comment: str) -> None:
    blocks(replace(DESK, name=name), replace(DATA, comment=comment), name=comment)


@pytest.mark.parametrize("mac", ["", "xyz", "<b>02005e0041"])
def test_a_hardware_address_that_is_none_is_left_out(mac: str) -> None:
    root = blocks(replace(DESK, mac=mac))["DeviceInfo"]
    assert text(root, "UniqueDeviceID") == []
