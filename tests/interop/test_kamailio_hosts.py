"""Kamailio as the PBX in front of the router and as the E911 provider behind it: its parser judges what we send."""

from pathlib import Path

import pytest

from tests.interop.wire import assert_identity
from tests.support import kamailio_hosts
from tests.support.kamailio import Kamailio
from tests.support.sip_text import PIDF
from tests.support.sipp import Sipp, running
from tests.support.world import Plan, World

pytestmark = pytest.mark.peers("kamailio")

PLANS = {
    "pbx-udp": Plan(),
    "pbx-tcp": Plan(),
    "pbx-forks": Plan(),
    "provider-udp": Plan(timeout="8s"),
    "provider-tcp": Plan(timeout="8s", tcp=("provider_a",)),
}
HANGS_UP = [
    pytest.param("caller_dials", "psap_answers", id="the-phone-hangs-up"),
    pytest.param("caller_is_hung_up_on", "psap_hangs_up", id="the-psap-hangs-up"),
]


def assert_content(kamailio: Kamailio) -> None:
    """Nothing that came was wrong in its eyes, and it knew where every request in a dialog had to go."""
    for complaint in ("INSANE", "LOST", "NO LOCATION", "ERROR"):
        assert not kamailio.said(complaint), kamailio.said(complaint)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(("caller", "psap"), HANGS_UP)
def test_phones_behind_a_kamailio_pbx_are_found_by_what_it_asserts(
    the_world: World, tmp_path: Path, caller: str, psap: str, transport: str
) -> None:
    place, front = the_world[f"pbx-{transport}"], the_world.street["pbx"]
    pbx = kamailio_hosts.pbx(
        tmp_path / "pbx", at=front, router=place.router, extension=place.device, transport=transport
    )
    with pbx, running(place.sipp(psap, "provider_a", pause_ms=200)) as (provider,):
        # The phone calls itself `reception`; only the PBX knows its extension, by which its room is found.
        dialling = Sipp(
            caller,
            at=place.street["phone"],
            to=front,
            folder=place.folder,
            keys={"caller": "reception"},
            pause_ms=200,
        )
        with running(dialling):
            dialling.succeed()
            provider.succeed()
        assert dialling.statuses()[-1] == 200
        invite = provider.request()
        assert_identity(invite, place.callback)
        document = next(part for part in invite.parts if part.content_type == PIDF)
        assert f">{place.room}<".encode() in document.body
        assert invite.get("from").startswith('"Extension reception"')
        assert len(invite.all("record-route")) >= 2, "both proxies stay in the dialog"
        assert len(pbx.said("RX BYE")) == 1
        assert_content(pbx)


@pytest.mark.parametrize(("caller", "psap"), HANGS_UP)
def test_a_pbx_that_forks_a_911_call_to_us_twice_places_one(
    the_world: World, tmp_path: Path, caller: str, psap: str
) -> None:
    """Two branches of one call, by UDP and TCP: to the PSAP it is one call, and so to the desk and in the record."""
    place, front = the_world["pbx-forks"], the_world.street["pbx"]
    told = len(place.desk.posts(place.name))
    also = (f"sip:911@{place.router};transport=tcp",)
    pbx = kamailio_hosts.pbx(tmp_path / "pbx", at=front, router=place.router, extension=place.device, also=also)
    with pbx, running(place.sipp(psap, "provider_a", pause_ms=200)) as (provider,):
        dialling = Sipp(
            caller,
            at=place.street["phone"],
            to=front,
            folder=place.folder,
            keys={"caller": "reception"},
            pause_ms=200,
        )
        with running(dialling):
            dialling.succeed()
            provider.succeed()
        assert dialling.statuses()[-1] == 200
        invites = provider.requests("INVITE")
        assert len({one.branch for one in invites}) == 1, "a second call at the PSAP"
        assert len(pbx.said("RX BYE")) == 1
        assert_content(pbx)
        assert len(pbx.said("REPLY 200 INVITE")) >= 2, "both branches were answered"
    (record,) = the_world.router.records(invites[0].call_id)
    assert record["outcome"] == "answered"
    place.notices(told + 1)
    assert len(place.desk.posts(place.name)) == told + 1


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(("caller", "psap"), HANGS_UP)
def test_a_kamailio_provider_reads_the_location_and_hands_on_plain_sdp(
    the_world: World, tmp_path: Path, caller: str, psap: str, transport: str
) -> None:
    place = the_world[f"provider-{transport}"]
    # The PSAP is behind the provider, at an address for which the router has no trunk.
    sbc = kamailio_hosts.provider(tmp_path / "sbc", at=place.street["provider_a"], psap=place.street["provider_c"])
    with sbc, running(place.sipp(psap, "provider_c", pause_ms=200)) as (behind,):
        dialling = place.caller(caller, pause_ms=200)
        with running(dialling):
            dialling.succeed()
            behind.succeed()
        assert dialling.statuses()[-1] == 200
        read = sbc.wait_for(" 911 asserted=")
        assert place.callback in read
        assert f"house={100 + place.index} " in read
        assert "part-named=yes" in read, "the cid in Geolocation is the Content-ID of a part"
        assert sbc.said("PRIORITY", "esnet.1")
        assert f" by {transport}:" in sbc.said("RX INVITE")[0]
        assert len(sbc.said("RX BYE")) == 1
        assert_content(sbc)
        # Kamailio's parser took the SDP out of our multipart body as the phone had sent it.
        handed = behind.request()
        assert handed.content_type == "application/sdp"
        # (It counts the line breaks around a part to the part.)
        assert handed.body.strip(b"\r\n") == dialling.sent("INVITE")[0].body.strip(b"\r\n")
