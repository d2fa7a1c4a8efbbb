"""Listings in S3's order: a depth-first walk of the tree, resumed anywhere, reading no more than
the page.

An entry's stored name (directories with their slash) sorts among its siblings exactly as the keys
below it do, so nothing is ever sorted or buffered. All bounds are *inclusive lower bounds* on keys:
"behind k" is ``k + b"\\0"``, "behind everything that starts with p" is the first key after that
prefix.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..kv.keys import prefix_end
from ..kv.store import ReadTransaction
from .context import MetaContext
from .records import InodeType, ListEntry, Listing
from .schema import ENTRY_EXPLICIT, decode_entry, directory_end, directory_prefix
from .tree import find_bucket, find_directory, inodes_of

SCAN_ROWS = 1001  # a page of 1,000 keys in one folder is one range read

Found = tuple[bytes, int]
"""A key and its inode id."""


class Listings:
    """``list_objects`` of ``ObjectStore`` (core/meta/store.py)."""

    _context: MetaContext

    async def list_objects(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        after: bytes = b"",
        limit: int = 1000,
    ) -> Listing:
        """One page."""

        async def read(tx: ReadTransaction) -> Listing:
            bucket_id = (await find_bucket(tx, bucket)).inode_id
            if limit <= 0:
                return Listing([], None)
            if delimiter == b"/":
                found = await _folder_page(tx, bucket_id, prefix, after, limit + 1)
            elif delimiter:
                found = await _delimited_page(tx, bucket_id, prefix, delimiter, after, limit + 1)
            else:
                lower = max(prefix, after + b"\0" if after else b"")
                found = []
                async for key, inode_id in _walk(tx, bucket_id, prefix, lower, limit + 1):
                    found.append((key, inode_id))
                    if len(found) > limit:
                        break
            return await _page(tx, found, limit)

        return await self._context.kv.read(read)


async def _page(tx: ReadTransaction, found: list[tuple[bytes, int | None]], limit: int) -> Listing:
    """The first *limit* of *found*, with their inodes."""
    more = len(found) > limit
    found = found[:limit]
    inodes = await inodes_of(tx, [number for _, number in found if number is not None])
    remaining = iter(inodes)
    entries: list[ListEntry] = []
    for key, number in found:
        if number is None:
            entries.append(ListEntry(key, None))
            continue
        inode = next(remaining)
        if inode is not None:
            entries.append(ListEntry(key, inode))
    return Listing(entries, found[-1][0] if more else None)


async def _folder_page(
    tx: ReadTransaction, bucket_id: int, prefix: bytes, after: bytes, limit: int
) -> list[tuple[bytes, int | None]]:
    """With delimiter ``/``: entries of one folder, without going below it."""
    base_end = prefix.rfind(b"/") + 1
    base, partial = prefix[:base_end], prefix[base_end:]
    directories = base[:-1].split(b"/") if base else []
    directory_id = await find_directory(tx, bucket_id, directories)
    if directory_id is None:
        return []
    start = directory_prefix(directory_id) + partial
    end = prefix_end(start) if partial else directory_end(directory_id)
    found: list[tuple[bytes, int | None]] = []
    if after >= base and after.startswith(base) and after != base:
        relative = after[len(base) :]
        slash = relative.find(b"/")
        if slash >= 0:
            # Behind a common prefix, or behind a key inside it: everything below it was told.
            relative = relative[: slash + 1]
        start = max(start, directory_prefix(directory_id) + relative + b"\0")
    elif after == base and base:
        start = max(start, directory_prefix(directory_id) + b"\0")
    elif after > base and not after.startswith(base):
        return []
    own_key = not partial and base and after < base
    if own_key and await _is_bare_explicit(tx, bucket_id, directories, directory_id):
        found.append((base, directory_id))
    if start >= end:
        return found
    skip = len(directory_prefix(directory_id))
    for key, value in await tx.get_range(start, end, limit=limit - len(found)):
        entry = decode_entry(value)
        name = base + key[skip:]
        found.append((name, None if entry.type == InodeType.DIRECTORY else entry.inode_id))
    return found


async def _is_bare_explicit(
    tx: ReadTransaction, bucket_id: int, directories: list[bytes], directory_id: int
) -> bool:
    """Whether the key of this folder exists without an entry of its own (mkdir, no content)."""
    parent_id = await find_directory(tx, bucket_id, directories[:-1])
    if parent_id is None:
        return False
    value = await tx.get(directory_prefix(parent_id) + directories[-1] + b"/")
    if value is None or not decode_entry(value).flags & ENTRY_EXPLICIT:
        return False
    return await tx.get(directory_prefix(directory_id)) is None


async def _delimited_page(
    tx: ReadTransaction,
    bucket_id: int,
    prefix: bytes,
    delimiter: bytes,
    after: bytes,
    limit: int,
) -> list[tuple[bytes, int | None]]:
    """With any other delimiter: the flat walk, which jumps over the rest of each common prefix."""
    found: list[tuple[bytes, int | None]] = []
    lower = prefix
    if after:
        lower = max(prefix, after + b"\0")
        at = after.find(delimiter, len(prefix))
        if after.startswith(prefix) and at >= 0:
            lower = max(lower, _behind(after[: at + len(delimiter)]))
    while len(found) < limit:
        jump: bytes | None = None
        async for key, inode_id in _walk(tx, bucket_id, prefix, lower, limit - len(found)):
            at = key.find(delimiter, len(prefix))
            if at < 0:
                found.append((key, inode_id))
            else:
                common = key[: at + len(delimiter)]
                found.append((common, None))
                jump = _behind(common)
                break
            if len(found) >= limit:
                break
        if jump is None:
            break
        lower = jump
    return found


def _behind(prefix: bytes) -> bytes:
    """The first key behind all that start with *prefix*."""
    try:
        return prefix_end(prefix)
    except ValueError:  # all bytes 0xff, which no UTF-8 has: nothing can come after it
        return prefix + b"\xff"


async def _walk(
    tx: ReadTransaction, bucket_id: int, prefix: bytes, lower: bytes, rows: int
) -> AsyncIterator[Found]:
    """Keys that start with *prefix*, from *lower* on. *rows*: how many the caller may want at
    most."""
    base_end = prefix.rfind(b"/") + 1
    base = prefix[:base_end]
    directories = base[:-1].split(b"/") if base else []
    directory_id = await find_directory(tx, bucket_id, directories)
    if directory_id is None:
        return
    if base and not prefix[base_end:] and lower <= base:
        if await _is_bare_explicit(tx, bucket_id, directories, directory_id):
            yield base, directory_id
    relative = lower[len(base) :] if lower.startswith(base) else b""
    if lower > base and not lower.startswith(base):
        return
    async for found in _walk_folder(tx, directory_id, base, prefix[base_end:], relative, rows):
        yield found


async def _walk_folder(
    tx: ReadTransaction, directory_id: int, base: bytes, partial: bytes, lower: bytes, rows: int
) -> AsyncIterator[Found]:
    """Keys below *directory_id* (whose keys start with *base*): names from *partial*, relative keys
    from *lower* on."""
    own = directory_prefix(directory_id)
    end = prefix_end(own + partial) if partial else directory_end(directory_id)
    slash = lower.find(b"/")
    inside, deeper = b"", b""
    if slash >= 0:
        inside, deeper = lower[: slash + 1], lower[slash + 1 :]
        start = own + inside
    else:
        start = own + lower
    start = max(start, own + partial)
    while start < end:
        page = await tx.get_range(start, end, limit=min(rows, SCAN_ROWS))
        for key, value in page:
            name = key[len(own) :]
            entry = decode_entry(value)
            if entry.type != InodeType.DIRECTORY:
                yield base + name, entry.inode_id
                continue
            below = deeper if name == inside else b""
            if entry.flags & ENTRY_EXPLICIT and not below:
                bare = await tx.get(directory_prefix(entry.inode_id)) is None
                if bare:
                    yield base + name, entry.inode_id
            async for found in _walk_folder(tx, entry.inode_id, base + name, b"", below, rows):
                yield found
        if len(page) < min(rows, SCAN_ROWS):
            return
        start = page[-1][0] + b"\0"
