"""The files of a cache: values one after another in files that never change, each named after its
batch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import msgspec

from ..core.client.connect import Client
from ..core.client.file_state import FileState
from ..core.client.files import OpenFile
from ..core.errors import (
    CallerError,
    ConflictError,
    DataLossError,
    InvalidArgumentError,
    NotDirectoryError,
    NotFoundError,
    StaleHandleError,
    UnsupportedError,
)
from ..core.limits import CHECKSUM_PAGE_BYTES
from ..core.meta.names import is_plain
from ..core.meta.records import (
    Extent,
    Inode,
    InodeType,
    NewContent,
    ObjectAttributes,
    Owner,
    Versioning,
)
from .batches import LARGE_BYTES, Task, read_share, shares
from .fast_reads import FastReads
from .kv_cache_rows import file_name
from .paths import Path, find, split, text_of

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
PADDING_SHARE = 8  # a value begins at a page of its own if that wastes at most one such part of it

_ATTRIBUTES = ObjectAttributes(headers={"content-type": "application/octet-stream"})
_GONE = DataLossError, StaleHandleError, NotFoundError


class Packs:
    """The files in one folder."""

    def __init__(
        self, client: Client, fast: FastReads, bucket: str, key_prefix: bytes, folder: Inode
    ) -> None:
        self.folder_id = folder.inode_id
        self._client = client
        self._fast = fast
        self._bucket = bucket
        self._key_prefix = key_prefix
        self._owner = Owner(os.geteuid(), os.getegid(), FILE_MODE, DIRECTORY_MODE)

    @classmethod
    async def open(cls, client: Client, fast: FastReads, path: Path) -> Packs:
        """The files in the folder *path*.

        Raises NotFoundError, NotDirectoryError, InvalidArgumentError (a link is on the way, or the
        folder is the root), UnsupportedError (its bucket keeps versions, has a trash, or encrypts).
        """
        names, text = split(path), text_of(path)
        folder = await find(client.meta, path)
        if folder.type != InodeType.DIRECTORY:
            raise NotDirectoryError(f"{text}: is not a folder")
        if not names or not all(map(is_plain, names)):
            raise InvalidArgumentError(f"{text}: a cache is in a bucket, or in a folder below it")
        trail = await client.meta.get_inode(folder.inode_id)
        at = len(names) - 1
        while at > 0:
            if trail.name != names[at]:
                raise InvalidArgumentError(f"{text}: leads over a link: name the folder itself")
            trail = await client.meta.get_inode(trail.parent_id)
            at -= 1
        bucket = await client.meta.get_bucket(names[0].decode())
        if bucket.versioning != Versioning.NEVER:
            raise UnsupportedError(
                f"{text}: bucket {bucket.name} keeps versions, so that a cache could free nothing: "
                "use a bucket that never did"
            )
        if bucket.trash_seconds:
            raise UnsupportedError(
                f"{text}: bucket {bucket.name} has a trash, so that a cache would free nothing for "
                "days: use a bucket without one"
            )
        inside = msgspec.structs.replace(folder, bucket_id=bucket.inode_id)
        if await client.sealed.begins_sealed(inside):
            raise UnsupportedError(
                f"{text}: bucket {bucket.name} encrypts by default, which a cache does not: use "
                "another bucket"
            )
        prefix = b"".join(name + b"/" for name in names[1:])
        return cls(client, fast, bucket.name, prefix, folder)

    async def write(self, batch: bytes, values: Sequence[memoryview]) -> tuple[list[Extent], int]:
        """Put *values* into a file, durable on return; return where each lies, and the file's size.

        Raises CraqenError; then there is no file.
        """
        offsets, end = _places([len(value) for value in values])
        meta, data = self._client.meta, self._client.data
        await meta.ensure_ids(2)
        segment_id = meta.new_segment_id()
        layout = meta.layout_of(segment_id, in_place=False)
        writer = data.new_segment(segment_id, layout, length_bytes=end)
        try:
            at = 0
            for offset, value in zip(offsets, values, strict=True):
                if offset > at:
                    await writer.write(memoryview(bytes(offset - at)))
                await writer.write(value)
                at = offset + len(value)
            extents = await writer.finish()
        except BaseException:
            await asyncio.shield(writer.abort())
            raise
        try:
            await meta.put_object(
                self._bucket,
                self._key_prefix + file_name(batch),
                NewContent(end, None, extents),
                _ATTRIBUTES,
                self._owner,
            )
        except (CallerError, ConflictError):
            await asyncio.shield(writer.abort())
            raise
        places = [
            Extent(0, len(value), segment_id, offset, layout)
            for offset, value in zip(offsets, values, strict=True)
        ]
        return places, end

    async def read(self, extents: Sequence[Extent], buffers: Sequence[memoryview]) -> list[bool]:
        """Fill each of *buffers*, as long as its extent; tell which were: the others are gone, or
        damaged wherever they are. Raises CraqenError (the bytes cannot be reached)."""
        done = [True] * len(extents)
        waiting: list[Task] = []
        large: list[Task] = []
        lengths = [0] * len(extents)
        for number, (extent, buffer) in enumerate(zip(extents, buffers, strict=True)):
            if len(buffer) > LARGE_BYTES:
                large.append((number, _handle(extent), 0, buffer))
            elif not self._fast.read_extent(extent, buffer):
                waiting.append((number, _handle(extent), 0, buffer))
        if large:
            loop = asyncio.get_running_loop()
            jobs = [
                loop.run_in_executor(self._client.executor, read_share, self._fast, share, lengths)
                for share in shares(large)
            ]
            # A thread writes into the caller's buffers: it is waited for whatever happens.
            await asyncio.shield(asyncio.wait(jobs))
            for job in jobs:
                waiting += job.result()
        if waiting:
            rows = [((extents[task[0]],), 0, task[3], 0) for task in waiting]
            outcomes = await self._client.data.read_batch(rows)
            for task, outcome in zip(waiting, outcomes, strict=True):
                if isinstance(outcome, _GONE):
                    done[task[0]] = False
                elif outcome is not None:
                    raise outcome
        return done

    async def remove(self, batch: bytes) -> None:
        """Remove the file of *batch*, if it is there. Raises CraqenError."""
        try:
            await self._client.meta.unlink(self.folder_id, file_name(batch))
        except (NotFoundError, StaleHandleError):
            return


def _places(lengths: Sequence[int]) -> tuple[list[int], int]:
    """Offsets of values of these *lengths*, and where the last one ends. Checksums are of pages: a
    value that begins at one is read without its neighbours."""
    offsets: list[int] = []
    at = 0
    for length in lengths:
        padding = -at % CHECKSUM_PAGE_BYTES
        if padding * PADDING_SHARE <= length:
            at += padding
        offsets.append(at)
        at += length
    return offsets, at


def _handle(extent: Extent) -> OpenFile:
    """What reads of files take, for a part of a segment that never changes."""
    state = FileState(0)
    state.inode = Inode(
        0, InodeType.FILE, 0, 0, 0, 1, extent.length_bytes, 0, 0, 0, 0, extents=(extent,)
    )
    return OpenFile(state)
