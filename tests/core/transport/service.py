"""What the transport tests share: a server whose methods are the things that handlers do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from craqen.core.errors import CraqenError, UnavailableError
from craqen.core.transport.port import Answer, IncomingRequest

ECHO, FETCH, STORE, FAIL, HANG, CRASH, FILES, FROM_FILE, PULL_AND_WAIT, PUSH_FOREVER = range(1, 11)


class Service:
    """A handler, and what happened to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = os.open(folder / "shared", os.O_RDWR | os.O_CREAT)
        self.source = folder / "source"
        self.stored: list[bytes] = []
        self.gone: list[int] = []
        self.peer_gone = asyncio.Event()
        self.hanging = asyncio.Event()
        self.release = asyncio.Event()
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.error: CraqenError = UnavailableError("none")
        self.pull_timeout_seconds: float | None = None

    def close(self) -> None:
        """Let hanging handlers go on."""
        self.release.set()
        os.close(self.shared)

    def on_gone(self, peer_id: int) -> None:
        self.gone.append(peer_id)
        self.peer_gone.set()

    async def __call__(self, request: IncomingRequest) -> Answer:
        if request.method == FETCH:
            await self._fetch(request)
        elif request.method == STORE:
            for number in reversed(range(len(request.send_lengths))):
                buffer = bytearray(request.send_lengths[number])
                await request.pull(number, memoryview(buffer))
                self.stored.append(bytes(buffer))
        elif request.method == FAIL:
            raise self.error
        elif request.method == HANG:
            self.hanging.set()
            await self.release.wait()
            await self._note(self._fetch(request))
        elif request.method == CRASH:
            raise ZeroDivisionError
        elif request.method == FILES:
            os.pwrite(self.shared, request.header, 0)
            return Answer(b"take it", (self.shared, self.shared))
        elif request.method == FROM_FILE:
            descriptor = os.open(self.source, os.O_RDONLY)
            try:
                for number, length in enumerate(request.receive_lengths):
                    await request.push_file(number, descriptor, 1000, length)
            finally:
                os.close(descriptor)
        elif request.method == PULL_AND_WAIT:
            await self._pull_and_wait(request)
        elif request.method == PUSH_FOREVER:
            await self._note(self._push_forever(request))
        return Answer(request.header)

    async def _fetch(self, request: IncomingRequest) -> None:
        for number, length in enumerate(request.receive_lengths):
            await request.push(number, memoryview(pattern(number, length)))

    async def _push_forever(self, request: IncomingRequest) -> None:
        source = memoryview(bytearray(request.receive_lengths[0]))
        while True:
            await request.push(0, source)
            self.hanging.set()
            await asyncio.sleep(0)

    async def _pull_and_wait(self, request: IncomingRequest) -> None:
        into = memoryview(bytearray(request.send_lengths[0]))
        self.hanging.set()
        try:
            async with asyncio.timeout(self.pull_timeout_seconds):
                await self._note(request.pull(0, into))
        except TimeoutError:
            if request.header == b"go on":
                await self.release.wait()
                return
            raise UnavailableError("gave up pulling") from None

    async def _note(self, work: object) -> None:
        """Keep how *work* ended in ``outcome``."""
        try:
            await work  # type: ignore[misc]
        except (CraqenError, asyncio.CancelledError) as error:
            if not self.outcome.done():
                self.outcome.set_result(f"{type(error).__name__}: {error}")
            raise
        if not self.outcome.done():
            self.outcome.set_result("done")


def pattern(seed: int, length: int) -> bytes:
    """Bytes whose order shows."""
    unit = bytes((seed * 31 + step) & 0xFF for step in range(251))
    return (unit * (length // 251 + 1))[:length]


def open_descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))
