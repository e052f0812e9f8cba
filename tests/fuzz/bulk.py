"""Many mutated messages: `python -m tests.fuzz.bulk --messages 10000000`, `make fuzz`.

Ends with 1, and with the message, where an exception escapes, where a message takes more than 50 ms of processor time
or where memory grows. --corpus takes in what tests.fuzz.guided found. Same seed, same messages.
"""

import argparse
import gc
import sys
import time
from pathlib import Path

from tests.fuzz.target import FindingError, Fuzz, resident_mib

STRIDE = 20_000
GROWTH_MIB = 32.0
"""Memory may grow so much over the last nine tenths of a run."""


def run(many: int, seed: int, corpus: Path | None = None, *, says: bool = True) -> Fuzz:
    """So many mutated messages, one after another. Raises FindingError."""
    fuzz = Fuzz(seed)
    if corpus is not None:
        fuzz.seeds += [path.read_bytes() for path in sorted(corpus.iterdir())]
    gc.collect()
    gc.freeze()
    gc.disable()
    began = time.monotonic()
    baseline = 0.0
    try:
        while fuzz.count < many:
            fuzz.run(min(STRIDE, many - fuzz.count))
            gc.collect()
            memory = resident_mib()
            if not baseline and fuzz.count >= many / 10:
                baseline = memory  # caches with a bound are full by now
            if says and fuzz.count % (5 * STRIDE) == 0:
                rate = fuzz.count / (time.monotonic() - began)
                slowest = fuzz.slowest * 1000
                print(
                    f"{fuzz.count:>10} messages, {rate:.0f}/s, {memory:.0f} MiB, slowest {slowest:.1f} ms", flush=True
                )
        if resident_mib() - baseline > GROWTH_MIB:
            raise FindingError(f"memory grew from {baseline:.0f} to {resident_mib():.0f} MiB", b"")
    finally:
        gc.enable()
        gc.unfreeze()
    if says:
        print(
            f"nothing found in {fuzz.count} messages; memory {baseline:.0f} to {resident_mib():.0f} MiB", flush=True
        )
    return fuzz


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.bulk", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="folder of messages, one a file")
    options = parser.parse_args()
    try:
        run(options.messages, options.seed, options.corpus)
    except FindingError as finding:
        path = Path(f"finding-{options.seed}.bin")
        path.write_bytes(finding.data)
        print(f"{finding}\nkept in {path}", file=sys.stderr)
        if finding.__cause__ is not None:
            raise
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
