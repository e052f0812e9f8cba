"""Test calls placed by edge911 itself, to providers that speak, hum, refuse or say nothing."""

import array
import json
import math
import re
import socket
import struct
import sys
import time
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from router.notices.receivers.audio import FRAME, to_mulaw
from tests.support.baresip import Baresip
from tests.support.raw_sip import answers, sdp
from tests.support.sipp import running
from tests.support.sound import RATE
from tests.support.world import Plan, World, world

pytestmark = pytest.mark.peers("baresip", "sipp")

PLANS = {name: Plan(profile="number", timeout="2s") for name in ("speaks", "busy", "refuses", "early", "nightly")}
NEW_YORK = ZoneInfo("America/New_York")
LATER = f"{datetime.now(NEW_YORK) + timedelta(hours=2):%H:%M}"
SECTION = {"at": LATER, "sites": ["nightly"], "listen_seconds": 4}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("self-test"), PLANS, self_test=SECTION) as made:
        yield made


def write(path: Path, samples: list[int]) -> None:
    data = array.array("h", samples)
    if sys.byteorder == "big":
        data.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(data.tobytes())


def voice(seconds: float) -> list[int]:
    """A pitch that glides, with many harmonics, in syllables: no tone, and no speech program needed."""
    samples = []
    for n in range(int(RATE * seconds)):
        t = n / RATE
        pitch = 120 + 30 * math.sin(2 * math.pi * 0.7 * t)
        syllable = max(0.0, math.sin(2 * math.pi * 2.5 * t)) ** 0.5
        value = sum(math.sin(2 * math.pi * pitch * (k + 1) * t) / (1 + k / 5) for k in range(10))
        samples.append(round(2500 * syllable * value))
    return samples


def busy(seconds: float) -> list[int]:
    """480 and 620 Hz, half a second on and off."""
    return [
        round(6000 * (math.sin(2 * math.pi * 480 * n / RATE) + math.sin(2 * math.pi * 620 * n / RATE)))
        if (n * 2 // RATE) % 2 == 0
        else 0
        for n in range(int(RATE * seconds))
    ]


def run(here: World, site: str) -> tuple[int, dict[str, object]]:
    done = here.router.command("self-test", "run", "--site", site, "--route", "provider-a", "--json")
    assert done.stdout, done.stderr
    (test,) = json.loads(done.stdout)["tests"]
    return done.returncode, test


def provider(here: World, name: str, folder: Path, samples: list[int]) -> Baresip:
    phone = Baresip(folder / name, at=here[name].street["provider_a"], user="933", hertz=440, answers=True)
    write(folder / name / "voice.wav", samples)
    return phone


def test_a_voice_passes_and_everything_is_on_record(here: World, tmp_path: Path) -> None:
    with provider(here, "speaks", tmp_path, voice(30)):
        code, test = run(here, "speaks")
    assert (code, test["verdict"], test["heard"], test["answered_route"]) == (0, "passed", "voice", "provider-a"), (
        test
    )
    record = here.router.call(str(test["call"]))
    assert (record["kind"], record["outcome"], record["site"]) == ("test", "answered", "speaks")
    assert record["caller"]["callback"] == here["speaks"].site_callback
    assert record["location"]["civic"]["city"] == "Albany"
    listed = json.loads(here.router.command("self-test", "list", "--json").stdout)["tests"]
    assert listed[0] == test


def test_a_busy_tone_fails_and_the_site_is_told(here: World, tmp_path: Path) -> None:
    with provider(here, "busy", tmp_path, busy(30)):
        code, test = run(here, "busy")
    assert (code, test["verdict"], test["reason"]) == (1, "failed", "busy-tone"), test
    told = here["busy"].notices(2)
    assert any("TEST 933 FAILED" in text and "busy tone" in text for text in told), told


def test_a_refusal_fails_by_that_route_alone(here: World) -> None:
    place = here["refuses"]
    with running(place.sipp("provider_refuses_503", "provider_a"), place.sipp("psap_answers", "provider_b")) as peers:
        code, test = run(here, "refuses")
        assert (code, test["reason"]) == (1, "refused"), test
        assert str(test["words"]).startswith("503 Service Unavailable (provider-a)"), "the provider's own words"
        invite = peers[0].request("INVITE")
        assert b"933" in invite.raw.split(b"\r\n")[0]
        assert b"edge911-self-test" not in invite.raw.lower(), "what is between us stays between us"
        assert peers[1].requests() == [], "no other route is tried"


def say(samples: list[int], to: tuple[str, int], at: str, first: int) -> None:
    """RTP packets of these samples, as fast as speech is."""
    sound = to_mulaw(samples)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.bind((at, 0))
        for number in range(len(sound) // FRAME):
            head = struct.pack("!BBHII", 0x80, 0, first + number, (first + number) * FRAME, 7)
            media.sendto(head + sound[number * FRAME : (number + 1) * FRAME], to)
            time.sleep(0.02)


def test_what_is_played_before_the_answer_is_no_answer(here: World) -> None:
    """A voice in early media, then a 200 and silence: nobody has read anything back."""
    place = here["early"]
    with place.peer("provider_a") as psap, ThreadPoolExecutor() as beside:
        tried = beside.submit(run, here, "early")
        invite = psap.take("INVITE")
        offered = invite.message.body.decode()
        to = re.findall(r"c=IN IP4 (\S+)", offered)[0], int(re.findall(r"m=audio (\d+)", offered)[0])
        body = sdp(psap.at.address)
        psap.respond(invite, 183, body=body)
        say(voice(3), to, psap.at.address, 100)
        psap.respond(invite, 200, body=body)
        psap.take("ACK")
        say([0] * (2 * RATE), to, psap.at.address, 100 + 150)
        psap.respond(psap.take("BYE"), 200)
        code, test = tried.result()
    assert (code, test["verdict"], test["reason"]) == (1, "failed", "silence"), test


def test_a_test_call_of_our_own_is_no_phone_and_doctor_sees_the_router_without_a_console(here: World) -> None:
    place = here["refuses"]
    with place.peer("provider_a", rule=answers(503)), place.peer("phone") as phone:
        run(here, "refuses")
        call = place.call(phone, user=place.unregistered, uri=f"sip:933@{here.router.sip}")
        call.dial()
        call.refused(503)
    end = time.monotonic() + 60
    while place.unregistered not in (unknown := here.router.command("locations", "unknown").stdout):
        assert time.monotonic() < end, unknown
        time.sleep(0.5)
    assert "edge911-test" not in unknown
    document = json.loads(here.router.command("doctor", "--json").stdout)
    names = {finding["name"] for finding in document["findings"]}
    assert "router-not-running" not in names
    assert "self-test-failed" in names


@pytest.mark.long
def test_it_is_placed_when_it_is_due(here: World, tmp_path: Path) -> None:
    """`at` is the minute that has just begun: nobody asks, and the process of test calls places it."""
    with provider(here, "nightly", tmp_path, voice(60)):
        now = datetime.now(NEW_YORK)
        here.router.write_config({**here.router.config, "self_test": {**SECTION, "at": f"{now:%H:%M}"}})
        here.router.hup()
        end = time.monotonic() + 90
        found: list[dict[str, object]] = []
        while not any(one["route"] == "provider-a" and one["verdict"] for one in found):
            assert time.monotonic() < end, found
            time.sleep(0.5)
            found = json.loads(here.router.command("self-test", "list", "--site", "nightly", "--json").stdout)[
                "tests"
            ]
    (test,) = [one for one in found if one["route"] == "provider-a"]
    assert (test["by"], test["verdict"], test["answered_route"]) == ("schedule", "passed", "provider-a")
