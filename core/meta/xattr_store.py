"""PORT: the part of the namespace that keeps extended attributes."""

from __future__ import annotations

from typing import Protocol


class XattrStore(Protocol):
    """Attributes of inodes, by names with their namespace (``user.``, ``security.`` …)."""

    async def get_xattr(self, inode_id: int, name: bytes) -> bytes:
        """Raises NotFoundError."""
        ...

    async def set_xattr(
        self,
        inode_id: int,
        name: bytes,
        value: bytes,
        *,
        create: bool = False,
        replace: bool = False,
    ) -> None:
        """Set a value. The two names of access control lists (core/access/acl.py) set those and the
        permission bits. Raises AlreadyExistsError (*create*), NotFoundError
        (*replace*), NoSpaceError (too long, or too many), InvalidArgumentError (no list)."""
        ...

    async def list_xattrs(self, inode_id: int) -> list[bytes]: ...

    async def remove_xattr(self, inode_id: int, name: bytes) -> None:
        """Raises NotFoundError."""
        ...
