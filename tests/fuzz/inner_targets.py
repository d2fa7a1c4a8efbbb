"""What comes from sockets of peers and from the store itself: aws-chunked bodies, frames and
messages between processes, stored records."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec

from craqen.core.clock import SystemClock
from craqen.core.errors import CraqenError, DataLossError, ProtocolError
from craqen.core.ids import ROOT_INODE_ID
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import Transaction
from craqen.core.meta import schema
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import (
    Bucket,
    Extent,
    Inode,
    InodeType,
    Layout,
    NewContent,
    ObjectAttributes,
    Owner,
    Part,
    Upload,
)
from craqen.core.options import MetaOptions
from craqen.core.wire import messages
from craqen.core.wire.codec import decode, decode_error, encode_error
from craqen.core.wire.framing import FrameReader, frame, request_frame
from craqen.gateway.auth.chunked import ChunkDecoder
from craqen.gateway.auth.request import ChunkSigning, Payload
from craqen.gateway.auth.signing_key import SigningKey
from craqen.gateway.errors import S3Error

from .target import Draw, Target, expect, split_randomly

OWNER = Owner(1, 1)
_KEY = SigningKey(b"k" * 32)
_PAYLOAD = b"the payload of these chunks"
_MODES = (Payload.CHUNKS_SIGNED, Payload.CHUNKS_SIGNED_TRAILER, Payload.CHUNKS_UNSIGNED_TRAILER)


def _decoded(mode: Payload, pieces: list[bytes]) -> object:
    signing = ChunkSigning(_KEY, "20260528T202640Z", "scope", "0" * 64)
    names = () if mode is Payload.CHUNKS_SIGNED else ("x-amz-checksum-crc32",)
    decoder = ChunkDecoder(
        mode,
        decoded_length_bytes=len(_PAYLOAD),
        signing=None if mode is Payload.CHUNKS_UNSIGNED_TRAILER else signing,
        trailer_names=names,
    )
    found = b""
    try:
        for piece in pieces:
            found += b"".join(bytes(one) for one in decoder.feed(piece))
        decoder.finish()
    except S3Error as error:
        return error.code
    return found, decoder.trailers


def run_chunks(data: bytes) -> None:
    """A body means the same however it is cut; a signed one means what was signed."""
    draw = Draw(data)
    mode = draw.pick(_MODES)
    cut = Draw(draw.some(30))
    body = draw.rest()
    whole, pieces = _decoded(mode, [body]), _decoded(mode, split_randomly(body, cut))
    expect(whole == pieces, f"{whole} became {pieces}")
    if isinstance(whole, tuple):
        expect(len(whole[0]) == len(_PAYLOAD), f"{len(whole[0])} bytes")
        if mode is not Payload.CHUNKS_UNSIGNED_TRAILER:
            expect(whole[0] == _PAYLOAD, "bytes that nobody signed were taken")


def _chunk_seeds() -> list[bytes]:
    empty = hashlib.sha256(b"").hexdigest()
    seeds = []
    for mode in range(2):
        previous, body = "0" * 64, b""
        for piece in (_PAYLOAD[:10], _PAYLOAD[10:], b""):
            text = "AWS4-HMAC-SHA256-PAYLOAD\n20260528T202640Z\nscope\n"
            text += f"{previous}\n{empty}\n{hashlib.sha256(piece).hexdigest()}"
            previous = _KEY.sign(text.encode())
            body += f"{len(piece):x};chunk-signature={previous}\r\n".encode() + piece
            body += b"\r\n" if piece else b""
        if mode:
            trailer = "x-amz-checksum-crc32:AAAAAA=="
            digest = hashlib.sha256(f"{trailer}\n".encode()).hexdigest()
            text = f"AWS4-HMAC-SHA256-TRAILER\n20260528T202640Z\nscope\n{previous}\n{digest}"
            signature = _KEY.sign(text.encode())
            body += f"{trailer}\r\nx-amz-trailer-signature:{signature}\r\n".encode()
        seeds += [bytes([mode, 0]) + body + b"\r\n", bytes([mode, 4, 7, 3, 9, 60]) + body + b"\r\n"]
    size = f"{len(_PAYLOAD):x}".encode()
    unsigned = size + b"\r\n" + _PAYLOAD + b"\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    return [*seeds, b"\2\0" + unsigned, b"\2\3\1\2\3" + unsigned]


MESSAGES: tuple[type[messages.Message], ...] = tuple(
    sorted(
        (
            kind
            for kind in vars(messages).values()
            if isinstance(kind, type)
            and issubclass(kind, messages.Message)
            and kind is not messages.Message
        ),
        key=lambda kind: kind.__name__,
    )
)


def run_messages(data: bytes) -> None:
    """Bytes are a message that encodes to one that is equal, or a ProtocolError."""
    for kind in MESSAGES:
        try:
            found = decode(kind, data)
        except ProtocolError:
            continue
        again = decode(kind, msgspec.msgpack.encode(found))
        expect(again == found, f"{found} became {again}")
    try:
        error = decode_error(data)
    except ProtocolError:
        return
    expect(isinstance(decode_error(encode_error(error)), CraqenError), "an error got lost")


def run_frames(data: bytes) -> None:
    """A stream gives the same frames however it is cut, and no more room than is allowed."""
    draw = Draw(data)
    cut = Draw(draw.some(30))
    body = draw.rest()
    whole, pieces = _frames([body]), _frames(split_randomly(body, cut))
    expect(whole == pieces, f"{whole} became {pieces}")


def _frames(pieces: list[bytes]) -> list[object]:
    reader = FrameReader()
    found: list[object] = []
    skip = 0
    for piece in pieces:
        while piece:
            space = reader.space()
            count = min(len(space), len(piece))
            space[:count] = piece[:count]
            reader.received(count)
            piece = piece[count:]
            skip -= reader.skip(skip)
            try:
                while not skip and (one := reader.next()) is not None:
                    found.append(one)
                    skip = one.payload_length
                    skip -= reader.skip(skip)
            except ProtocolError as error:
                return [*found, type(error)]
    return found


DECODERS = (
    schema.decode_inode,
    schema.decode_bucket,
    schema.decode_upload,
    schema.decode_part,
    schema.decode_segment,
    schema.decode_removal,
    schema.decode_client,
    schema.decode_completed,
    schema.decode_feed,
    schema.decode_version,
    schema.decode_extents,
    schema.decode_part_sizes,
)


def run_records(data: bytes) -> None:
    """A stored value is a record that encodes to one that is equal, or lost data."""
    for read in DECODERS:
        found = _stored(read, data)
        if found is not None:
            again: Any = read(schema.encode(found))
            expect(again == found, f"{found} became {again}")
    entry = _stored(schema.decode_entry, data)
    if entry is not None:
        again = schema.decode_entry(schema.encode_entry(entry))
        expect(again[:2] == entry[:2], f"{entry} became {again}")
    _stored(schema.unpack_number, data)
    _stored(lambda value: schema.decode_inodes([None, value]), data)


def _stored(read: Any, data: bytes) -> Any:
    try:
        return read(data)
    except DataLossError:
        return None


_LAYOUT = Layout(1 << 20, 1, 2)
_EXTENT = Extent(0, 10, 3, 0, _LAYOUT)
_ATTRIBUTES = ObjectAttributes("etag", 1, {"content-type": "a/b"}, {"m": "1"}, {"t": "v"})
_RECORDS = (
    Inode(7, InodeType.FILE, 0o644, 1, 1, 1, 9, 1, 2, 3, 4, extents=(_EXTENT,), object=_ATTRIBUTES),
    Bucket("name", 9, 1, "owner", "region"),
    Upload("id", "name", b"key", 1, _ATTRIBUTES),
    Part(1, 5, "etag", 6, {"crc32": "x"}, (_EXTENT,)),
    schema.SegmentRecord(1, _LAYOUT),
    schema.RemovalRecord(1, 2, _LAYOUT, 3),
    schema.ClientRecord("me", 4),
    schema.CompletedRecord(1, "name", b"key", True),
    schema.FeedRecord("put", 1, 2, b"name", 3, 4),
    schema.VersionRecord(1, 1, False, 3),
    (_EXTENT,),
)


class Damaged:
    """A small namespace, one stored value of which is changed for each input."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._kv = MemoryStore()
        self._values: list[tuple[bytes, bytes]] = []
        self._meta: LocalMetaStore

    async def _fill(self) -> None:
        options = MetaOptions()
        meta = await LocalMetaStore.open(self._kv, SystemClock(), options, description="fuzz")
        self._meta = meta
        await meta.create_bucket("bucket", owner="me", region="r", as_owner=OWNER)
        await meta.set_bucket_versioning("bucket", enabled=True)
        await meta.set_bucket_setting("bucket", "cors", b"x")
        for number in range(3):
            content = NewContent(5, inline_data=b"%05d" % number)
            await meta.put_object("bucket", b"folder/key", content, _ATTRIBUTES, OWNER)
        extents = (_EXTENT,)
        content = NewContent(10, extents=extents)
        await meta.put_object("bucket", b"large", content, _ATTRIBUTES, OWNER)
        upload = await meta.create_upload(
            "bucket", b"up", _ATTRIBUTES, OWNER, checksum_algorithm="", checksum_type=""
        )
        await meta.put_part(upload, Part(1, 3, "etag", 5, extents=extents))
        await meta.delete_object("bucket", b"large")
        rows = await self._kv.read(lambda tx: tx.get_range(b"", b"\xff"))
        self._values = [(bytes(key), bytes(value)) for key, value in rows]

    def run(self, data: bytes) -> None:
        """Every call gives an answer or an error of the core's own."""
        if not self._values:
            self._loop.run_until_complete(self._fill())
        self._loop.run_until_complete(self._run(data))

    async def _run(self, data: bytes) -> None:
        draw = Draw(data)
        key, value = draw.pick(self._values)
        changed = bytearray(value)
        for _ in range(1 + draw.number(2)):
            at = draw.number(len(changed))
            changed[at : at + draw.number(3)] = draw.some(3)
        await self._set(key, bytes(changed))
        try:
            await self._look()
        finally:
            await self._set(key, value)

    async def _set(self, key: bytes, value: bytes) -> None:
        async def change(tx: Transaction) -> None:
            tx.set(key, value)

        await self._kv.transact(change)

    async def _look(self) -> None:
        meta = self._meta
        for call in (
            lambda: meta.get_bucket("bucket"),
            lambda: meta.list_buckets(),
            lambda: meta.bucket_settings("bucket"),
            lambda: meta.get_object("bucket", b"folder/key"),
            lambda: meta.list_objects("bucket"),
            lambda: meta.list_object_versions("bucket"),
            lambda: meta.list_uploads("bucket"),
            lambda: meta.usage("bucket"),
            self._look_at_files,
        ):
            try:
                await call()
            except CraqenError:
                continue

    async def _look_at_files(self) -> None:
        meta = self._meta
        bucket = await meta.lookup(ROOT_INODE_ID, b"bucket")
        await meta.read_directory(bucket.inode_id)
        folder = await meta.lookup(bucket.inode_id, b"folder")
        file = await meta.lookup(folder.inode_id, b"key")
        await meta.read_inline(file.inode_id)
        await meta.get_inodes([bucket.inode_id, file.inode_id])


_damaged = Damaged()

TARGETS = (
    Target(
        "chunks",
        run_chunks,
        tuple(_chunk_seeds()),
        (b";chunk-signature=", b"\r\n", b"0", b"x-amz-trailer-signature:", b"\r\n\r\n"),
    ),
    Target(
        "messages",
        run_messages,
        (
            encode_error(DataLossError("chunk 1.0")),
            msgspec.msgpack.encode([1, 2, 3, b"x", "y", None, {}]),
            b"\x92\x01\xc4\x01a",
        ),
        (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc0"),
    ),
    Target(
        "frames",
        run_frames,
        (
            b"\0" + frame(2, 7, header=b"header", number=0),
            b"\4\1\2\3\4" + request_frame(1, 5, b"h", (10, 20), (30,), 30) + b"p" * 30,
            b"\0" + frame(5, 1, number=1, payload_length=4, offset=8) + b"data" + frame(6, 1),
        ),
        (b"CQ\1", b"\xff\xff\xff\xff"),
    ),
    Target(
        "records",
        run_records,
        (
            *(schema.encode(record) for record in _RECORDS),
            schema.encode_entry(schema.Entry(1, 2, 3, 4)),
            schema.encode_entry(schema.Entry(1, 2, 0)),
            b"\1",
        ),
        (b"\xdd\xff\xff\xff\xff", b"\xa3\xff\xfe\xfd", b"\xc0", b"\xcf" + b"\xff" * 8),
    ),
    Target(
        "damaged-store",
        _damaged.run,
        tuple(bytes([number, 1, 3, 1, 2, 0xFF, 0xC0]) for number in range(24)),
        (b"\xc0", b"\xff"),
        input_bytes_max=64,
    ),
)
