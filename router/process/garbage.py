"""The garbage collector, kept away from calls.

Calls make no reference cycles (tested), so reference counts free what they leave behind, and the collector is off: a
full pass with 100,000 transactions alive holds every call up for some 400 ms. What makes cycles after all must
still not fill the memory of a router that is never quiet, so the young objects are looked at whenever there are
YOUNG_LIMIT of them, a few milliseconds' work; those that survive are left alone until a quiet moment.
"""

import gc

YOUNG_LIMIT = 10_000
"""Objects made and not freed since the last pass: beyond it, they are looked at also while calls are in progress."""


def begin() -> None:
    """Before anything is loaded: nothing is collected by itself from here on."""
    gc.disable()


def loaded() -> None:
    """What is alive now stays alive: no pass looks at it again."""
    gc.collect()
    gc.freeze()


def collect_young() -> None:
    """Ten times a second: free the cycles among new objects, where there are many of these."""
    if gc.get_count()[0] > YOUNG_LIMIT:
        gc.collect(0)


def collect_all() -> None:
    """In a quiet moment: free every cycle."""
    gc.collect()
