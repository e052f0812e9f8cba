"""structlog without rich, which it would load for coloured tracebacks: no log of ours has them, and each process that
loads it is five MiB larger. Import structlog from here; rich itself can be imported before and after as usual.
"""

import sys

_HAS_RICH = "rich" in sys.modules
if not _HAS_RICH:
    sys.modules["rich"] = None  # type: ignore[assignment]  # the import system's word for "not to be had"
try:
    import structlog
finally:
    if not _HAS_RICH:
        del sys.modules["rich"]

__all__ = ["structlog"]
