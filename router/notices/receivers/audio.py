"""Sound for telephones: µ-law (ITU-T G.711) at 8 kHz, made from 16-bit samples; tones; RTP packets. Pure."""

import array
import math
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

RATE = 8000
"""Samples a second."""
FRAME = 160
"""Samples in one RTP packet: 20 ms."""
FRAME_SECONDS = FRAME / RATE
SILENCE = b"\xff"
ALAW_SILENCE = b"\xd5"
PCMU = 0
"""RTP payload type (RFC 3551)."""
_BIAS = 0x84
_CLIP = 32635
_DTMF = "0123456789*#ABCD"


@cache
def _mulaw_table() -> bytes:
    """The µ-law byte of each 16-bit sample, of which the two lowest bits do not count."""
    return bytes(_mulaw((index << 2) - 32768) for index in range(16384))


def _mulaw(sample: int) -> int:
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), _CLIP) + _BIAS
    exponent = max(magnitude.bit_length() - 8, 0)
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return ~(sign | exponent << 4 | mantissa) & 0xFF


def to_mulaw(samples: Iterable[int]) -> bytes:
    """16-bit samples as µ-law."""
    table = _mulaw_table()
    return bytes([table[(sample + 32768) >> 2] for sample in samples])


def from_mulaw(data: bytes) -> list[int]:
    """µ-law as 16-bit samples."""
    table = _linear_table()
    return [table[code] for code in data]


@cache
def _linear_table() -> tuple[int, ...]:
    return tuple(_linear(~code & 0xFF) for code in range(256))


def _linear(code: int) -> int:
    magnitude = (((code & 0x0F) << 3) + _BIAS) << ((code >> 4) & 0x07)
    return _BIAS - magnitude if code & 0x80 else magnitude - _BIAS


@cache
def mulaw_of_alaw() -> bytes:
    """The µ-law byte of each A-law byte (ITU-T G.711), for bytes.translate."""
    return to_mulaw(_alaw_linear(code ^ 0x55) for code in range(256))


def _alaw_linear(code: int) -> int:
    magnitude = ((code & 0x0F) << 4) + 8
    if segment := (code >> 4) & 0x07:
        magnitude = (magnitude + 0x100) << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


def to_telephone(samples: "array.array[int]", rate: int) -> bytes:
    """16-bit samples of any rate as µ-law at 8 kHz.

    Each sample is the mean of those that it stands for, which keeps what lies above 4 kHz from being heard as noise.
    """
    if rate == RATE or not samples:
        return to_mulaw(samples)
    step = rate / RATE
    count = int(len(samples) / step)
    if step < 1:
        return to_mulaw(samples[min(int(number * step), len(samples) - 1)] for number in range(count))
    # The mean over a window of one and a half output samples: a plain low pass, good enough for speech.
    width = max(int(step * 1.5), 1)
    last = len(samples) - width
    means = (
        sum(samples[start : start + width]) // width
        for start in (min(int(number * step), max(last, 0)) for number in range(count))
    )
    return to_mulaw(means)


def samples_of(raw: bytes) -> "array.array[int]":
    """Little-endian 16-bit samples, as a WAV file holds them."""
    samples = array.array("h", raw[: len(raw) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def tone(hertz: tuple[float, ...], seconds: float, *, level: float = 0.3) -> bytes:
    """Sines together, as µ-law; level from 0 to 1 is that of all of them."""
    count = int(seconds * RATE)
    share = level * 32767 / len(hertz)
    turns = [2 * math.pi * one / RATE for one in hertz]
    edge = max(RATE // 200, 1)

    def sample(number: int) -> int:
        # 5 ms at each end rise and fall, so that it does not click.
        gain = min(1.0, (number + 1) / edge, (count - number) / edge)
        return int(gain * share * sum(math.sin(turn * number) for turn in turns))

    return to_mulaw(sample(number) for number in range(count))


def silence(seconds: float) -> bytes:
    """µ-law silence."""
    return SILENCE * int(seconds * RATE)


@dataclass(slots=True)
class RtpSender:
    """Numbers the packets of one stream (RFC 3550 section 5.1)."""

    ssrc: int
    sequence: int
    timestamp: int
    payload_type: int = PCMU
    is_first: bool = True

    def packet(self, frame: bytes) -> bytes:
        """The next packet, with FRAME bytes of µ-law."""
        marker = 0x80 if self.is_first else 0
        self.is_first = False
        head = struct.pack(
            "!BBHII", 0x80, marker | self.payload_type, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.ssrc
        )
        self.sequence += 1
        self.timestamp += FRAME
        return head + frame

    def skip(self, seconds: float) -> None:
        """Nothing is sent for so long: the next packet begins anew what is heard (RFC 3551 section 4.1)."""
        self.timestamp += round(seconds * RATE)
        self.is_first = True


def payload_of(packet: bytes, payload_type: int) -> tuple[int, bytes] | None:
    """Sequence number and sound of a packet, where it is RTP of this payload type (RFC 3550 section 5.1)."""
    if len(packet) < 12 or packet[0] >> 6 != 2 or packet[1] & 0x7F != payload_type:
        return None
    start = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:  # a header extension
        if len(packet) < start + 4:
            return None
        start += 4 + 4 * int(struct.unpack_from("!H", packet, start + 2)[0])
    end = len(packet) - (packet[-1] if packet[0] & 0x20 else 0)  # padding
    if end < start:
        return None
    return int(struct.unpack_from("!H", packet, 2)[0]), packet[start:end]


def pressed_key(packet: bytes, payload_type: int) -> tuple[str, int] | None:
    """The key and its timestamp, where a packet is a telephone-event (RFC 4733) of this payload type.

    A key comes in many packets with the same timestamp.
    """
    if len(packet) < 16 or packet[0] >> 6 != 2 or packet[1] & 0x7F != payload_type:
        return None
    start = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:  # a header extension
        if len(packet) < start + 4:
            return None
        start += 4 + 4 * int(struct.unpack_from("!H", packet, start + 2)[0])
    if len(packet) < start + 4 or packet[start] >= len(_DTMF):
        return None
    return _DTMF[packet[start]], int(struct.unpack_from("!I", packet, 4)[0])
