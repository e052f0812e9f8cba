"""A head office in New York, a branch in Montréal, and the devices of both: what the tests of e911 share."""

from ipaddress import ip_network

from e911.attachment import Attachment
from e911.conveyed import NOTHING_CONVEYED, Conveyed
from e911.devices import DeviceTable
from e911.locate import CallerIdentity, LocationDecision, LocationQuery, Places, locate
from e911.location import CivicAddress, Device, GeoPoint, LocationSource, Site, Zone
from e911.lost import NONE_VALIDATED, ValidatedAddresses
from e911.numbers import EmergencyNumbers
from e911.wiremap import WiremapEntry, WiremapTable

NUMBERS = EmergencyNumbers(emergency=frozenset({"911", "9911"}), test=frozenset({"933"}))
ALL_SOURCES = (
    LocationSource.CONVEYED,
    LocationSource.NETWORK,
    LocationSource.REGISTERED,
    LocationSource.SITE,
)
HQ = Site(
    id="hq",
    name="Head office",
    timezone="America/New_York",
    address=CivicAddress(
        country="US",
        state="NY",
        city="New York",
        house_number="350",
        street="5th",
        street_suffix="AVE",
        postal_code="10118",
    ),
    point=GeoPoint(latitude=40.7484, longitude=-73.98566),
    networks=(ip_network("10.1.0.0/16"), ip_network("2001:db8:1::/48")),
    numbers=("4XXX", "+1212555012X"),
    callback="+12125550100",
    contacts=("front-desk",),
    zones=(
        Zone(
            id="hq-3e",
            name="3rd floor east",
            networks=(ip_network("10.1.3.0/24"),),
            finer=CivicAddress(floor="3", room="East wing"),
        ),
        Zone(id="hq-4", name="4th floor", finer=CivicAddress(floor="4")),
    ),
)
MTL = Site(
    id="mtl",
    name="Succursale",
    timezone="America/Toronto",
    address=CivicAddress(
        country="CA", state="QC", city="Montréal", house_number="1200", street="Exemple", postal_code="H3B 2Y5"
    ),
    networks=(ip_network("10.2.0.0/16"),),
    numbers=("41XX",),
    callback="",
    contacts=("accueil",),
)
BARE = Site(id="bare", name="No address", networks=(ip_network("10.3.0.0/16"),))
TRUNK = "10.1.0.10"


def places(*sites: Site, default: str | None = "hq", contacts: tuple[str, ...] = ("front-desk", "accueil")) -> Places:
    return Places(
        sites=sites or (HQ, MTL, BARE),
        default_site=default,
        all_contacts=contacts,
        trunk_addresses={TRUNK},
        numbers=NUMBERS,
    )


def decide(
    *devices: Device,
    user: str = "5000",
    host: str = "pbx.example",
    address: str = "192.0.2.9",
    among: Places | None = None,
    sources: tuple[LocationSource, ...] = ALL_SOURCES,
    behind_trunk: bool = False,
    conveyed: Conveyed = NOTHING_CONVEYED,
    hardware: str = "",
    at: WiremapEntry | None = None,
    now: float = 0.0,
    validated: ValidatedAddresses = NONE_VALIDATED,
) -> LocationDecision:
    """at: the access point or switch port that the phone names, and what the wiremap has of it."""
    table = DeviceTable()
    for device in devices:
        table.put(device)
    query = LocationQuery(
        identity=CallerIdentity(user=user, host=host),
        source_address=address,
        behind_trunk=behind_trunk,
        conveyed=conveyed,
        hardware=hardware,
        now=now,
        validated=validated,
        attachment=Attachment(bssid=at.bssid, chassis=at.chassis, port=at.port) if at is not None else None,
    )
    return locate(query, table, among or places(), sources, WiremapTable([at] if at is not None else []))


def reasons(decision: LocationDecision) -> dict[str, str]:
    """Each source's outcome and reason: `won registered-device`."""
    return {answer.source: f"{answer.outcome} {answer.reason}" for answer in decision.answers}
