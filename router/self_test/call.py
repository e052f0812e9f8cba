"""One test call: placed to our own listening point like any phone's, its answer listened to, and judged."""

import asyncio
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

from config.channel_urls import SipReceiver
from e911.read_back import ReadBack, judge
from router.notices.receivers.audio import (
    ALAW_SILENCE,
    FRAME,
    FRAME_SECONDS,
    SILENCE,
    RtpSender,
    from_mulaw,
    mulaw_of_alaw,
    payload_of,
)
from router.notices.receivers.outgoing_call import OutgoingCall
from router.notices.receivers.sdp import Audio, offer, read_audio
from router.notices.receivers.sip_agent import ALLOW, SipAgent, SipError, Way, new_id, new_tag
from router.self_test.proof import FIELD, Asked, field_value
from sip.errors import RemoteError
from sip.machines import ServerTransaction
from sip.message import Request
from sip.uri import bracketed, parse_sip_uri

ANSWER_SECONDS = 90.0
"""So long a test call may lack its final answer: the whole ladder has its time."""
QUIET_END_SECONDS = 4.0
"""After a voice, so much silence ends the recording."""
_SILENT_PEAK = 200
CALLER = "edge911-test"
"""User part of whom these calls are from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What came of a test call. Times are seconds since 1970."""

    call_id: str
    started_at: float
    answered_at: float | None = None
    ended_at: float = 0.0
    status: int = 0
    """The final answer; 0 where there was none."""
    reason: str = ""
    """`timeout`, `unreachable`, `refused`, `no-common-codec`, or empty."""
    words: str = ""
    hung_up: bool = False
    """The other end hung up first."""
    sound: bytes = b""
    """What was heard: µ-law, 8 kHz."""
    read_back: ReadBack | None = None


@dataclass(slots=True)
class Recording:
    """Packets as they came, put in order by their numbers."""

    payload_type: int = 0
    alaw_type: int | None = None
    packets: dict[int, bytes] = field(default_factory=dict)
    turns: int = 0
    last: int = -1
    last_loud_at: float = 0.0
    voice_frames: int = 0

    def add(self, packet: bytes, now: float) -> None:
        """One packet."""
        found = payload_of(packet, self.payload_type) if self.payload_type != self.alaw_type else None
        if found is None and self.alaw_type is not None and (alaw := payload_of(packet, self.alaw_type)):
            found = alaw[0], alaw[1].translate(mulaw_of_alaw())
        if found is None or len(self.packets) > 20_000:
            return
        number, sound = found
        if self.last >= 0 and number < self.last - 30_000:
            self.turns += 1
        self.last = number
        self.packets[self.turns * 65_536 + number] = sound
        if max(map(abs, from_mulaw(sound)), default=0) > _SILENT_PEAK:
            self.last_loud_at = now
            self.voice_frames += 1

    @property
    def sound(self) -> bytes:
        """All of it, in order; packets that were lost are silence."""
        if not self.packets:
            return b""
        first, last = min(self.packets), max(self.packets)
        if last - first > 20_000:
            return b"".join(self.packets[number] for number in sorted(self.packets))
        return b"".join(self.packets.get(number, SILENCE * FRAME) for number in range(first, last + 1))


class TestCall(OutgoingCall):
    """The call, in the agent's thread."""

    __test__ = False  # no test case of pytest

    def __init__(
        self, agent: SipAgent, key: bytes, asked: Asked, *, number: str, target: str, media_host: str, seconds: float
    ) -> None:
        """target: HOST:PORT;transport=… of our listening point; seconds: how long to listen at most."""
        uri = f"sip:{number}@{target}".encode()
        # Everything goes to our listening point, whatever address others see us by.
        proxy = target.partition(";")[0]
        receiver = SipReceiver(uri=uri, parsed=parse_sip_uri(uri), is_call=True, proxy=proxy)
        super().__init__(agent, receiver, "edge911")
        self._key = key
        self._asked = asked
        self._media_host = media_host
        self._seconds = seconds
        self._heard = Recording()
        self._cseq = 1

    async def run(self) -> Placed:
        """From the INVITE to the BYE. Never raises for what the network does."""
        started = time.time()
        try:
            way = self._way = await self.agent.reach(self.receiver)
            await self._open_some_media(way)
            self._call_id, tag = new_id(way.host), new_tag()
            self._from = b'From: "edge911 self-test" <sip:%b@%b>;tag=%b' % (
                CALLER.encode(),
                bracketed(way.host).encode(),
                tag,
            )
            self._to = b"To: <%b>" % self.receiver.uri
            self.agent.dialogs[self._call_id] = self
            return await self._talk(way, tag, started)
        except SipError as failure:
            return Placed(
                call_id=self._call_id.decode(),
                started_at=started,
                ended_at=time.time(),
                reason=failure.reason,
                words=failure.words,
            )
        except (OSError, RemoteError) as error:
            return Placed(
                call_id=self._call_id.decode(),
                started_at=started,
                ended_at=time.time(),
                reason="unreachable",
                words=str(error) or type(error).__name__,
            )
        finally:
            self.agent.dialogs.pop(self._call_id, None)
            if self._media is not None:
                self._media.close()

    async def _talk(self, way: Way, tag: bytes, started: float) -> Placed:
        value = field_value(self._key, self._asked, self._call_id.decode(), tag.decode(), started)
        lines = (
            *self._head(b"INVITE"),
            f"{FIELD}: {value}".encode(),
            self._contact(),
            ALLOW,
            b"Content-Type: application/sdp",
        )
        body = offer(self._media_host or way.host, self._port, self._session, with_alaw=True)
        exchange = self.agent.send(way, b"INVITE", self.receiver.uri, lines, body)
        exchange.on_again = self._acknowledge
        try:
            response = await asyncio.wait_for(asyncio.shield(exchange.final), ANSWER_SECONDS)
        except TimeoutError:
            if exchange.is_ringing:
                self.agent.cancel(exchange)
            raise SipError("timeout", f"no final answer within {ANSWER_SECONDS:.0f} s") from None
        words = f"{response.status} {response.reason.decode('utf-8', 'replace')}"
        call_id = self._call_id.decode()
        if response.status >= 300:
            return Placed(
                call_id=call_id,
                started_at=started,
                ended_at=time.time(),
                status=response.status,
                reason="refused",
                words=words,
            )
        answered = time.time()
        self._heard = Recording()  # what was played before, ringing or an announcement, is not the answer
        self._take_answer(response)
        audio = read_audio(response.body, with_alaw=True)
        if audio is not None:
            self._heard.payload_type, self._heard.alaw_type = audio.payload_type, audio.alaw_type
            await self._listen(audio)
        hung_up = self.over.is_set()
        if not hung_up:
            await self._bye()
        sound = self._heard.sound
        return Placed(
            call_id=call_id,
            started_at=started,
            answered_at=answered,
            ended_at=time.time(),
            status=response.status,
            reason="" if audio is not None else "no-common-codec",
            words=words,
            hung_up=hung_up,
            sound=sound,
            read_back=judge(from_mulaw(sound)) if audio is not None else None,
        )

    async def _listen(self, audio: Audio) -> None:
        """Send silence, which opens the way through whatever latches on it, and record."""
        loop = self.agent.loop
        stream = RtpSender(
            ssrc=secrets.randbits(32),
            sequence=secrets.randbits(15),
            timestamp=secrets.randbits(31),
            payload_type=audio.payload_type,
        )
        frame = (ALAW_SILENCE if audio.payload_type == audio.alaw_type else SILENCE) * FRAME
        end = loop.time() + self._seconds
        due = loop.time()
        while loop.time() < end and not self.over.is_set():
            heard = self._heard
            if heard.voice_frames > 50 and loop.time() - heard.last_loud_at > QUIET_END_SECONDS:
                return
            if self._media is not None:
                with suppress(OSError):
                    self._media.sendto(stream.packet(frame), (audio.host, audio.port))
            due = max(due + FRAME_SECONDS, loop.time() - 1.0)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), max(due - loop.time(), 0.001))

    # ---- signalling ----

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        """What the other end asks in the call."""
        if request.method == b"BYE":
            self.agent.reply(server, 200)
            self.over.set()
        elif request.method in (b"INFO", b"OPTIONS"):
            self.agent.reply(server, 200, (ALLOW,))
        elif request.method in (b"INVITE", b"UPDATE") and self._way is not None:
            body = offer(self._media_host or self._way.host, self._port, self._session, 2, with_alaw=True)
            lines = (self._contact(), ALLOW, b"Content-Type: application/sdp")
            self.agent.reply(server, 200, lines, body)
        else:
            self.agent.reply(server, 405, (ALLOW,))

    def heard(self, packet: bytes) -> None:
        """One packet of what the other end says."""
        self._heard.add(packet, self.agent.loop.time())

    async def _open_some_media(self, way: Way) -> None:
        host = self._media_host or way.host
        for local in (host, "::" if ":" in host else "0.0.0.0"):  # an address of a NAT is none of ours
            with suppress(OSError):
                await self._open_media(local)
                return
        raise SipError("unreachable", f"no media port at {host}")


def address_towards(host: str) -> str:
    """Our own address on the way to a host; empty where there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])
    return ""
