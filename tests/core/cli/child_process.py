"""A process for the supervisor's tests: it says in a journal (a named pipe) what happens to it.

Run as ``python child_process.py JOURNAL NAME BEHAVIOUR``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from craqen.core.cli.supervision import READY_VARIABLE, tell_ready


def say(journal: int, *words: object) -> None:
    """Write one line, which is whole among those of other processes."""
    os.write(journal, (" ".join(map(str, words)) + "\n").encode())


def main(path: str, name: str, behaviour: str) -> None:
    """Do what *behaviour* names, until SIGTERM."""
    journal = os.open(path, os.O_WRONLY)
    # Blocked and waited for, so that no signal is lost between start and wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    say(journal, "start", name, os.getpid())
    if behaviour == "fail":
        sys.exit(7)
    if behaviour == "fail-once-restarted":
        marker = path + ".started"
        if os.path.exists(marker):
            with open(marker) as file:
                attempts = len(file.read())
            if attempts < 3:
                with open(marker, "a") as file:
                    file.write("x")
                sys.exit(7)
        else:
            with open(marker, "w") as file:
                file.write("x")
    if behaviour == "silent":
        os.close(int(os.environ[READY_VARIABLE]))
    elif behaviour != "hang":
        with contextlib.suppress(BrokenPipeError):  # stopped before it was ready
            tell_ready(f"{name} is at {os.environ.get('PLACE', 'nowhere')}")
    signal.sigwait({signal.SIGTERM})
    say(journal, "stop", name)
    if behaviour == "deaf":
        signal.sigwait({signal.SIGUSR1})


if __name__ == "__main__":
    main(*sys.argv[1:])
