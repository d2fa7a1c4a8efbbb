"""DRIVER: the routing table in the KV: a record each for nodes, targets, chains and tables, so that
no value grows with the cluster; changed under its version; followed by deltas.

C/v                 header: version, cluster id, highest target id ever given
C/n C/t C/c C/b     + 8 byte id: a node, target, chain, chain table
C/d                 + 8 byte version: what led to that version, of the last DELTAS_KEPT ones
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from ..errors import UNREADABLE, ConflictError, CraqenError, DataLossError
from ..kv.store import KeyValueStore, ReadTransaction, Transaction
from .delta import RoutingDelta, apply_delta, delta_between
from .records import (
    ChainRecord,
    ChainTable,
    NodeRecord,
    Record,
    RoutingTable,
    TargetRecord,
)
from .routing import Routing

FORMAT_VERSION = 1
RETRY_SECONDS = 1.0
DELTAS_KEPT = 64
DELTA_BYTES_MAX = (
    64 * 1024
)  # a larger change is read as a whole table; FoundationDB's limit is 100 kB

HEADER_KEY = b"C/v"
_NODES, _TARGETS, _CHAINS, _TABLES, _DELTAS = b"C/n", b"C/t", b"C/c", b"C/b", b"C/d"

EMPTY = RoutingTable(0, "")

T = TypeVar("T")
Fence = Callable[[Transaction], Awaitable[None]]
"""Raises, within the transaction, if its caller may not write (any more)."""

_encode = msgspec.msgpack.Encoder().encode


class Header(Record, frozen=True):
    """What is told of the table as a whole."""

    version: int
    cluster_id: str
    last_target_id: int = 0


async def read_table(kv: KeyValueStore) -> RoutingTable:
    """The table as it is now; an empty one of version 0 if there is none. Raises DataLossError."""
    return await kv.read(table_in)


async def table_in(tx: ReadTransaction) -> RoutingTable:
    """The table as a transaction sees it. Raises DataLossError."""
    header = await _header(tx)
    if header is None:
        return EMPTY
    return RoutingTable(
        header.version,
        header.cluster_id,
        await _all(tx, _NODES, NodeRecord),
        await _all(tx, _TARGETS, TargetRecord),
        await _all(tx, _CHAINS, ChainRecord),
        await _all(tx, _TABLES, ChainTable),
        header.last_target_id,
    )


async def replace_table(
    kv: KeyValueStore, known: RoutingTable, wanted: RoutingTable, fence: Fence | None = None
) -> RoutingTable | None:
    """Store *wanted* as the version after *known*; what was stored, or None if *known* is not the
    stored version: read it again. Raises what *fence* raises."""
    if known.version and wanted == known:
        return known
    stored = msgspec.structs.replace(wanted, version=known.version + 1)

    async def write(tx: Transaction) -> RoutingTable | None:
        if fence is not None:
            await fence(tx)
        header = await _header(tx)
        if (0 if header is None else header.version) != known.version:
            return None
        _write(tx, known, stored)
        return stored

    return await kv.transact(write)


async def change_table(
    kv: KeyValueStore,
    change: Callable[[RoutingTable], RoutingTable],
    fence: Fence | None = None,
) -> RoutingTable:
    """Replace the table by *change* of it, as its next version; unchanged if *change* returns it as
    it was. Raises what *change* and *fence* raise."""
    while True:
        table = await read_table(kv)
        changed = change(table)
        if changed == table:
            return table
        stored = await replace_table(kv, table, changed, fence)
        if stored is not None:
            return stored


def _write(tx: Transaction, old: RoutingTable, new: RoutingTable) -> None:
    delta = delta_between(old, new)
    header = Header(new.version, new.cluster_id, new.last_target_id)
    tx.set(HEADER_KEY, _packed(header))
    for node in delta.nodes:
        tx.set(_key(_NODES, node.node_id), _packed(node))
    for target in delta.targets:
        tx.set(_key(_TARGETS, target.target_id), _packed(target))
    for chain in delta.chains:
        tx.set(_key(_CHAINS, chain.chain_id), _packed(chain))
    for table in delta.tables:
        tx.set(_key(_TABLES, table.table_id), _packed(table))
    gone = (
        (_NODES, delta.removed_nodes),
        (_TARGETS, delta.removed_targets),
        (_CHAINS, delta.removed_chains),
        (_TABLES, delta.removed_tables),
    )
    for prefix, numbers in gone:
        for number in numbers:
            tx.clear(_key(prefix, number))
    packed = _packed(delta)
    if old.version and len(packed) <= DELTA_BYTES_MAX:
        tx.set(_key(_DELTAS, new.version), packed)
    tx.clear_range(_DELTAS, _key(_DELTAS, max(0, new.version - DELTAS_KEPT)))


def _key(prefix: bytes, number: int) -> bytes:
    return prefix + struct.pack(">Q", number)


def _packed(record: Record) -> bytes:
    return bytes([FORMAT_VERSION]) + _encode(record)


def _unpacked(value: bytes, kind: type[T]) -> T:
    if value[:1] != bytes([FORMAT_VERSION]):
        raise DataLossError(
            f"a record of the routing table has format {value[:1]!r}; expected {FORMAT_VERSION}"
        )
    try:
        return msgspec.msgpack.decode(value[1:], type=kind)
    except UNREADABLE as error:
        raise DataLossError(f"the routing table cannot be understood: {error}") from error


async def _header(tx: ReadTransaction) -> Header | None:
    value = await tx.get(HEADER_KEY)
    return None if value is None else _unpacked(value, Header)


async def _all(tx: ReadTransaction, prefix: bytes, kind: type[T]) -> tuple[T, ...]:
    pairs = await tx.get_range(prefix, prefix + b"\xff" * 9)
    return tuple(_unpacked(value, kind) for _, value in pairs)


class KvRouting:
    """``RoutingSource`` from the KV, kept new by a watch."""

    def __init__(self, kv: KeyValueStore) -> None:
        self._kv = kv
        self.routing = Routing(EMPTY)
        self._task: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[Routing], None]] = []

    def listen(self, listener: Callable[[Routing], None]) -> None:
        """Call *listener* with every new table."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Read the table, and follow it from now on."""
        await self.refresh()
        self._task = asyncio.create_task(self._follow())

    async def refresh(self) -> None:
        """Read what is new now."""
        await self._kv.read(self._catch_up)

    async def _catch_up(self, tx: ReadTransaction) -> None:
        table = self.routing.table
        header = await _header(tx)
        if header is None or header.version <= table.version:
            return
        if not table.version or header.version - table.version > DELTAS_KEPT:
            self._take(await table_in(tx))
            return
        begin, end = _key(_DELTAS, table.version + 1), _key(_DELTAS, header.version + 1)
        pairs: Sequence[tuple[bytes, Any]] = await tx.get_range(begin, end)
        try:
            for _, value in pairs:
                table = apply_delta(table, _unpacked(value, RoutingDelta))
        except ConflictError:
            table = EMPTY  # one is missing: it was too large
        whole = table.version != header.version
        self._take(await table_in(tx) if whole else table)

    def _take(self, table: RoutingTable) -> None:
        if table.version > self.routing.table.version:
            self.routing = Routing(table)
            for listener in self._listeners:
                listener(self.routing)

    async def _follow(self) -> None:
        while True:
            try:
                await self._wait_for_change()
            except CraqenError:
                await asyncio.sleep(RETRY_SECONDS)

    async def _wait_for_change(self) -> None:
        async def arm(tx: Transaction) -> asyncio.Future[None]:
            await self._catch_up(tx)
            return tx.watch(HEADER_KEY)

        watch = await self._kv.transact(arm)
        try:
            await watch
        finally:
            watch.cancel()

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
