"""How a place is approached by an emergency call: the transports that may lead there, and stepping down through them.

By TLS where the trunk is to be had so: with its certificate verified, then unverified, then TCP, then UDP, each step
down an alarm; verified and nothing else where the configuration says `require`. A large INVITE to a UDP trunk goes by
TCP where that can be had in time (RFC 3261 section 18.1.1), no alarm that. What fails is known at once or given up
soon, and is remembered for a while, so that a call seldom waits for it; see docs/decisions/0024-stepping-down.md.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from router.network.trunks import Hop, Trunks, TrunkState, Way
from sip.flow import Flow, ListeningPoint

log = logging.getLogger(__name__)

TCP_WAIT = 0.3
"""Seconds for a TCP connection before a large INVITE goes by UDP after all."""
TLS_WAIT = 0.35
"""Seconds for TLS, connection and handshake, from the beginning."""
TLS_AGAIN_WAIT = 0.15
"""At least so long for the second handshake, where the first has failed late."""
STEPS_WAIT = 0.5
"""Seconds for everything before UDP; a TCP connection after TLS has what is left of it, and TCP_LEAST."""
TCP_LEAST = 0.1
SHARE = 0.4
"""Of a route's time to a first answer at the most so much is for all that."""
SIPS_PORT = 5061
SIP_PORT = 5060

NO_ANSWER = "no-answer"
REFUSED = "refused"
BROKEN = "broken"
_BEFORE_CERTIFICATES = frozenset({NO_ANSWER, REFUSED, "unreachable", "handshake-timeout"})
_SILENT = frozenset({NO_ANSWER, "handshake-timeout"})
_NOT_TLS = frozenset({"handshake-failed", "handshake-timeout"})


class Step(NamedTuple):
    """One way to a place."""

    way: Way
    flow: Flow


@dataclass(slots=True)
class Approach:
    """One place being approached. began: the loop's time."""

    state: TrunkState
    steps: Sequence[Step]
    timeout: float
    """The seconds that the place has for its first answer."""
    began: float
    is_secure: bool
    """True where TLS is wanted, and each step down an alarm."""
    position: int = 0
    current: Step | None = None
    failures: list[tuple[Way, str]] = field(default_factory=list)
    """What stopped the ways tried, and those not tried as it was known."""
    pending: Step | None = None
    """TLS that was waited for in vain and is still being opened: of use where no other way is."""
    told: int = 0
    """How many of the failures are in the call's record."""

    def take(self) -> Step | None:
        """The next way to try; None where none is left."""
        while self.position < len(self.steps):
            step = self.steps[self.position]
            self.position += 1
            if not self._is_pointless(step):
                self.current = step
                return step
        return None

    @property
    def has_more(self) -> bool:
        """True while a way is left."""
        return any(not self._is_pointless(step) for step in self.steps[self.position :])

    def _is_pointless(self, step: Step) -> bool:
        """True where what stopped TLS stops this way too."""
        if not self.is_secure:
            return False
        stopped = next((failure for way, failure in self.failures if way is Way.TLS), "")
        if step.way is Way.TLS_UNVERIFIED:
            return stopped in _BEFORE_CERTIFICATES
        # At the port of TLS nobody speaks TCP, unless something there has shown that it speaks no TLS.
        return step.way is Way.TCP and step.flow.port == SIPS_PORT and stopped not in _NOT_TLS

    @property
    def is_doubtful(self) -> bool:
        """True where the current way is TCP to the very port that has answered nothing in TLS."""
        if self.current is None or self.current.way is not Way.TCP or not self.is_secure:
            return False
        tls = next((step for step in self.steps if step.way is Way.TLS), None)
        silent = any(way is Way.TLS and failure in _SILENT for way, failure in self.failures)
        return silent and tls is not None and tls.flow.port == self.current.flow.port

    def wait(self, now: float) -> float:
        """Seconds for the current way to be had, in hundredths."""
        way = self.current.way if self.current is not None else Way.UDP
        scale, spent = min(1.0, self.timeout * SHARE / STEPS_WAIT), now - self.began
        if not self.is_secure:
            seconds = TCP_WAIT * scale
        elif way is Way.TLS:
            seconds = TLS_WAIT * scale
        elif way is Way.TLS_UNVERIFIED:
            seconds = max(TLS_WAIT * scale - spent, TLS_AGAIN_WAIT * scale)
        else:
            seconds = max(STEPS_WAIT * scale - spent, TCP_LEAST * scale)
        return max(0.01, round(seconds, 2))

    def ran_out(self, now: float) -> None:
        """The current way took too long."""
        step = self.current
        if step is not None and step.way is Way.TLS and not any(way is Way.TLS for way, _ in self.failures):
            self.pending = step
        self.ended(NO_ANSWER, now)

    def take_pending(self, now: float) -> float:
        """Wait for TLS after all: so many seconds, what is left of the place's time; 0 where it is of no use."""
        left = round(self.timeout - (now - self.began), 2)
        step, self.pending = self.pending, None
        if step is None or left <= 0:
            return 0.0
        self.current = step
        return left

    def ended(self, failure: str, now: float) -> None:
        """The current way can be had (an empty failure), cannot, or broke."""
        if self.current is not None:
            self.state.note(self.current.way, self.current.flow, failure, now)
            if failure:
                self.failures.append((self.current.way, failure))

    @property
    def last_failure(self) -> str:
        """What stopped the last way."""
        return f"{self.failures[-1][0]}: {self.failures[-1][1]}" if self.failures else ""

    def untold(self) -> list[str]:
        """What stopped the ways above, each once, for the record of the call."""
        new, self.told = self.failures[self.told :], len(self.failures)
        return [f"{way}: {failure}" for way, failure in new] if self.is_secure else []

    def sound_alarm(self, now: float) -> bool:
        """The current way is used; True, and a line in the log, where it is a step down."""
        if self.current is None or not self.is_secure:
            return False
        way = self.state.way = self.current.way
        if way is Way.TLS:
            return False
        why = "; ".join(f"{tried}: {failure}" for tried, failure in self.failures)
        if self.state.is_news(f"{way} {why}", now):
            log.error(
                "trunk %s: a 911 call goes by %s instead of TLS with a verified certificate (%s); "
                "the call goes through, mend the TLS",
                self.state.name,
                way,
                why,
            )
        return True


def approach_to(
    trunks: Trunks, name: str, hop: Hop, near: ListeningPoint, timeout: float, now: float, *, is_large: bool
) -> Approach | None:
    """How to approach a place of a trunk; None where its one transport can be used at once.

    near: the listening point the call came in by. timeout: seconds that the place has for its first answer.
    """
    state = trunks.states[name]
    if not is_large and hop.flow.peer is None and state.config.tls.policy != "prefer":
        return None
    steps = ways_to(trunks, state, hop, near, is_large=is_large)
    is_secure = bool(steps) and steps[0].way is Way.TLS
    if not is_secure and len(steps) < 2:
        return None
    known = [(step, state.failure(step.way, step.flow, now)) for step in steps]
    good = [step for step, failure in known if not failure]
    bad = [step for step, failure in known if failure]
    # What is known to fail comes last, and not never, where there may be nothing else.
    approach = Approach(state, [*good, *bad] if is_secure else good, timeout, now, is_secure)
    approach.failures += [(step.way, failure) for step, failure in known if failure]
    return approach


def ways_to(
    trunks: Trunks, state: TrunkState, hop: Hop, near: ListeningPoint | None = None, *, is_large: bool = False
) -> list[Step]:
    """Every way to a place, in order; empty where it has but the one that the target names."""
    flow = hop.flow
    interface = state.config.listen or ""

    def by(way: Way, transport: str, port: int) -> list[Step]:
        point = trunks.points.choose(transport, flow.host, near, interface)
        return [] if point is None else [Step(way, Flow(point, flow.host, port))]

    policy = state.config.tls.policy
    by_tls = flow.peer is not None
    if not by_tls and policy != "prefer":
        if flow.point.transport == "udp" and is_large and state.config.large_messages == "tcp":
            return [*by(Way.TCP, "tcp", flow.port), Step(Way.UDP, flow)]
        return []
    # Where TLS has its own port, SIP without it has the other; else the peer has all at the one that is written.
    ports = [SIP_PORT, SIPS_PORT] if by_tls and flow.port == SIPS_PORT else [flow.port]
    found = (
        [Step(Way.TLS, flow)]
        if by_tls
        else [
            Step(Way.TLS, step.flow._replace(peer=trunks.tls_peer(state.name, hop.peer.host)))
            for step in by(Way.TLS, "tls", SIPS_PORT if flow.port == SIP_PORT else flow.port)
        ]
    )
    if policy == "require":
        return found
    found += [
        Step(Way.TLS_UNVERIFIED, step.flow._replace(peer=step.flow.peer._replace(verified=False)))
        for step in found
        if step.flow.peer is not None
    ]
    for port in ports:
        found += by(Way.TCP, "tcp", port)
    for port in ports:
        found += by(Way.UDP, "udp", port)
    return found
