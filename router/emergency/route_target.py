"""One INVITE of an emergency call to one hop of one route, and what became of it."""

from dataclasses import dataclass

from router.emergency.call_routes import RouteStep
from router.emergency.from_uri import with_line
from router.emergency.route_try import RouteTry
from router.network.approach import Approach
from router.network.credentials import CHALLENGES
from router.network.trunks import Hop
from sip.branch import Branch, Target
from sip.flow import Flow
from sip.message import Response


@dataclass(slots=True)
class Doubt:
    """A leg that rang, or was at 100, of which it is not known whether its provider still has the call."""

    why: str
    since: float
    """The loop's time."""


@dataclass(slots=True, kw_only=True)
class RouteTarget(Target):
    """A target that knows its rung of the ladder."""

    route: RouteTry
    hop: Hop
    attempt: int
    """0 for the route's first INVITE, then counted."""
    with_location: bool
    approach: Approach | None = None
    """Where there are several ways to the hop: which one it goes."""
    is_probe: bool = False
    """True where it is sent to something that has answered nothing in TLS: given up soon, the next way follows."""
    challenged: int = 0
    """How many challenges of the trunk were answered for it (`auth`)."""
    was_asked_again: bool = False
    """True where the answer made us ask once more, otherwise."""
    mark: bytes = b""
    """What tells it from the first INVITE to this hop, in the derived branch."""
    shortfalls: tuple[str, ...] = ()
    """Why something in it is not as the profile would have it."""
    retried: bool = False
    """True once a connection that broke was replaced by a new one."""
    doubt: Doubt | None = None
    """While it is being asked whether the provider still has the call (decision 0056)."""

    @property
    def step(self) -> RouteStep:
        """The route."""
        return self.route.step

    @property
    def shows_another_from(self) -> bool:
        """True where the provider may see another URI in From (decision 0044)."""
        profile = self.route.step.profile
        return profile is not None and bool(profile.from_uri)


def sent_to(flow: Flow) -> str:
    """Transport, address and port, as the journal has them."""
    return f"{flow.point.transport} {flow.host} {flow.port}"


def was_asked_again(branch: Branch) -> bool:
    """True where another INVITE to the same place has taken this one's place."""
    return isinstance(branch.target, RouteTarget) and branch.target.was_asked_again


def refused_credentials(branch: Branch) -> bool:
    """True where the trunk refused our credentials: the caller cannot mend that."""
    target = branch.target
    return isinstance(target, RouteTarget) and target.challenged > 0 and branch.status in CHALLENGES


def reason_of(branch: Branch) -> str:
    """What the far end said of its refusal; empty where it gave no final answer."""
    if branch.final is None:
        return ""
    if refused_credentials(branch):
        return "credentials-refused"
    phrase = branch.final.reason.decode("utf-8", "replace")[:120]
    extra = branch.final.first("reason") or branch.final.first("warning") or b""
    return f"{phrase} ({extra.decode('utf-8', 'replace')[:120]})" if extra else phrase


def as_far_end_knows(branch: Branch, response: Response) -> Response:
    """A response with From as the provider was shown it: for requests of our own in its dialog."""
    target = branch.target
    if isinstance(target, RouteTarget) and target.shows_another_from:
        return with_line(response, "from", target.request.lines("from")[0])
    return response
