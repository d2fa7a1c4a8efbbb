"""DRIVER: what pyfuse3 needs of its event loop, on asyncio, with little work for each request.

pyfuse3 comes with such a layer, but registers and unregisters the kernel's descriptor for each
request (six system calls). Here it stays registered while somebody waits for it, which under load
is nearly always, and what is readable already is read without going through the loop.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pyfuse3

READS_IN_A_ROW_MAX = 8  # then others on the loop get their turn
IDLE_CALLS_MAX = 3  # calls for a descriptor that nobody waits for, before it is taken out


class ClosedResourceError(Exception):
    """The descriptor is about to be closed."""


class Lock:
    """Lets one task at a time in, in order."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._held:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn  # whoever leaves hands the lock over
        self._held = True

    async def __aexit__(self, *error: object) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._held = False


class Readable:
    """Waits until a descriptor can be read. One task waits at a time (pyfuse3 holds its lock)."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._poll: select.poll | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._registered = False
        self._in_a_row = 0
        self._idle_calls = 0

    async def wait(self, descriptor: int) -> None:
        """Return once *descriptor* can be read. Raises ClosedResourceError."""
        if self._poll is None:
            self._descriptor = descriptor
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
        if self._in_a_row < READS_IN_A_ROW_MAX and self._poll.poll(0):
            self._in_a_row += 1
            return
        self._in_a_row = 0
        loop = asyncio.get_running_loop()
        if not self._registered:
            self._registered = True
            loop.add_reader(descriptor, self._is_readable)
        self._waiter = loop.create_future()
        await self._waiter

    def _is_readable(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._idle_calls = 0
            if not waiter.done():
                waiter.set_result(None)
            return
        # The waiter of the last call is about to read, or all are busy with requests. The loop must
        # not turn in circles over that.
        self._idle_calls += 1
        if self._idle_calls >= IDLE_CALLS_MAX:
            self._unregister()

    def close(self, descriptor: int) -> None:
        """Have the waiting task give up; nothing waits for the descriptor afterwards."""
        self._unregister()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(ClosedResourceError())

    def _unregister(self) -> None:
        if self._registered:
            self._registered = False
            asyncio.get_running_loop().remove_reader(self._descriptor)


class Nursery:
    """Tasks that end before their block does."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Nursery:
        return self

    def start_soon(
        self, work: Callable[..., Coroutine[Any, Any, Any]], *arguments: object, name: str
    ) -> None:
        """Start ``work(*arguments)``."""
        self._tasks.add(asyncio.create_task(work(*arguments), name=name))

    async def __aexit__(self, *error: object) -> None:
        failed: BaseException | None = None
        while self._tasks:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            self._tasks -= done
            for task in done:
                failed = failed or task.exception()
        if failed is not None:
            raise failed


def install() -> Callable[[], None]:
    """Have pyfuse3 use this layer; return what takes the descriptor out of the running loop."""
    readable = Readable()
    layer = SimpleNamespace(
        Lock=Lock,
        ClosedResourceError=ClosedResourceError,
        open_nursery=Nursery,
        wait_readable=readable.wait,
        notify_closing=readable.close,
        current_task=lambda: SimpleNamespace(name="craqen"),
        current_trio_token=lambda: "asyncio",
    )
    layer.lowlevel = layer.from_thread = layer
    pyfuse3.trio = layer  # type: ignore[attr-defined]
    return lambda: readable.close(-1)
