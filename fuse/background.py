"""DRIVER: a mount in the background: a watcher in a session of its own that starts the mount, says
when it serves, and starts it anew if it dies.

The watcher ends when the mount ends well (it was unmounted, or asked to end), and ends it when it
is itself asked to end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from ..core.cli.supervision import PARENT_VARIABLE, READY_PREFIX, READY_VARIABLE
from ..core.errors import OperatorError

RESTART_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS: Final = 300.0  # who served so long begins with the first pause again
LOG_TAIL_BYTES: Final = 4000


def log_path(run_folder: str, mount_point: str) -> Path:
    """Where a background mount at *mount_point* says what it has to say."""
    return Path(run_folder) / f"mount-{mount_point.strip('/').replace('/', '-') or 'root'}.log"


def start(words: Sequence[str], log: Path) -> int:
    """Run ``craqen`` with *words*, a mount, under a watcher; return 0 once it serves. If it does
    not come to that, what it said goes to standard error, and its exit code is returned.

    Raises OperatorError if there can be no log.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError(
            f"{log}: cannot be written: {error.strerror}: name another file with --log"
        ) from error
    begin = os.fstat(descriptor).st_size
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(receive)
            os.setsid()
            _redirect(descriptor)
            code = _Watcher(words, lambda text: _tell(send, text)).run()
        finally:
            os._exit(code)
    os.close(send)
    os.close(descriptor)
    with os.fdopen(receive) as ready:
        if ready.readline().startswith(READY_PREFIX):
            return 0
    _, status = os.waitpid(child, 0)
    with log.open("rb") as said:
        said.seek(max(begin, os.fstat(said.fileno()).st_size - LOG_TAIL_BYTES))
        sys.stderr.write(said.read().decode(errors="replace"))
    return os.waitstatus_to_exitcode(status) or 1


class _Watcher:
    """Starts the mount, again and again."""

    def __init__(self, words: Sequence[str], ready: Callable[[str], None]) -> None:
        self._words = words
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self) -> int:
        """Until the mount ends for good; returns its exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        pauses = iter(RESTART_SECONDS)
        while True:
            began = time.monotonic()
            served = self._serve()
            assert self._process is not None
            code = self._process.wait()
            if code == 0 or self._stopped or not served:
                return max(code, 0) if self._stopped else code
            if time.monotonic() - began > STEADY_SECONDS:
                pauses = iter(RESTART_SECONDS)
            pause = next(pauses, RESTART_SECONDS[-1])
            print(
                f"the mount ended with {_ending(code)}; it starts again in {pause:g} s", flush=True
            )
            while not self._stopped and pause > 0:
                time.sleep(min(pause, 0.1))
                pause -= 0.1

    def _serve(self) -> bool:
        """Start it; whether it came to serve. One that did once may fail to start later, and is
        tried again."""
        receive, send = os.pipe()
        environment = {
            **os.environ,
            READY_VARIABLE: str(send),
            PARENT_VARIABLE: str(os.getpid()),
        }
        again = self._process is not None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "craqen.core.cli", *self._words],
            env=environment,
            pass_fds=(send,),
            stdin=subprocess.DEVNULL,
        )
        os.close(send)
        with os.fdopen(receive) as ready:
            line = ready.readline()
        if line.startswith(READY_PREFIX) and not again:
            self._ready(line)
        return again or line.startswith(READY_PREFIX)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _tell(descriptor: int, line: str) -> None:
    os.write(descriptor, line.encode())
    os.close(descriptor)


def _redirect(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
