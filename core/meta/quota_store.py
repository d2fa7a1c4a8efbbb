"""PORT: the part of the namespace that keeps quotas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .accounts import Account, Standing
from .records import Inode


class QuotaStore(Protocol):
    """Limits and what is held. Limits hold at once in this process, and within a second in
    others."""

    async def set_quota(self, account: Account, *, size_bytes: int, files: int) -> None:
        """Limit what an account may hold; 0: no limit. More than that may be there already: then
        nothing can be added. For a folder ``settle_quota`` must follow.

        Raises NotFoundError (no such bucket or folder), NotDirectoryError, InvalidArgumentError (a
        bucket as a folder, the superuser)."""
        ...

    async def remove_quota(self, account: Account) -> bool:
        """Forget the limits; False if there were none. For a folder ``settle_quota`` must
        follow."""
        ...

    async def settle_quota(self, directory_id: int, told: Callable[[int], None] = ...) -> int:
        """Have everything below a folder count for its quota, or no longer, in as many transactions
        as it takes; return how much was changed. What was done before it was interrupted is not
        done again. *told* gets the number of entries of each page that was looked at."""
        ...

    async def unsettled_quotas(self) -> list[int]:
        """Folders for which ``settle_quota`` is due, or under way."""
        ...

    async def quotas(self) -> list[Standing]:
        """Every account with limits, and what it holds."""
        ...

    async def standing(self, account: Account) -> Standing:
        """One account: no limits are told as zeros. Raises NotFoundError."""
        ...

    async def user_usages(self) -> list[Standing]:
        """What every owner holds, the superuser first: what the others leave of all buckets."""
        ...

    async def standings_of(self, inode: Inode) -> list[Standing]:
        """The limited accounts but its owner that *inode*, a folder, counts for."""
        ...

    async def path_of(self, directory_id: int) -> str:
        """The way to a folder, from its bucket's name on. Raises StaleHandleError."""
        ...

    async def room_of(self, inode: Inode) -> int:
        """By how many bytes a file may still grow, as far as is known without I/O or by one look at
        the counters; ROOM_MAX if nothing limits it."""
        ...

    async def check_room(self, bucket_id: int, uid: int, size_bytes: int) -> None:
        """Before so many bytes are taken for a new object: raise QuotaExceededError if the bucket
        or the owner has no room for them even if nothing is added meanwhile. No I/O while no limit
        is known."""
        ...
