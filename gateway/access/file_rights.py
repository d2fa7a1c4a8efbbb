"""Whether file permissions let a request do what it asks: the same that the kernel would allow its
identity in a mount."""

from __future__ import annotations

from collections.abc import Iterable

from ...core.access.posix import READ, SEARCH, WRITE, Actor, Node
from ...core.errors import CallerError, NameTooLongError
from ...core.identity.records import Identity
from ...core.meta.records import Inode
from ...core.meta.store import MetaStore

_READS, _MAKES, _CHANGES, _OWNS, _REACHES, _LISTS = range(6)

_NEEDS = {
    "s3:AbortMultipartUpload": _MAKES,
    "s3:BypassGovernanceRetention": _REACHES,
    "s3:DeleteObject": _MAKES,
    "s3:DeleteObjectTagging": _CHANGES,
    "s3:DeleteObjectVersion": _MAKES,
    "s3:DeleteObjectVersionTagging": _CHANGES,
    "s3:GetObject": _READS,
    "s3:GetObjectAcl": _REACHES,
    "s3:GetObjectAttributes": _READS,
    "s3:GetObjectLegalHold": _REACHES,
    "s3:GetObjectRetention": _REACHES,
    "s3:GetObjectTagging": _READS,
    "s3:GetObjectVersion": _READS,
    "s3:GetObjectVersionAcl": _REACHES,
    "s3:GetObjectVersionAttributes": _READS,
    "s3:GetObjectVersionTagging": _READS,
    "s3:ListBucket": _LISTS,
    "s3:ListBucketMultipartUploads": _LISTS,
    "s3:ListBucketVersions": _LISTS,
    "s3:ListMultipartUploadParts": _MAKES,
    "s3:PutObject": _MAKES,
    "s3:PutObjectAcl": _OWNS,
    "s3:PutObjectLegalHold": _CHANGES,
    "s3:PutObjectRetention": _CHANGES,
    "s3:PutObjectTagging": _CHANGES,
    "s3:PutObjectVersionAcl": _OWNS,
    "s3:PutObjectVersionTagging": _CHANGES,
}
ACTIONS = frozenset(_NEEDS)
"""Actions that file permissions are about. The others change settings of buckets, which no mount
can."""

_ANY_NAME = b"-"


class FileRights:
    """Looks at the permission bits of what one identity names."""

    __slots__ = ("_actor", "_meta")

    def __init__(self, meta: MetaStore, identity: Identity) -> None:
        self._meta = meta
        self._actor = Actor(identity.uid, identity.gid, identity.groups)

    async def may(self, action: str, bucket: str, key: bytes, version_id: str = "") -> bool:
        """Whether *action* (one of ACTIONS) may be done to *key*, for listings a prefix. What is
        not there stands in nobody's way. Raises BucketNotFoundError."""
        needs = _NEEDS[action]
        if needs == _LISTS:
            return await self._may_list(bucket, key[: key.rfind(b"/") + 1])
        try:
            trail = await self._meta.trail(bucket, key)
        except NameTooLongError:
            return True  # there is no such object, and never will be
        actor = self._actor
        directories = _nodes(trail.directories)
        if not actor.may_reach(directories[:-1]):
            return False
        inode = trail.inode
        if needs == _MAKES:
            return actor.may_change_entry(directories[-1], None if inode is None else _node(inode))
        if not actor.may(directories[-1], SEARCH):
            return False
        if version_id:
            inode = await self._version(bucket, key, version_id)
        if inode is None or needs == _REACHES:
            return True
        if needs == _OWNS:
            return actor.owns(_node(inode))
        return actor.may(_node(inode), READ if needs == _READS else WRITE)

    async def may_write(self, bucket: str, key: bytes) -> bool:
        """Whether the content of the file under *key* may be changed, if there is one."""
        inode = (await self._meta.trail(bucket, key)).inode
        return inode is None or self._actor.may(_node(inode), WRITE)

    async def readable(self, bucket: str, folders: Iterable[bytes]) -> set[bytes]:
        """Those of *folders* (each ends in a slash, or is empty) whose names may be read."""
        return {folder for folder in folders if await self._may_list(bucket, folder)}

    async def _may_list(self, bucket: str, folder: bytes) -> bool:
        try:
            trail = await self._meta.trail(bucket, folder + _ANY_NAME)
        except NameTooLongError:
            return True
        directories = _nodes(trail.directories)
        if not self._actor.may_reach(directories):
            return False
        return not trail.is_whole or self._actor.may(directories[-1], READ)

    async def _version(self, bucket: str, key: bytes, version_id: str) -> Inode | None:
        try:
            view = await self._meta.get_object(bucket, key, version_id=version_id, with_data=False)
        except CallerError:
            return None
        return view.inode


def _node(inode: Inode) -> Node:
    return Node(inode.mode, inode.uid, inode.gid, inode.access_acl)


def _nodes(directories: Iterable[Inode]) -> list[Node]:
    return [_node(inode) for inode in directories]
