"""DRIVER: the durable chunk index of one target, on LMDB.

Two tables: chunk id to record, and (client, channel) to the outcome of its last update. A value is
a CRC32C over the rest, a format version, and a MessagePack array; one that does not match its CRC
is reported for its chunk alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import lmdb
import msgspec

from ..checksum import crc32c
from ..errors import DataLossError
from ..ids import ChunkId, UpdateToken
from ..limits import GIB
from .store import Block, ChunkRecord, ChunkVersion, TokenOutcome

MAP_BYTES = 256 * GIB  # address space, not memory; 100 million chunks
FORMAT_VERSION = 1

_CRC = struct.Struct("<IB")
_TOKEN_KEY = struct.Struct(">QI")
_encoder = msgspec.msgpack.Encoder()

_Content = tuple[int, int, int, int, bytes, int, int, int, int, int, int]
_Stored = tuple[_Content | None, _Content | None, tuple[int, int, int] | None]
_record_decoder: msgspec.msgpack.Decoder[_Stored] = msgspec.msgpack.Decoder(_Stored)
_outcome_decoder = msgspec.msgpack.Decoder(tuple[int, int, int, int, int, int])


class ChunkIndex:
    """The index. One writer (one thread at a time); readers on the event loop see the last
    committed state."""

    def __init__(self, folder: Path) -> None:
        self._environment = lmdb.open(
            str(folder), map_size=MAP_BYTES, max_dbs=2, subdir=True, max_readers=16, lock=True
        )
        self._chunks = self._environment.open_db(b"chunks")
        self._outcomes = self._environment.open_db(b"outcomes")
        self._read = self._environment.begin()

    def get(self, chunk_id: ChunkId) -> ChunkRecord | None:
        """The committed record. Raises DataLossError if it is damaged."""
        value = self._read.get(chunk_id.pack(), db=self._chunks)
        return None if value is None else _decode_record(chunk_id, value)

    def outcome(self, client_id: int, channel: int) -> TokenOutcome | None:
        """The remembered outcome."""
        value = self._read.get(_TOKEN_KEY.pack(client_id, channel), db=self._outcomes)
        if value is None:
            return None
        sequence, segment, index, version, length, crc = _outcome_decoder.decode(
            _checked(value, f"outcome of client {client_id:x}, channel {channel}")
        )
        token = UpdateToken(client_id, channel, sequence)
        return TokenOutcome(token, ChunkId(segment, index), version, length, crc)

    def scan_ids(self, begin: ChunkId) -> Iterator[ChunkId]:
        """Chunk ids from *begin* on, in order."""
        with self._read.cursor(db=self._chunks) as cursor:
            if cursor.set_range(begin.pack()):
                for key in cursor.iternext(values=False):
                    yield ChunkId.unpack(key)

    def count(self) -> int:
        """Chunks in the committed index."""
        return int(self._read.stat(self._chunks)["entries"])

    def write(
        self,
        records: Iterable[tuple[ChunkId, ChunkRecord | None]],
        outcomes: Iterable[TokenOutcome],
        forgotten_clients: Iterable[int],
    ) -> None:
        """Blocking: put *records* (None: delete) and *outcomes* in one durable transaction.

        Raises lmdb.Error, OSError.
        """
        with self._environment.begin(write=True) as transaction:
            for chunk_id, record in records:
                key = chunk_id.pack()
                if record is None:
                    transaction.delete(key, db=self._chunks)
                else:
                    transaction.put(key, _encode_record(record), db=self._chunks)
            for client_id in forgotten_clients:
                _delete_client(transaction, self._outcomes, client_id)
            for outcome in outcomes:
                client_id, channel, sequence = outcome.token
                fields = (
                    sequence,
                    *outcome.chunk_id,
                    outcome.version,
                    outcome.length_bytes,
                    outcome.crc32c,
                )
                value = _sealed(_encoder.encode(fields))
                transaction.put(_TOKEN_KEY.pack(client_id, channel), value, db=self._outcomes)

    def refresh(self) -> None:
        """Let readers see what was written last."""
        self._read.abort()
        self._read = self._environment.begin()

    def close(self) -> None:
        """Release the index."""
        self._read.abort()
        self._environment.close()


def _delete_client(transaction: lmdb.Transaction, table: object, client_id: int) -> None:
    with transaction.cursor(db=table) as cursor:
        cursor.set_range(_TOKEN_KEY.pack(client_id, 0))
        while cursor.key()[:8] == struct.pack(">Q", client_id):
            cursor.delete()


def _sealed(payload: bytes) -> bytes:
    body = bytes([FORMAT_VERSION]) + payload
    return struct.pack("<I", crc32c(body)) + body


def _checked(value: bytes, what: str) -> bytes:
    if len(value) < _CRC.size:
        raise DataLossError(f"{what}: its index record is cut short")
    crc, version = _CRC.unpack_from(value)
    if crc != crc32c(value[4:]):
        raise DataLossError(f"{what}: its index record is damaged")
    if version != FORMAT_VERSION:
        raise DataLossError(f"{what}: its index record has format {version}, unknown here")
    return value[_CRC.size :]


def _flatten(content: ChunkVersion | None) -> _Content | None:
    if content is None:
        return None
    block, token = content.block, content.token
    return (
        content.version,
        content.chain_version,
        content.length_bytes,
        content.crc32c,
        content.page_crcs,
        block.file_id,
        block.offset_bytes,
        block.capacity_bytes,
        token.client_id,
        token.channel,
        token.sequence,
    )


def _unflatten(fields: _Content | None) -> ChunkVersion | None:
    if fields is None:
        return None
    return ChunkVersion(
        fields[0],
        fields[1],
        fields[2],
        fields[3],
        fields[4],
        Block(fields[5], fields[6], fields[7]),
        UpdateToken(fields[8], fields[9], fields[10]),
    )


def _encode_record(record: ChunkRecord) -> bytes:
    stored = (_flatten(record.committed), _flatten(record.pending), record.pending_remove)
    return _sealed(_encoder.encode(stored))


def _decode_record(chunk_id: ChunkId, value: bytes) -> ChunkRecord:
    what = f"chunk {chunk_id.segment_id:x}.{chunk_id.index}"
    try:
        committed, pending, removal = _record_decoder.decode(_checked(value, what))
    except msgspec.MsgspecError as error:
        raise DataLossError(f"{what}: its index record cannot be understood") from error
    token = None if removal is None else UpdateToken(*removal)
    return ChunkRecord(chunk_id, _unflatten(committed), _unflatten(pending), token)
