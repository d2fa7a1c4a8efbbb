"""What a process of ``craqen up`` and its parent owe each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from craqen.core.cli.supervision import (
    PARENT_VARIABLE,
    READY_VARIABLE,
    die_with_parent,
    tell_ready,
)

CHILD = """
import os, signal, sys
from craqen.core.cli.supervision import die_with_parent
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
die_with_parent(os.environ)
out = int(sys.argv[1])
os.write(out, b"ready\\n")
signal.sigwait({signal.SIGTERM})
os.write(out, b"SIGTERM\\n")
"""

PARENT = """
import os, subprocess, sys
out = int(sys.argv[1])
environment = {**os.environ, "CRAQEN_PARENT_PID": str(os.getpid())}
child = subprocess.Popen(
    [sys.executable, "-c", sys.argv[2], str(out)],
    env=environment, pass_fds=(out,), start_new_session=True,
)
child.wait()
"""


def test_a_process_gets_sigterm_when_its_supervisor_is_killed() -> None:
    receive, send = os.pipe()
    words = [sys.executable, "-c", PARENT, str(send), CHILD]
    with subprocess.Popen(words, pass_fds=(send,)) as parent, os.fdopen(receive) as pipe:
        os.close(send)
        assert pipe.readline() == "ready\n"
        parent.send_signal(signal.SIGKILL)
        assert pipe.read() == "SIGTERM\n"  # up to the end: the process is gone too


def test_a_process_whose_supervisor_is_gone_already_ends_at_once() -> None:
    environment = {**os.environ, PARENT_VARIABLE: str(os.getppid())}  # not its parent
    words = [sys.executable, "-c", CHILD, "1"]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stdout == b""


def test_a_process_that_no_supervisor_started_is_left_alone() -> None:
    environment: dict[str, str] = {}
    die_with_parent(environment)
    assert environment == {}


def test_ready_is_said_once_and_the_pipe_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    receive, send = os.pipe()
    monkeypatch.setenv(READY_VARIABLE, str(send))
    tell_ready("http://127.0.0.1:9000")
    tell_ready("again")
    with os.fdopen(receive) as pipe:
        assert pipe.read() == "READY http://127.0.0.1:9000\n"
    assert READY_VARIABLE not in os.environ
