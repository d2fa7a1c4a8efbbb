"""DRIVER: reads every byte of every replica, and holds it against the checksums."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from ..checksum import crc32c
from ..errors import DataLossError
from ..limits import MIB
from ..wire.codec import exception_from_status
from ..wire.messages import ChunkRange, ChunkSummary, Method, ReadReply, ReadRequest
from .damage import Damage
from .findings import Finding
from .inventory import Inventories, id_of
from .mending import Mender
from .scan import Check

PIECE_BYTES = 4 * MIB
READS_AT_ONCE = 4  # 16 MiB of buffers
RETRY_DELAYS_SECONDS = (0.0, 0.05, 0.2, 0.5)  # a chunk that is written meanwhile is read again


class _ChangedError(Exception):
    """The chunk was written while it was read."""


class DataVerifier:
    """Verifies chunks on one target each, not on whichever replica answers."""

    def __init__(self, check: Check, inventories: Inventories, mender: Mender) -> None:
        self._mender = mender
        self._check = check
        self._inventories = inventories
        self._slots = asyncio.Semaphore(READS_AT_ONCE)

    async def verify(
        self, chain_id: int, target_id: int, chunks: Iterable[ChunkSummary], damage: Damage
    ) -> None:
        """Read *chunks* as *target_id* holds them. Raises RetryableError."""
        pieces = [
            asyncio.ensure_future(self._verify_one(chain_id, target_id, chunk, damage))
            for chunk in chunks
            if chunk.committed_version
        ]
        try:
            await asyncio.gather(*pieces)
        finally:
            for piece in pieces:
                piece.cancel()

    async def _verify_one(
        self, chain_id: int, target_id: int, chunk: ChunkSummary, damage: Damage
    ) -> None:
        summary = chunk
        chunk_id = id_of(chunk)
        async with self._slots:
            for delay in RETRY_DELAYS_SECONDS:
                await asyncio.sleep(delay)
                try:
                    problem = await self._read(chain_id, target_id, summary)
                except _ChangedError:
                    problem = None
                if problem == "":
                    return
                now = await self._inventories.one(target_id, chain_id, chunk_id)
                if now is None or not now.committed_version:
                    return  # removed meanwhile
                if problem and now.committed_version == summary.committed_version:
                    break
                summary = now
            else:
                self._check.findings.note_unsettled(
                    f"chunk {chunk_id.segment_id:x}.{chunk_id.index} on target {target_id}: is "
                    f"being written all the time; its bytes could not be verified"
                )
                return
        finding = Finding(
            "chunk-damaged",
            f"chunk {chunk_id.segment_id:x}.{chunk_id.index} on target {target_id}",
            f"chain {chain_id}: {problem}",
            "run with --repair: it is fetched from another target of the chain if one has it "
            "whole; if none has, restore the named files, or remove them",
            partial(self._mender.mend_bytes, chain_id, target_id, chunk_id),
        )
        damage.add(chunk_id, self._check.findings.add(finding))

    async def is_whole(self, chain_id: int, target_id: int, chunk: ChunkSummary) -> bool:
        """Whether a target's bytes are what its index says. Raises RetryableError."""
        try:
            return not await self._read(chain_id, target_id, chunk)
        except _ChangedError:
            return False

    async def _read(self, chain_id: int, target_id: int, chunk: ChunkSummary) -> str:
        """Read a version; return what is wrong with it, empty if nothing is.

        Raises _ChangedError if another version is read: inventories tell of one a moment before
        it is durable and can be read.
        """
        connection = await self._inventories.connection(target_id)
        chain = self._inventories.chain(chain_id)
        buffer = memoryview(bytearray(min(PIECE_BYTES, chunk.length_bytes)))
        position = 0
        checksum = 0
        while position < chunk.length_bytes:
            piece = buffer[: min(len(buffer), chunk.length_bytes - position)]
            wanted = ChunkRange(
                chunk.segment_id,
                chunk.chunk_index,
                chain_id,
                chain.version,
                position,
                len(piece),
                relaxed=True,  # what this target holds, without asking the tail
            )
            reply = await connection.call(
                Method.READ, ReadRequest((wanted,)), ReadReply, receive=[piece]
            )
            result = reply.results[0]
            error = exception_from_status(result.status, chain_id=chain_id)
            if isinstance(error, DataLossError):
                return str(error)
            if error is not None:
                raise error
            if result.version != chunk.committed_version:
                raise _ChangedError
            if result.length_bytes != len(piece):
                return f"it ends at byte {position + result.length_bytes}"
            if crc32c(piece) != result.crc32c:
                return f"bytes {position} to {position + len(piece)} were damaged on their way"
            checksum = crc32c(piece, checksum)
            position += len(piece)
        if checksum != chunk.crc32c:
            return f"its bytes have checksum {checksum:08x}, the index says {chunk.crc32c:08x}"
        return ""
