"""DRIVER: options that operators change while the cluster runs, with their history, in the KV.

C/s/v               version
C/s/c + name        the value in force
C/s/h + version     who changed what
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from ..cluster.records import Record
from ..cluster.store import Fence
from ..errors import UNREADABLE, DataLossError, InvalidArgumentError
from ..kv.store import KeyValueStore, ReadTransaction, Transaction

VERSION_KEY = b"C/s/v"
_CURRENT, _HISTORY = b"C/s/c", b"C/s/h"
HISTORY_MAX = 1000
OWN_PREFIX = "rebalance."
"""Settings of the managers alone, some of them large: nodes are not told of them."""
NAME_BYTES_MAX = 128
PART_BYTES = 60_000  # of one value: FoundationDB's limit is 100 kB


class SettingChange(Record, frozen=True):
    """One change. ``value`` None: back to what the configuration files say."""

    version: int
    wall_seconds: float
    author: str
    name: str
    value: str | None
    before: str | None


class Settings:
    """The settings of one cluster; written by the primary under its fence."""

    def __init__(self, kv: KeyValueStore, fence: Fence, wall_seconds: Callable[[], float]) -> None:
        self._kv = kv
        self._fence = fence
        self._wall_seconds = wall_seconds
        self._version = 0
        self._values: dict[str, str] = {}

    async def load(self) -> None:
        """Read what is in force. Raises DataLossError."""

        async def read(tx: ReadTransaction) -> tuple[int, dict[str, str]]:
            return await _version(tx), await _values(tx)

        self._version, self._values = await self._kv.read(read)

    def get(self) -> tuple[int, dict[str, str]]:
        """(version, value by name)."""
        return self._version, dict(self._values)

    def for_nodes(self) -> tuple[int, dict[str, str]]:
        """(version, value by name) of what nodes are told with every heartbeat."""
        own = OWN_PREFIX
        return self._version, {
            name: value for name, value in self._values.items() if not name.startswith(own)
        }

    async def set(self, name: str, value: str | None, author: str) -> int:
        """Change one; None takes it back. Returns the new version.

        Raises InvalidArgumentError, UnavailableError if this manager is not the primary any more.
        """
        if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
            raise InvalidArgumentError(f"setting {name!r}: expected 1 to {NAME_BYTES_MAX} bytes")

        async def write(tx: Transaction) -> tuple[int, dict[str, str]]:
            await self._fence(tx)
            version = await _version(tx) + 1
            values = await _values(tx)
            change = SettingChange(
                version, self._wall_seconds(), author, name, value, values.get(name)
            )
            tx.set(VERSION_KEY, struct.pack(">Q", version))
            prefix = _CURRENT + name.encode() + b"\0"
            tx.clear_range(prefix, prefix + b"\xff")
            if value is None:
                values.pop(name, None)
            else:
                values[name] = value
                data = value.encode()
                for number in range(0, max(len(data), 1), PART_BYTES):
                    part = struct.pack(">I", number // PART_BYTES)
                    tx.set(prefix + part, data[number : number + PART_BYTES])
            _remember(tx, change)
            return version, values

        self._version, self._values = await self._kv.transact(write)
        return self._version

    async def history(self) -> list[SettingChange]:
        """The last changes, newest first."""

        async def read(tx: ReadTransaction) -> list[SettingChange]:
            pairs = await tx.get_range(_HISTORY, _HISTORY + b"\xff" * 9, reverse=True)
            try:
                return [msgspec.msgpack.decode(value, type=SettingChange) for _, value in pairs]
            except UNREADABLE as error:
                raise DataLossError(f"the settings' history is damaged: {error}") from error

        return await self._kv.read(read)


def _remember(tx: Transaction, change: SettingChange) -> None:
    """Note a change; large values (a placement) by their length alone."""
    shown = msgspec.structs.replace(
        change, value=_shortened(change.value), before=_shortened(change.before)
    )
    key = _HISTORY + struct.pack(">Q", change.version)
    tx.set(key, msgspec.msgpack.encode(shown))
    oldest = struct.pack(">Q", max(0, change.version - HISTORY_MAX))
    tx.clear_range(_HISTORY, _HISTORY + oldest)


def _shortened(value: str | None) -> str | None:
    return value if value is None or len(value) <= 1000 else f"({len(value)} characters)"


async def _version(tx: ReadTransaction) -> int:
    value = await tx.get(VERSION_KEY)
    return 0 if value is None else int.from_bytes(value, "big")


async def _values(tx: ReadTransaction) -> dict[str, str]:
    parts: dict[str, bytes] = {}
    for key, value in await tx.get_range(_CURRENT, _CURRENT + b"\xff"):
        name = key[len(_CURRENT) : -5].decode()
        parts[name] = parts.get(name, b"") + value
    return {name: value.decode() for name, value in parts.items()}
