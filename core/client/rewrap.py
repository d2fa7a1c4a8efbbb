"""DRIVER: wraps the data keys of stored objects anew, after their outer key was rotated or is to be
replaced. No byte of content is touched, and readers and writers go on meanwhile.

It can be interrupted at any moment: what is wrapped as it should be is passed over the next time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from ..crypt.envelope import Encryption, new_data_key
from ..crypt.port import KeyKeeper, WrappedKey
from ..errors import DataLossError, NotFoundError, PermissionDeniedError
from ..kv.keys import prefix_end
from ..kv.store import KeyValue, KeyValueStore, ReadTransaction, Transaction
from ..meta.records import Inode, ObjectAttributes, Upload
from ..meta.schema import decode_inode, decode_upload, encode
from .file_keys import bound_to

PAGE_ROWS = 500  # looked at, and at most written, at once
CALLS_AT_ONCE = 16
FAILURES_NAMED_MAX = 20
_LETTERS = (b"i", b"m")
"""Inodes, which are of all versions and open files too, and uploads under way."""


@dataclass(slots=True)
class Rewrapped:
    """How far it is."""

    seen: int = 0
    rewrapped: int = 0
    changed: int = 0
    """Were replaced meanwhile; what replaced them is wrapped as it should be, or met again."""
    failed: int = 0
    failures: list[str] = field(default_factory=list)


class _Row(NamedTuple):
    key: bytes
    record: Inode | Upload
    encryption: Encryption


class Rewrap:
    """One pass over everything. *target*: the key to wrap under from now on; empty: the newest
    version of each object's own. *only*: objects under this key; empty: all."""

    def __init__(
        self,
        kv: KeyValueStore,
        keys: KeyKeeper,
        told: Callable[[Rewrapped], None],
        *,
        target: str = "",
        only: str = "",
    ) -> None:
        self._kv = kv
        self._keys = keys
        self._told = told
        self._target = target
        self._only = only
        self._target_id = ""
        self.done = Rewrapped()
        self._room = asyncio.Semaphore(CALLS_AT_ONCE)

    async def run(self) -> Rewrapped:
        """Do all of it. Raises NotFoundError, PermissionDeniedError (*target* cannot be used),
        KeyServiceUnavailableError, ConfigError: then begin again later."""
        if self._target:
            probe = await self._keys.wrap(self._target, new_data_key(), bound_to(""))
            self._target_id = probe.key_id
        for letter in _LETTERS:
            async for rows in self._pages(letter):
                await self._page(rows)
                self._told(self.done)
        return self.done

    async def _pages(self, letter: bytes) -> AsyncIterator[list[KeyValue]]:
        begin = letter
        while True:

            async def read(tx: ReadTransaction, start: bytes = begin) -> list[KeyValue]:
                return await tx.get_range(start, prefix_end(letter), limit=PAGE_ROWS)

            rows = await self._kv.read(read)
            if rows:
                yield rows
            if len(rows) < PAGE_ROWS:
                return
            begin = rows[-1][0] + b"\0"

    async def _page(self, rows: Sequence[KeyValue]) -> None:
        self.done.seen += len(rows)
        due: list[_Row] = []
        for key, value in rows:
            try:
                row = _row(key, value)
                if row is not None and self._is_due(row.encryption):
                    due.append(row)
            except (DataLossError, NotFoundError) as error:
                self._failed(key, error)
        if not due:
            return
        wrapped = await asyncio.gather(*(self._wrap(row) for row in due))
        new = [
            (row, encryption)
            for row, encryption in zip(due, wrapped, strict=True)
            if encryption is not None
        ]
        written = await self._kv.transact(lambda tx: _write(tx, new))
        self.done.rewrapped += written
        self.done.changed += len(new) - written

    def _is_due(self, encryption: Encryption) -> bool:
        if encryption.is_customer_held or (self._only and encryption.key_id != self._only):
            return False
        if self._target and encryption.key_id != self._target_id:
            return True
        return not self._keys.is_current(_wrapped(encryption))

    async def _wrap(self, row: _Row) -> Encryption | None:
        old = row.encryption
        bound = bound_to(old.context)
        async with self._room:
            try:
                data_key = await self._keys.unwrap(_wrapped(old), bound)
                new = await self._keys.wrap(self._target or old.key_id, data_key, bound)
            except (DataLossError, NotFoundError, PermissionDeniedError) as error:
                self._failed(row.key, error)
                return None
        return msgspec.structs.replace(
            old, wrapped_key=new.wrapped, key_id=new.key_id, key_version=new.key_version
        )

    def _failed(self, key: bytes, error: Exception) -> None:
        self.done.failed += 1
        if len(self.done.failures) < FAILURES_NAMED_MAX:
            self.done.failures.append(f"record {key.hex()}: {error}")


def _wrapped(encryption: Encryption) -> WrappedKey:
    return WrappedKey(encryption.key_id, encryption.key_version, encryption.wrapped_key)


def _row(key: bytes, value: bytes) -> _Row | None:
    """An encrypted record; None for others. Raises DataLossError."""
    record: Inode | Upload = decode_inode(value) if key[:1] == b"i" else decode_upload(value)
    attributes = _attributes(record)
    if attributes is None or attributes.encryption is None:
        return None
    return _Row(key, record, attributes.encryption)


def _attributes(record: Inode | Upload) -> ObjectAttributes | None:
    return record.object if isinstance(record, Inode) else record.attributes


async def _write(tx: Transaction, new: Sequence[tuple[_Row, Encryption]]) -> int:
    """Put new wrappings in place of those that are as they were read; return how many."""
    written = 0
    values = await tx.get_many([row.key for row, _ in new])
    for (row, encryption), value in zip(new, values, strict=True):
        now = None if value is None else _row(row.key, value)
        if now is None or now.encryption != row.encryption:
            continue
        attributes = _attributes(now.record)
        assert attributes is not None, "it has an encryption"
        changed = msgspec.structs.replace(attributes, encryption=encryption)
        place = {"object" if isinstance(now.record, Inode) else "attributes": changed}
        tx.set(row.key, encode(msgspec.structs.replace(now.record, **place)))
        written += 1
    return written
