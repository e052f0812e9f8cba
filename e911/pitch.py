"""How much of a sound keeps its pitch: notes do, voices glide. Pure: samples at 8 kHz in, a share out."""

import cmath
import math
from collections.abc import Sequence
from itertools import pairwise

FRAME = 400
"""Samples at 4 kHz, which hold all that is compared: a tenth of a second."""
SIZE = 512
APART = 4
"""Windows between what is compared: a fifth of a second, longer than most syllables."""
LEAST = 20
"""So many comparisons say something."""
_LOUD = 0.2
"""A window is looked at that has so much of the level of the loud ones."""
_PEAK = 0.1
"""…and of its spectrum the peaks with so much of the highest one's."""
_HERTZ = 1.5
_SHARE = 0.004
"""A peak is the same where it is no farther off than this, in hertz or of its frequency (a semitone is 0.06)."""

_TAPER = [0.5 - 0.5 * math.cos(2 * math.pi * number / (FRAME - 1)) for number in range(FRAME)]
_TURNS = [cmath.exp(-2j * math.pi * number / SIZE) for number in range(SIZE // 2)]


def kept_pitches(windows: Sequence[Sequence[int]], is_sound: Sequence[bool]) -> list[float | None]:
    """For each window the share of the energy at spectral peaks that are still there a fifth of a second later, 0 to
    1; None where there is nothing to compare. windows: 50 ms each, one after the other; is_sound: which count."""
    halves = [[(one + other) / 2 for one, other in zip(w[::2], w[1::2], strict=True)] for w in windows]
    frames = [before + after for before, after in pairwise(halves)]
    levels = [math.sqrt(sum(sample * sample for sample in frame) / FRAME) for frame in frames]
    if not levels:
        return [None] * len(windows)
    enough = _LOUD * sorted(levels)[len(levels) - 1 - len(levels) // 10]
    found = [
        _peaks(frame) if level > enough and is_sound[number] and is_sound[number + 1] else []
        for number, (frame, level) in enumerate(zip(frames, levels, strict=True))
    ]
    shares = [_kept(now, then) if now and then else None for now, then in zip(found, found[APART:], strict=False)]
    return shares + [None] * (len(windows) - len(shares))


def mean_of(shares: Sequence[float | None]) -> float:
    """Their mean; 0 where there are too few."""
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if len(known) >= LEAST else 0.0


def _kept(now: Sequence[tuple[float, float]], then: Sequence[tuple[float, float]]) -> float:
    kept = sum(
        energy for hertz, energy in now if min(abs(hertz - other) for other, _ in then) < max(_HERTZ, _SHARE * hertz)
    )
    return kept / sum(energy for _, energy in now)


def _peaks(frame: Sequence[float]) -> list[tuple[float, float]]:
    """Frequency, by a parabola through the logarithms of three lines, and energy of each peak."""
    tapered = [complex(sample * share) for sample, share in zip(frame, _TAPER, strict=True)]
    lines = [abs(line) for line in _fourier(tapered + [0j] * (SIZE - FRAME))[: SIZE // 2 + 1]]
    least = max(lines) * _PEAK
    peaks = []
    for number in range(1, SIZE // 2):
        left, here, right = lines[number - 1 : number + 2]
        if here > least and here > left and here >= right:
            one, two, three = (math.log(line + 1e-9) for line in (left, here, right))
            offset = 0.5 * (one - three) / (one - 2 * two + three + 1e-12)
            peaks.append(((number + offset) * 4000 / SIZE, here * here))
    return peaks


def _fourier(samples: Sequence[complex]) -> list[complex]:
    """The discrete Fourier transform of a power of two of samples, up to SIZE (Cooley and Tukey 1965)."""
    if len(samples) == 1:
        return list(samples)
    even, odd = _fourier(samples[::2]), _fourier(samples[1::2])
    step = SIZE // len(samples)
    turned = [_TURNS[number * step] * one for number, one in enumerate(odd)]
    return [one + other for one, other in zip(even, turned, strict=True)] + [
        one - other for one, other in zip(even, turned, strict=True)
    ]
