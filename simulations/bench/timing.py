"""Added latency, and the time it takes to fail over: the player's calls through the router of a world."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from dataclasses import asdict
from itertools import count

from simulations.bench.children import child
from simulations.bench.measured import Failover, Latency, spread
from simulations.bench.player import Plan, PlayedCall, Role
from simulations.bench.world import ROUTE_TIMEOUT_SECONDS, World, extension
from simulations.edge import EdgeError

START_SECONDS = 15.0
SETTLE_SECONDS = 5.0
"""After the last call of a plan, beside the timeout of a route."""
PLAN_SECONDS = 4.0
"""Of a plan that is repeated."""
FAILOVER_RATE = 10.0
"""So few calls per second that none is in another's way."""
FIRST_PROVIDERS: dict[str, Role | None] = {"refuses": "refuses", "closed": None, "silent": "silent"}

_plans = count()


async def measure_latency(world: World, rate: int, seconds: float) -> Latency:
    """911 calls at an even rate, the first provider taking them all. Raises EdgeError where they cannot be placed."""
    calls = int(rate * seconds)
    return _latency(await play(world, {"primary": "answers"}, calls, rate), rate, calls)


def _latency(played: list[PlayedCall], rate: int, calls: int) -> Latency:
    good = [call for call in played if not call.failure]
    return Latency(
        rate=rate,
        calls=calls,
        failed=calls - len(good),
        invite_ms=spread(_invite_ms(call, "primary") for call in good),
        ringing_ms=spread((call.ringing_arrived - call.ringing_sent) / 1e6 for call in good),
        added_ms=spread(
            _invite_ms(call, "primary") + (call.ringing_arrived - call.ringing_sent) / 1e6 for call in good
        ),
        errors=_errors(played),
    )


async def measure_until(world: World, rate: int, task: asyncio.Task[None]) -> Latency:
    """As measure_latency, one plan after another until `task` is done, and one plan more at the least."""
    played: list[PlayedCall] = []
    calls = int(rate * PLAN_SECONDS)
    while True:
        was_done = task.done()
        played += await play(world, {"primary": "answers"}, calls, rate)
        if was_done:
            break
    return _latency(played, rate, len(played))


async def measure_failover(world: World, first_provider: str, calls: int) -> Failover:
    """911 calls whose first provider is one of FIRST_PROVIDERS. Raises EdgeError where they cannot be placed."""
    first = FIRST_PROVIDERS[first_provider]
    roles: dict[str, Role] = {"secondary": "answers"}
    if first is not None:
        roles["primary"] = first
    played = await play(world, roles, calls, FAILOVER_RATE)
    good = [call for call in played if not call.failure]
    for call in good:
        if first is not None and "primary" not in call.invite_arrived:
            call.failure = "first provider never asked"  # so it was no failover
    good = [call for call in good if not call.failure]
    times = [_invite_ms(call, "secondary") for call in good]
    timeout_ms = ROUTE_TIMEOUT_SECONDS * 1000 if first_provider == "silent" else None
    return Failover(
        first_provider=first_provider,
        calls=calls,
        failed=calls - len(good),
        early=sum(time < timeout_ms for time in times) if timeout_ms is not None else 0,
        timeout_ms=timeout_ms,
        next_invite_ms=spread(times),
        errors=_errors(played),
    )


async def play(world: World, roles: dict[str, Role], calls: int, rate: float) -> list[PlayedCall]:
    """So many calls, one device after the other, in their order. Raises EdgeError where they cannot be placed."""
    points = {"primary": world.at.primary, "secondary": world.at.secondary}
    plan = Plan(
        name=f"{os.getpid()}-{next(_plans)}",
        router=world.at.router,
        caller=world.at.phones,
        providers={name: points[name] for name in roles},
        roles=roles,
        extensions=[extension(number) for number in range(min(calls, world.devices))],
        calls=calls,
        rate=rate,
        patience=ROUTE_TIMEOUT_SECONDS + SETTLE_SECONDS,
    )
    command = [sys.executable, "-m", "simulations.bench.player"]
    async with child(command, world.folder, stdin=PIPE, stdout=PIPE, stderr=PIPE) as player:
        try:
            async with asyncio.timeout(START_SECONDS + calls / rate + plan.patience):
                out, err = await player.communicate(json.dumps(asdict(plan)).encode())
        except TimeoutError:
            raise EdgeError("the load process did not end in time") from None
        if player.returncode:
            raise EdgeError(f"the load process failed: {err.decode(errors='replace').strip()[-400:]}")
    return [PlayedCall(**call) for call in json.loads(out)]


def _invite_ms(call: PlayedCall, provider: str) -> float:
    return (call.invite_arrived[provider] - call.invite_sent) / 1e6


def _errors(played: list[PlayedCall]) -> list[str]:
    """Failures and how often, the most frequent first."""
    failures = Counter(call.failure for call in played if call.failure)
    return [f"{times} x {failure}" for failure, times in failures.most_common(4)]
