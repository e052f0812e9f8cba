"""What the bench found out: plain values, as `--json` shows them."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution of times, in milliseconds."""

    calls: int
    min: float
    p50: float
    p90: float
    p99: float
    max: float


def spread(milliseconds: Iterable[float]) -> Spread | None:
    """The distribution by nearest rank; None of nothing."""
    times = sorted(milliseconds)
    if not times:
        return None

    def rank(share: float) -> float:
        return round(times[max(ceil(share * len(times)), 1) - 1], 3)

    return Spread(
        calls=len(times), min=rank(0.0), p50=rank(0.5), p90=rank(0.9), p99=rank(0.99), max=round(times[-1], 3)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStep:
    """911 calls at one rate, SIPp on both sides. CPU is user and system time, the idle share taken off."""

    rate: int
    """Calls per second that were asked for."""
    seconds: float
    calls: int
    failed: int
    """Calls that were not placed, or that failed at the caller or at the provider."""
    retransmissions: int
    """Sent by either SIPp: a message or its answer was late or lost."""
    rate_reached: float
    cpu_ms_per_call: float
    """All processes of the router, while calls came."""
    call_process_cpu_ms_per_call: float
    """Of that, the process that serves SIP."""
    cpu_ms_per_call_with_records: float
    """All processes, until records and notices had caught up as well."""
    caught_up_seconds: float | None
    """From the last call until they had; None: not within the time given."""
    pss_mib: float
    errors: list[str]
    """What SIPp said of failed calls, the first few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What the router adds to a 911 call, caller and provider on one clock."""

    rate: int
    calls: int
    failed: int
    invite_ms: Spread | None
    """The caller's INVITE to the provider's."""
    ringing_ms: Spread | None
    """The provider's 180 to the caller's."""
    added_ms: Spread | None
    """Both together, call by call: INVITE to 180."""
    errors: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """From the caller's INVITE to the next provider's."""

    first_provider: str
    """`refuses`, `closed` or `silent`."""
    calls: int
    failed: int
    early: int
    """Calls that left a silent provider before its timeout had run out."""
    timeout_ms: float | None
    """That timeout; None where it is not waited for."""
    next_invite_ms: Spread | None
    errors: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Everything."""

    version: str
    python: str
    processors: int
    load_average_before: list[float]
    load_average_after: list[float]
    devices: int
    idle_cpu_percent: float
    """Of one processor, all processes of the router, no calls."""
    idle_pss_mib: float
    load: list[LoadStep]
    latency: Latency
    failover: list[Failover]
    notices_taken: int
    """By the webhook; a storm is folded, so these are fewer than calls."""
    problems: list[str]
    """What must not be; empty where everything is right."""

    @property
    def ok(self) -> bool:
        """True where nothing was wrong. Times and rates alone are never wrong."""
        return not self.problems
