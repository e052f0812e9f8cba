"""Probing trunks with OPTIONS (RFC 3261 section 11), so that a call need not find out who is down.

Every place of every trunk with a `probe` interval is asked. Any final answer but 503 says that it is up, whatever its
status; silence, a closed port, a broken connection and 503 ("temporarily unable", section 21.5.4) are misses. After
MISSES misses in a row the place is down; one answer, to a probe or to a call, and it is up again. A call that gets no
answer from a place has it probed at once, and counts as a miss. A place that was silent and then answered a call
answers calls and no OPTIONS: from then on its silence to OPTIONS says nothing, until a call meets silence there, too.

A place that emergency calls reach by several ways (TLS, else unverified, TCP, UDP; decision 0024) is up where one of
them is: a bad certificate is an alarm of its own, and no reason to pass a provider over.

Timers are the stack's, so this runs on virtual time as the transactions do.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from router.network.approach import SIPS_PORT, ways_to
from router.network.trunk_health import Place, TrunkHealth, place_of, place_text
from router.network.trunks import Hop, Trunks
from sip.flow import Flow
from sip.machines import ClientTransaction
from sip.message import Response
from sip.stack import Stack
from sip.timers import Entry, cancel_timer

log = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0
"""So long a probe may take."""
MISSES = 2
"""Misses in a row that make a place count as down."""
RECHECK_SECONDS = 1.0
"""After a first miss the next probe comes so soon."""
DOWN_SECONDS = 10.0
"""A place that is down is asked at least so often."""
_FIRST_STEP = 0.1
_FIRST_STEPS = 10
"""First probes are spread over so many steps of the first second."""


@dataclass(slots=True, eq=False)
class _Probe:
    """One place that is probed."""

    probes: "Probes"
    place: Place
    trunk: str
    """The trunk, of those at this place, by which it is asked."""
    interval: float
    is_up: bool | None = None
    """None until the first answer or MISSES misses."""
    misses: int = 0
    sent: int = 0
    asked_at: float | None = None
    answered_at: float | None = None
    """When it was asked last, and when an answer came last, in the stack's time."""
    client: ClientTransaction | None = None
    flow: Flow | None = None
    others: list[Flow] = field(default_factory=list)
    """Ways to the place that this probe has not tried yet."""
    timers: dict[str, Entry] = field(default_factory=dict)
    answers_calls_only: bool = False
    """True while its silence to OPTIONS says nothing: a call was answered there meanwhile."""

    def on_timer(self, name: str, now: float) -> None:
        self.timers.pop(name, None)
        if name == "next":
            self.probes.send(self, now)
        else:
            self.probes.failed(self, "no-answer", now)

    def on_response(self, client: ClientTransaction, response: Response, now: float) -> None:
        if client is not self.client or response.status < 200:
            return
        if response.status == 503:
            self.probes.missed(self, "unavailable", now)
        else:
            self.answers_calls_only = False
            self.probes.answered(self, now)

    def on_timeout(self, client: ClientTransaction, now: float) -> None:
        if client is self.client:
            self.probes.failed(self, "no-answer", now)

    def on_transport_error(self, client: ClientTransaction, now: float) -> None:
        if client is self.client:
            self.probes.failed(self, "unreachable", now)


class Probes:
    """All probes of a node. key: the node's; began: tells one process's probes from another's."""

    def __init__(
        self,
        stack: Stack,
        health: TrunkHealth,
        *,
        key: bytes,
        domain: str,
        began: float,
        now: Callable[[], float],
        renew: Callable[[Flow], None] = lambda _: None,
    ) -> None:
        self.stack = stack
        self.health = health
        self.counts: Counter[str] = Counter()
        self.domain = domain.encode()
        self.now = now
        self.renew = renew
        self.trunks: Trunks | None = None
        self.emergency: Collection[str] = ()
        self.is_stopped = False
        self._seed = b"%b%.6f" % (key, began)
        self._probes: dict[Place, _Probe] = {}
        health.listener = self._on_call

    # ---- which places ----

    def use(self, trunks: Trunks, emergency: Collection[str] = ()) -> None:
        """Probe the places of these trunks from now on; what is known of a place that stays, stays. To be called
        again when trunks have other addresses. emergency: the trunks that 911 calls go to."""
        self.trunks = trunks
        self.emergency = emergency
        if self.is_stopped:
            return
        now = self.now()
        wanted: dict[Place, tuple[str, float]] = {}
        for name, state in trunks.states.items():
            interval = state.config.probe_interval
            if interval is None:
                continue
            for hop in trunks.hops(name):
                trunk, known = wanted.get(place_of(hop.flow), (name, interval))
                wanted[place_of(hop.flow)] = (trunk, min(known, interval))
        for place in self._probes.keys() - wanted.keys():
            self._end(self._probes.pop(place))
        for place, (trunk, interval) in wanted.items():
            probe = self._probes.get(place)
            if probe is not None:
                probe.trunk, probe.interval = trunk, interval
                continue
            probe = self._probes[place] = _Probe(self, place, trunk, interval)
            step = len(self._probes) % _FIRST_STEPS + 1
            self._schedule(probe, step * _FIRST_STEP, now)

    def stop(self) -> None:
        """Send nothing more; what is known stays for the calls still to come."""
        self.is_stopped = True
        for probe in self._probes.values():
            self._settle(probe)

    def states(self) -> dict[str, str]:
        """Trunk → `up`, `down`, `unknown`, `no-address` or `not-probed`; a trunk is up where one of its places is."""
        trunks = self.trunks
        return {name: self._state(trunks, name) for name in trunks.states} if trunks is not None else {}

    def _state(self, trunks: Trunks, name: str) -> str:
        hops = trunks.hops(name)
        if trunks.states[name].config.probe_interval is None:
            return "not-probed"
        if not hops:
            return "no-address"
        probes = [self._probes.get(place_of(hop.flow)) for hop in hops]
        known = [probe.is_up for probe in probes if probe is not None and probe.is_up is not None]
        if any(known):
            return "up"
        return "down" if len(known) == len(hops) else "unknown"

    def up(self) -> dict[str, float]:
        """Trunk → 1 where it is up, 0 where it is down; for metrics."""
        return {name: float(state == "up") for name, state in self.states().items() if state in ("up", "down")}

    def places_up(self) -> dict[str, float]:
        """Place → 1 where it is up, 0 where it is down; for metrics."""
        return {
            place_text(place): float(probe.is_up) for place, probe in self._probes.items() if probe.is_up is not None
        }

    def report(self, since_1970: float) -> dict[str, dict[str, Any]]:
        """Trunk → its state and that of each of its addresses, for people. since_1970: what makes seconds since 1970
        of the stack's time."""
        trunks = self.trunks
        if trunks is None:
            return {}
        return {
            name: {
                "state": state,
                "places": [self._told(place_of(hop.flow), since_1970) for hop in trunks.hops(name)],
            }
            for name, state in self.states().items()
        }

    def _told(self, place: Place, since_1970: float) -> dict[str, Any]:
        probe = self._probes.get(place)
        is_up = probe.is_up if probe is not None else None
        asked_at, answered_at = (probe.asked_at, probe.answered_at) if probe is not None else (None, None)
        return {
            "place": place_text(place),
            "state": "unknown" if is_up is None else "up" if is_up else "down",
            "reason": self.health.down.get(place, ""),
            "asked_at": asked_at + since_1970 if asked_at is not None else None,
            "answered_at": answered_at + since_1970 if answered_at is not None else None,
        }

    # ---- one probe ----

    def send(self, probe: _Probe, now: float) -> None:
        """Ask once, by each way until one answers."""
        hop = self._hop_of(probe)
        if hop is None:
            # The trunk has moved, and `use` is about to say where to; unless its name leads back here before that.
            self._schedule(probe, probe.interval, now)
            return
        if self.is_stopped:
            return
        probe.asked_at = now
        probe.others = self._ways(probe.trunk, hop)
        self.counts["sent"] += 1
        self._ask(probe, hop, now)

    def _ways(self, trunk: str, hop: Hop) -> list[Flow]:
        state = self.trunks.states.get(trunk) if self.trunks is not None else None
        if self.trunks is None or state is None or trunk not in self.emergency or not state.config.may_use_tls:
            return [hop.flow]
        ways = ways_to(self.trunks, state, hop)
        # Nothing in clear goes to the port of TLS here, although a call would try even that in the end.
        return [step.flow for step in ways if step.flow.peer is not None or step.flow.port != SIPS_PORT] or [hop.flow]

    def _ask(self, probe: _Probe, hop: Hop, now: float) -> None:
        flow = probe.flow = probe.others.pop(0)
        probe.sent += 1
        branch, data = self._options(probe, hop, flow)
        probe.timers["answer"] = self.stack.set_timer(probe, "answer", ANSWER_SECONDS, now)
        probe.client = self.stack.send_request(b"OPTIONS", branch, data, flow, probe, now)

    def answered(self, probe: _Probe, now: float) -> None:
        """The place answered: it is up."""
        self.counts["answered"] += 1
        self._settle(probe)
        probe.answered_at = now
        was_up, probe.is_up, probe.misses = probe.is_up, True, 0
        if self.health.down.pop(probe.place, None) is not None or was_up is False:
            log.info("trunk %s is up again at %s", probe.trunk, place_text(probe.place))
            self.counts["went-up"] += 1
        self._schedule(probe, probe.interval, now)

    def failed(self, probe: _Probe, reason: str, now: float) -> None:
        """This way brought no answer: the next one, where there is one."""
        flow = probe.flow
        self._settle(probe)
        if flow is not None and flow.point.reliable and reason == "no-answer":
            self.renew(flow)
        hop = self._hop_of(probe) if probe.others and not self.is_stopped else None
        if hop is not None:
            self._ask(probe, hop, now)
        else:
            self.missed(probe, reason, now)

    def missed(self, probe: _Probe, reason: str, now: float) -> None:
        """The place did not answer, or not well."""
        self.counts[reason] += 1
        self._settle(probe)
        if reason == "no-answer" and probe.answers_calls_only:
            self._schedule(probe, probe.interval, now)
            return
        self._count_miss(probe, reason)
        if probe.misses < MISSES:
            self._schedule(probe, min(probe.interval, RECHECK_SECONDS), now)
        else:
            self._schedule(probe, min(probe.interval, DOWN_SECONDS), now)

    def _count_miss(self, probe: _Probe, reason: str) -> None:
        probe.misses += 1
        if probe.misses >= MISSES and probe.is_up is not False:
            probe.is_up = False
            self.counts["went-down"] += 1
            log.warning(
                "trunk %s is down at %s (%s): calls try it last", probe.trunk, place_text(probe.place), reason
            )
            self.health.down[probe.place] = reason
            if self.health.on_silent is not None and reason != "unavailable":
                self.health.on_silent(probe.place)
        if probe.is_up is False:
            self.health.down[probe.place] = reason

    def _on_call(self, flow: Flow, has_answered: bool) -> None:
        """What a call found out about a place."""
        probe = self._probes.get(place_of(flow))
        if probe is None or self.is_stopped:
            return
        now = self.now()
        if has_answered:
            if self.health.down.get(probe.place) == "no-answer" and not probe.answers_calls_only:
                probe.answers_calls_only = True
                log.warning(
                    "trunk %s answers calls at %s, and no OPTIONS: its silence does not count from now on; write "
                    "probe: off for it",
                    *(probe.trunk, place_text(probe.place)),
                )
            self.answered(probe, now)
            return
        probe.answers_calls_only = False
        if probe.is_up is False:
            return
        self._count_miss(probe, "call-unanswered")
        if probe.client is None:
            self._schedule(probe, 0.0, now)

    def _settle(self, probe: _Probe) -> None:
        """The question is over."""
        client, probe.client, probe.flow = probe.client, None, None
        self._stop_timers(probe)
        if client is not None and client.owner is probe:
            self.stack.abandon_client(client)

    def _schedule(self, probe: _Probe, seconds: float, now: float) -> None:
        cancel_timer(probe.timers.pop("next", None))
        if not self.is_stopped:
            probe.timers["next"] = self.stack.set_timer(probe, "next", seconds, now)

    def _stop_timers(self, probe: _Probe) -> None:
        for entry in probe.timers.values():
            cancel_timer(entry)
        probe.timers.clear()

    def _end(self, probe: _Probe) -> None:
        self._settle(probe)
        self.health.down.pop(probe.place, None)

    def _hop_of(self, probe: _Probe) -> Hop | None:
        hops = self.trunks.hops(probe.trunk) if self.trunks is not None else []
        return next((hop for hop in hops if place_of(hop.flow) == probe.place), None)

    def _options(self, probe: _Probe, hop: Hop, flow: Flow) -> tuple[bytes, bytes]:
        """The branch and the bytes of an OPTIONS to the trunk itself."""
        place = place_text(probe.place).encode()
        name = hashlib.blake2b(self._seed + place, digest_size=12).hexdigest().encode()
        branch = b"z9hG4bKe9p%b.%d" % (name, probe.sent)
        uri = b"sip:" + hop.peer.hostport.encode()
        point = flow.point
        lines = [
            b"OPTIONS %b SIP/2.0" % uri,
            point.via + branch + point.via_end,
            b"Max-Forwards: 70",
            b"From: <sip:edge911@%b>;tag=%b" % (self.domain, name[:12]),
            b"To: <%b>" % uri,
            b"Call-ID: %b@%b" % (name, self.domain),
            b"CSeq: %d OPTIONS" % probe.sent,
            b"Contact: <%b>" % point.record_route_uri.removesuffix(b";lr"),
            b"Accept: application/sdp",
            b"Content-Length: 0",
        ]
        return branch, b"\r\n".join([*lines, b"", b""])
