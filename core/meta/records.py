"""What the namespace knows: inodes, extents, object attributes, and the questions asked with a
change.

Stored as MessagePack arrays behind a format-version byte (core/meta/schema.py). Fields are only
ever appended, with defaults, so that old records stay readable. Times are nanoseconds since 1970
UTC.
"""

from __future__ import annotations

import stat
from enum import IntEnum

import msgspec

from ..crypt.envelope import Encryption

OPEN_ENDED = 1 << 62
"""Length of an extent that goes on to the end of the file, however long it grows."""


class InodeType(IntEnum):
    """Kind of an inode."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    CHARACTER_DEVICE = 6
    BLOCK_DEVICE = 7


_FORMAT_BITS = {
    InodeType.FILE: stat.S_IFREG,
    InodeType.DIRECTORY: stat.S_IFDIR,
    InodeType.SYMLINK: stat.S_IFLNK,
    InodeType.FIFO: stat.S_IFIFO,
    InodeType.SOCKET: stat.S_IFSOCK,
    InodeType.CHARACTER_DEVICE: stat.S_IFCHR,
    InodeType.BLOCK_DEVICE: stat.S_IFBLK,
}


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all stored records."""


class Layout(Record, frozen=True):
    """Where a segment's chunks live: chunk i on chain ``chains[(stripe_seed + i) % len(chains)]``
    of the table."""

    chunk_size_bytes: int
    table_id: int
    stripe_seed: int


class Extent(Record, frozen=True):
    """A run of a file's bytes: ``[file_offset, file_offset + length)`` is ``segment`` from
    ``segment_offset`` on.

    A file's extents are sorted and do not overlap; what none covers is a hole and reads as zeros.
    ``dense``: every byte was written before the extent was made known (S3 PUT), so a missing chunk
    is data
    loss; otherwise (written in place) a missing chunk or a short one is a hole.
    """

    file_offset: int
    length_bytes: int
    segment_id: int
    segment_offset: int
    layout: Layout
    dense: bool = True
    encrypted_bytes: int = 0
    """Of an encrypted segment, how long its plaintext is in all; 0: it is stored as it is. Offsets
    and lengths count plaintext either way (core/crypt/pages.py)."""


class Lock(Record, frozen=True):
    """What keeps a version from being removed or changed."""

    mode: str = ""
    """GOVERNANCE (who has the right may lift it) or COMPLIANCE (nobody may); empty: no
    retention."""
    retain_until_ns: int = 0
    legal_hold: str = ""
    """ON, OFF, or empty if it was never set."""


class Grant(Record, frozen=True):
    """What an ACL gives to somebody."""

    grantee: str
    """Canonical id of an account, or the name of a group that has no members of its own: AllUsers,
    AuthenticatedUsers, LogDelivery."""
    permission: str
    """READ, WRITE, READ_ACP, WRITE_ACP or FULL_CONTROL."""
    name: str = ""
    """The account's display name; groups have none."""


class Acl(Record, frozen=True):
    """The access control list of a bucket or an object."""

    owner: str
    """Canonical id of the account that owns it; empty: the bucket's owner."""
    owner_name: str = ""
    grants: tuple[Grant, ...] = ()


class ObjectAttributes(Record, frozen=True):
    """What S3 keeps with an object, beyond its bytes. Valid for one ``generation`` of the content
    only
    as far as ``etag`` and ``checksums`` go; the rest stays when the file is written in place."""

    etag: str = ""
    """Without quotes. Empty: derived from inode and generation (``Inode.effective_etag``)."""
    etag_generation: int = 0
    headers: dict[str, str] = {}
    """content-type, cache-control, content-disposition, content-encoding, content-language,
    expires, website-redirect-location …"""
    metadata: dict[str, str] = {}
    """x-amz-meta-*, names in lower case without the prefix."""
    tags: dict[str, str] = {}
    checksums: dict[str, str] = {}
    """Algorithm name as in ``x-amz-checksum-<name>`` (``crc32c`` …) to its base64 value, with
    ``-N`` if composite."""
    checksum_type: str = ""
    """FULL_OBJECT or COMPOSITE; empty if there are no checksums."""
    storage_class: str = "STANDARD"
    part_count: int = 0
    """Number of multipart parts; 0 if uploaded in one piece. Part sizes are read by
    ``MetaStore.object_parts``."""
    lock: Lock | None = None
    """Changed by ``set_retention`` and ``set_legal_hold`` only, once the object is made."""
    encryption: Encryption | None = None
    """Of the content: extents are of encrypted segments, inline bytes are a sealed record."""
    acl: Acl | None = None
    """None: it belongs to the bucket's owner, who alone has anything of it."""


class Inode(Record, frozen=True):
    """One file, directory or other inode."""

    inode_id: int
    type: InodeType
    mode: int
    """Permission bits only (0o7777)."""
    uid: int
    gid: int
    nlink: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int
    generation: int = 0
    """Rises with every change of the content."""
    parent_id: int = 0
    """Directories only."""
    name: bytes = b""
    """Directories only: own name in the parent, without the slash."""
    explicit: bool = True
    """Directories only: made by mkdir or PUT ``dir/``; implicit ones vanish with their last
    object."""
    rdev: int = 0
    symlink_target: bytes = b""
    inline: bool = False
    """The bytes are in the inline record, and there are no extents."""
    extents: tuple[Extent, ...] = ()
    """Empty when there are more than EXTENTS_INLINE_MAX: then ``extent_pages`` > 0."""
    extent_pages: int = 0
    object: ObjectAttributes | None = None
    bucket_id: int = 0
    """Inode of the bucket that the bytes are counted for."""
    noncurrent: bool = False
    """No entry leads to it, but a version record does: a noncurrent version (its ``nlink`` is 0),
    or a folder that holds nothing current."""
    quota_ids: tuple[int, ...] = ()
    """The folders with a quota that it counts for, the nearest first; of such a folder, itself
    first. What is made in a folder has those of the folder."""
    access_acl: bytes = b""
    """Who else may do what (core/access/acl.py); the mode's group bits are its mask then. b"": the
    mode says it all."""
    default_acl: bytes = b""
    """Folders only: what is made in it begins with this list."""
    folder_id: int = 0
    """What is no folder: the folder of the name that it was given last (core/meta/file_names.py); 0
    in records of versions that did not note it."""
    file_name: bytes = b""
    """That name, as stored."""

    @property
    def lives(self) -> bool:
        """Whether it counts as content of its bucket: it has a name, or is a noncurrent version."""
        return self.nlink > 0 or self.noncurrent

    @property
    def encryption(self) -> Encryption | None:
        """How the content is encrypted; None: not."""
        return None if self.object is None else self.object.encryption

    def stat_mode(self) -> int:
        """The mode as ``st_mode`` has it, with the file type bits."""
        return self.mode | _FORMAT_BITS[self.type]

    def effective_etag(self) -> str:
        """The ETag that S3 shows, unquoted: the stored one while it describes the present content,
        else an
        opaque one from inode and generation, never in the form of an MD5."""
        attributes = self.object
        if (
            attributes is not None
            and attributes.etag
            and attributes.etag_generation == self.generation
        ):
            return attributes.etag
        return f"{self.inode_id:016x}-{self.generation:x}-w"


class DirectoryEntry(msgspec.Struct, frozen=True, gc=False):
    """One name in a directory, as readdir gives it."""

    name: bytes
    """Without the slash that directories carry in the store; may be empty (the S3 key ``dir/`` with
    content)."""
    inode: Inode
    cursor: bytes
    """Opaque. Give it to ``read_directory`` to go on behind this entry; stays valid while entries
    come and
    go."""


class Versioning(IntEnum):
    """What becomes of an object that is replaced or deleted. Once set it is never NEVER again."""

    NEVER = 0
    ENABLED = 1
    SUSPENDED = 2


class Bucket(Record, frozen=True):
    """A bucket: a directory at the root, and its S3 settings."""

    name: str
    inode_id: int
    created_ns: int
    owner: str
    """Canonical id of the account that owns it."""
    region: str
    settings_version: int = 0
    """Rises whenever a setting changes: who keeps settings reads them anew then."""
    versioning: Versioning = Versioning.NEVER
    object_lock: bool = False
    """Versions may be locked. Never taken back; versioning stays enabled with it."""
    has_quota_folders: bool = False
    """Some folder has, or had, a quota of its own."""
    folders_pass_on: bool = False
    """Some folder passes on, or passed on, its group or a list (core/meta/inheritance.py)."""
    notifies: bool = False
    """Somebody is told of events (the setting ``notification``)."""
    trash_seconds: int = 0
    """How long what file calls remove is kept; 0: not (core/meta/trash.py)."""


class WriteConditions(msgspec.Struct, frozen=True, gc=False):
    """Checked in the transaction that makes the change. Only fields that were given are checked."""

    if_match: tuple[str, ...] = ()
    """ETags without quotes, or ``*`` (must exist). A missing object raises NotFoundError, not
    PreconditionFailed."""
    if_none_match: tuple[str, ...] = ()
    """``*``: must not exist; ETags: must not be one of these."""
    if_match_size: int | None = None
    if_match_mtime_ns: int | None = None
    """Compared in whole seconds, as the HTTP date of the header has no more."""
    if_unmodified_since_ns: int | None = None
    """Counts only where ``if_match`` is empty; whole seconds."""
    if_modified_since_ns: int | None = None
    """Counts only where ``if_none_match`` is empty; whole seconds."""


NO_CONDITIONS = WriteConditions()


class ObjectView(msgspec.Struct, frozen=True, gc=False):
    """An object as one transaction saw it."""

    key: bytes
    inode: Inode
    inline_data: bytes | None = None
    """The whole content, if it is inline (and was asked for)."""
    version_id: str = ""
    """Empty if the bucket was never versioned."""


class NewContent(msgspec.Struct, frozen=True, gc=False):
    """Content ready to be put under a name: inline bytes or extents, never both."""

    size: int
    inline_data: bytes | None = None
    extents: tuple[Extent, ...] = ()


class AppendPoint(msgspec.Struct, frozen=True, gc=False):
    """Where an append to an object begins, as one transaction saw it."""

    inode: Inode | None
    """None: there is a folder of that name and no content yet."""
    inline_data: bytes | None = None
    """All of the content, if it is inline: it goes in front of the new bytes."""
    rewrite_from: int = 0
    """The bytes from here on go in front of the new ones."""
    tail: tuple[Extent, ...] = ()
    """Where those bytes are."""


class Owner(msgspec.Struct, frozen=True, gc=False):
    """Who makes a file, and with which permission bits."""

    uid: int = 0
    gid: int = 0
    file_mode: int = 0o644
    directory_mode: int = 0o755
    file_acl: bytes = b""
    """The access control list of a file."""


class Trail(msgspec.Struct, frozen=True, gc=False):
    """The way from a bucket to one of its keys, as one transaction saw it."""

    directories: tuple[Inode, ...]
    """The bucket's own, and those below it as far as they exist."""
    is_whole: bool
    """Whether all of the key's directories exist."""
    inode: Inode | None
    """What stands under the key; None: nothing."""


class PutResult(msgspec.Struct, frozen=True, gc=False):
    inode: Inode
    replaced: bool
    version_id: str = ""
    """Empty if the bucket was never versioned."""


class Deletion(msgspec.Struct, frozen=True, gc=False):
    """An object to delete, or one version of it for good."""

    key: bytes
    conditions: WriteConditions = NO_CONDITIONS
    version_id: str = ""
    bypass_governance: bool = False
    """The caller may lift GOVERNANCE retention, and wants to."""


class DeleteOutcome(msgspec.Struct, frozen=True, gc=False):
    """What a deletion did."""

    removed: bool
    """Whether there was something to be removed."""
    version_id: str = ""
    """Of the version that was removed, or of the delete marker that was made; empty if the bucket
    was never versioned."""
    delete_marker: bool = False
    """That version was, or is, a delete marker."""


class ListEntry(msgspec.Struct, frozen=True, gc=False):
    """One line of a listing: an object (``inode``), or a common prefix (``inode`` None)."""

    key: bytes
    inode: Inode | None


class Listing(msgspec.Struct, frozen=True, gc=False):
    entries: list[ListEntry]
    """In byte order; objects and common prefixes merged."""
    next_after: bytes | None
    """Give it as ``after`` for the next page; None at the end."""


class VersionEntry(msgspec.Struct, frozen=True, gc=False):
    """One line of a listing of versions: a version, a delete marker (``inode`` None), or a common
    prefix (no ``version_id``)."""

    key: bytes
    version_id: str
    inode: Inode | None
    is_latest: bool
    modified_ns: int
    noncurrent_since_ns: int = 0
    """When it was replaced or deleted; 0: it is current, or a delete marker."""


class VersionListing(msgspec.Struct, frozen=True, gc=False):
    entries: list[VersionEntry]
    """Keys in byte order, versions newest first; common prefixes merged."""
    next_key: bytes | None
    """Give it as ``after_key`` for the next page, with ``next_version``; None at the end."""
    next_version: str


class Upload(Record, frozen=True):
    """A multipart upload in progress."""

    upload_id: str
    bucket: str
    key: bytes
    initiated_ns: int
    attributes: ObjectAttributes
    """As the object shall have them (no etag); checksum algorithm and type as asked."""
    checksum_algorithm: str = ""
    checksum_type: str = ""
    uid: int = 0
    gid: int = 0


class Part(Record, frozen=True):
    """One uploaded part."""

    number: int
    size: int
    etag: str
    modified_ns: int
    checksums: dict[str, str] = {}
    extents: tuple[Extent, ...] = ()
    inline_data: bytes | None = None
    """Small parts (at most INLINE_BYTES_MAX) need no chunk until completion."""


class CompletedPart(msgspec.Struct, frozen=True, gc=False):
    """A part as the client names it on completion; checksums (algorithm to base64) only if it gave
    some."""

    number: int
    etag: str
    checksums: dict[str, str] = {}


class PartSize(Record, frozen=True):
    """What is remembered of a part after completion."""

    number: int
    size: int
    checksums: dict[str, str] = {}


class SetAttributes(msgspec.Struct, frozen=True, gc=False):
    """Changes of ``set_attributes``; None leaves a field alone. Times: nanoseconds."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class CopyOut(msgspec.Struct, frozen=True, gc=False):
    """Bytes to copy before a range may be written in place: from a shared extent to a private one.

    Both extents cover the same file range, on chunk boundaries of the target (or to the end of the
    file).
    ``source`` None: the bytes are the file's ``inline_data``, from file offset 0.
    """

    source: Extent | None
    target: Extent
    inline_data: bytes = b""


class WritePlan(msgspec.Struct, frozen=True, gc=False):
    """How to write a range in place: do ``copies`` first and install them, then write into
    ``extents``."""

    inode: Inode
    extents: tuple[Extent, ...]
    """Private extents that cover the range once the copies are installed."""
    copies: tuple[CopyOut, ...] = ()


class FeedEvent(msgspec.Struct, frozen=True, gc=False):
    """One change, for whoever keeps caches. ``kind``: ``entry`` (parent_id, name), ``inode``
    (inode_id)."""

    kind: str
    inode_id: int
    parent_id: int = 0
    name: bytes = b""
    client_id: int = 0
    """Who made the change: its own caches need no invalidation."""


class RemovalItem(msgspec.Struct, frozen=True, gc=False):
    """Something whose chunks may be freed now: all of a segment, or its chunks from ``first_chunk``
    on."""

    queue_key: bytes
    segment_id: int
    layout: Layout
    first_chunk: int = 0


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Bytes and objects of a bucket, a user or a folder with a quota (or of everything)."""

    size_bytes: int
    objects: int
    part_bytes: int = 0
    """Of parts of unfinished uploads."""

    @property
    def held_bytes(self) -> int:
        """What quotas of bytes are about."""
        return self.size_bytes + self.part_bytes
