"""What a process of ``craqen up`` and its parent owe each other: a sign when ready, and no life
after the other."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import MutableMapping

READY_VARIABLE = "CRAQEN_READY_FD"
PARENT_VARIABLE = "CRAQEN_PARENT_PID"
READY_PREFIX = "READY "

_PR_SET_PDEATHSIG = 1


def die_with_parent(environment: MutableMapping[str, str]) -> None:
    """Have the kernel end this process (SIGTERM) when the supervisor that started it is gone.

    So a killed ``craqen up`` leaves nothing behind that holds the data folder. Does nothing for a
    process that was not started by a supervisor. The variable is taken out of *environment*: it is
    meant for this process, not for those that it starts. Raises SystemExit if the supervisor is
    gone already.
    """
    parent = environment.pop(PARENT_VARIABLE, None)
    if not parent:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the call above
        raise SystemExit(128 + signal.SIGTERM)


def tell_ready(text: str) -> None:
    """Tell the supervisor, if there is one, that this process serves; *text* says where."""
    descriptor = os.environ.pop(READY_VARIABLE, None)
    if descriptor:
        os.write(int(descriptor), f"{READY_PREFIX}{text}\n".encode())
        os.close(int(descriptor))
