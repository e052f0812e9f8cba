"""Sound files for phones that play and record them: 16-bit samples at 8 kHz, one channel."""

import array
import sys
import wave
from pathlib import Path

from tests.support.tone import RATE, strength, tone


def write_tone(path: Path, hertz: float, seconds: float) -> Path:
    """A WAV file with a sine."""
    samples = array.array("h", tone(hertz, int(RATE * seconds)))
    if sys.byteorder == "big":
        samples.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


def read(path: Path) -> list[int]:
    """The samples of a WAV file at 8 kHz. A recorder that was ended may have left the lengths in its header at 0."""
    raw = path.read_bytes()
    start = raw.index(b"data") + 8
    samples = array.array("h", raw[start : start + (len(raw) - start) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return list(samples)


def best(samples: list[int], hertz: float, window: int = RATE // 2) -> float:
    """The strength of a tone in the half second (window, in samples) where it is purest: 0 to about 1.

    What comes before and after may be silence, or the noise of a start.
    """
    starts = range(0, max(1, len(samples) - window + 1), window // 2)
    return max((strength(samples[start : start + window], hertz) for start in starts), default=0.0)
