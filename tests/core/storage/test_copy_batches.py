"""Copies of small chunks share calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from craqen.core.errors import UnavailableError
from craqen.core.storage.copy_batches import BATCH_BYTES_MAX, BATCH_COPIES_MAX, CopyBatches
from craqen.core.wire.messages import (
    ItemStatus,
    Method,
    Update,
    UpdateKind,
    UpdateReply,
    UpdateRequest,
    UpdateResult,
)


class Successors:
    """Answers each update with its chunk's number as the version."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int], int]] = []
        """Target, chunks, bytes."""
        self.problem: UnavailableError | None = None

    async def call(
        self,
        target_id: int,
        method: Method,
        request: Any,
        reply_kind: type[Any],
        *,
        send: Sequence[memoryview] = (),
        receive: Sequence[memoryview] = (),
    ) -> Any:
        assert method == Method.UPDATE
        assert isinstance(request, UpdateRequest)
        for update in request.updates:
            if update.kind == UpdateKind.REMOVE:
                assert update.buffer == -1
            else:
                assert bytes(send[update.buffer][:1]) == bytes([update.chunk_index % 256])
        chunks = [update.chunk_index for update in request.updates]
        self.calls.append((target_id, chunks, sum(map(len, send))))
        await asyncio.sleep(0)
        if self.problem is not None:
            raise self.problem
        return UpdateReply(tuple(UpdateResult(ItemStatus(), one) for one in chunks))


def copy(index: int, length: int = -1) -> tuple[Update, memoryview | None]:
    data = None if length < 0 else memoryview(bytes([index % 256]) * length)
    kind = UpdateKind.REMOVE if data is None else UpdateKind.REPLACE
    return Update(1, index, 7, 1, kind, 0, max(0, length), 0, 0, 0, 0), data


def test_what_is_ready_at_the_same_time_goes_in_one_call() -> None:
    async def scene() -> None:
        peers = Successors()
        batches = CopyBatches(peers)
        found = await asyncio.gather(
            *(batches.send(2, *copy(index, 100 if index % 2 else -1)) for index in range(10)),
            batches.send(3, *copy(99, 5)),
        )
        assert [one.version for one in found] == [*range(10), 99]
        assert peers.calls == [(2, list(range(10)), 500), (3, [99], 5)]
        await batches.send(2, *copy(11, 5))
        assert len(peers.calls) == 3

    asyncio.run(scene())


def test_calls_are_bounded() -> None:
    async def scene() -> None:
        peers = Successors()
        batches = CopyBatches(peers)
        length = BATCH_BYTES_MAX // 4
        await asyncio.gather(*(batches.send(2, *copy(index, length)) for index in range(9)))
        assert [sent for _, _, sent in peers.calls] == [4 * length, 4 * length, length]
        peers.calls.clear()
        many = BATCH_COPIES_MAX + 1
        await asyncio.gather(*(batches.send(2, *copy(index)) for index in range(many)))
        assert [len(chunks) for _, chunks, _ in peers.calls] == [BATCH_COPIES_MAX, 1]

    asyncio.run(scene())


def test_a_lost_call_is_everybodys_and_a_cancelled_copy_nobodys() -> None:
    async def scene() -> None:
        peers = Successors()
        batches = CopyBatches(peers)
        peers.problem = UnavailableError("lost")
        found = await asyncio.gather(
            *(batches.send(2, *copy(index, 5)) for index in range(2)), return_exceptions=True
        )
        assert found == [peers.problem, peers.problem]
        peers.problem = None
        given_up = asyncio.create_task(batches.send(2, *copy(1, 5)))
        kept = asyncio.create_task(batches.send(2, *copy(2, 5)))
        await asyncio.sleep(0)
        given_up.cancel()
        assert (await kept).version == 2
        with pytest.raises(asyncio.CancelledError):
            await given_up

    asyncio.run(scene())
