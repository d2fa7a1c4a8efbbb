"""Every request and reply between clients, storage nodes and managers, as frozen structs.

Encoded by MessagePack as arrays (msgspec): fields are only ever appended, with defaults, so that
old and new programs understand each other. Bulk bytes never travel in here: they are the buffers of
a call.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

BATCH_BUFFERS_MAX = 1024
"""Buffers that one call may offer, or want filled."""


class Method(IntEnum):
    """What a call asks for."""

    HELLO = 1
    RESERVE = 2
    RELEASE = 3
    UPDATE = 4
    READ = 5
    LOCATE = 6
    LIST_CHUNKS = 7
    COMMITTED_VERSION = 8
    TARGET_STATUS = 9


class UpdateKind(IntEnum):
    """What an update does to its chunk."""

    WRITE = 1
    """Overlay bytes at an offset; a gap beyond the present length is filled with zeros."""
    REPLACE = 2
    """New content from offset 0; nothing of the old remains."""
    TRUNCATE = 3
    """Set the length: cut, or extend with zeros."""
    REMOVE = 4
    """Remove the chunk; removing an absent chunk succeeds."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all messages."""


class HelloRequest(Message):
    """First call on a connection."""

    protocol_version: int
    cluster_id: str
    client_id: int


class HelloReply(Message):
    protocol_version: int
    node_id: int


class ReserveRequest(Message):
    """Ask for blocks to fill in place (same host). They return to the store when the connection
    ends."""

    chain_id: int
    chain_version: int
    lengths: tuple[int, ...]


class BlockPlace(Message):
    """A block that this connection may read or fill through the file's descriptor.

    ``file_key`` names the file within the connection: its descriptor is passed in the first reply
    that
    mentions it (``new_files`` of the reply lists the keys, in the order of the descriptors).
    """

    file_key: int
    offset_bytes: int
    capacity_bytes: int


class ReserveReply(Message):
    reservation_ids: tuple[int, ...]
    places: tuple[BlockPlace, ...]
    new_files: tuple[int, ...] = ()


class ReleaseRequest(Message):
    chain_id: int
    reservation_ids: tuple[int, ...]


class Update(Message):
    """One update of one chunk.

    The bytes are either the call's send buffer number ``buffer`` (>= 0), or in the block
    ``reservation_id`` (> 0,
    only REPLACE). ``crc32c`` covers exactly those bytes. ``page_crcs`` goes with REPLACE.
    ``version`` 0 = from a client, the head numbers it; else forwarded by the predecessor.
    """

    segment_id: int
    chunk_index: int
    chain_id: int
    chain_version: int
    kind: UpdateKind
    offset_bytes: int
    length_bytes: int
    """Length of the bytes given; for TRUNCATE the new length."""
    crc32c: int
    client_id: int
    channel: int
    sequence: int
    buffer: int = -1
    reservation_id: int = 0
    page_crcs: bytes = b""
    version: int = 0
    syncing: bool = False


class UpdateRequest(Message):
    """Updates of different chunks (a chunk at most once in a request); they share a flush where
    they can."""

    updates: tuple[Update, ...]


class ItemStatus(Message):
    """Outcome of one item of a batch: ``error`` is the class name of a CraqenError, or empty."""

    error: str = ""
    text: str = ""
    current_chain_version: int = 0


class UpdateResult(Message):
    status: ItemStatus
    version: int = 0
    length_bytes: int = 0
    crc32c: int = 0


class UpdateReply(Message):
    results: tuple[UpdateResult, ...]


class ChunkRange(Message):
    """Bytes of one chunk. Reading beyond the chunk's length gives fewer bytes."""

    segment_id: int
    chunk_index: int
    chain_id: int
    chain_version: int
    offset_bytes: int
    length_bytes: int
    relaxed: bool = False


class ReadRequest(Message):
    """Range number i is pushed into receive buffer i."""

    ranges: tuple[ChunkRange, ...]


class ReadResult(Message):
    """``version`` 0: no such chunk. ``crc32c`` covers the bytes pushed."""

    status: ItemStatus
    version: int = 0
    length_bytes: int = 0
    crc32c: int = 0


class ReadReply(Message):
    results: tuple[ReadResult, ...]


class LocateRequest(Message):
    """Where do committed chunks lie? (same host) ``offset_bytes``/``length_bytes`` of the ranges
    are not used."""

    ranges: tuple[ChunkRange, ...]


class Located(Message):
    """``version`` 0: no such chunk. Bytes beyond ``length_bytes`` of the block are not the
    chunk's."""

    status: ItemStatus
    version: int = 0
    length_bytes: int = 0
    crc32c: int = 0
    page_crcs: bytes = b""
    place: BlockPlace = BlockPlace(0, 0, 0)


class LocateReply(Message):
    located: tuple[Located, ...]
    lease_seconds: float
    """How long, from the moment the request was sent, the blocks stay what they are."""
    new_files: tuple[int, ...] = ()


class ListChunksRequest(Message):
    """Inventory of a chain's local target, in chunk order, from (segment, index) on."""

    chain_id: int
    segment_id: int
    chunk_index: int
    limit: int


class ChunkSummary(Message):
    segment_id: int
    chunk_index: int
    chain_version: int
    committed_version: int
    pending_version: int
    length_bytes: int
    crc32c: int


class ListChunksReply(Message):
    chunks: tuple[ChunkSummary, ...]
    more: bool


class CommittedVersionRequest(Message):
    """The apportioned query: which version has the tail committed?"""

    chain_id: int
    chain_version: int
    segment_id: int
    chunk_index: int


class CommittedVersionReply(Message):
    version: int


class TargetStatusRequest(Message):
    pass


class TargetStatus(Message):
    target_id: int
    chain_id: int
    capacity_bytes: int
    free_bytes: int
    used_bytes: int
    chunks: int
    blocks_used: int
    blocks_reserved: int
    blocks_quarantined: int


class TargetStatusReply(Message):
    targets: tuple[TargetStatus, ...]


def encode(message: Message) -> bytes:
    """Return *message* as bytes."""
    return _ENCODER.encode(message)


_ENCODER = msgspec.msgpack.Encoder()
