"""A wall clock that a test moves, for one Python process: it is put before everything else by way
of PYTHONPATH. Monotonic clocks stay as they are, as when an operator or a time service sets a
host's clock."""

from __future__ import annotations

import os
import time

_BYTES = 32
_descriptor = os.open(os.environ["WALL_CLOCK_SHIFT_FILE"], os.O_RDONLY | os.O_CLOEXEC)
_time, _time_ns = time.time, time.time_ns


def _shift_seconds() -> float:
    return float(os.pread(_descriptor, _BYTES, 0) or b"0")


def _shifted() -> float:
    return _time() + _shift_seconds()


def _shifted_ns() -> int:
    return _time_ns() + int(_shift_seconds() * 1e9)


time.time = _shifted
time.time_ns = _shifted_ns
