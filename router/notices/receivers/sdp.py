"""Just enough SDP (RFC 8866, RFC 3264) for a call that speaks: µ-law out, keys in."""

from dataclasses import dataclass

KEYS_TYPE = 101
"""Payload type we offer for telephone-events."""


_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """Where the other end wants its audio, and as what."""

    host: str
    port: int
    payload_type: int
    keys_type: int | None
    """Payload type of its telephone-events; None where it has none."""
    alaw_type: int | None = None
    """Payload type of its A-law, where that was asked for; `payload_type` is the same where it takes no µ-law."""
    direction: str = "sendrecv"
    """What it does: `sendrecv`, `sendonly`, `recvonly` or `inactive`."""

    @property
    def is_held(self) -> bool:
        """True where it wants no audio of ours: RFC 3264 section 8.4, and the address 0.0.0.0 of older phones."""
        return self.direction in ("sendonly", "inactive") or self.host in ("0.0.0.0", "::")

    @property
    def answer(self) -> str:
        """Our direction where this one is offered (RFC 3264 section 6.1)."""
        return {"sendonly": "recvonly", "recvonly": "sendonly"}.get(self.direction, self.direction)


def offer(
    host: str, port: int, session: int, version: int = 1, direction: str = "sendrecv", *, with_alaw: bool = False
) -> bytes:
    """What we say of ourselves: µ-law, A-law too where that is understood, and telephone-events, 20 ms."""
    family = "IP6" if ":" in host else "IP4"
    lines = (
        "v=0",
        f"o=edge911 {session} {version} IN {family} {host}",
        "s=911",
        f"c=IN {family} {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 {'8 ' if with_alaw else ''}{KEYS_TYPE}",
        "a=rtpmap:0 PCMU/8000",
        *(["a=rtpmap:8 PCMA/8000"] if with_alaw else []),
        f"a=rtpmap:{KEYS_TYPE} telephone-event/8000",
        f"a=fmtp:{KEYS_TYPE} 0-15",
        "a=ptime:20",
        f"a={direction}",
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def read_audio(body: bytes, *, with_alaw: bool = False) -> Audio | None:
    """The first audio stream of an SDP body that takes µ-law, or A-law where that is understood; None where there is
    none."""
    host, stream_host, port = "", "", 0
    direction, stream_direction = "sendrecv", ""
    formats: list[str] = []
    names: dict[str, str] = {}
    in_audio = in_media = False
    for raw in body.decode("utf-8", "replace").splitlines():
        kind, _, value = raw.strip().partition("=")
        words = value.split()
        if kind == "m":
            in_media = True
            in_audio = not formats and len(words) > 3 and words[0].lower() == "audio"
            if in_audio:
                text = words[1].partition("/")[0]
                port = int(text) if text.isdigit() and len(text) < 6 else 0
                formats = words[3:]
        elif kind == "c" and len(words) >= 3 and (in_audio or not in_media):
            address = words[2].partition("/")[0]
            if in_audio:
                stream_host = address
            else:
                host = address
        elif kind == "a" and value in _DIRECTIONS and (in_audio or not in_media):
            if in_audio:
                stream_direction = value
            else:
                direction = value
        elif kind == "a" and in_audio and value.lower().startswith("rtpmap:") and len(words) > 1:
            names[words[0].partition(":")[2]] = words[1].lower()
    host = stream_host or host
    if not host or not 0 < port < 65536:
        return None
    mulaw = next((one for one in formats if one == "0" or names.get(one, "").startswith("pcmu/8000")), None)
    keys = next((one for one in formats if names.get(one, "").startswith("telephone-event/8000")), None)
    alaw = next((one for one in formats if one == "8" or names.get(one, "").startswith("pcma/8000")), None)
    if not with_alaw:
        alaw = None
    if mulaw is None and alaw is None:
        return None
    return Audio(
        host=host,
        port=port,
        payload_type=_number(mulaw or alaw or ""),
        alaw_type=_number(alaw) if alaw is not None else None,
        keys_type=_number(keys) if keys is not None else None,
        direction=stream_direction or direction,
    )


def _number(text: str) -> int:
    return int(text) & 0x7F if text.isdigit() else 0
