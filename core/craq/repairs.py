"""MACHINE: chunks whose bytes or index record are damaged here, fetched from another replica
(rule 9 in replica.py)."""

from __future__ import annotations

from msgspec.structs import replace

from ..chunks.store import Abandon, Block, ChunkVersion, Drop, Install, Stage
from ..errors import ConflictError, DataLossError, UnavailableError
from ..ids import ChunkId
from ..wire.messages import UpdateKind
from .copies import Copies
from .events import (
    Effect,
    Fetch,
    Fetched,
    FetchFailed,
    RepairChunk,
    RetryLater,
    Source,
)
from .operations import Operation, Purpose, Standing
from .refusals import chunk_name, stale
from .seen import Seen, repair_token, seen_of

NOWHERE = Block(0, 0, 0)


class Repairs(Copies):
    """Repairs from their turn to their end."""

    def _repair_chunk(self, event: RepairChunk) -> list[Effect]:
        return self._enter(
            Operation(
                event.request_id,
                event.chunk_id,
                event.chain_version or self.chain.version,
                UpdateKind.REPLACE,
                repair_token(event.request_id),
                0,
                forwarded=False,
                purpose=Purpose.REPAIR,
                answers=[event.request_id],
                damaged_version=event.version,
                wanted=event.wanted,
                source_id=event.source_id,
            )
        )

    def _begin_repair(self, operation: Operation) -> list[Effect]:
        if not self.view.is_serving:
            raise UnavailableError(f"target {self.target_id} does not serve: resync fills it")
        if operation.wanted is not None:
            return self._begin_taking(operation, operation.wanted)
        operation.chain_version = self.chain.version
        try:
            record = self._lookup(operation.chunk_id)
        except DataLossError:
            return self._fetch_record(operation)
        if record is None:
            return self._operations.leave(operation)
        unsettled = self._unsettled(operation, record)
        if unsettled is not None:
            return unsettled
        committed = record.committed
        assert committed is not None, "a record without any version"
        if committed.version != operation.damaged_version:
            return self._operations.leave(operation)  # it was replaced meanwhile
        operation.content = operation.base = committed
        operation.version = committed.version
        return self._fetch(operation, self._others(), Source.VERSION)

    def _begin_taking(self, operation: Operation, wanted: Seen) -> list[Effect]:
        """Replicas differ, and somebody has found out which one is right."""
        self.check_version(operation.chain_version)
        if operation.source_id not in self._others():
            raise ConflictError(f"target {operation.source_id} is no other serving replica")
        record = self._lookup(operation.chunk_id)
        if record is not None:
            unsettled = self._unsettled(operation, record)
            if unsettled is not None:
                return unsettled
        committed = None if record is None else record.committed
        present = seen_of(committed)
        if present.version != operation.damaged_version or present[:3] == wanted[:3]:
            return self._operations.leave(operation)
        operation.base = committed
        sought = ChunkVersion(
            wanted.version, 0, wanted.length_bytes, wanted.crc32c, b"", NOWHERE, operation.token
        )
        return self._fetch(operation, (operation.source_id,), Source.VERSION, sought)

    def _fetch_record(self, operation: Operation) -> list[Effect]:
        """The index record is lost, and with it what this replica had staged or committed.

        What the next replica has settled passed through here, and nothing later did that it would
        not have under way. The tail may have committed what its predecessor has staged, so it
        takes that, as if it had been forwarded.
        """
        operation.content = operation.base = None
        before, after = self._serving_others()
        if after:
            return self._fetch(operation, after[:1], Source.SETTLED)
        return self._fetch(operation, before[-1:], Source.NEWEST)

    def _others(self) -> tuple[int, ...]:
        """Who may have the very version: its checksum says whether it is that, so one that is
        being filled will do."""
        before, after = self._serving_others()
        successor = self.view.successor
        filled = () if successor is None or not successor[1] else successor[:1]
        return (*after, *reversed(before), *filled)

    def _serving_others(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        serving = self.view.serving
        place = serving.index(self.target_id)
        return serving[:place], serving[place + 1 :]

    def _fetch(
        self,
        operation: Operation,
        targets: tuple[int, ...],
        source: Source,
        wanted: ChunkVersion | None = None,
    ) -> list[Effect]:
        if not targets:
            raise DataLossError(
                f"chunk {chunk_name(operation.chunk_id)}: damaged at target {self.target_id}, "
                f"and chain {self.chain.chain_id} has no other replica to take it from"
            )
        operation.standing = Standing.FETCHING
        return [
            Fetch(
                operation.request_id,
                operation.chunk_id,
                self.chain.version,
                targets,
                source,
                wanted or operation.content,
            )
        ]

    def _fetched(self, operation: Operation, event: Fetched) -> list[Effect]:
        lost, content = operation.content, event.content
        if lost is None and self.chain.version != operation.chain_version:
            # Who is the tail may have changed, and with it what was to be fetched from whom.
            return self._end(operation, error=stale(self.view, operation.chain_version))
        if content is None:
            if lost is not None or operation.wanted is not None:
                return self._end(operation, error=_other(operation.chunk_id, operation.version))
            return self._persist(operation, Standing.INSTALLING, Drop(operation.chunk_id, None))
        if lost is None:
            # Not known to have gone through the present successor.
            content = replace(content, chain_version=0)
        elif seen_of(content)[:3] == seen_of(lost)[:3]:
            content = replace(content, chain_version=lost.chain_version, token=lost.token)
        else:
            return self._end(operation, error=_other(operation.chunk_id, lost.version))
        operation.content, operation.version = content, content.version
        change = Install(operation.chunk_id, content)
        return self._persist(operation, Standing.INSTALLING, change)

    def _fetch_failed(self, operation: Operation, event: FetchFailed) -> list[Effect]:
        if operation.purpose is Purpose.REPAIR:
            return self._end(operation, error=event.error)
        if isinstance(event.error, ConflictError):
            # Nobody has it, so nobody was told of it: it is as if it had never come.
            return self._persist(operation, Standing.ABANDONING, Abandon(operation.chunk_id))
        operation.standing = Standing.HELD
        return [RetryLater(operation.request_id, operation.attempt)]

    # A pending version that is damaged

    def _fetch_pending(self, operation: Operation) -> list[Effect]:
        """What is staged here cannot be read to be forwarded: another replica may have it."""
        others = self._others()
        if not others:
            operation.standing = Standing.HELD
            return [RetryLater(operation.request_id, operation.attempt)]
        return self._fetch(operation, others, Source.VERSION)

    def _pending_fetched(self, operation: Operation, event: Fetched) -> list[Effect]:
        lost, content = operation.content, event.content
        if lost is None or content is None or seen_of(content)[:3] != seen_of(lost)[:3]:
            operation.standing = Standing.HELD
            return [RetryLater(operation.request_id, operation.attempt)]
        content = replace(content, chain_version=lost.chain_version, token=lost.token)
        operation.content = content
        effects = self._persist(operation, Standing.STAGING, Stage(operation.chunk_id, content))
        operation.hidden = False  # it was durable before, and others may have committed it
        return effects

    def _abandoned(self, operation: Operation) -> list[Effect]:
        error = ConflictError(
            f"chunk {chunk_name(operation.chunk_id)}: version {operation.version} was damaged "
            f"before any other replica had it: send it again"
        )
        return self._end(operation, error=error)


def _other(chunk_id: ChunkId, version: int) -> ConflictError:
    return ConflictError(
        f"chunk {chunk_name(chunk_id)}: what was fetched is not version {version} as it was wanted"
    )
