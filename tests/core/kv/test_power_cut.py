"""Power cuts: any part of what a commit writes may be lost, and the state before it is intact.

A commit writes pages, flushes, and only then the meta page that makes them valid. So at a cut
during the commit the file is that of before, with any of the new pages in place, whole or torn.
Both files are at hand, before and after each commit, so every such state can be made and opened.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.kv.store import KeyValue, Transaction

PAGE_BYTES = 4096
META_PAGES = 2
COMMITS = 25
CUTS_PER_COMMIT = 3
MAP_BYTES = 1 << 22


def cut(before: bytes, after: bytes, generator: random.Random) -> bytes:
    """Return the file as a power cut before the meta page's write may leave it."""
    pages = len(after) // PAGE_BYTES
    left = bytearray(before.ljust(len(after), b"\x00"))
    for page in range(META_PAGES, pages):
        start = page * PAGE_BYTES
        match generator.randrange(3):
            case 0:
                continue
            case 1:
                length = PAGE_BYTES
            case _:
                length = generator.randrange(1, 8) * 512
        left[start : start + length] = after[start : start + length]
    return bytes(left)


async def change(store: EmbeddedStore, generator: random.Random, number: int) -> None:
    """Commit something that touches several pages and frees others."""

    async def function(tx: Transaction) -> None:
        for _ in range(10):
            key = b"key/%03d" % generator.randrange(300)
            if generator.randrange(3):
                tx.set(key + b"x" * generator.choice((0, 600)), b"%d" % number * 300)
            else:
                tx.clear(key)
        tx.clear_range(b"key/%03d" % generator.randrange(300), b"key/150")
        tx.set(b"number", b"%d" % number)
        tx.set_versionstamped_key(b"log/", b"", b"%d" % number)

    await store.transact(function)


async def contents(folder: Path) -> list[KeyValue]:
    """Open the store, read everything, commit once more, close."""
    store = EmbeddedStore(folder, map_bytes=MAP_BYTES)
    found = await store.read(lambda tx: tx.get_range(b"", b"\xff"))
    await change(store, random.Random(0), 0)
    await store.close()
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_the_state_before_survives(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    data_path = tmp_path / "store" / "data.mdb"
    copies = 0

    async def opened(image: bytes) -> list[KeyValue]:
        nonlocal copies
        copies += 1
        folder = tmp_path / f"cut-{copies}"
        folder.mkdir()
        (folder / "data.mdb").write_bytes(image)
        return await contents(folder)

    async def main() -> None:
        store = EmbeddedStore(tmp_path / "store", map_bytes=MAP_BYTES)
        await change(store, generator, 1)
        for number in range(2, COMMITS):
            state = await store.read(lambda tx: tx.get_range(b"", b"\xff"))
            before = data_path.read_bytes()
            await change(store, generator, number)
            after = data_path.read_bytes()
            assert before[: META_PAGES * PAGE_BYTES] != after[: META_PAGES * PAGE_BYTES]
            for _ in range(CUTS_PER_COMMIT):
                assert await opened(cut(before, after, generator)) == state
        final = await store.read(lambda tx: tx.get_range(b"", b"\xff"))
        assert await opened(data_path.read_bytes()) == final
        await store.close()

    asyncio.run(main())
