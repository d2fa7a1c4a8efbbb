"""DRIVER: starts the processes of a store in order, keeps them running, stops them in reverse
order.

A process is up when it has written its READY line to the pipe it was given. One that ends unasked
is started again, after a delay that grows with each failure in a row and falls back after a quiet
minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import OperatorError
from .supervision import PARENT_VARIABLE, READY_VARIABLE

READY_TIMEOUT_SECONDS = 60.0  # opening an index after a crash takes seconds; a hang should be seen
STOP_TIMEOUT_SECONDS = 20.0  # the mount flushes its dirty bytes first
RESTART_DELAY_SECONDS = (0.2, 1.0, 5.0, 15.0)
QUIET_SECONDS = 60.0

_log = logging.getLogger("craqen.up")


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run: its name in messages, and the words after ``craqen``."""

    name: str
    words: tuple[str, ...]


class Supervisor:
    """Runs processes. One task watches each; all of it on one event loop."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self, specs: Sequence[ProcessSpec]) -> list[str]:
        """Start *specs* side by side; return what each said with READY. Raises OperatorError if one
        fails."""
        results = await asyncio.gather(
            *(self._start_one(spec) for spec in specs), return_exceptions=True
        )
        said: list[str] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            said.append(result)
        for spec in specs:
            self._watchers.append(asyncio.create_task(self._watch(spec)))
        return said

    async def stop(self) -> None:
        """Stop everything, last started first; whoever does not end in time is killed."""
        self._stopping = True
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        for name, process in reversed(list(self._running.items())):
            await self._stop_one(name, process)
        self._running.clear()

    async def _start_one(self, spec: ProcessSpec) -> str:
        receive, send = os.pipe()
        environment = dict(os.environ)
        environment[READY_VARIABLE] = str(send)
        environment[PARENT_VARIABLE] = str(os.getpid())
        try:
            # A session of its own: Ctrl-C reaches the supervisor alone, which stops the others in
            # order.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "craqen.core.cli",
                *spec.words,
                env=environment,
                pass_fds=(send,),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(send)
        self._running[spec.name] = process
        line = await self._ready_line(receive)
        if not line.startswith("READY "):
            code = process.returncode
            if code is None:
                with contextlib.suppress(asyncio.TimeoutError):
                    code = await asyncio.wait_for(process.wait(), 5)
            await self._stop_one(spec.name, process)
            self._running.pop(spec.name, None)
            raise OperatorError(
                f"{spec.name} did not start (exit code {code}); its own message is above"
            )
        return line.removeprefix("READY ").strip()

    async def _ready_line(self, descriptor: int) -> str:
        """Read one line from the pipe; empty if the other end was closed or time ran out."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
        )
        try:
            line = await asyncio.wait_for(reader.readline(), READY_TIMEOUT_SECONDS)
        except TimeoutError:
            return ""
        finally:
            transport.close()
        return line.decode(errors="replace")

    async def _watch(self, spec: ProcessSpec) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            code = await self._running[spec.name].wait()
            if loop.time() - started > QUIET_SECONDS:
                failures = 0
            delay = RESTART_DELAY_SECONDS[min(failures, len(RESTART_DELAY_SECONDS) - 1)]
            failures += 1
            _log.error("%s ended (exit code %s); starting it again in %s s", spec.name, code, delay)
            await asyncio.sleep(delay)
            try:
                await self._start_one(spec)
            except OperatorError as error:
                _log.error("%s", error)
                # Watch the failed attempt no further: wait for a fresh one.
                while spec.name not in self._running:
                    await asyncio.sleep(RESTART_DELAY_SECONDS[-1])
                    with contextlib.suppress(OperatorError):
                        await self._start_one(spec)
            _log.info("%s runs again", spec.name)

    async def _stop_one(self, name: str, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_SECONDS)
        except TimeoutError:
            _log.warning("%s did not stop within %s s: killed", name, STOP_TIMEOUT_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
