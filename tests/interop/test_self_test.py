"""Test calls placed by edge911 itself, to providers that speak, hum, refuse or say nothing."""

import array
import json
import math
import sys
import time
import wave
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support.baresip import Baresip
from tests.support.sipp import running
from tests.support.sound import RATE
from tests.support.world import Plan, World, world

pytestmark = pytest.mark.peers("baresip", "sipp")

PLANS = {name: Plan(profile="number", timeout="2s") for name in ("speaks", "busy", "refuses", "nightly")}
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
        invite = peers[0].request("INVITE")
        assert b"933" in invite.raw.split(b"\r\n")[0]
        assert b"edge911-self-test" not in invite.raw.lower(), "what is between us stays between us"
        assert peers[1].requests() == [], "no other route is tried"


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
