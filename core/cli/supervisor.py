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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import OperatorError
from .supervision import PARENT_VARIABLE, READY_PREFIX, READY_VARIABLE

READY_TIMEOUT_SECONDS = 60.0  # opening an index after a crash takes seconds; a hang should be seen
STOP_TIMEOUT_SECONDS = 20.0  # the mount flushes its dirty bytes first
RESTART_DELAYS_SECONDS = (0.2, 1.0, 5.0, 15.0)
QUIET_SECONDS = 60.0
EXIT_TIMEOUT_SECONDS = (
    5.0  # from the end of the READY pipe without a line to the end of the process
)

_log = logging.getLogger("craqen.up")


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run: its name in messages, and the words after the Python interpreter."""

    name: str
    words: tuple[str, ...]


class Supervisor:
    """Runs processes. One task watches each; all of it on one event loop."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        ready_timeout_seconds: float = READY_TIMEOUT_SECONDS,
        stop_timeout_seconds: float = STOP_TIMEOUT_SECONDS,
        restart_delays_seconds: Sequence[float] = RESTART_DELAYS_SECONDS,
    ) -> None:
        """*environment*: what every process gets, besides the variables of supervision."""
        self._environment = environment
        self._ready_timeout_seconds = ready_timeout_seconds
        self._stop_timeout_seconds = stop_timeout_seconds
        self._restart_delays_seconds = restart_delays_seconds
        self._stages: list[Sequence[ProcessSpec]] = []
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self, specs: Sequence[ProcessSpec]) -> list[str]:
        """Start *specs* side by side; return what each said with READY.

        Raises OperatorError if one fails; ``stop`` then stops the others too.
        """
        self._stages.append(specs)
        results = await asyncio.gather(
            *(self._start_one(spec) for spec in specs), return_exceptions=True
        )
        said: list[str] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            said.append(result)
        self._watchers += [asyncio.create_task(self._watch(spec)) for spec in specs]
        return said

    async def stop(self) -> None:
        """Stop everything: those started last first, those started together side by side; whoever
        does not end in time is killed."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()
        while self._stages:
            stage = self._stages.pop()
            await asyncio.gather(*(self._stop_one(spec.name) for spec in stage))

    async def _start_one(self, spec: ProcessSpec) -> str:
        receive, send = os.pipe()
        try:
            # A session of its own: Ctrl-C reaches the supervisor alone, which stops the others in
            # order.
            self._running[spec.name] = await asyncio.create_subprocess_exec(
                sys.executable,
                *spec.words,
                env={
                    **self._environment,
                    READY_VARIABLE: str(send),
                    PARENT_VARIABLE: str(os.getpid()),
                },
                pass_fds=(send,),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            os.close(receive)
            raise
        finally:
            os.close(send)
        line = await self._ready_line(receive)
        if line is not None and line.startswith(READY_PREFIX):
            return line.removeprefix(READY_PREFIX).strip()
        if line is None:
            reason = f"it was not ready within {self._ready_timeout_seconds:g} s"
        else:
            reason = await self._exit_reason(spec.name)
        await self._stop_one(spec.name)
        raise OperatorError(f"{spec.name} did not start: {reason}; its own message is above")

    async def _ready_line(self, descriptor: int) -> str | None:
        """Read one line from the pipe; empty if the other end was closed, None if time ran out."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
        )
        try:
            # Not wait_for: up to Python 3.11 it loses a cancellation that meets the line's arrival.
            async with asyncio.timeout(self._ready_timeout_seconds):
                line = await reader.readline()
        except TimeoutError:
            return None
        finally:
            transport.close()
        return line.decode(errors="replace")

    async def _exit_reason(self, name: str) -> str:
        """Why a process closed its READY pipe without a line."""
        process = self._running[name]
        try:
            async with asyncio.timeout(EXIT_TIMEOUT_SECONDS):
                return f"exit code {await process.wait()}"
        except TimeoutError:
            return "it never said that it was ready"

    async def _watch(self, spec: ProcessSpec) -> None:
        """Start the process again whenever it ends, until this task is cancelled."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started_seconds = loop.time()
            code = await self._running[spec.name].wait()
            if loop.time() - started_seconds > QUIET_SECONDS:
                failures = 0
            _log.error("%s ended unasked (exit code %s)", spec.name, code)
            started = False
            while not started:
                last = len(self._restart_delays_seconds) - 1
                delay_seconds = self._restart_delays_seconds[min(failures, last)]
                failures += 1
                _log.info("%s is started again in %g s", spec.name, delay_seconds)
                await asyncio.sleep(delay_seconds)
                try:
                    await self._start_one(spec)
                    started = True
                except (OperatorError, OSError) as error:
                    # OSError: no process to be had just now; the next attempt may find one.
                    _log.error("%s", error)
            _log.info("%s runs again", spec.name)

    async def _stop_one(self, name: str) -> None:
        process = self._running.get(name)
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._stop_timeout_seconds):
                await process.wait()
        except TimeoutError:
            _log.warning("%s did not stop within %g s: killed", name, self._stop_timeout_seconds)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
