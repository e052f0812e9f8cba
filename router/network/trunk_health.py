"""Which places of trunks are known to be down. Known-down places go last, not away: a wrong guess costs no call."""

from collections.abc import Callable

from sip.flow import Flow

Place = tuple[str, str, int]
"""Transport, address and port."""


def place_of(flow: Flow) -> Place:
    """The place that a flow leads to."""
    return flow.point.transport, flow.host, flow.port


def place_text(place: Place) -> str:
    """A place for people and labels: `tcp:203.0.113.31:5060`."""
    transport, host, port = place
    return f"{transport}:[{host}]:{port}" if ":" in host else f"{transport}:{host}:{port}"


class TrunkHealth:
    """What is known now; probes write it, calls read it. Outlives a reload."""

    def __init__(self) -> None:
        self.down: dict[Place, str] = {}
        """Place → why it counts as down. Empty nearly always: that is all that a call looks at then."""
        self.listener: Callable[[Flow, bool], None] | None = None
        """Told by calls: a place, and whether it answered."""
        self.on_silent: Callable[[Place], None] | None = None
        """Told by probes: a place has become down, and said nothing (not 503)."""

    def is_down(self, flow: Flow) -> bool:
        """True where the place is known to be down."""
        return place_of(flow) in self.down

    def call_failed(self, flow: Flow) -> None:
        """A request of a call got no answer from there."""
        if self.listener is not None:
            self.listener(flow, False)

    def call_answered(self, flow: Flow) -> None:
        """A request of a call was answered from there; of interest only while it counts as down."""
        if self.down and self.listener is not None and place_of(flow) in self.down:
            self.listener(flow, True)
