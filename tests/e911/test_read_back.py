"""The judge of test calls: voices pass, the sounds of failed calls do not."""

import math
import random
from collections.abc import Callable

import pytest

from e911.read_back import RATE, Heard, judge


def tone(*hertz: float, seconds: float, level: float = 6000) -> list[int]:
    return [
        round(sum(level * math.sin(2 * math.pi * f * n / RATE) for f in hertz)) for n in range(int(RATE * seconds))
    ]


def silence(seconds: float, noise: int = 0) -> list[int]:
    dice = random.Random(1)
    return [dice.randint(-noise, noise) if noise else 0 for _ in range(int(RATE * seconds))]


def cadence(on: float, off: float, *hertz: float, times: int = 8) -> list[int]:
    return (tone(*hertz, seconds=on) + silence(off)) * times


def voice(seconds: float, seed: int = 3) -> list[int]:
    """Something voiced: a low pitch with many harmonics whose strengths change, in syllables."""
    dice = random.Random(seed)
    samples: list[int] = []
    while len(samples) < RATE * seconds:
        pitch, length = dice.uniform(90, 220), int(RATE * dice.uniform(0.08, 0.25))
        strengths = [dice.uniform(0.1, 1.0) / (1 + k / 4) for k in range(12)]
        start = len(samples)
        for n in range(length):
            envelope = math.sin(math.pi * n / length)
            value = sum(
                s * math.sin(2 * math.pi * pitch * (k + 1) * (start + n) / RATE) for k, s in enumerate(strengths)
            )
            samples.append(round(2500 * envelope * value))
        samples += [0] * int(RATE * dice.uniform(0.02, 0.15))
    return samples


@pytest.mark.parametrize(
    ("made", "heard"),
    [
        (list, Heard.NOTHING),
        (lambda: [0] * 100, Heard.NOTHING),
        (lambda: silence(5), Heard.SILENCE),
        (lambda: silence(5, noise=60), Heard.SILENCE),
        (lambda: cadence(0.5, 0.5, 480, 620), Heard.BUSY),
        (lambda: cadence(0.25, 0.25, 480, 620), Heard.REORDER),
        (lambda: tone(480, 620, seconds=0.31) + silence(0.5) + cadence(0.5, 0.5, 480, 620), Heard.BUSY),
        (lambda: silence(0.13) + cadence(0.25, 0.25, 480, 620), Heard.REORDER),
        (lambda: cadence(2.0, 4.0, 440, 480, times=2), Heard.RINGING),
        (lambda: tone(350, 440, seconds=3), Heard.DIAL_TONE),
        (
            lambda: tone(985.2, seconds=0.38) + tone(1428.5, seconds=0.38) + tone(1776.7, seconds=0.38) + silence(1),
            Heard.INFORMATION_TONE,
        ),
        (lambda: tone(1000, seconds=3), Heard.TONE),
        (lambda: tone(2010, seconds=3), Heard.TONE),
        (lambda: voice(4), Heard.VOICE),
        (lambda: silence(3) + voice(1.5) + silence(3), Heard.VOICE),
        (lambda: cadence(2.0, 4.0, 440, 480, times=1) + voice(2), Heard.VOICE),
    ],
)
def test_what_is_heard(made: Callable[[], list[int]], heard: Heard) -> None:
    assert judge(made()).heard is heard


@pytest.mark.parametrize("seed", range(6))
def test_voices_of_all_kinds_are_voices(seed: int) -> None:
    found = judge(voice(3, seed))
    assert found.is_good
    assert found.voice_seconds > 1


@pytest.mark.parametrize("level", [400, 2000, 12000])
@pytest.mark.parametrize("on", [0.5, 0.25])
def test_tones_are_known_at_any_level_and_phase(level: float, on: float) -> None:
    wanted = Heard.BUSY if on == 0.5 else Heard.REORDER
    for shift in range(0, 4000, 613):
        samples = (tone(480, 620, seconds=on, level=level) + silence(on)) * 8
        assert judge(samples[shift:]).heard is wanted


def noise(seconds: float, level: float, seed: int = 1, low_pass: float = 0.0) -> list[int]:
    """Steady noise of an RMS level, white or with its low frequencies raised."""
    dice = random.Random(seed)
    last, values = 0.0, []
    for _ in range(int(RATE * seconds)):
        last = low_pass * last + (1 - low_pass) * dice.gauss(0, 1)
        values.append(last)
    rms = math.sqrt(sum(value * value for value in values) / len(values))
    return [round(value * level / rms) for value in values]


def with_noise(samples: list[int], level: float) -> list[int]:
    return [one + other for one, other in zip(samples, noise(len(samples) / RATE + 1, level), strict=False)]


def with_loss(samples: list[int], share: float, seed: int = 2) -> list[int]:
    """Some packets of 20 ms lost: silence in their place."""
    dice = random.Random(seed)
    parts = [samples[start : start + 160] for start in range(0, len(samples), 160)]
    return [sample for part in parts for sample in ([0] * len(part) if dice.random() < share else part)]


NO_VOICES: dict[str, tuple[Callable[[], list[int]], Heard | None]] = {
    "hiss": (lambda: noise(8, 150), Heard.NOISE),
    "loud hiss": (lambda: noise(8, 3000), Heard.NOISE),
    "rumble": (lambda: noise(8, 600, low_pass=0.9), Heard.NOISE),
    "hum": (lambda: tone(60, 120, 180, 300, seconds=8, level=300), Heard.NOISE),
    "ringing on a noisy line": (lambda: with_noise(cadence(2, 4, 440, 480, times=2), 200), Heard.RINGING),
    "busy on a noisy line": (lambda: with_noise(cadence(0.5, 0.5, 480, 620), 300), Heard.BUSY),
    "reorder on a noisy line": (lambda: with_noise(cadence(0.25, 0.25, 480, 620, times=20), 300), Heard.REORDER),
    "busy of a switch that is off": (lambda: cadence(0.5, 0.5, 487, 611), Heard.BUSY),
    "busy with lost packets": (lambda: with_loss(cadence(0.5, 0.5, 480, 620, times=15), 0.2), None),
    "ringing with lost packets": (lambda: with_loss(cadence(2, 4, 440, 480, times=3), 0.2), Heard.RINGING),
    "ringing with lost packets on a noisy line": (
        lambda: with_noise(with_loss(cadence(2, 4, 440, 480, times=3), 0.2), 200),
        Heard.RINGING,
    ),
    "British ringing": (lambda: cadence(0.4, 0.2, 400, 450, times=12), None),
    "howler": (lambda: cadence(0.1, 0.1, 1400, 2060, 2450, 2600, times=40), None),
    "digits": (lambda: cadence(0.2, 0.1, 697, 1209, times=24), None),
}


@pytest.mark.parametrize("name", NO_VOICES)
def test_what_goes_on_as_it_is_is_no_voice(name: str) -> None:
    made, heard = NO_VOICES[name]
    found = judge(made())
    assert not found.is_good
    assert heard is None or found.heard is heard


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_noise_of_any_kind_is_no_voice(seed: int) -> None:
    for low_pass in (0.0, 0.5, 0.8, 0.9):
        assert judge(noise(10, 800, seed, low_pass)).heard is Heard.NOISE


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_a_voice_is_a_voice_on_a_bad_line(seed: int) -> None:
    assert judge(with_noise(voice(5, seed), 400)).is_good
    assert judge(with_loss(voice(5, seed), 0.1)).is_good
    assert judge(with_noise(cadence(2, 4, 440, 480, times=1) + voice(3, seed), 150)).is_good


def test_a_voice_after_special_information_tones_says_that_the_call_failed() -> None:
    tones = tone(913.8, seconds=0.274) + tone(1370.6, seconds=0.274) + tone(1776.7, seconds=0.38)
    found = judge(silence(0.3) + tones + voice(4))
    assert found.heard is Heard.INFORMATION_TONE
    assert not found.is_good


def music(seconds: float, seed: int = 1) -> list[int]:
    """Chords of three voices that change every quarter of a second and overlap, as on hold: no pause anywhere."""
    dice = random.Random(seed)
    samples = [0.0] * int(RATE * seconds)
    for start in range(0, len(samples), RATE // 4):
        for hertz in dice.sample([196.0, 247.0, 294.0, 330.0, 392.0, 494.0, 587.0, 740.0], 3):
            level, dull = dice.uniform(1500, 3000), dice.uniform(0.2, 2.0)
            for n in range(min(RATE * 3 // 4, len(samples) - start)):
                envelope = min(1.0, n / 200) * math.exp(-n / (RATE * 0.4))
                note = sum(math.sin(2 * math.pi * hertz * (k + 1) * n / RATE) / (k + 1) ** dull for k in range(4))
                samples[start + n] += level * envelope * note
    return [round(value) for value in samples]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_music_on_hold_is_no_voice(seed: int) -> None:
    assert judge(music(8, seed)).heard is Heard.MUSIC


def sparse_music(seconds: float, seed: int) -> list[int]:
    """The same with pauses as long as those of speech."""
    played, samples = music(seconds, seed), []
    for start in range(0, len(played), RATE * 3 // 4):
        samples += played[start : start + RATE * 3 // 4] + [0] * (RATE * 3 // 8)
    return samples


def test_music_that_pauses_as_speech_does_is_known_by_its_notes() -> None:
    assert judge(sparse_music(8, 0)).heard is Heard.MUSIC


def test_a_voice_after_music_is_a_voice() -> None:
    assert judge(music(5) + voice(5)).heard is Heard.VOICE
    assert judge(voice(5) + music(5)).heard is Heard.VOICE


def test_of_less_than_three_seconds_nobody_can_say_that_it_is_music() -> None:
    assert judge(music(2)).heard is not Heard.MUSIC
