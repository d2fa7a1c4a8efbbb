"""What ``craqen bench chain`` says of resyncs: a node steps out as planned, chunks are written
without it, and it is filled when it is back; beside a raw copy of as many bytes in pieces of the
same size, from file to file with one flush at the end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from ..limits import KIB, MIB
from ..manager.client import ManagerClient
from ..options import Config
from .measure import Report, cpu_seconds

SIZES: Final = ((4 * KIB, 8192, "4 KiB"), (MIB, 256, "1 MiB"), (8 * MIB, 32, "8 MiB"))
"""Bytes of a chunk, how many, and in words."""
AWAY: Final = 3
"""The node that is filled."""
WRITERS: Final = 32
POLL_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 300.0

Put = Callable[[memoryview], Awaitable[object]]


async def resyncs(
    config: Config, put: Put, folder: Path, storage_processes: list[int], report: Report
) -> None:
    """Rows of resyncs of chunks of each size; *put* writes a chunk durably."""
    manager = ManagerClient(config)
    try:
        for size, count, words in SIZES:
            raw = await asyncio.to_thread(_raw_copy, folder, size, count)
            await manager.admin("node-stop", node_ids=[AWAY])
            await _until(manager, "offline")
            await _write(put, size, count)
            before = cpu_seconds(storage_processes)
            await manager.admin("node-start", node_ids=[AWAY])
            await _until(manager, "syncing", some=True)
            began = time.perf_counter()
            await _until(manager, "serving")
            seconds = time.perf_counter() - began
            spent = cpu_seconds(storage_processes) - before
            rate = size * count / seconds / MIB
            report.add(
                f"resync of {count} chunks of {words}",
                f"{rate:.0f} MiB/s, {count / seconds:.0f} chunks/s; "
                f"{spent / count * 1e6:.0f} us CPU per chunk",
                f"raw copy in pieces of {words}: {raw:.0f} MiB/s",
                ratio=rate / raw,
                at_least=0.5,
            )
    finally:
        await manager.close()


async def _until(manager: ManagerClient, state: str, *, some: bool = False) -> None:
    """Until all targets of the node are in *state*, or *some* are (or have been: they serve)."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            rows: list[dict[str, Any]] = await manager.admin("targets")
            states = [row["state"] for row in rows if row["node"] == AWAY]
            if some and any(one in (state, "serving") for one in states):
                return
            if all(one == state for one in states):
                return
            await asyncio.sleep(POLL_SECONDS)


async def _write(put: Put, size: int, count: int) -> None:
    data = memoryview(os.urandom(size))
    left = iter(range(count))

    async def writer() -> None:
        for _ in left:
            await put(data)

    await asyncio.gather(*(writer() for _ in range(WRITERS)))


def _raw_copy(folder: Path, size: int, count: int) -> float:
    """MiB per second of a copy of *count* pieces of *size*."""
    source, copy = folder / "raw", folder / "raw-copy"
    piece = memoryview(os.urandom(size))
    with source.open("wb") as made:
        for _ in range(count):
            made.write(piece)
        made.flush()
        os.fsync(made.fileno())
    into = bytearray(size)
    with source.open("rb", buffering=0) as given, copy.open("wb", buffering=0) as taken:
        began = time.perf_counter()
        while given.readinto(into):
            taken.write(into)
        os.fdatasync(taken.fileno())
        seconds = time.perf_counter() - began
    source.unlink()
    copy.unlink()
    return size * count / seconds / MIB
