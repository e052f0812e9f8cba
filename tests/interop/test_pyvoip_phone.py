"""A phone other people wrote (pyVoIP) dials 911 through the router; each side hears the other's tone."""

import json
import subprocess
import sys

import pytest

from tests.support.raw_sip import Peer
from tests.support.sip_text import PIDF
from tests.support.tone import RtpEnd, strength
from tests.support.world import Plan, World

pytestmark = [pytest.mark.xdist_group("pyvoip")]

PLANS = {"pyvoip": Plan()}
PHONE_TONE, PSAP_TONE = 440.0, 1000.0


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="pyVoIP needs audioop, which Python 3.13 no longer has")
def test_a_pyvoip_phone_and_the_psap_hear_each_other(the_world: World) -> None:
    place = the_world["pyvoip"]
    phone_at = place.street["phone"]
    rtp = RtpEnd(place.street["provider_a"].address, PSAP_TONE)
    with Peer(place.street["provider_a"]) as psap:
        phone = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.pyvoip_phone",
                place.router.address,
                str(place.router.port),
                phone_at.address,
                str(phone_at.port),
                str(phone_at.port + 10),
                place.device,
                "911",
                str(PHONE_TONE),
                "2.0",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            invite = psap.take("INVITE")
            offer = next(part for part in invite.message.parts if part.content_type == "application/sdp")
            assert any(part.content_type == PIDF for part in invite.message.parts)
            assert place.callback in invite.message.get("p-asserted-identity")
            psap.respond(invite, 180)
            answer = (
                f"v=0\r\no=psap 1 1 IN IP4 {psap.at.address}\r\ns=psap\r\nc=IN IP4 {psap.at.address}\r\nt=0 0\r\n"
                f"m=audio {rtp.port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n"
            )
            psap.respond(invite, 200, body=answer.encode())
            psap.take("ACK")
            port = int(offer.body.split(b"m=audio ")[1].split()[0])
            rtp.start(phone_at.address, port)
            psap.respond(psap.take("BYE"), 200)
            out, errors = phone.communicate(timeout=60)
        finally:
            phone.kill()
            phone.wait()
            rtp.stop()
    said = json.loads(out.decode().splitlines()[-1])
    assert said["answered"], errors.decode()
    # The middle of what was heard: the beginning may be silence, before the first packets came.
    by_phone = said["heard"][4000:12000]
    by_psap = rtp.heard[2000:10000]
    assert len(by_phone) > 4000
    assert len(by_psap) > 4000
    assert strength(by_phone, PSAP_TONE) > 0.5, "the phone heard the PSAP"
    assert strength(by_psap, PHONE_TONE) > 0.5, "the PSAP heard the phone"
    assert strength(by_phone, PHONE_TONE) < 0.05, "and not its own echo"
