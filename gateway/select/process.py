"""DRIVER: the process of one query, as the gateway sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from .errors import SelectError
from .frames import FRAME, FRAME_BYTES_MAX, Frame, job_bytes
from .job import SelectJob

PIPE_BYTES_MAX = 2 * FRAME_BYTES_MAX  # of the result, read ahead of what the client takes


class QueryProcess:
    """A query under way. ``close`` it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, job: SelectJob) -> QueryProcess:
        """Start the process and tell it its job. It gets nothing of the gateway's environment but
        where Python finds its modules. Raises SelectError Busy if the host has no process to
        spare."""
        environment = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ
        }
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "craqen.gateway.select.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=PIPE_BYTES_MAX,
                env=environment,
            )
        except OSError as error:
            raise SelectError("Busy") from error
        query = cls(process)
        await query.write(job_bytes(job))
        return query

    async def write(self, data: bytes | memoryview) -> bool:
        """Pass some of the object on; False if the process needs no more."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(data)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def end_input(self) -> None:
        """The object is complete."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()

    async def next(self) -> tuple[Frame, bytes]:
        """The next frame. Raises SelectError InternalError if the process ended without a word."""
        stdout = self._process.stdout
        assert stdout is not None
        try:
            kind, length = FRAME.unpack(await stdout.readexactly(FRAME.size))
            if length > FRAME_BYTES_MAX:
                raise SelectError("InternalError")
            return Frame(kind), await stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ValueError) as error:
            raise SelectError(
                "InternalError", "The query took more memory or time than one may take."
            ) from error

    def kill(self) -> None:
        """End the process now."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """End the process, if it has not ended, and wait for that."""
        self.kill()
        await self._process.wait()
