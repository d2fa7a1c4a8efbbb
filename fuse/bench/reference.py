"""The reference: an empty pyfuse3 file system in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ...core.cli.supervision import PARENT_VARIABLE, READY_PREFIX, READY_VARIABLE
from ...core.errors import UnavailableError

STOP_TIMEOUT_SECONDS = 20.0


@contextlib.contextmanager
def null_mount(mount_point: Path) -> Iterator[int]:
    """Mount the empty file system at *mount_point* (a folder that exists); give its process id.

    Raises UnavailableError if it does not start.
    """
    receive, send = os.pipe()
    environment = {
        **os.environ,
        READY_VARIABLE: str(send),
        PARENT_VARIABLE: str(os.getpid()),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "craqen.fuse.null_filesystem", str(mount_point)],
        env=environment,
        pass_fds=(send,),
        stdin=subprocess.DEVNULL,
    )
    os.close(send)
    try:
        with os.fdopen(receive) as ready:
            line = ready.readline()  # the pipe closes when the process ends
        if not line.startswith(READY_PREFIX):
            raise UnavailableError("the empty file system did not start; its own message is above")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
