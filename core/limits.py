"""Every numeric bound that more than one module knows, each with its reason."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

# core.kv: FoundationDB's own limits, enforced by every backend, so that what runs embedded runs at
# scale.
KV_KEY_BYTES_MAX = 10_000
KV_VALUE_BYTES_MAX = 100_000
KV_TRANSACTION_BYTES_MAX = 10_000_000
KV_TRANSACTION_SECONDS_MAX = 5.0
KV_RETRIES_MAX = 100  # a transaction that loses 100 races in a row is a design error, not bad luck

# core.meta
KEY_BYTES_MAX = 1024  # S3's limit on an object key
NAME_BYTES_MAX = 255  # POSIX NAME_MAX on Linux; longer key components show escaped in the mount
INLINE_BYTES_MAX = 32 * KIB  # below this a file's bytes live in one KV value: no chunk, no RPC
INODE_ID_BLOCK = (
    1024  # ids drawn from the shared counter at a time: one hot write per 1,024 creates
)
EXTENTS_INLINE_MAX = 64  # extents kept in the inode record; more go to pages beside it
LINKS_MAX = 65_000  # as ext4
SYMLINK_BYTES_MAX = 4095  # PATH_MAX less the terminating zero
XATTR_NAME_BYTES_MAX = 255  # Linux
XATTR_VALUE_BYTES_MAX = 65_536  # Linux
XATTR_LIST_BYTES_MAX = 65_536  # Linux: of all names of an inode
FILE_BYTES_MAX = 4 * 1024 * TIB  # 4 PiB: 2**32 chunks of 1 MiB

# S3 multipart
PARTS_MAX = 10_000
PART_BYTES_MIN = 5 * MIB
PART_BYTES_MAX = 5 * GIB
PUT_BYTES_MAX = 5 * GIB

# chunks
CHUNK_CLASS_BYTES_MIN = 64 * KIB
CHUNK_CLASS_BYTES_MAX = 64 * MIB
CHECKSUM_PAGE_BYTES = 64 * KIB  # one CRC32C for each page of a chunk: partial reads can be verified
OBJECT_CHUNK_BYTES = 8 * MIB  # chunk size of immutable segments (S3 PUT)
FILE_CHUNK_BYTES = 1 * MIB  # chunk size of segments written in place: bounds a copy-on-write

# wire
FRAME_HEADER_BYTES_MAX = 4 * MIB  # a batch of 1,000 updates with their page checksums fits
FRAME_PAYLOAD_BYTES_MAX = 64 * MIB  # one chunk of the largest class
BATCH_ITEMS_MAX = 1024
