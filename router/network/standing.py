"""A TLS connection held to each emergency trunk, so that a 911 call finds one, and a fault is known before a call."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from config.findings import emergency_lists
from config.schema import Config
from router.network.approach import Step, ways_to
from router.network.trunks import Trunks, TrunkState, Way
from sip.flow import Flow

log = logging.getLogger(__name__)


class Edge(Protocol):
    """What holding connections needs of the sockets."""

    def connect(self, flow: Flow, told: Callable[[str], None]) -> None:
        """Find out whether a connection can be had; told an empty string, or the name of what stopped it."""

    def keep(self, flow: Flow) -> None:
        """A standing connection to this address is not idle."""


def emergency_trunks(config: Config) -> frozenset[str]:
    """The trunks that 911 calls go to."""
    return frozenset(route.trunk for _, routes in emergency_lists(config) for route in routes)


@dataclass(slots=True)
class StandingConnections:
    """Holds them. `look` is called every few seconds; trunks gives those of the configuration in use."""

    edge: Edge
    now: Callable[[], float]
    trunks: Callable[[], Trunks]
    config: Callable[[], Config]
    asking: set[tuple[str, str, int]] = field(default_factory=set)
    """Trunk, address and port of what is being opened."""

    def look(self) -> None:
        """Open what does not stand; verified first, also where that failed before."""
        trunks = self.trunks()
        for name in emergency_trunks(self.config()):
            state = trunks.states.get(name)
            if state is None or not state.config.may_use_tls:
                continue
            for hop in trunks.hops(name):
                key = (name, hop.flow.host, hop.flow.port)
                ways = [step for step in ways_to(trunks, state, hop) if step.way in (Way.TLS, Way.TLS_UNVERIFIED)]
                if ways and key not in self.asking:
                    self.asking.add(key)
                    self._ask(state, key, ways, "")

    def _ask(self, state: TrunkState, key: tuple[str, str, int], ways: Sequence[Step], stopped: str) -> None:
        """Ask for the first of the ways; where it cannot be had, for the others."""
        if not ways:
            self.asking.discard(key)
            return
        first, *others = ways

        def told(failure: str) -> None:
            now = self.now()
            state.note(first.way, first.flow, failure, now)
            if not failure:
                self.asking.discard(key)
                self.edge.keep(first.flow)
                self._say(state, first.way, stopped, now)
            elif others and failure not in ("refused", "unreachable", "no-answer", "handshake-timeout"):
                self._ask(state, key, others, failure)
            else:
                self.asking.discard(key)
                self._say(state, None, failure, now)

        self.edge.connect(first.flow, told)

    def _say(self, state: TrunkState, way: Way | None, why: str, now: float) -> None:
        """In the log and the state: what a 911 call would find."""
        if way is Way.TLS and state.way not in (None, Way.TLS):
            log.info("trunk %s: TLS with a verified certificate again", state.name)
        state.way = way or Way.TCP
        if way is Way.TLS or not state.is_news(f"standing {way} {why}", now):
            return
        if way is None:
            outcome = "skip this trunk" if state.config.tls.policy == "require" else "step down to tcp or udp"
            log.error("trunk %s: no TLS at the moment (%s); a 911 call would %s", state.name, why, outcome)
        else:
            log.error("trunk %s: its certificate is not good (%s); a 911 call would go unverified", state.name, why)


def steps_down(trunks: Trunks) -> dict[str, float]:
    """Trunk by TLS → how far below verified TLS it was reached last: 0, 1 unverified, 2 TCP, 3 UDP."""
    ways = list(Way)
    return {name: ways.index(state.way) for name, state in trunks.states.items() if state.way is not None}
