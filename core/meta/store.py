"""PORT: the namespace. One set of calls for both doors; local (in-process on the KV) or remote.

Rules are in docs/architecture.md and the module docs of core/meta. Every call is one transaction
unless it says otherwise; what it changed is durable and visible to all doors when it returns. Keys
are UTF-8 bytes.

Common errors: BucketNotFoundError, NotFoundError, PreconditionFailedError, ConflictError (retries
ran out), NameTooLongError, InvalidArgumentError, NoSpaceError, UnavailableError.
QuotaExceededError from whatever adds bytes or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..crypt.envelope import Encryption
from .life_store import LifeStore
from .quota_store import QuotaStore
from .records import (
    NO_CONDITIONS,
    AppendPoint,
    Bucket,
    CompletedPart,
    CopyOut,
    DeleteOutcome,
    Deletion,
    DirectoryEntry,
    Extent,
    Inode,
    InodeType,
    Layout,
    Listing,
    NewContent,
    ObjectAttributes,
    ObjectView,
    Owner,
    Part,
    PartSize,
    PutResult,
    SetAttributes,
    Upload,
    Usage,
    VersionListing,
    WriteConditions,
    WritePlan,
)
from .trail_store import TrailStore
from .trash_store import TrashStore
from .xattr_store import XattrStore


class ObjectStore(Protocol):
    """Buckets and keys: what the S3 door calls."""

    async def create_bucket(
        self,
        name: str,
        *,
        owner: str,
        region: str,
        as_owner: Owner,
        object_lock: bool = False,
        settings: Mapping[str, bytes] | None = None,
    ) -> Bucket:
        """*object_lock*: its versions may be locked, and it is versioned. *settings*, by aspect, it
        has from the beginning. Raises InvalidArgumentError (name), AlreadyExistsError (whoever owns
        it; the error text does not tell)."""
        ...

    async def get_bucket(self, name: str) -> Bucket: ...

    async def delete_bucket(self, name: str) -> None:
        """Remove a bucket, and uploads in progress with it. Raises NotEmptyError while it holds
        objects or explicit directories."""
        ...

    async def list_buckets(
        self, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Bucket]: ...

    async def bucket_settings(
        self, name: str, *, known: Bucket | None = None
    ) -> tuple[Bucket, dict[str, bytes] | None]:
        """The bucket and all its settings by aspect; None instead of the settings if they are still
        those of *known*."""
        ...

    async def get_bucket_setting(self, bucket: str, aspect: str) -> bytes | None: ...

    async def set_bucket_setting(self, bucket: str, aspect: str, value: bytes | None) -> None:
        """Store a setting, or remove it (None), and raise ``Bucket.settings_version``."""
        ...

    async def set_bucket_versioning(self, bucket: str, *, enabled: bool) -> None:
        """Keep versions from now on (Enabled), or suspend that; raises ``Bucket.settings_version``.
        Raises BucketStateError if object lock forbids to suspend."""
        ...

    async def set_object_lock(self, bucket: str, setting: bytes) -> None:
        """Allow versions to be locked, and store the setting ``object-lock``. Raises
        BucketStateError unless versioning is enabled."""
        ...

    async def get_object(
        self, bucket: str, key: bytes, *, version_id: str = "", with_data: bool = True
    ) -> ObjectView:
        """Read inode and (``with_data``) inline bytes of *key*, or of one of its versions. This is
        the GET and HEAD hot path. A symbolic link is never followed: its bytes are its target.
        Raises DeleteMarkerError (the version is one), VersionNotFoundError, InvalidArgumentError
        (what cannot be a version id)."""
        ...

    async def put_object(
        self,
        bucket: str,
        key: bytes,
        content: NewContent,
        attributes: ObjectAttributes,
        owner: Owner,
        *,
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> PutResult:
        """Make a new inode with *content* and swap it under *key*. ``etag_generation`` is set by
        this call.

        A key ending in ``/`` makes that directory explicit; its content and attributes live in the
        entry with the empty name. Missing parents become implicit directories. Content's segments
        become referenced; they are not on an error."""
        ...

    async def append_point(self, bucket: str, key: bytes) -> AppendPoint:
        """Where an append to *key* begins. Raises NotFoundError: then ``append_object`` with
        ``AppendPoint(None)`` makes it."""
        ...

    async def append_object(
        self,
        bucket: str,
        key: bytes,
        point: AppendPoint,
        content: NewContent,
        attributes: ObjectAttributes,
        owner: Owner,
        *,
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> PutResult:
        """Put *content* behind *point*: inline bytes are only the new ones; extents hold what lies
        from ``point.rewrite_from`` on (or the point's inline data) and then the new bytes.

        Of *attributes* etag and checksums count, all of them if the object is made. Raises
        WriteOffsetError (the object has another size by now), ConflictError (it changed otherwise),
        ObjectLockedError."""
        ...

    async def copy_object(
        self,
        source_bucket: str,
        source_key: bytes,
        bucket: str,
        key: bytes,
        owner: Owner,
        *,
        attributes: ObjectAttributes | None,
        source_generation: tuple[int, int] | None,
        source_version: str = "",
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> PutResult:
        """Copy without moving data: inline bytes are copied, segments get one more reference.

        *attributes* None keeps the source's (etag and checksums included where they describe the
        content). Given ones replace headers, metadata, tags and storage class; their etag and
        checksums are used if not empty, else the source's kept. *source_generation* (inode id,
        generation): ConflictError if the source is no longer that one."""
        ...

    async def rename_object(
        self,
        bucket: str,
        source: bytes,
        target: bytes,
        owner: Owner,
        *,
        source_conditions: WriteConditions = NO_CONDITIONS,
        conditions: WriteConditions = NO_CONDITIONS,
        token: str = "",
    ) -> None:
        """Give *source* the key *target*, in place of what is there. Names that end in a slash: all
        that is below moves, however much, if nothing is below *target*.

        With a *token* it is done once, however often it is asked for. Raises TokenReusedError,
        NotEmptyError, InvalidArgumentError (a prefix into itself), ObjectLockedError."""
        ...

    async def delete_object(
        self,
        bucket: str,
        key: bytes,
        *,
        version_id: str = "",
        bypass_governance: bool = False,
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> DeleteOutcome:
        """Remove *key* and the implicit directories left empty above it; in a versioned bucket, put
        a delete marker in front of its versions. With *version_id*, remove that version for good.

        What is absent is not an error unless a condition asks for presence: then NotFoundError.
        Raises ObjectLockedError, InvalidArgumentError (what cannot be a version id)."""
        ...

    async def delete_objects(
        self, bucket: str, deletions: Sequence[Deletion]
    ) -> list[DeleteOutcome | Exception]:
        """Remove many, in as few transactions as fit; one outcome for each."""
        ...

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: bytes = b"",
        limit: int = 1000,
    ) -> Listing:
        """One page in byte order, strictly behind *after* (a key or a common prefix: then behind
        all below it). O(page)."""
        ...

    async def list_object_versions(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after_key: bytes = b"",
        after_version: str = "",
        limit: int = 1000,
    ) -> VersionListing:
        """One page of versions and delete markers: keys in byte order, the newest first, behind
        version *after_version* of *after_key*, or without one behind all of that key (or common
        prefix). O(page). Raises InvalidArgumentError (what cannot be a version id)."""
        ...

    async def set_object_attributes(
        self,
        bucket: str,
        key: bytes,
        inode_id: int,
        attributes: ObjectAttributes,
        *,
        version_id: str = "",
    ) -> Inode:
        """Replace attributes of the object, or of a version, as long as it is still *inode_id*
        (else ConflictError). mtime and the lock stay."""
        ...

    async def set_retention(
        self,
        bucket: str,
        key: bytes,
        *,
        mode: str,
        retain_until_ns: int,
        version_id: str = "",
        bypass_governance: bool = False,
    ) -> None:
        """Keep a version from being removed or changed until then; mode and time empty: no longer.

        Raises BucketStateError (the bucket has no object lock), ObjectLockedError (weaker than the
        retention that lasts), ConflictError (being written), and as ``get_object``."""
        ...

    async def set_legal_hold(
        self, bucket: str, key: bytes, *, hold: bool, version_id: str = ""
    ) -> None:
        """Keep a version from being removed or changed until the hold is lifted. Raises as
        ``set_retention``."""
        ...

    async def object_parts(self, inode: Inode) -> tuple[PartSize, ...]:
        """Part sizes of a completed multipart object; empty if it was uploaded in one piece or
        changed since."""
        ...

    async def create_upload(
        self,
        bucket: str,
        key: bytes,
        attributes: ObjectAttributes,
        owner: Owner,
        *,
        checksum_algorithm: str,
        checksum_type: str,
    ) -> Upload: ...

    async def get_upload(self, bucket: str, key: bytes, upload_id: str) -> Upload:
        """Raises UploadNotFoundError."""
        ...

    async def put_part(self, upload: Upload, part: Part) -> Part:
        """Add or replace a part; its content is extents, never inline (the replaced one's segments
        go to the removal queue). Raises UploadNotFoundError."""
        ...

    async def copy_part(
        self,
        upload: Upload,
        number: int,
        source: ObjectView,
        offset: int,
        length: int,
        etag: str,
        checksums: dict[str, str],
    ) -> Part:
        """A part by reference to bytes of an object's extents. Raises ConflictError if the source
        changed."""
        ...

    async def list_parts(
        self, upload: Upload, *, after: int = 0, limit: int = 1000
    ) -> tuple[list[Part], bool]:
        """Parts numbered above *after*, and whether there are more."""
        ...

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_upload_id: str = "",
        limit: int = 1000,
    ) -> tuple[list[Upload], bool]:
        """Uploads ordered by (key, initiation), behind the markers, and whether there are more."""
        ...

    async def complete_upload(
        self,
        upload: Upload,
        parts: Sequence[CompletedPart],
        *,
        etag: str,
        checksums: dict[str, str],
        conditions: WriteConditions = NO_CONDITIONS,
    ) -> PutResult:
        """Make the object from *parts*, in order, by reference: no data moves. Unnamed parts are
        removed.

        Raises InvalidPartError, InvalidPartOrderError, PartTooSmallError. Idempotent for a while:
        repeating it after success returns the same result."""
        ...

    async def find_completed(self, bucket: str, key: bytes, upload_id: str) -> PutResult:
        """What a completed upload became, while that object exists. Raises UploadNotFoundError."""
        ...

    async def abort_upload(self, bucket: str, key: bytes, upload_id: str) -> None: ...

    async def usage(self, bucket: str | None = None) -> Usage: ...


class FileStore(XattrStore, Protocol):
    """Inodes and names: what the file door calls. Permission bits are the caller's (the kernel's)
    to check."""

    async def lookup(self, parent_id: int, name: bytes) -> Inode:
        """*name* is the POSIX name (escapes of core/meta/names.py are undone here). Raises
        NotFoundError."""
        ...

    async def get_inode(self, inode_id: int) -> Inode:
        """Raises StaleHandleError if it is gone."""
        ...

    async def get_inodes(self, inode_ids: Sequence[int]) -> list[Inode | None]: ...

    async def set_attributes(self, inode_id: int, changes: SetAttributes) -> Inode:
        """chmod, chown, utimens, truncate (a cut drops what lies behind it for good; growing makes
        a hole)."""
        ...

    async def create(
        self,
        parent_id: int,
        name: bytes,
        kind: InodeType,
        *,
        mode: int,
        uid: int,
        gid: int,
        rdev: int = 0,
        symlink_target: bytes = b"",
        session: int | None = None,
        exclusive: bool = True,
    ) -> Inode:
        """Make a file, directory (at the root: a bucket), symlink or special file.

        With *session* (a handle number of this client) the file is open for writing at once, in the
        same transaction. Raises AlreadyExistsError if the name is taken (not ``exclusive``: returns
        the present file instead)."""
        ...

    async def link(self, inode_id: int, parent_id: int, name: bytes) -> Inode: ...

    async def unlink(self, parent_id: int, name: bytes) -> Inode:
        """Remove a name that is not a directory; returns the inode as it is now (nlink lowered)."""
        ...

    async def remove_directory(self, parent_id: int, name: bytes) -> None:
        """Raises NotEmptyError, NotDirectoryError."""
        ...

    async def rename(
        self,
        parent_id: int,
        name: bytes,
        new_parent_id: int,
        new_name: bytes,
        *,
        no_replace: bool = False,
        exchange: bool = False,
    ) -> None:
        """POSIX rename in one transaction, however large a directory is. Raises
        InvalidArgumentError for a cycle."""
        ...

    async def read_directory(
        self, inode_id: int, *, after: bytes = b"", limit: int = 1000
    ) -> list[DirectoryEntry]:
        """Entries behind cursor *after*, with their inodes, names as POSIX shows them; without
        ``.`` and ``..``."""
        ...

    async def read_inline(self, inode_id: int) -> tuple[Inode, bytes | None]:
        """The inode and, if its content is inline, all of it, from one snapshot."""
        ...

    async def read_inline_many(
        self, inode_ids: Sequence[int]
    ) -> list[tuple[Inode, bytes | None] | None]:
        """As ``read_inline`` of many files (at most BATCH_ITEMS_MAX), from one snapshot. None: it
        is gone."""
        ...

    async def write_inline(
        self, inode_id: int, offset: int, data: bytes, *, close_session: int | None = None
    ) -> Inode | None:
        """Overlay *data* if the result stays inline (at most INLINE_BYTES_MAX, no extents); else
        None and nothing changed.

        Raises the generation, sets mtime and ctime."""
        ...

    async def plan_write(self, inode_id: int, offset: int, length: int) -> WritePlan:
        """Make ``[offset, offset+length)`` writable in place: a home segment for holes; copies for
        shared extents and for inline content that outgrows its place. Durable before it returns, so
        that two writers agree on the segments."""
        ...

    async def install_copies(self, inode_id: int, copies: Sequence[CopyOut]) -> Inode:
        """Swap each ``source`` range for its ``target``, whose bytes are in place. ConflictError if
        a source changed."""
        ...

    async def commit_write(
        self, inode_id: int, end_offset: int, *, close_session: int | None = None
    ) -> Inode:
        """Bytes up to *end_offset* were written in place: size = max, generation + 1, times set."""
        ...

    async def store_sealed(
        self,
        inode_id: int,
        generation: int,
        encryption: Encryption,
        *,
        size: int,
        inline: bytes | None = None,
        extents: Sequence[Extent] = (),
    ) -> Inode:
        """Change an encrypted file (or make an empty one so): *inline*, a sealed record, in place
        of all content, or *extents* of new encrypted segments laid over it. Raises ConflictError if
        the content is not of *generation* any more."""
        ...

    async def extents(self, inode: Inode, offset: int, length: int) -> tuple[Extent, ...]:
        """The extents of *inode* (as it was read) that touch the range, in order. No I/O if they
        are in the record.

        Raises StaleHandleError if paged extents are gone."""
        ...


class MetaStore(ObjectStore, FileStore, LifeStore, TrailStore, QuotaStore, TrashStore, Protocol):
    """The whole namespace."""

    @property
    def client_id(self) -> int: ...

    def layout_of(self, segment_id: int, *, in_place: bool) -> Layout:
        """The layout for the new segment *segment_id*: as ``default_layout``, its stripe beginning
        at a chain of its own."""
        ...

    def default_layout(self, *, in_place: bool) -> Layout:
        """Layout for a new segment: OBJECT_CHUNK_BYTES for immutable ones, FILE_CHUNK_BYTES for
        those written in place."""
        ...

    async def close(self) -> None: ...
