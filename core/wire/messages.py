"""Every request and reply between clients, storage nodes and managers, as frozen structs.

Encoded by MessagePack as arrays (msgspec): fields are only ever appended, with defaults, so that
old and new programs understand each other. Bulk bytes never travel in here: they are the buffers of
a call.

A node may have two targets of a chain while the chain moves from disk to disk: requests between
replicas name the one they are for (``target_id``); those that name none, such as clients', are for
the one that comes first in the chain.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Annotated, TypeVar

import msgspec

from ..limits import BATCH_ITEMS_MAX, CHECKSUM_PAGE_BYTES, CHUNK_CLASS_BYTES_MAX

BATCH_BUFFERS_MAX = 1024
"""Buffers that one call may offer, or want filled."""

T = TypeVar("T")

Natural = Annotated[int, msgspec.Meta(ge=0)]
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""Of a segment or a client."""
ChunkIndex = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 2)]
"""It and the next one fit the four bytes of a chunk's key."""
Channel = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
Checksum = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
ChunkBytes = Annotated[int, msgspec.Meta(ge=0, le=CHUNK_CLASS_BYTES_MAX)]
"""A length or place within one chunk."""
Batch = Annotated[tuple[T, ...], msgspec.Meta(max_length=BATCH_ITEMS_MAX)]
Proof = Annotated[bytes, msgspec.Meta(max_length=64)]
"""A nonce, or a proof of the cluster's secret."""
PageChecksums = Annotated[
    bytes, msgspec.Meta(max_length=4 * CHUNK_CLASS_BYTES_MAX // CHECKSUM_PAGE_BYTES)
]
"""CRC32C of each page of a chunk, packed."""


@unique
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
    SYNC_START = 10
    SYNC_INVENTORY = 11
    PUT_OUTCOMES = 12
    SYNC_DONE = 13
    FETCH_CHUNK = 14
    AUTHENTICATE = 15
    REPAIR_CHUNK = 16
    HEARTBEAT = 32
    FOLLOW_ROUTING = 33
    ADMIN = 34


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
    LOSE = 5
    """A copy only: what the chain had of the chunk is lost, and is to be known as that."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all messages."""


class HelloRequest(Message, frozen=True):
    """First call on a connection."""

    protocol_version: int
    cluster_id: str
    client_id: int
    nonce: Proof = b""


class HelloReply(Message, frozen=True):
    """``nonce`` and ``proof``: over the network only (core/challenge.py)."""

    protocol_version: int
    node_id: int
    nonce: Proof = b""
    proof: Proof = b""


class AuthenticateRequest(Message, frozen=True):
    proof: Proof


class AuthenticateReply(Message, frozen=True):
    pass


class ReserveRequest(Message, frozen=True):
    """Ask for blocks to fill in place (same host). They return to the store when the connection
    ends."""

    chain_id: int
    chain_version: int
    lengths: Batch[ChunkBytes]


class BlockPlace(Message, frozen=True):
    """A block that this connection may read or fill through the file's descriptor.

    ``file_key`` names the file within the connection: its descriptor is passed in the first reply
    that
    mentions it (``new_files`` of the reply lists the keys, in the order of the descriptors).
    """

    file_key: int
    offset_bytes: Natural
    capacity_bytes: ChunkBytes


class ReserveReply(Message, frozen=True):
    reservation_ids: Batch[int]
    places: Batch[BlockPlace]
    new_files: Batch[int] = ()


class ReleaseRequest(Message, frozen=True):
    chain_id: int
    reservation_ids: Batch[int]


class Update(Message, frozen=True):
    """One update of one chunk.

    The bytes are either the call's send buffer number ``buffer`` (>= 0), or in the block
    ``reservation_id`` (> 0,
    only REPLACE). ``crc32c`` covers exactly those bytes. ``page_crcs`` goes with REPLACE.
    ``version`` 0 = from a client, the head numbers it; else forwarded by the predecessor.
    ``sync_session`` > 0: a copy (REPLACE, REMOVE or LOSE) that a resync makes of a chunk; then only
    may it be ``as_it_is``: of bytes that are not what the checksums say, to be known as such.
    """

    segment_id: Number
    chunk_index: ChunkIndex
    chain_id: int
    chain_version: int
    kind: UpdateKind
    offset_bytes: ChunkBytes
    length_bytes: ChunkBytes
    """Length of the bytes given; for TRUNCATE the new length."""
    crc32c: Checksum
    client_id: Number
    channel: Channel
    sequence: Number
    buffer: int = -1
    reservation_id: int = 0
    page_crcs: PageChecksums = b""
    version: Number = 0
    syncing: bool = False
    sync_session: Number = 0
    sync_slot: Channel = 0
    sync_sequence: Number = 0
    as_it_is: bool = False
    target_id: Number = 0
    """Forwarded ones, and copies, name the successor."""


class UpdateRequest(Message, frozen=True):
    """Updates of different chunks (a chunk at most once in a request); they share a flush where
    they can."""

    updates: Batch[Update]


class ItemStatus(Message, frozen=True):
    """Outcome of one item of a batch: ``error`` is the class name of a CraqenError, or empty."""

    error: str = ""
    text: str = ""
    current_chain_version: int = 0


class UpdateResult(Message, frozen=True):
    status: ItemStatus
    version: int = 0
    length_bytes: ChunkBytes = 0
    crc32c: int = 0


class UpdateReply(Message, frozen=True):
    results: Batch[UpdateResult]


class ChunkRange(Message, frozen=True):
    """Bytes of one chunk. Reading beyond the chunk's length gives fewer bytes."""

    segment_id: Number
    chunk_index: ChunkIndex
    chain_id: int
    chain_version: int
    offset_bytes: ChunkBytes
    length_bytes: ChunkBytes
    relaxed: bool = False


class ReadRequest(Message, frozen=True):
    """Range number i is pushed into receive buffer i."""

    ranges: Batch[ChunkRange]


class ReadResult(Message, frozen=True):
    """``version`` 0: no such chunk. ``crc32c`` covers the bytes pushed."""

    status: ItemStatus
    version: int = 0
    length_bytes: ChunkBytes = 0
    crc32c: int = 0


class ReadReply(Message, frozen=True):
    results: Batch[ReadResult]


class LocateRequest(Message, frozen=True):
    """Where do committed chunks lie? (same host) ``offset_bytes``/``length_bytes`` of the ranges
    are not used."""

    ranges: Batch[ChunkRange]


class Located(Message, frozen=True):
    """``version`` 0: no such chunk. Bytes beyond ``length_bytes`` of the block are not the
    chunk's."""

    status: ItemStatus
    version: int = 0
    length_bytes: ChunkBytes = 0
    crc32c: int = 0
    page_crcs: PageChecksums = b""
    place: BlockPlace = BlockPlace(0, 0, 0)


class LocateReply(Message, frozen=True):
    located: Batch[Located]
    lease_seconds: float
    """How long, from the moment the request was sent, the blocks stay what they are."""
    new_files: Batch[int] = ()


class ListChunksRequest(Message, frozen=True):
    """Inventory of a chain's local target, in chunk order, from (segment, index) on."""

    chain_id: int
    segment_id: Number
    chunk_index: ChunkIndex
    limit: Natural
    target_id: Number = 0


class ChunkSummary(Message, frozen=True):
    segment_id: int
    chunk_index: int
    chain_version: int
    committed_version: int
    pending_version: int
    length_bytes: int
    crc32c: int


class ListChunksReply(Message, frozen=True):
    """``pending_version`` of a chunk counts a pending removal as well."""

    chunks: tuple[ChunkSummary, ...]
    more: bool
    damaged: tuple[tuple[int, int], ...] = ()
    """Chunks in the page's range whose index records are damaged."""


class CommittedVersionRequest(Message, frozen=True):
    """The apportioned query: which version has the tail committed?"""

    chain_id: int
    chain_version: int
    segment_id: Number
    chunk_index: ChunkIndex
    target_id: Number = 0


class CommittedVersionReply(Message, frozen=True):
    version: int


class SyncStartRequest(Message, frozen=True):
    """The predecessor begins to fill the chain's local target, which is syncing."""

    chain_id: int
    chain_version: int
    session: Number
    target_id: Number = 0


class SyncReply(Message, frozen=True):
    """``synced``: the target has been filled completely under this version of the chain."""

    synced: bool


class SyncInventoryRequest(Message, frozen=True):
    """What the syncing target holds, in chunk order, from (segment, index) on."""

    chain_id: int
    chain_version: int
    session: Number
    segment_id: Number
    chunk_index: ChunkIndex
    limit: Natural
    target_id: Number = 0


class SyncEntry(Message, frozen=True):
    """A chunk's committed version (0: none). Not ``sure``: its record is damaged, something is
    pending, or it is being written."""

    segment_id: Number
    chunk_index: ChunkIndex
    version: Number
    length_bytes: ChunkBytes
    crc32c: Checksum
    client_id: Number
    channel: Channel
    sequence: Number
    sure: bool


class SyncInventoryReply(Message, frozen=True):
    """``more``: it is complete up to its last entry; else to the end."""

    entries: Batch[SyncEntry]
    more: bool


class OutcomeEntry(Message, frozen=True):
    """The remembered outcome of a client's last update on a channel."""

    client_id: Number
    channel: Channel
    sequence: Number
    segment_id: Number
    chunk_index: ChunkIndex
    version: Number
    length_bytes: ChunkBytes
    crc32c: Checksum


class PutOutcomesRequest(Message, frozen=True):
    """Outcomes that the syncing target must know; one that it knows of a later update stays."""

    chain_id: int
    chain_version: int
    session: Number
    outcomes: Batch[OutcomeEntry]
    target_id: Number = 0


class SyncDoneRequest(Message, frozen=True):
    """Everything was compared and copied. May be asked again, to see that it is remembered."""

    chain_id: int
    chain_version: int
    session: Number
    target_id: Number = 0


class FetchSource(IntEnum):
    """Which content of a chunk a replica that lost its own asks for."""

    VERSION = 1
    """The very version, committed or pending."""
    SETTLED = 2
    """What is committed, if nothing is pending or under way."""
    NEWEST = 3
    """What is pending, durably, else what is committed."""


class FetchChunkRequest(Message, frozen=True):
    """The chunk's content for repair. With a receive buffer of its length, its bytes as well."""

    chain_id: int
    chain_version: int
    segment_id: Number
    chunk_index: ChunkIndex
    source: FetchSource
    version: Number = 0
    target_id: Number = 0


class FetchChunkReply(Message, frozen=True):
    """``version`` 0: there is no such chunk."""

    version: Number = 0
    length_bytes: ChunkBytes = 0
    crc32c: Checksum = 0
    page_crcs: PageChecksums = b""
    client_id: Number = 0
    channel: Channel = 0
    sequence: Number = 0


class RepairChunkRequest(Message, frozen=True):
    """Let the target fetch a chunk from another replica: what is damaged there (``version`` is the
    committed one that is), or the exact content that target ``source_id`` has, in the place of
    ``version`` (0: of none)."""

    chain_id: int
    chain_version: int
    segment_id: Number
    chunk_index: ChunkIndex
    target_id: Number
    version: Number
    source_id: Number = 0
    wanted_version: Number = 0
    wanted_length_bytes: ChunkBytes = 0
    wanted_crc32c: Checksum = 0


class RepairChunkReply(Message, frozen=True):
    """``repaired``: else something else had taken its place already."""

    repaired: bool


class TargetStatusRequest(Message, frozen=True):
    pass


class TargetStatus(Message, frozen=True):
    target_id: int
    chain_id: int
    capacity_bytes: int
    free_bytes: int
    used_bytes: int
    chunks: int
    blocks_used: int
    blocks_reserved: int
    blocks_quarantined: int


class TargetStatusReply(Message, frozen=True):
    targets: tuple[TargetStatus, ...]


def encode(message: Message) -> bytes:
    """Return *message* as bytes."""
    return _ENCODER.encode(message)


_ENCODER = msgspec.msgpack.Encoder()
