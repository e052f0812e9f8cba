"""Additional data of an emergency call (RFC 7852): blocks about provider, service, device and subscriber, as XML.

What is said comes from the configuration and from what was decided about the call. Nothing is made up: a block of
which nothing is known is left out, with a reason. The same input gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from xml.sax.saxutils import escape

from e911.locate import LocationDecision
from e911.location import Device, DeviceKind
from e911.numbers import dialable
from e911.pidf_lo import xml_text

NAMESPACE: Final = "urn:ietf:params:xml:ns:EmergencyCallData"
_VCARD: Final = "urn:ietf:params:xml:ns:vcard-4.0"
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'


class DataBlock(StrEnum):
    """What a profile may ask for."""

    PROVIDER = "provider"
    SERVICE = "service"
    DEVICE = "device"
    SUBSCRIBER = "subscriber"
    COMMENT = "comment"


_ELEMENTS: Final = {
    DataBlock.PROVIDER: "ProviderInfo",
    DataBlock.SERVICE: "ServiceInfo",
    DataBlock.DEVICE: "DeviceInfo",
    DataBlock.SUBSCRIBER: "SubscriberInfo",
    DataBlock.COMMENT: "Comment",
}
_MOBILITY: Final = {
    DeviceKind.FIXED: "Fixed",
    DeviceKind.NOMADIC: "Nomadic",
    DeviceKind.SOFTPHONE: "Nomadic",
    DeviceKind.OFF_PREMISES: "Nomadic",
}
"""Service mobility (RFC 7852 section 4.2.3): a phone away from every site is one that may move on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderData:
    """Who provides the data: the organisation whose telephones these are (RFC 7852 section 4.1)."""

    name: str
    contact: str
    """sip:, sips: or tel: URI that is answered day and night."""
    type: str = "Client"
    id: str = ""
    id_series: str = ""
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallData:
    """What the configuration says for additional data."""

    provider: ProviderData | None = None
    environment: str = "Business"
    service_type: str = "MLTS-local"
    comment: str = ""
    language: str = "en"


NO_CALL_DATA: Final = CallData()


@dataclass(frozen=True, slots=True)
class Block:
    """One block, ready to go along."""

    name: str
    """ProviderInfo, ServiceInfo, DeviceInfo, SubscriberInfo, Comment."""
    document: bytes

    @property
    def media_type(self) -> str:
        """Of the body part."""
        return f"application/EmergencyCallData.{self.name}+xml"

    @property
    def purpose(self) -> str:
        """Of the Call-Info value."""
        return f"EmergencyCallData.{self.name}"


def build_blocks(
    wanted: Sequence[DataBlock],
    data: CallData,
    decision: LocationDecision,
    *,
    reference: str,
    display_name: str,
    is_private: bool,
) -> tuple[tuple[Block, ...], tuple[str, ...]]:
    """The blocks that are wanted and can be made, and why others cannot (`no-provider-data`, `no-comment`, ...).

    reference is the DataProviderReference, the same in all blocks of one call. is_private: the caller withholds the
    number. Never raises.
    """
    found, missing = [], []
    for one in dict.fromkeys(wanted):
        match one:
            case DataBlock.PROVIDER:
                inner = _provider(data.provider)
            case DataBlock.SERVICE:
                inner = _service(data, decision.device)
            case DataBlock.DEVICE:
                inner = _device(decision.device)
            case DataBlock.SUBSCRIBER:
                inner = _subscriber(decision, display_name)
            case DataBlock.COMMENT:
                inner = _comment(data)
        if inner:
            found.append(Block(_ELEMENTS[one], _document(_ELEMENTS[one], reference, inner, is_private)))
        else:
            missing.append(_MISSING[one])
    return tuple(found), tuple(missing)


_MISSING: Final = {
    DataBlock.PROVIDER: "no-provider-data",
    DataBlock.SERVICE: "no-service-data",
    DataBlock.DEVICE: "no-device-data",
    DataBlock.SUBSCRIBER: "no-subscriber-data",
    DataBlock.COMMENT: "no-comment-data",
}


def _document(name: str, reference: str, inner: str, is_private: bool) -> bytes:
    private = f' privacyRequested="{str(is_private).lower()}"' if name == "SubscriberInfo" else ""
    return (
        f'{_DECLARATION}<EmergencyCallData.{name} xmlns="{NAMESPACE}:{name}"{private}>'
        f"<DataProviderReference>{xml_text(reference)}</DataProviderReference>{inner}</EmergencyCallData.{name}>"
    ).encode()


def _element(name: str, value: str) -> str:
    text = xml_text(value)
    return f"<{name}>{text}</{name}>" if text else ""


def _provider(data: ProviderData | None) -> str:
    if data is None:
        return ""
    return (
        _element("DataProviderString", data.name)
        + _element("ProviderID", data.id)
        + _element("ProviderIDSeries", data.id_series if data.id else "")
        + _element("TypeOfProvider", data.type)
        + _element("ContactURI", data.contact)
        + _element("Language", data.language)
    )


def _service(data: CallData, device: Device | None) -> str:
    mobility = _MOBILITY.get(device.kind, "Unknown") if device is not None else "Unknown"
    return (
        _element("ServiceEnvironment", data.environment)
        + _element("ServiceType", data.service_type)
        + _element("ServiceMobility", mobility)
    )


def _device(device: Device | None) -> str:
    if device is None:
        return ""
    classification = "fixed" if device.kind is DeviceKind.FIXED else "unknown-device"
    mac = "-".join(device.mac[start : start + 2] for start in range(0, 12, 2)) if len(device.mac) == 12 else ""
    unique = f'<UniqueDeviceID TypeOfDeviceID="MAC">{mac}</UniqueDeviceID>' if mac.replace("-", "").isalnum() else ""
    return _element("DeviceClassification", classification) + unique


def _subscriber(decision: LocationDecision, display_name: str) -> str:
    device = decision.device
    name = xml_text((device.name if device is not None else "") or display_name)
    callback = dialable(decision.callback)
    if not name and not callback:
        return ""
    # xCard (RFC 6351): a vCard without a name is none, so one without says the number in its place.
    card = f"<fn><text>{name or callback}</text></fn>"
    if callback:
        parameters = "<parameters><type><text>voice</text></type></parameters>"
        card += f"<tel>{parameters}<uri>tel:{callback}</uri></tel>"
    return f'<SubscriberData><vcard xmlns="{_VCARD}">{card}</vcard></SubscriberData>'


def _comment(data: CallData) -> str:
    text = xml_text(data.comment)
    return f'<Comment xml:lang="{escape(data.language)}">{text}</Comment>' if text else ""
