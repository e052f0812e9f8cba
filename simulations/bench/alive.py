"""How long the loop is held up while 100,000 transactions are alive.

`python -m simulations.bench.alive` places 911 calls through a CallRouter in virtual time, as many a second as keep so
many server transactions alive, and measures the processor time of every single thing the loop does: each message,
each round of timers, each of the jobs ten times a second. The longest is how long a call may have to wait for its
turn. It is processor time, so that other work on the machine counts little; exit code 1 where one took longer than
--most.
"""

import argparse
import gc
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from router.process import garbage
from simulations.bench.callpath import PROVIDER, World

TRANSACTION_SECONDS = 32.0
"""How long a server transaction stays after its final response (timers J and L)."""


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulations.bench.alive", description=__doc__)
    parser.add_argument(
        "--transactions", type=int, default=100_000, help="server transactions alive (default 100000)"
    )
    parser.add_argument("--most", type=float, default=10.0, help="milliseconds that nothing may exceed (default 10)")
    options = parser.parse_args(arguments)
    rate = options.transactions / 2 / TRANSACTION_SECONDS  # a call has two: its INVITE's and its BYE's
    logging.disable(logging.ERROR)
    garbage.begin()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), 10_000)
        garbage.loaded()
        longest = run(world, options.transactions // 2 * 5 // 4, rate)
    print(
        f"{rate:.0f} calls/s, {longest.pop('alive'):.0f} server transactions alive at the most; the longest, in ms:"
    )
    for step, milliseconds in sorted(longest.items(), key=lambda item: -item[1]):
        print(f"  {step:24} {milliseconds:8.2f}")
    return int(max(longest.values()) > options.most)


def run(world: World, calls: int, rate: float) -> dict[str, float]:
    """Place calls; the longest time of each step, ms, and under `alive` the most server transactions at a time."""
    longest: dict[str, float] = {}
    alive = 0

    def timed(step: str, job: Callable[[], None]) -> None:
        started = time.thread_time_ns()
        job()
        longest[step] = max(longest.get(step, 0.0), (time.thread_time_ns() - started) / 1e6)

    next_beat = world.now
    for number in range(calls):
        world.spent.clear()
        world.call(number, "911", PROVIDER)
        world.advance(1 / rate)
        for step, spent in world.spent.items():
            longest[step] = max(longest.get(step, 0.0), max(spent) / 1e6)
        if world.now >= next_beat:
            next_beat = world.now + 0.1
            alive = max(alive, len(world.router.stack.servers))
            timed("journal", world.router.write_waiting)
            timed("log", world.logs.render)
            timed("limits", world.router.admission.look_at_limits)
            timed("young objects", garbage.collect_young)
    # What nobody may do meanwhile, for comparison.
    print(f"a full pass of the garbage collector would take {_full_pass():.0f} ms", file=sys.stderr)
    return {**longest, "alive": float(alive)}


def _full_pass() -> float:
    started = time.thread_time_ns()
    gc.collect()
    return (time.thread_time_ns() - started) / 1e6


if __name__ == "__main__":
    sys.exit(main())
