"""Makes the clips that a call to a desk plays where no speech program is installed: python -m simulations.clips

Spoken by espeak-ng, brought to 8 kHz and 16 bits, silence at both ends cut; they go to
router/notices/receivers/clips.
"""

import array
import io
import sys
import wave
from pathlib import Path

from router.notices.receivers.speech import installed

TEXTS = {
    "en": {
        "dialled": "Attention. 911 was dialled. Help may be on its way. Other notices say who called and where.",
        "callback": "Callback number:",
        "press": "Press any key to confirm that you have heard this.",
    },
    "fr": {
        "dialled": "Attention. Le 9 1 1 a été composé. Les secours sont peut-être en route. Voyez les autres avis.",
        "callback": "Numéro de rappel :",
        "press": "Appuyez sur une touche pour confirmer.",
    },
}
DIGITS = {
    "en": "zero one two three four five six seven eight nine",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
}
FOLDER = Path(__file__).resolve().parents[1] / "router" / "receivers" / "clips"
RATE = 8000
QUIET = 200


def main() -> int:
    """Write every clip; 1 where there is no program to speak them."""
    program = next((one for one in installed() if one.name == "espeak-ng"), None)
    if program is None:
        print("espeak-ng is not installed", file=sys.stderr)
        return 1
    for language, texts in TEXTS.items():
        folder = FOLDER / language
        folder.mkdir(parents=True, exist_ok=True)
        digits = {str(number): word for number, word in enumerate(DIGITS[language].split())}
        for name, text in {**texts, **digits}.items():
            write(folder / f"{name}.wav", program.speak(text, language))
    return 0


def write(path: Path, wav: bytes) -> None:
    """One clip, from a WAV file of any rate."""
    with wave.open(io.BytesIO(wav)) as file:
        rate, raw = file.getframerate(), file.readframes(file.getnframes())
    samples = array.array("h", raw)
    step = rate / RATE
    width = max(int(step * 1.5), 1)
    small = array.array(
        "h",
        (
            sum(samples[start : start + width]) // width
            for start in (int(number * step) for number in range(int((len(samples) - width) / step)))
        ),
    )
    loud = [number for number, value in enumerate(small) if abs(value) > QUIET]
    small = small[loud[0] : loud[-1] + RATE // 20] if loud else small
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, len(small), "NONE", "not compressed"))
        file.writeframes(small.tobytes())


if __name__ == "__main__":
    sys.exit(main())
