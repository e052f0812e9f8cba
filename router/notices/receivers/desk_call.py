"""A call to a desk: it says what happened, until somebody presses a key, hangs up, or it has been said often enough.

All of it runs in the loop of the SipAgent. A notice that comes while a desk is being called, or listens, is said in
the same call: one phone rings once.
"""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from config.channel_urls import SipReceiver
from router.notices.outbox import Attempt
from router.notices.receivers.audio import FRAME, FRAME_SECONDS, SILENCE, RtpSender, pressed_key, silence
from router.notices.receivers.outgoing_call import OutgoingCall
from router.notices.receivers.redirects import redirected
from router.notices.receivers.sdp import Audio, offer, read_audio
from router.notices.receivers.sip_agent import (
    ALLOW,
    SipAgent,
    SipError,
    Way,
    attempt_of,
    authorization,
    new_id,
    new_tag,
    sender_of,
    sent_on,
)
from router.notices.receivers.speech import announce, thanks
from sip.errors import RemoteError
from sip.machines import ServerTransaction
from sip.message import Request, Response

PAUSE_SECONDS = 1.5
"""Between two rounds of the text."""
ANSWER_SECONDS = 32.0
"""So long a phone may be silent before its first provisional answer (64*T1)."""
LATE_SECONDS = 1.0
"""A machine that slept does not send what it missed."""
PROBE_SECONDS = 4.0
"""So long a phone may take to say that it is still in the call, before more is said into it."""
HELD_TURN_SECONDS = 0.1
HELD_SECONDS = 120.0
"""A desk that puts us on hold is talked to again when it comes back; who stays away so long is called anew."""
SAID_TEXTS = 5
"""Texts said in one round, unless more are new."""
_INFO_KEYS = b"0123456789*#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What is to be said to whom, and who wants to hear of it."""

    text: str
    language: str
    numbers: str
    """The callback number, for clips."""
    token: Any
    """Comes back with a key."""


@dataclass(slots=True)
class _Said:
    announcement: Announcement
    result: "Future[Attempt]"
    sound: bytes = b""
    times: int = 0
    """So often it was said to its end."""


@dataclass(slots=True)
class DeskCalls:
    """The calls under way, by receiver: one each. `on_key` is called with the token of each text that was heard, the
    key, and when somebody picks up with an empty key; in the agent's thread."""

    agent: SipAgent
    on_key: Callable[[Any, str], None]
    calls: dict[bytes, "DeskCall"] = field(default_factory=dict)

    def call(self, receiver: SipReceiver, announcement: Announcement) -> "Future[Attempt]":
        """Call and say it. The future is done when somebody has answered, or it failed."""
        result: Future[Attempt] = Future()
        self.agent.loop.call_soon_threadsafe(self._begin, receiver, _Said(announcement, result))
        return result

    def _begin(self, receiver: SipReceiver, said: _Said) -> None:
        call = self.calls.get(receiver.uri)
        if call is not None and call.takes_more and not call.is_held and not call.over.is_set():
            call.add(said)
            return
        call = self.calls[receiver.uri] = DeskCall(self, receiver)
        call.add(said)
        call.task = self.agent.loop.create_task(call.run())

    def ended(self, call: "DeskCall") -> None:
        """It is over."""
        if self.calls.get(call.called) is call:
            del self.calls[call.called]


class DeskCall(OutgoingCall):
    """One call."""

    def __init__(self, calls: DeskCalls, receiver: SipReceiver) -> None:
        super().__init__(calls.agent, receiver, "edge911")
        self.calls = calls
        self.called = receiver.uri
        """Who was called first; `receiver` is who that has sent us on to."""
        self.texts: list[_Said] = []
        self.task: asyncio.Task[None] | None = None
        self.takes_more = True
        self.is_up = False
        self.pressed = ""
        self._has_news = False
        """Something new can be said: it is, at once."""
        self._saying: list[_Said] = []
        """The texts of the round under way."""
        self._is_lost = False
        """The phone is not in the call any more, and has not said so."""
        self._making: set[asyncio.Task[None]] = set()
        self._audio: Audio | None = None
        self._heard: set[int] = set()
        self._version = 1

    @property
    def is_held(self) -> bool:
        """Nobody listens: the desk has put us on hold."""
        return self._audio is not None and self._audio.is_held

    def add(self, said: _Said) -> None:
        """Say this too. In a call that is up it counts as told when it begins to be said."""
        self.texts.append(said)
        task = self.agent.loop.create_task(self._make_sound(said))
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    async def _make_sound(self, said: _Said) -> None:
        if self.is_up and not await self._is_there():
            self._is_lost, self.takes_more = True, False
            self.over.set()
            return
        one = said.announcement
        said.sound = await self.agent.loop.run_in_executor(None, announce, one.text, one.language, one.numbers)
        self._has_news = self.is_up and not said.result.done()

    async def _is_there(self) -> bool:
        """Whether the phone is still in the call (RFC 3261 section 11.2 allows the question): one that was restarted
        or unplugged never hung up, and what is said to it would count as heard."""
        assert self._way is not None
        self._cseq += 1
        exchange = self.agent.send(self._way, b"OPTIONS", self._target, self._head(b"OPTIONS"))
        try:
            response = await asyncio.wait_for(exchange.final, PROBE_SECONDS)
        except (TimeoutError, SipError):
            return False
        return response.status not in (408, 481)

    async def run(self) -> None:
        """From the INVITE to the end."""
        attempt = Attempt(delivered=False, reason="channel-fault", words="the call ended of itself")
        try:
            attempt = await self._call()
        except SipError as failure:
            attempt = Attempt(delivered=False, reason=failure.reason, words=failure.words)
        except (OSError, RemoteError) as error:
            attempt = Attempt(delivered=False, reason="unreachable", words=str(error) or type(error).__name__)
        finally:
            self.takes_more = self.is_up = False
            self.calls.ended(self)
            self._let_go()
            if attempt.delivered:  # but these have not been said any more
                attempt = Attempt(delivered=False, reason="hung-up", words="the call ended before it was said")
            for said in self.texts:
                if not said.result.done():
                    said.result.set_result(attempt)

    async def _call(self) -> Attempt:
        tried: list[bytes] = []
        while True:
            tried.append(self.receiver.uri)
            response = await self._ring()
            other = redirected(response, self.receiver, tried, self.agent.is_inside)
            if other is None:
                break
            self.receiver, self._target = other, other.uri
        if not 200 <= response.status < 300:
            return attempt_of(response, tried)
        self._take_answer(response)
        audio = read_audio(response.body)
        # Who has just picked up is listening, whatever its answer says of its own microphone.
        self._audio = replace(audio, direction="sendrecv") if audio is not None else None
        if self._audio is None:
            await self._bye()
            return Attempt(delivered=False, reason="no-common-codec", words="it takes no µ-law (PCMU)")
        self.is_up = True
        for said in self.texts:
            self._answered(said, f"SIP 200 OK: answered{sent_on(tried)}")
        await self._talk(self._audio)
        self.takes_more = self.is_up = False
        if self._is_lost or not self.over.is_set():
            await self._bye()
        return Attempt(delivered=True, words="SIP 200 OK: answered")

    async def _ring(self) -> Response:
        """Call who is to be called now; the final answer. Raises SipError and OSError."""
        self._let_go()
        way = self._way = await self.agent.reach(self.receiver)
        await self._open_media(way.host)
        self._call_id, self._cseq = new_id(way.host), 0
        self._from = b"From: <%b>;tag=%b" % (sender_of(self.receiver, way, self.agent.name), new_tag())
        self._to = b"To: <%b>" % self.receiver.uri
        self.agent.dialogs[self._call_id] = self
        return await self._invite(way)

    def _let_go(self) -> None:
        """Of the dialog and its media."""
        self.agent.dialogs.pop(self._call_id, None)
        if self._media is not None:
            self._media.close()
            self._media = None

    def _answered(self, said: _Said, words: str) -> None:
        if not said.result.done():
            said.result.set_result(Attempt(delivered=True, words=words))
        self.calls.on_key(said.announcement.token, "")

    # ---- signalling ----

    async def _invite(self, way: Way) -> Response:
        """INVITE, once more with credentials where asked for; the final answer. Raises SipError."""
        body = offer(way.host, self._port, self._session)
        proof: tuple[bytes, ...] = ()
        while True:
            self._cseq += 1
            lines = (*self._head(b"INVITE"), *proof, self._contact(), ALLOW, b"Content-Type: application/sdp")
            exchange = self.agent.send(way, b"INVITE", self.receiver.uri, lines, body)
            try:
                response = await asyncio.wait_for(asyncio.shield(exchange.final), self.receiver.ring)
            except TimeoutError:
                if not exchange.is_ringing:
                    raise SipError("timeout", "no answer to the INVITE") from None
                self.agent.cancel(exchange)
                # The answer that crosses the CANCEL counts: somebody has picked up.
                with suppress(TimeoutError, SipError):
                    response = await asyncio.wait_for(asyncio.shield(exchange.final), 5)
                    if response.status < 300:
                        exchange.on_again = self._acknowledge
                        return response
                raise SipError("no-answer", f"nobody picked up within {self.receiver.ring:.0f} s") from None
            if response.status in (401, 407) and self.receiver.username and not proof:
                proof = authorization(response, self.receiver, b"INVITE", self.receiver.uri, body)
                if proof:
                    continue
            exchange.on_again = self._acknowledge
            return response

    def on_request(self, server: ServerTransaction, request: Request, now: float) -> None:
        """What the phone asks of us in the call."""
        match request.method:
            case b"BYE":
                self.agent.reply(server, 200)
                self.over.set()
            case b"INFO":
                self.agent.reply(server, 200)
                key = key_of_info(request)
                if key:
                    self._press(key)
            case b"INVITE" | b"UPDATE":
                self._renegotiate(server, request)
            case b"OPTIONS":
                self.agent.reply(server, 200, (ALLOW,))
            case _:
                self.agent.reply(server, 405, (ALLOW,))

    def _renegotiate(self, server: ServerTransaction, request: Request) -> None:
        assert self._way is not None
        audio = None
        if request.body:
            audio = read_audio(request.body)
            if audio is None:
                self.agent.reply(server, 488)
                return
            self._audio = audio
        self._version += 1
        direction = audio.answer if audio is not None else "sendrecv"
        body = offer(self._way.host, self._port, self._session, self._version, direction)
        lines = (self._contact(), ALLOW, b"Content-Type: application/sdp")
        if request.method == b"INVITE" or request.body:
            self.agent.reply(server, 200, lines, body)
        else:
            self.agent.reply(server, 200, lines[:2])

    # ---- media ----

    def heard(self, packet: bytes) -> None:
        """One packet from the phone: a key, or its voice, which nobody listens to."""
        audio = self._audio
        if audio is None or audio.keys_type is None:
            return
        key = pressed_key(packet, audio.keys_type)
        if key is not None and key[1] not in self._heard:
            self._heard.add(key[1])
            self._press(key[0])

    def _press(self, key: str) -> None:
        if not self.pressed and self.is_up:
            self.pressed = key
            self.takes_more = False
            for said in self.texts:
                if said.result.done():
                    self.calls.on_key(said.announcement.token, key)

    async def _talk(self, audio: Audio) -> None:
        """Send sound until there is an end. Packets leave by the clock, so that what is late is not made later."""
        loop = self.agent.loop
        stream = RtpSender(
            ssrc=secrets.randbits(32),
            sequence=secrets.randbits(15),
            timestamp=secrets.randbits(31),
            payload_type=audio.payload_type,
        )
        sound, position, rounds = b"", 0, 0
        is_thanking = False
        held = 0.0
        due = loop.time()
        while not self.over.is_set():
            if self.pressed and not is_thanking:
                sound, position, is_thanking = thanks(), 0, True
            if self._has_news and not is_thanking:
                # What was broken off is no round: what is new is said as often as what was there first.
                sound, position, rounds, self._saying = b"", 0, 0, []
            if self.is_held:
                # What was being said is said from its beginning when they are back.
                held += HELD_TURN_SECONDS
                if self.pressed or held > HELD_SECONDS:
                    return
                sound, position, self._saying = b"", 0, []
                stream.skip(HELD_TURN_SECONDS)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.over.wait(), HELD_TURN_SECONDS)
                due = loop.time()
                continue
            held = 0.0
            if position >= len(sound):
                for said in self._saying:
                    said.times += 1
                is_said = all(said.times for said in self.texts if said.sound)
                if is_thanking or (rounds >= self.receiver.repeat and is_said):
                    return
                sound, position = self._round(), 0
                rounds += bool(sound)
                sound = sound or silence(0.2)
            frame = sound[position : position + FRAME].ljust(FRAME, SILENCE)
            position += FRAME
            packet = stream.packet(frame)
            to = self._audio or audio
            if self._media is not None:
                self._media.sendto(packet, (to.host, to.port))
            due += FRAME_SECONDS
            left = due - loop.time()
            if left < -LATE_SECONDS:
                due = loop.time()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), max(left, 0.0005))

    def _round(self) -> bytes:
        """The texts once, what is new first, then what was said least; empty while none has been made into sound."""
        self._has_news = False
        ready = [said for said in self.texts if said.sound]
        new = [said for said in ready if not said.result.done()]
        known = sorted((said for said in ready if said.result.done()), key=lambda said: said.times)
        ready = self._saying = (new + known)[: max(SAID_TEXTS, len(new))]
        for said in new:
            self._answered(said, "said in the call that was up already")
        return b"".join(said.sound + silence(PAUSE_SECONDS) for said in ready)


def key_of_info(request: Request) -> str:
    """The key in an INFO: `Signal=5` of application/dtmf-relay, or the plain key of application/dtmf; else empty."""
    kind = (request.first("content-type") or b"").split(b";")[0].strip().lower()
    body = request.body.strip()
    if kind == b"application/dtmf-relay":
        for line in body.splitlines():
            name, _, value = line.partition(b"=")
            if name.strip().lower() == b"signal":
                body = value.strip()
                break
        else:
            return ""
    elif kind != b"application/dtmf":
        return ""
    if body in (b"10", b"11"):  # RFC 4733's numbers of * and #
        return "*#"[int(body) - 10]
    return body.decode("ascii") if len(body) == 1 and body in _INFO_KEYS else ""
