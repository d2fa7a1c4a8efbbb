"""The garbage collector of a server process: it looks at what requests make, not at modules."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 20_000


def exempt_loaded() -> None:
    """Take everything loaded so far out of collections, and make those of young objects rarer.

    To be called once, when a process has imported its modules.
    """
    gc.collect()
    gc.freeze()
    _, middle, old = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, middle, old)
