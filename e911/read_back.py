"""What was heard on a test call: a voice that reads the location back, or one of the sounds of a call that failed.

Pure: 16-bit samples at 8 kHz in, a verdict out. The tones are North America's precise tone plan (ANSI T1.401, ITU-T
E.180 supplement 2): busy 480 + 620 Hz, half a second on and off; reorder the same, a quarter; ringing 440 + 480 Hz;
dial tone 350 + 440 Hz; special information tones (E.180 section 7) 950, 1400 and 1800 Hz, or those near them
that North America uses.

What is no tone is not yet a voice: noise, hum, a tone with lost packets or of another country's plan are none.
The sound of a voice changes several times a second; all the others go on as they are. Music changes too, but hardly
ever stops: who speaks is next to silent a quarter of the time, between words and syllables. And its notes keep their
pitch, as the pitch of a voice does not even within a syllable. Drums alone that pause as speech does are taken for a
voice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from e911.pitch import kept_pitches, mean_of

RATE = 8000
"""Samples a second."""
WINDOW = 400
"""Samples that are judged together: 50 ms, short enough for the cadence of a reorder tone."""
QUIET = 100.0
"""Root mean square of 16-bit samples below which a window is silent: about -50 dBm0 of G.711."""
VOICE_SECONDS = 0.6
"""So much that is neither silent nor a tone makes a voice."""
TONE_SECONDS = 0.4
"""So much of a tone makes that tone."""
INFORMATION_SECONDS = 0.6
"""So much of special information tones, of which there are 0.9 s, says that the voice after them tells why a call
failed."""
IS_TONE = 0.75
"""Share of a window's energy that must be at the frequencies of a tone."""
CHANGE = 0.11
"""So much the correlations of a window differ from those of the one before where the sound has changed. With 400
samples those of steady noise differ by half of it, those of tones by a twentieth."""
CHANGES = 4
"""So many changes within SPAN windows make a voice: speech has 15 to 30, through a fifth of lost packets still 9."""
SPAN = 40
"""Windows: two seconds."""
PAUSE_SPAN = 60
"""Windows: three seconds, in which speech pauses."""
PAUSE_SHARE = 4
"""One in so many windows of speech is a pause."""
PAUSE = 0.28
"""A pause is quieter than this share of the loud parts around it. Of 92 prompts and read-backs, spoken and synthetic,
the quietest quarter of some three seconds came down to 0.17 in each, on a line with noise 15 dB below them to 0.21,
with noise 10 dB below to 0.27; three quarters of 120 pieces of music on hold never came to 0.28."""
PAUSE_STEP = 10
AROUND = 20
"""Windows before and after them whose pitch is looked at too."""
KEPT = 0.36
"""Music keeps this share of its sound at the same frequencies over a fifth of a second. Of 92 prompts and read-backs,
spoken and synthetic, none came near it, with noise or hum 15 dB below them neither; of 120 pieces of music on hold
whose pauses are those of speech a few stay below. A machine that speaks on one note throughout is taken for music."""
LOUD_SHARE = 10
"""One in so many windows is louder than what counts as loud."""


class Heard(StrEnum):
    """What a recording is. Only VOICE proves that somebody or something answered who speaks."""

    VOICE = "voice"
    NOTHING = "no-media"
    SILENCE = "silence"
    BUSY = "busy-tone"
    REORDER = "reorder-tone"
    RINGING = "ringing-tone"
    DIAL_TONE = "dial-tone"
    INFORMATION_TONE = "special-information-tone"
    TONE = "steady-tone"
    NOISE = "noise"
    MUSIC = "music"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """A verdict. Times in seconds."""

    heard: Heard
    seconds: float
    """How long the recording is."""
    voice_seconds: float
    """How much of it is neither silent nor a tone nor torn by lost packets."""

    @property
    def is_good(self) -> bool:
        """True where a voice was heard."""
        return self.heard is Heard.VOICE


_PAIRS = {
    "busy": (480.0, 620.0),
    Heard.RINGING: (440.0, 480.0),
    Heard.DIAL_TONE: (350.0, 440.0),
}
_INFORMATION = (913.8, 950.0, 985.2, 1370.6, 1400.0, 1428.5, 1776.7, 1800.0)
_TONAL = 0.85
"""A window that has so much of its energy at one frequency, whichever, is a tone and no voice."""
_NEAR = 8.0
"""Hertz that a single tone may be off."""
_OFF = (0.9875, 1.0, 1.0125)
"""Where each frequency of a pair is looked for: switches may be off by 1.5 percent."""
_LAGS = range(1, 9)
"""Samples apart whose correlation tells the sound of a window: its spectral envelope."""
_EMPHASIS = 0.9
_GAP = 80
"""So many samples (10 ms) of next to nothing within a window: a packet was lost, or a tone began or ended."""
_NOTHING = 12


def judge(samples: Sequence[int]) -> ReadBack:
    """What these samples are: 16-bit, 8 kHz, one channel."""
    seconds = len(samples) / RATE
    if len(samples) < WINDOW:
        return ReadBack(heard=Heard.NOTHING, seconds=seconds, voice_seconds=0.0)
    windows = [samples[start : start + WINDOW] for start in range(0, len(samples) - WINDOW + 1, WINDOW)]
    kinds = [_kind(window) for window in windows]
    kinds = [_without_edges(kinds, number) for number in range(len(kinds))]
    window_seconds = WINDOW / RATE
    time_of = {kind: kinds.count(kind) * window_seconds for kind in set(kinds)}
    voice = time_of.get("voice", 0.0)
    heard = Heard.SILENCE
    if (
        voice >= VOICE_SECONDS
        and time_of.get("information", 0.0) < INFORMATION_SECONDS
        and _changes_like_a_voice(windows, kinds)
    ):
        heard = Heard.VOICE if _goes_like_speech(windows, kinds) else Heard.MUSIC
    elif time_of.get("information", 0.0) >= TONE_SECONDS:
        heard = Heard.INFORMATION_TONE
    elif time_of.get("busy", 0.0) >= TONE_SECONDS:
        heard = _cadence(kinds)
    else:
        for kind in (Heard.RINGING, Heard.DIAL_TONE, Heard.TONE):
            if time_of.get(kind, 0.0) >= TONE_SECONDS:
                heard = kind
                break
        else:
            heard = Heard.NOISE if voice >= VOICE_SECONDS else Heard.SILENCE
    return ReadBack(heard=heard, seconds=round(seconds, 2), voice_seconds=round(voice, 2))


def _kind(window: Sequence[int]) -> str:
    """What a window is: `silence`, `busy` (or reorder), `information`, another tone's name, `torn`, or `voice`."""
    energy = sum(sample * sample for sample in window)
    if energy < QUIET * QUIET * len(window):
        return "silence"
    for kind, (low, high) in _PAIRS.items():
        one, other = (max(_share(window, hertz * off, energy) for off in _OFF) for hertz in (low, high))
        # Both must be there: a voice may have much of its energy near one of them.
        if one + other >= IS_TONE and min(one, other) >= IS_TONE / 6:
            return str(kind)
    hertz = _single_tone(window, energy)
    if hertz is None:
        return "torn" if _is_torn(window) else "voice"
    if any(abs(hertz - known) <= _NEAR for known in _INFORMATION):
        return "information"
    return Heard.TONE


def _is_torn(window: Sequence[int]) -> bool:
    """True where there is a gap in the sound, which makes of any tone something that looks like a voice."""
    length = 0
    for sample in window:
        length = length + 1 if -_NOTHING <= sample <= _NOTHING else 0
        if length >= _GAP:
            return True
    return False


def _changes_like_a_voice(windows: Sequence[Sequence[int]], kinds: Sequence[str]) -> bool:
    """True where what is neither silent nor a tone changes often enough within some two seconds.

    Both as it is and with its high frequencies raised: low rumble changes in the one only, hiss in the other.
    """
    changed = [False] * len(windows)
    before: tuple[list[float], list[float]] | None = None
    for number, window in enumerate(windows):
        around = set(kinds[max(0, number - 1) : number + 2])
        if around - {"voice", "silence", "torn"}:  # a tone, or the edge of one, which differs from both sides
            before = None
            continue
        if kinds[number] != "voice":
            continue
        raised = [sample - _EMPHASIS * last for last, sample in pairwise(window)]
        sound = _correlations(window), _correlations(raised)
        if before is not None:
            changed[number] = all(_distance(old, new) > CHANGE for old, new in zip(before, sound, strict=True))
        before = sound
    return any(sum(changed[first : first + SPAN]) >= CHANGES for first in range(len(changed)))


def _goes_like_speech(windows: Sequence[Sequence[int]], kinds: Sequence[str]) -> bool:
    """True where some three seconds of it have the pauses of speech, and what is around these does not keep its pitch
    as notes do; of less than that nobody can say."""
    if len(windows) < PAUSE_SPAN:
        return True
    levels = [math.sqrt(sum(sample * sample for sample in window) / len(window)) for window in windows]
    enough = max(QUIET, PAUSE * _loud(levels))  # what is far quieter than the rest is no speech of its own
    kept: Sequence[float | None] = ()
    for first in range(0, len(levels) - PAUSE_SPAN + 1, PAUSE_STEP):
        some = levels[first : first + PAUSE_SPAN]
        loud = _loud(some)
        if loud >= enough and sorted(some)[len(some) // PAUSE_SHARE] < PAUSE * loud:
            kept = kept or kept_pitches(windows, [kind in ("voice", "torn") for kind in kinds])
            if mean_of(kept[max(0, first - AROUND) : first + PAUSE_SPAN + AROUND]) < KEPT:
                return True
    return False


def _loud(levels: Sequence[float]) -> float:
    return sorted(levels)[len(levels) - 1 - len(levels) // LOUD_SHARE]


def _correlations(window: Sequence[float]) -> list[float]:
    energy = sum(sample * sample for sample in window) or 1.0
    return [sum(one * other for one, other in zip(window[lag:], window, strict=False)) / energy for lag in _LAGS]


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(abs(old - new) for old, new in zip(one, other, strict=True)) / len(one)


def _single_tone(window: Sequence[int], energy: int) -> float | None:
    """The frequency of a window that is one sine; None where it is none. A sine shows it in its zero crossings."""
    crossings = sum((one < 0) != (other < 0) for one, other in pairwise(window))
    guess = crossings * RATE / (2.0 * (len(window) - 1))
    tried = [guess + offset for offset in (-10.0, -7.5, -5.0, -2.5, 0.0, 2.5, 5.0, 7.5, 10.0)]
    best = max(tried, key=lambda hertz: _share(window, hertz, energy))
    return best if _share(window, best, energy) >= _TONAL else None


def _without_edges(kinds: Sequence[str], number: int) -> str:
    """The kind of a window; one alone that looks like a voice is the edge of a tone's burst, or a click."""
    kind = kinds[number]
    if kind != "voice" or "voice" in (*kinds[max(0, number - 1) : number], *kinds[number + 1 : number + 2]):
        return kind
    return "silence"


def _share(window: Sequence[int], hertz: float, energy: int) -> float:
    """How much of the energy is at a frequency, 0 to about 1 (Goertzel's algorithm)."""
    coefficient = 2.0 * math.cos(2.0 * math.pi * hertz / RATE)
    one = two = 0.0
    for sample in window:
        one, two = sample + coefficient * one - two, one
    power = one * one + two * two - coefficient * one * two
    return 2.0 * power / (len(window) * energy)


def _cadence(kinds: Sequence[str]) -> Heard:
    """Busy or reorder: by how long the tone is on at a time. The first and the last burst may be cut."""
    bursts: list[int] = []
    length = 0
    for kind in [*kinds, "end"]:
        if kind == "busy":
            length += 1
        elif length:
            bursts.append(length)
            length = 0
    whole = bursts[1:-1] or bursts
    # 0.5 s are ten windows, 0.25 s five; the edges of a burst may fall into windows that count as neither.
    return Heard.REORDER if sum(whole) / len(whole) < 7.5 else Heard.BUSY
