"""DRIVER: the durable chunk index of one target, on LMDB.

Two tables: chunk id to record, and (client, channel) to the outcome of its last update. A value is
a CRC32C over the rest, a format version, and a MessagePack array; one that does not match its CRC
is reported for its chunk alone. The file is allocated ahead of its use, so that a full disk is met
when a block is reserved and not when a change is to be made durable.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Generator, Iterable
from pathlib import Path

import lmdb
import msgspec

from ..checksum import crc32c
from ..errors import (
    UNREADABLE,
    CraqenError,
    DataLossError,
    DiskError,
    NoSpaceError,
    OperatorError,
)
from ..ids import ChunkId, UpdateToken
from ..limits import CHECKSUM_PAGE_BYTES, GIB, MIB
from .allocator import is_block
from .store import ChunkRecord, ChunkVersion, TokenOutcome

MAP_BYTES = 256 * GIB  # address space, not memory; 100 million chunks and more
ROOM_BYTES = 16 * MIB  # allocated ahead: more than one round writes
READERS_MAX = 8  # the event loop's own, and whoever inspects the folder by hand
FORMAT_VERSION = 1
LOST_VERSION = 2
"""Of the record of a chunk whose content is lost: to older programs such a record is damaged."""
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_HEAD = struct.Struct("<IB")
_CLIENT_KEY = struct.Struct(">Q")
_TOKEN_KEY = struct.Struct(">QI")
_encoder = msgspec.msgpack.Encoder()

_Stored = tuple[ChunkVersion | None, ChunkVersion | None, UpdateToken | None]
_DAMAGED: tuple[type[Exception], ...] = (DataLossError, *UNREADABLE)
_record_decoder: msgspec.msgpack.Decoder[_Stored] = msgspec.msgpack.Decoder(_Stored)
_outcome_decoder: msgspec.msgpack.Decoder[TokenOutcome] = msgspec.msgpack.Decoder(TokenOutcome)


class ChunkIndex:
    """The index. One writer (one thread at a time); the event loop reads the last written state."""

    def __init__(self, folder: Path) -> None:
        """Open or create it. Raises OperatorError, DiskError, NoSpaceError, DataLossError."""
        self._folder = folder
        try:
            self._environment = lmdb.open(
                os.fspath(folder),
                map_size=MAP_BYTES,
                mode=0o600,
                max_dbs=2,
                max_readers=READERS_MAX,
                readahead=False,
            )
        except lmdb.Error as error:
            raise self._translate(error) from error
        self._data = -1
        try:
            self._chunks = self._environment.open_db(b"chunks")
            self._outcomes = self._environment.open_db(b"outcomes")
            self._page_bytes = int(self._environment.stat()["psize"])
            self._data = os.open(folder / "data.mdb", os.O_RDWR | os.O_CLOEXEC)
            self._room_end = 0
            self.ensure_room()
            self._read = self._environment.begin()
        except lmdb.Error as error:
            self._abandon()
            raise self._translate(error) from error
        except OSError as error:
            self._abandon()
            raise DiskError(f"{folder}: {error.strerror}: look at the kernel log") from error

    def get(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """The written record. Raises DataLossError if it is damaged, DiskError."""
        key = chunk_id.pack()
        try:
            value = self._read.get(key, db=self._chunks)
        except lmdb.Error as error:
            raise self._translate(error) from error
        return None if value is None else decode_record(chunk_id, key, value)

    def outcome(self, client_id: int, channel: int) -> TokenOutcome | None:
        """The remembered outcome. Raises DataLossError if it is damaged, DiskError."""
        key = _TOKEN_KEY.pack(client_id, channel)
        try:
            value = self._read.get(key, db=self._outcomes)
        except lmdb.Error as error:
            raise self._translate(error) from error
        if value is None:
            return None
        what = f"outcome of client {client_id:x}, channel {channel}"
        try:
            return _outcome_decoder.decode(_checked(key, value, what))
        except UNREADABLE as error:
            raise DataLossError(f"{what}: its index record cannot be understood") from error

    def outcomes(self, begin: tuple[int, int]) -> Generator[TokenOutcome, None, None]:
        """Written outcomes from (client, channel) *begin* on, in order, without damaged ones. Not
        to be held across ``refresh``. Raises DiskError."""
        try:
            with self._read.cursor(db=self._outcomes) as cursor:
                if cursor.set_range(_TOKEN_KEY.pack(*begin)):
                    for key, value in cursor:
                        try:
                            yield _outcome_decoder.decode(_checked(key, value, "outcome"))
                        except _DAMAGED:
                            continue
        except lmdb.Error as error:
            raise self._translate(error) from error

    def items(self, begin: ChunkId) -> Generator[tuple[ChunkId, bytes, bytes], None, None]:
        """Chunk ids from *begin* on, their keys and their stored values, in order. Not to be held
        across ``refresh``. Raises DiskError, DataLossError."""
        try:
            with self._read.cursor(db=self._chunks) as cursor:
                if cursor.set_range(begin.pack()):
                    for key, value in cursor:
                        yield ChunkId.unpack(key), key, value
        except lmdb.Error as error:
            raise self._translate(error) from error
        except struct.error as error:
            raise DataLossError(f"{self._folder}: the index has a key of a wrong length") from error

    def count(self) -> int:
        """Chunks in the written index."""
        return int(self._read.stat(self._chunks)["entries"])

    def write(
        self,
        records: Iterable[tuple[ChunkId, ChunkRecord | None]],
        outcomes: Iterable[TokenOutcome],
        forgotten_clients: Iterable[int],
    ) -> None:
        """Blocking: put *records* (None: delete) and *outcomes* in one durable transaction.

        Clients are forgotten first. Raises NoSpaceError, DiskError, DataLossError; then nothing of
        it is in the index, or (when the last flush failed) it is not known whether it is.
        """
        self.ensure_room()
        try:
            with self._environment.begin(write=True) as transaction:
                for chunk_id, record in records:
                    key = chunk_id.pack()
                    if record is None:
                        transaction.delete(key, db=self._chunks)
                    else:
                        transaction.put(key, encode_record(key, record), db=self._chunks)
                for client_id in forgotten_clients:
                    _delete_client(transaction, self._outcomes, client_id)
                for outcome in outcomes:
                    key = _TOKEN_KEY.pack(outcome.token.client_id, outcome.token.channel)
                    value = _sealed(key, _encoder.encode(outcome))
                    transaction.put(key, value, db=self._outcomes)
        except lmdb.Error as error:
            raise self._translate(error) from error

    def refresh(self) -> None:
        """Let readers see what was written last. Raises DiskError."""
        try:
            self._read.abort()
            self._read = self._environment.begin()
        except lmdb.Error as error:
            raise self._translate(error) from error

    def ensure_room(self) -> bool:
        """Allocate space ahead of what is used; whether there is enough for what may come.

        Raises DiskError.
        """
        used = (int(self._environment.info()["last_pgno"]) + 1) * self._page_bytes
        if self._room_end - used >= ROOM_BYTES // 2:
            return True
        start = self._room_end
        try:
            os.posix_fallocate(self._data, start, used + ROOM_BYTES - start)
        except OSError as error:
            if error.errno in FULL_ERRNOS:
                return False
            raise DiskError(f"{self._folder}: cannot allocate: {error.strerror}") from error
        self._room_end = used + ROOM_BYTES
        return True

    def close(self) -> None:
        """Release the index."""
        self._read.abort()
        self._abandon()

    def _abandon(self) -> None:
        self._environment.close()
        if self._data >= 0:
            os.close(self._data)

    def _translate(self, error: lmdb.Error) -> CraqenError:
        code = getattr(error, "code", 0)
        if code in FULL_ERRNOS:
            return NoSpaceError(f"{self._folder}: the disk is full: free some space")
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError):
            return DataLossError(
                f"{self._folder}: the index file is damaged ({error}): clear the target's folder "
                f"and let the chain fill it again"
            )
        if isinstance(error, lmdb.VersionMismatchError) or "already open" in str(error):
            return OperatorError(f"{self._folder}: {error}")
        return DiskError(f"{self._folder}: {error}: look at the kernel log, then at the disk")


def encode_record(key: bytes, record: ChunkRecord) -> bytes:
    """The stored value of *record* under *key*."""
    stored = _encoder.encode((record.committed, record.pending, record.pending_remove))
    return _sealed(key, stored, LOST_VERSION if record.lost else FORMAT_VERSION)


def decode_record(chunk_id: ChunkId, key: bytes, value: bytes) -> ChunkRecord:
    """The record that ``encode_record`` made *value* of. Raises DataLossError."""
    try:
        committed, pending, removal = _record_decoder.decode(_checked(key, value, chunk_id))
    except UNREADABLE as error:
        raise DataLossError(f"{_name(chunk_id)}: its index record cannot be understood") from error
    return ChunkRecord(chunk_id, committed, pending, removal, value[4] == LOST_VERSION)


def check_record(record: ChunkRecord) -> None:
    """Hold a record's numbers against each other. Raises DataLossError."""
    for content in (record.committed, record.pending):
        if content is None:
            continue
        pages = -(-content.length_bytes // CHECKSUM_PAGE_BYTES)
        if (
            not is_block(content.block)
            or not 0 <= content.length_bytes <= content.block.capacity_bytes
            or len(content.page_crcs) != 4 * pages
        ):
            raise DataLossError(f"{_name(record.chunk_id)}: its index record makes no sense")


def _name(what: ChunkId | str) -> str:
    return what if isinstance(what, str) else f"chunk {what.segment_id:x}.{what.index}"


def _delete_client(transaction: lmdb.Transaction, table: lmdb._Database, client_id: int) -> None:
    prefix = _CLIENT_KEY.pack(client_id)
    with transaction.cursor(db=table) as cursor:
        cursor.set_range(prefix)
        while cursor.key()[: len(prefix)] == prefix:
            cursor.delete()


def _sealed(key: bytes, payload: bytes, version: int = FORMAT_VERSION) -> bytes:
    """*payload* behind its format version and a CRC32C that covers the key as well."""
    body = bytes([version]) + payload
    return crc32c(body, crc32c(key)).to_bytes(4, "little") + body


def _checked(key: bytes, value: bytes, what: ChunkId | str) -> memoryview:
    """The payload of *value*. Raises DataLossError."""
    if len(value) <= _HEAD.size:
        raise DataLossError(f"{_name(what)}: its index record is cut short")
    view = memoryview(value)
    crc, version = _HEAD.unpack_from(value)
    if crc != crc32c(view[4:], crc32c(key)):
        raise DataLossError(f"{_name(what)}: its index record is damaged")
    if version not in (FORMAT_VERSION, LOST_VERSION):
        raise DataLossError(f"{_name(what)}: its index record has format {version}, unknown here")
    return view[_HEAD.size :]
