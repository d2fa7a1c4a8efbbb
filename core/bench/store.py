"""A store of its own for a benchmark or test: ``craqen up`` on a fresh folder and a free port,
stopped at the end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import yaml

from ..errors import UnavailableError

READY_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 60.0


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LocalStore:
    """``craqen up`` as a context manager."""

    def __init__(
        self,
        *,
        folder: str | None = None,
        workers: int = 2,
        mount: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """*options*: further ``CRAQEN_…=value`` settings. *folder* None: a temporary one, removed
        at the end."""
        self._temporary = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="craqen-")
        self.port = free_port()
        self.mount = mount
        self._workers = workers
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""
        self.access_key = ""
        self.secret_key = ""

    def __enter__(self) -> LocalStore:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def process_id(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return once it serves. Raises UnavailableError."""
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        receive, send = os.pipe()
        words = [sys.executable, "-m", "craqen.core.cli", "up", "--data", self.folder]
        words += ["--port", str(self.port), "--workers", str(self._workers)]
        if self.mount:
            words += ["--mount", self.mount]
        environment = dict(os.environ)
        environment["CRAQEN_READY_FD"] = str(send)
        for option in self._options:
            name, _, value = option.partition("=")
            environment[name] = value
        log_path = Path(self.folder) / "up.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                words,
                env=environment,
                pass_fds=(send,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(send)
        with os.fdopen(receive) as ready:
            line = ready.readline()  # the pipe closes when the process ends
        if not line.startswith("READY "):
            raise UnavailableError(f"craqen up did not start:\n{log_path.read_text()[-4000:]}")
        self.endpoint = line.removeprefix("READY ").strip()
        credentials = yaml.safe_load((Path(self.folder) / "credentials.yaml").read_text())
        first = credentials["credentials"][0]
        self.access_key, self.secret_key = first["access_key"], first["secret_key"]

    def stop(self) -> None:
        """End it cleanly; killed if it does not end in time."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the supervisor by SIGKILL; the kernel ends its processes."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait()
