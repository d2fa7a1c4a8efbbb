"""Many files read whole in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import CraqenError
from ..core.limits import BATCH_ITEMS_MAX, INLINE_BYTES_MAX, MIB
from ..core.meta.records import Inode, InodeType
from .errors import os_error
from .paths import Path, find, text_of

if TYPE_CHECKING:
    from .async_store import AsyncStore

TOGETHER_BYTES_MAX = 64 * MIB  # of content that is read from chunks side by side


async def read_whole(
    store: AsyncStore, paths: Sequence[Path], inode_ids: Sequence[int]
) -> list[bytes]:
    """At most BATCH_ITEMS_MAX files: see ``AsyncStore.read_files``. Raises CraqenError, OSError."""
    found = await store.meta.read_inline_many(inode_ids)
    results: list[bytes] = [b""] * len(paths)
    in_chunks: list[tuple[int, Inode]] = []
    alone: list[int] = []
    for number, one in enumerate(found):
        inode, data = (None, None) if one is None else one
        if (
            inode is None
            or inode.type != InodeType.FILE
            or not inode.nlink
            or inode.encryption is not None
            or inode.extent_pages
            or inode.size > (INLINE_BYTES_MAX if inode.inline else TOGETHER_BYTES_MAX)
        ):
            alone.append(number)
        elif data is not None:
            whole = len(data) == inode.size
            results[number] = data if whole else data[: inode.size].ljust(inode.size, b"\0")
        elif inode.size:
            in_chunks.append((number, inode))
    alone += await _read_chunks(store, in_chunks, results)
    for number in sorted(alone):
        results[number] = await store.read_bytes(paths[number])
    return results


async def inode_ids_of(store: AsyncStore, paths: Sequence[Path]) -> list[int]:
    """What the paths lead to. Raises OSError."""
    numbers = []
    for path in paths:
        try:
            numbers.append((await find(store.meta, path)).inode_id)
        except CraqenError as error:
            raise os_error(error, text_of(path)) from error
    return numbers


def in_batches(count: int) -> list[slice]:
    """Positions of *count* files for ``read_whole``."""
    return [slice(start, start + BATCH_ITEMS_MAX) for start in range(0, count, BATCH_ITEMS_MAX)]


async def _read_chunks(
    store: AsyncStore, files: Sequence[tuple[int, Inode]], results: list[bytes]
) -> list[int]:
    """Read files that lie in chunks, as many at once as memory is bounded. Return those that
    failed: done alone they are tried again, and it is known what to say."""
    failed: list[int] = []
    at = 0
    while at < len(files):
        group, size = [files[at]], files[at][1].size
        at += 1
        while at < len(files) and size + files[at][1].size <= TOGETHER_BYTES_MAX:
            group.append(files[at])
            size += files[at][1].size
            at += 1
        buffers = [bytearray(inode.size) for _, inode in group]
        outcomes = await store.client.data.read_batch(
            [
                (inode.extents, 0, memoryview(buffer), inode.generation)
                for (_, inode), buffer in zip(group, buffers, strict=True)
            ]
        )
        for (number, _), buffer, outcome in zip(group, buffers, outcomes, strict=True):
            if outcome is None:
                results[number] = bytes(buffer)
            else:
                failed.append(number)
    return failed
