"""Tones in G.711 µ-law: made, sent as RTP, and found again in what was heard (RFC 3551; Goertzel's algorithm)."""

import math
import socket
import struct
import threading
import time

RATE = 8000
FRAME = 160
"""Samples in 20 ms."""


def ulaw(sample: int) -> int:
    """One 16-bit sample as µ-law (ITU-T G.711)."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = max(0, magnitude.bit_length() - 8)
    return ~(sign | (exponent << 4) | ((magnitude >> (exponent + 3)) & 0x0F)) & 0xFF


def linear(code: int) -> int:
    """One µ-law byte as a 16-bit sample."""
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 132) << ((code >> 4) & 0x07)
    return (132 - magnitude) if code & 0x80 else (magnitude - 132)


def tone(hertz: float, samples: int, start: int = 0, level: int = 12000) -> list[int]:
    """A sine, 16-bit samples at 8 kHz."""
    return [round(level * math.sin(2 * math.pi * hertz * (start + n) / RATE)) for n in range(samples)]


def strength(samples: list[int], hertz: float) -> float:
    """How much of the signal's energy is at a frequency: about 1 for a pure tone, near 0 where it is absent."""
    energy = sum(sample * sample for sample in samples)
    if not samples or not energy:
        return 0.0
    omega = 2 * math.pi * hertz / RATE
    coefficient = 2 * math.cos(omega)
    one = two = 0.0
    for sample in samples:
        one, two = sample + coefficient * one - two, one
    power = one * one + two * two - coefficient * one * two
    return 2 * power / (len(samples) * energy)


class RtpEnd:
    """One end of an RTP stream: sends a tone, keeps what it hears."""

    def __init__(self, address: str, hertz: float) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.socket.settimeout(0.01)
        self.port: int = self.socket.getsockname()[1]
        self.hertz = hertz
        self.heard: list[int] = []
        self._to: tuple[str, int] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, host: str, port: int) -> None:
        """Begin to send there; 30 s at the most."""
        self._to = (host, port)
        self._thread.start()

    def stop(self) -> None:
        """End, and give the port back."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2)
        self.socket.close()

    def _run(self) -> None:
        assert self._to
        due, end = time.monotonic(), time.monotonic() + 30
        number = 0
        while not self._stop.is_set() and time.monotonic() < end:
            if time.monotonic() >= due:
                payload = bytes(map(ulaw, tone(self.hertz, FRAME, number * FRAME)))
                header = struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * FRAME, 0x911)
                self.socket.sendto(header + payload, self._to)
                number += 1
                due += FRAME / RATE
            try:
                packet = self.socket.recv(2048)
            except (TimeoutError, OSError):
                continue
            self.heard += [linear(code) for code in packet[12:]]
