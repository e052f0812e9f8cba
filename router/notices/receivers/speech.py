"""Text as telephone speech: by a speech program where one is installed, by tones and clips of ours otherwise.

The text may hold what a phone said of itself: it goes to the program on its standard input or as one argument
behind `--`, without any character that such a program takes for markup.
"""

import io
import logging
import re
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from router.notices.receivers.audio import samples_of, silence, to_telephone, tone

SPEECH_SECONDS = 15.0
LONGEST_TEXT = 1500
_CLIPS = Path(__file__).with_name("clips")
_UNSPEAKABLE = re.compile(r"[^\w\s.,:;!?'’()+\-]")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechProgram:
    """A program that speaks."""

    name: str
    languages: tuple[str, ...]
    speak: Callable[[str, str], bytes]
    """Text and language in, a WAV file out. Raises OSError, SubprocessError."""


def attention() -> bytes:
    """The tone before the words: two that are heard as an alarm, three times."""
    return b"".join(tone((853.0, 960.0), 0.25) + silence(0.1) for _ in range(3)) + silence(0.3)


def thanks() -> bytes:
    """What is heard after a key: two rising notes."""
    return tone((660.0,), 0.15) + silence(0.05) + tone((880.0,), 0.25) + silence(0.3)


@cache
def installed() -> tuple[SpeechProgram, ...]:
    """The speech programs on this machine, the best first; looked for once."""
    known = (
        ("pico2wave", ("en", "fr"), _pico),
        ("espeak-ng", ("en", "fr"), _espeak("espeak-ng")),
        ("espeak", ("en", "fr"), _espeak("espeak")),
        ("flite", ("en",), _flite),
    )
    return tuple(
        SpeechProgram(name=name, languages=languages, speak=speak)
        for name, languages, speak in known
        if shutil.which(name)
    )


def announce(text: str, language: str, numbers: str = "") -> bytes:
    """The tone and the text, as µ-law at 8 kHz. Never raises; takes up to SPEECH_SECONDS.

    numbers: the callback number, which the clips can say where no program speaks the text.
    """
    for program in installed():
        if language not in program.languages:
            continue
        try:
            spoken = telephone_sound(program.speak(speakable(text), language))
        except (OSError, subprocess.SubprocessError, wave.Error, EOFError, ValueError) as error:
            log.warning(
                "speech-failed", extra={"event_fields": {"program": program.name, "reason": type(error).__name__}}
            )
            continue
        if spoken:
            return attention() + spoken
    return attention() + clips(language, numbers)


def clips(language: str, numbers: str = "") -> bytes:
    """The supplied clips: that 911 was dialled, the callback number by its digits, and to press a key."""
    parts = [clip(language, "dialled")]
    digits = [character for character in numbers if character.isascii() and character.isdigit()]
    if digits:
        parts += [silence(0.2), clip(language, "callback"), *(clip(language, digit) for digit in digits)]
    parts += [silence(0.3), clip(language, "press")]
    return b"".join(parts)


@cache
def clip(language: str, name: str) -> bytes:
    """One supplied clip; a tone where it is missing."""
    for folder in (language, "en"):
        try:
            return telephone_sound((_CLIPS / folder / f"{name}.wav").read_bytes())
        except (OSError, wave.Error, EOFError, ValueError):
            continue
    return tone((440.0,), 0.3) + silence(0.1)


def speakable(text: str) -> str:
    """Letters, digits and plain punctuation only: no markup, no phonemes, no options; not without end."""
    plain = _UNSPEAKABLE.sub(" ", text.replace("_", " "))
    return " ".join(plain.split())[:LONGEST_TEXT].lstrip("-").strip()


def telephone_sound(wav: bytes) -> bytes:
    """A WAV file (16 bits, or 8 at 8 kHz; one channel or two) as µ-law. A length of 0 or more than there is counts as
    all there is. Raises wave.Error, EOFError, ValueError."""
    with wave.open(io.BytesIO(wav)) as file:
        channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
        raw = file.readframes(file.getnframes())
    if width == 1:
        samples = samples_of(b"".join(((value - 128) << 8).to_bytes(2, "little", signed=True) for value in raw))
    elif width == 2:
        samples = samples_of(raw)
    else:
        raise ValueError("neither 8 nor 16 bits")
    return to_telephone(samples[::channels] if channels > 1 else samples, rate)


def _espeak(program: str) -> Callable[[str, str], bytes]:
    def speak(text: str, language: str) -> bytes:
        voice = {"fr": "fr-fr"}.get(language, "en-us")
        command = [program, "-v", voice, "-s", "150", "-a", "160", "--stdin", "--stdout"]
        return _whole(_run(command, text))

    return speak


def _flite(text: str, _language: str) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        _run(["flite", "-o", file.name], text)
        return Path(file.name).read_bytes()


def _pico(text: str, language: str) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        _run(["pico2wave", "-l", {"fr": "fr-FR"}.get(language, "en-US"), "-w", file.name, "--", text], "")
        return Path(file.name).read_bytes()


def _run(command: list[str], text: str) -> bytes:
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=SPEECH_SECONDS, check=True)
    return done.stdout


def _whole(wav: bytes) -> bytes:
    """A WAV file that was written to a pipe, with its true length in its header."""
    start = wav.find(b"data")
    if start < 0:
        raise ValueError("no sound in it")
    length = len(wav) - start - 8
    return wav[: start + 4] + length.to_bytes(4, "little") + wav[start + 8 :]
