"""Coverage-guided fuzzing with Atheris: `python -m tests.fuzz.guided CORPUS [libFuzzer options]`.

Messages that reach new code are kept in the folder CORPUS, which tests.fuzz.bulk then mutates further. Mutations are
those of tests.fuzz.mutation, and libFuzzer's own. What is found stops it, with the message in a file `crash-…`.
"""

import random
import sys

import atheris

with atheris.instrument_imports(include=["sip", "e911", "router"], enable_loader_override=False):
    from tests.fuzz.target import Fuzz

from tests.fuzz.mutation import mutated


def main() -> None:
    """Entry point; libFuzzer ends the process."""
    fuzz = Fuzz()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.3:
            return atheris.Mutate(data, max_size)
        pool = list(fuzz.live) if chance.random() < 0.2 else []
        base = chance.choice(pool) if pool else data if len(data) > 20 else chance.choice(fuzz.seeds)
        return mutated(chance, base, fuzz.seeds)[:max_size]

    atheris.Setup(sys.argv, fuzz.check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
