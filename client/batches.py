"""Many reads or writes in one call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..core.client.files import OpenFile
from ..core.errors import CraqenError
from ..core.limits import KIB
from .errors import os_error

if TYPE_CHECKING:
    from ..core.client.connect import Client
    from ..core.client.files import FileClient
    from .fast_reads import FastReads

PARALLEL_READS_MAX = 64  # of those that a batch cannot do together
LARGE_BYTES = 256 * KIB  # from here on a read is worth a thread
CORES = len(os.sched_getaffinity(0))
PARALLEL_FLUSHES_MAX = 32  # files of a batch of writes that are made durable at once

Task = tuple[int, OpenFile, int, memoryview]
"""Its number in the batch, the file, the offset, the buffer."""


def bytes_of(buffer: Any) -> memoryview:
    """*buffer* as bytes. Raises TypeError, ValueError (it is not contiguous)."""
    view = buffer if type(buffer) is memoryview else memoryview(buffer)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def read_at_once(
    fast: FastReads, reads: Iterable[Any], lengths: list[int]
) -> tuple[list[Task], list[Task]]:
    """Do the small reads that need nobody else, noting the *lengths*; return those that must wait,
    and the large ones, which are for several threads."""
    waiting: list[Task] = []
    large: list[Task] = []
    read, note = fast.read, lengths.append
    for file, offset, buffer in reads:
        handle = file.handle
        view = buffer if type(buffer) is memoryview and buffer.format == "B" else bytes_of(buffer)
        if len(view) > LARGE_BYTES:
            large.append((len(lengths), handle, offset, view))
            note(0)
            continue
        done = read(handle.state, offset, view)
        if done is None:
            waiting.append((len(lengths), handle, offset, view))
            done = 0
        note(done)
    return waiting, large


def shares(tasks: list[Task]) -> list[list[Task]]:
    """*tasks* for as many threads as there are cores, in turn."""
    return [share for start in range(CORES) if (share := tasks[start::CORES])]


def read_share(fast: FastReads, tasks: list[Task], lengths: list[int]) -> list[Task]:
    """Do large reads one after another; return those that must wait. In any thread: reading and
    summing let the others run."""
    waiting = []
    for task in tasks:
        number, handle, offset, view = task
        done = fast.read(handle.state, offset, view)
        if done is None:
            waiting.append(task)
        else:
            lengths[number] = done
    return waiting


class AsyncBatches:
    """The batch calls of ``AsyncStore``."""

    files: FileClient
    fast: FastReads
    _client: Client

    async def read_batch(self, reads: Iterable[Any]) -> list[int]:
        """Do many reads (``Read``, or tuples of file, offset, buffer), each into its own buffer;
        return how many bytes each got: fewer than its buffer holds only at the end of the file.

        Raises OSError of the first read that failed, after all have been tried.
        """
        lengths: list[int] = []
        waiting, large = read_at_once(self.fast, reads, lengths)
        if large:
            loop = asyncio.get_running_loop()
            jobs = [
                loop.run_in_executor(self._client.executor, read_share, self.fast, share, lengths)
                for share in shares(large)
            ]
            # A thread writes into the caller's buffers: it is waited for whatever happens.
            await asyncio.shield(asyncio.wait(jobs))
            for job in jobs:
                waiting += job.result()
        if waiting:
            await self.read_waiting(waiting, lengths)
        return lengths

    @property
    def executor(self) -> ThreadPoolExecutor:
        """Threads for reading and summing."""
        return self._client.executor

    async def read_waiting(self, waiting: Sequence[Task], lengths: list[int]) -> None:
        """Do the reads that ``read_at_once`` left. Raises OSError."""
        together: list[Task] = []
        alone: list[Task] = []
        for task in waiting:
            state = task[1].state
            inode = state.inode
            plain = not (
                inode is None
                or state.stale
                or state.changed
                or inode.inline
                or inode.extent_pages
                or inode.encryption is not None
            )
            (together if plain else alone).append(task)
        failures: list[tuple[int, CraqenError]] = []
        await self._read_together(together, lengths, alone)
        gate = asyncio.Semaphore(PARALLEL_READS_MAX)

        async def one(task: Task) -> None:
            number, handle, offset, view = task
            async with gate:
                try:
                    data = await self.files.read(handle, offset, len(view), view)
                except CraqenError as error:
                    failures.append((number, error))
                    return
            if data is not view:
                view[: len(data)] = data
            lengths[number] = len(data)

        await asyncio.gather(*(one(task) for task in alone))
        if failures:
            raise os_error(min(failures, key=lambda failure: failure[0])[1])

    async def _read_together(
        self, tasks: Sequence[Task], lengths: list[int], alone: list[Task]
    ) -> None:
        """Chunks of all reads are looked up in one call; what fails is left to be done *alone*,
        which tries again and knows what to say."""
        rows = []
        for number, handle, offset, view in tasks:
            inode = handle.inode
            length = max(0, min(len(view), inode.size - offset))
            lengths[number] = length
            rows.append((inode.extents, offset, view[:length], inode.generation))
        if not rows:
            return
        outcomes = await self._client.data.read_batch(rows)
        alone += [
            task for task, outcome in zip(tasks, outcomes, strict=True) if outcome is not None
        ]

    async def write_batch(self, writes: Iterable[Any]) -> None:
        """Do many writes (``Write``, or tuples of file, offset, data), and make all of them
        durable: together, so that they share what that costs. Raises OSError of the first file
        that failed, after all have been tried."""
        touched: dict[int, Any] = {}
        for file, offset, data in writes:
            file.mode.check_writes(file.path)
            touched.setdefault(file.handle.state.inode_id, file)
            view = bytes_of(data)
            try:
                await self.files.write(file.handle, offset, bytes(view))
            except CraqenError as error:
                raise os_error(error, file.path) from error
        gate = asyncio.Semaphore(PARALLEL_FLUSHES_MAX)

        async def flush(file: Any) -> OSError | None:
            async with gate:
                try:
                    await self.files.flush(file.handle)
                except CraqenError as error:
                    return os_error(error, file.path)
            return None

        outcomes = await asyncio.gather(*(flush(file) for file in touched.values()))
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
