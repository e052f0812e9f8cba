"""Every source together: whatever phones, servers and tables say, there is one decision and nothing made up."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from e911.attachment import Attachment
from e911.devices import DeviceTable
from e911.finer import FINER, refined
from e911.locate import CallerIdentity, HeldAnswer, LocationQuery, locate
from e911.location import CivicAddress, Device, DeviceKind, DispatchableLocation, LocationSource
from e911.record import SourceOutcome
from e911.wiremap import WiremapEntry, WiremapTable
from tests.e911.worlds import HQ, TRUNK, places

rooms = st.sampled_from(["", "1", "2"])
floors = st.sampled_from(["", "3", "4"])
streets = st.sampled_from(["", "5th", "Lake"])
civics = st.builds(
    CivicAddress,
    city=st.sampled_from(["", "New York", "Boston"]),
    street=streets,
    street_suffix=st.sampled_from(["", "AVE"]),
    house_number=st.sampled_from(["", "350", "7"]),
    floor=floors,
    room=rooms,
    unit=rooms,
    building=st.sampled_from(["", "B"]),
)
zones = st.sampled_from(["", "hq-3e", "hq-4", "gone"])
entries = st.builds(
    lambda site, zone, civic: WiremapEntry(bssid="001b2c3d4e50", site=site, zone=zone, civic=civic),
    st.sampled_from(["", "hq", "mtl", "bare", "gone"]),
    zones,
    civics,
)
devices = st.builds(
    Device,
    device=st.just("4102"),
    kind=st.sampled_from(DeviceKind),
    site=st.sampled_from(["", "hq", "mtl", "gone"]),
    zone=zones,
    civic=civics,
    confirmed_at=st.sampled_from([0.0, 5.0]),
    unconfirmed=st.sampled_from(["", "new-network"]),
    expires_at=st.sampled_from([0.0, 5.0]),
)
held = st.builds(
    lambda civic, reason: HeldAnswer(
        location=DispatchableLocation(civic=civic, point=None, source=LocationSource.HELD, method="x"), reason=reason
    ),
    civics.filter(lambda civic: civic.has_street_address),
    st.sampled_from(["held-answered", "held-kept"]),
) | st.just(HeldAnswer(reason="held-late"))
addresses = st.sampled_from(["10.1.3.7", "10.1.9.7", "10.2.0.1", "10.3.0.1", "192.0.2.9", TRUNK])


@given(
    devices,
    entries,
    held,
    addresses,
    addresses,
    st.booleans(),
    st.permutations(list(LocationSource)).flatmap(
        lambda order: st.integers(0, 5).map(lambda count: tuple(order[:count]))
    ),
)
def test_one_decision_and_every_part_of_it_was_said_by_somebody(
    device: Device,
    entry: WiremapEntry,
    server: HeldAnswer,
    address: str,
    phone: str,
    is_attached: bool,
    sources: tuple[LocationSource, ...],
) -> None:
    table = DeviceTable()
    table.put(device)
    query = LocationQuery(
        identity=CallerIdentity(user="4102"),
        source_address=address,
        phone_address=phone,
        attachment=Attachment(bssid="001b2c3d4e50") if is_attached else None,
        held=server,
        now=10.0,
    )
    decision = locate(query, table, places(), sources, WiremapTable([entry]))
    configured = [answer for answer in decision.answers if answer.reason != "not-configured"]
    assert [answer.source for answer in configured] == [source.value for source in sources]
    won = [answer for answer in decision.answers if answer.outcome is SourceOutcome.WON]
    assert len(won) == (decision.location is not None)
    for answer in decision.answers:
        assert (answer.location is not None) is (answer.outcome is not SourceOutcome.MISSED)
        assert bool(answer.lost) is (answer.outcome is SourceOutcome.KNEW)
        assert bool(answer.confidence) is (answer.location is not None)
    if decision.location is None:
        return
    said = [answer.location.civic for answer in decision.answers if answer.location] + [device.civic]
    said += [zone.finer for zone in HQ.zones]
    for name in FINER:
        value = getattr(decision.location.civic, name)
        assert not value or any(getattr(civic, name) == value for civic in said), "made up"
    (winner,) = won
    assert winner.location is not None
    for name in ("city", "street", "house_number", "floor", "building", "unit"):
        given = getattr(winner.location.civic, name)
        assert not given or getattr(decision.location.civic, name) == given, "what decided is never overruled"
    if decision.location.finer_from == "":
        assert decision.location.civic.room == winner.location.civic.room
    if device.doubt(10.0):
        assert decision.location.finer_from != "registered"


@given(civics, civics, zones, zones)
def test_finer_parts_are_never_of_another_place(
    one: CivicAddress, other: CivicAddress, here: str, there: str
) -> None:
    base = DispatchableLocation(civic=one, point=None, source=LocationSource.HELD, method="", zone=here)
    more = DispatchableLocation(civic=other, point=None, source=LocationSource.REGISTERED, method="", zone=there)
    found = refined(base, more)
    if found is None:
        return
    assert (one.street, one.house_number, one.city) == (other.street, other.house_number, other.city)
    assert not (here and there and here != there)
    for name in FINER:
        mine, yours, result = (getattr(civic, name) for civic in (one, other, found.civic))
        assert not (mine and yours and mine != yours)
        assert result == (mine or yours)
    assert replace(found.civic, **dict.fromkeys(FINER, "")) == replace(one, **dict.fromkeys(FINER, ""))
