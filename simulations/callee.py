"""Callee: an actor that takes calls by a script: when it rings, answers and hangs up, or that it does not."""

import asyncio
from dataclasses import dataclass

from simulations.calls import IncomingCall, UserAgent
from sip.message import Request

AUDIO_PORT = 40000
"""Named in session descriptions; no audio flows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a callee does with a call; times are seconds after the INVITE. 100 Trying goes at once in any case."""

    ring_after: float | None = 0.05
    """None: it never rings."""
    answer_after: float | None = 0.5
    """None: it never answers."""
    hang_up_after: float | None = None
    """Seconds after the ACK; None: the caller hangs up."""
    refuse: int = 0
    """Status to refuse the call with, in place of all that."""


class Callee(UserAgent):
    """Takes every call as its script says, and keeps the calls it was offered."""

    def __init__(
        self, name: str, host: str = "127.0.0.1", port: int = 0, *, user: str = "", script: Script | None = None
    ) -> None:
        super().__init__(name, host, port, user=user)
        self.script = script or Script()
        self.offered: list[IncomingCall] = []

    @property
    def invites(self) -> list[Request]:
        """The INVITEs that arrived, as they were on the wire; one that was sent again is there again."""
        return [
            seen.message
            for seen in self.log
            if not seen.sent and isinstance(seen.message, Request) and seen.message.method == b"INVITE"
        ]

    def on_call(self, call: IncomingCall) -> None:
        """Play the script."""
        script = self.script
        self.offered.append(call)
        if script.refuse:
            call.refuse(script.refuse)
            return
        later = asyncio.get_running_loop().call_later
        if script.ring_after is not None:
            later(script.ring_after, lambda: None if call.ended.is_set() else call.ring())
        if script.answer_after is not None:
            later(script.answer_after, lambda: None if call.ended.is_set() else call.answer(sdp(self.host)))
        if script.hang_up_after is not None:
            seconds = script.hang_up_after

            def told(_call: object, what: str) -> None:
                if what == "acknowledged":
                    later(seconds, lambda: self.spawn(call.hang_up()))

            call.told = told


def sdp(host: str, port: int = AUDIO_PORT) -> bytes:
    """A session description for G.711, in the words of a desk phone."""
    family = "IP6" if ":" in host else "IP4"
    lines = [
        "v=0",
        f"o=- 20260101 1 IN {family} {host}",
        "s=call",
        f"c=IN {family} {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 8 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=sendrecv",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()
