"""DRIVER: the routing table in the KV: read, changed under its version, watched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from ..errors import CraqenError, DataLossError
from ..kv.store import KeyValueStore, ReadTransaction, Transaction
from .records import RoutingTable
from .routing import Routing

ROUTING_KEY = b"C/routing"
FORMAT_VERSION = 1
RETRY_SECONDS = 1.0

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RoutingTable)

EMPTY = RoutingTable(0, "")


def decode_table(value: bytes | None) -> RoutingTable:
    """The stored table; an empty one of version 0 if there is none. Raises DataLossError."""
    if value is None:
        return EMPTY
    if value[0] != FORMAT_VERSION:
        raise DataLossError(f"the routing table has format {value[0]}; expected {FORMAT_VERSION}")
    try:
        return _decoder.decode(value[1:])
    except msgspec.MsgspecError as error:
        raise DataLossError(f"the routing table cannot be understood: {error}") from error


async def read_table(kv: KeyValueStore) -> RoutingTable:
    """The table as it is now."""

    async def read(tx: ReadTransaction) -> RoutingTable:
        return decode_table(await tx.get(ROUTING_KEY))

    return await kv.read(read)


async def change_table(
    kv: KeyValueStore, change: Callable[[RoutingTable], RoutingTable]
) -> RoutingTable:
    """Replace the table by *change* of it, as its next version; unchanged if *change* returns it as
    it was."""

    async def write(tx: Transaction) -> RoutingTable:
        table = decode_table(await tx.get(ROUTING_KEY))
        changed = change(table)
        if changed == table:
            return table
        changed = msgspec.structs.replace(changed, version=table.version + 1)
        tx.set(ROUTING_KEY, bytes([FORMAT_VERSION]) + _encoder.encode(changed))
        return changed

    return await kv.transact(write)


class KvRouting:
    """``RoutingSource`` from the KV, kept new by a watch."""

    def __init__(self, kv: KeyValueStore) -> None:
        self._kv = kv
        self.routing = Routing(EMPTY)
        self._task: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[Routing], None]] = []

    async def start(self) -> None:
        """Read the table, and follow it from now on."""
        await self.refresh()
        self._task = asyncio.create_task(self._follow())

    def listen(self, listener: Callable[[Routing], None]) -> None:
        """Call *listener* with every new table."""
        self._listeners.append(listener)

    async def refresh(self) -> None:
        """Read the table now."""
        self._take(await read_table(self._kv))

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
        async def arm(tx: Transaction) -> tuple[RoutingTable, asyncio.Future[None]]:
            return decode_table(await tx.get(ROUTING_KEY)), tx.watch(ROUTING_KEY)

        table, watch = await self._kv.transact(arm)
        try:
            self._take(table)
            await watch
        finally:
            watch.cancel()

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
