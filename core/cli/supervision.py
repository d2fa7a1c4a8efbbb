"""What a process of ``craqen up`` and its parent owe each other: a sign when ready, and no life
after the other."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping

READY_VARIABLE = "CRAQEN_READY_FD"
PARENT_VARIABLE = "CRAQEN_PARENT_PID"

_PR_SET_PDEATHSIG = 1


def die_with_parent(environment: Mapping[str, str]) -> None:
    """Have the kernel end this process (SIGTERM) when the supervisor that started it is gone.

    So a killed ``craqen up`` leaves nothing behind that holds the data folder. Does nothing for a
    process that was not
    started by a supervisor.
    """
    parent = environment.get(PARENT_VARIABLE)
    if not parent:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the call above
        raise SystemExit(143)


def tell_ready(text: str) -> None:
    """Tell the supervisor, if there is one, that this process serves; *text* says where."""
    descriptor = os.environ.get(READY_VARIABLE)
    if descriptor:
        os.write(int(descriptor), f"READY {text}\n".encode())
        os.close(int(descriptor))
        del os.environ[READY_VARIABLE]
