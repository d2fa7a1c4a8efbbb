"""The cache of values by key: what is there, what is not, and how much it takes."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from craqen.client import AsyncKvCache, KvCache, Store
from craqen.client.kv_cache import INLINE_VALUE_BYTES, VALUE_BYTES_MAX
from craqen.client.kv_cache_room import ORPHAN_SECONDS, TIDY_SECONDS
from craqen.client.kv_cache_rows import Keys, digest_of, runs
from craqen.core.clock import SystemClock
from craqen.core.limits import KIB, MIB

SIZES = (0, 1, 4 * KIB, 4 * KIB + 1, 16 * KIB, 64 * KIB, 300 * KIB, 9 * MIB)


class LaterClock(SystemClock):
    """The system's, moved on by hand."""

    later_seconds = 0.0

    def wall_ns(self) -> int:
        return super().wall_ns() + int(self.later_seconds * 1e9)

    def monotonic_seconds(self) -> float:
        return super().monotonic_seconds() + self.later_seconds


@pytest.fixture
def clock() -> LaterClock:
    return LaterClock()


@pytest.fixture
def cache(store: Store, folder: str, clock: LaterClock) -> Iterator[KvCache]:
    with KvCache(store, f"{folder}/kv", size_bytes_max=256 * MIB, clock=clock) as opened:
        yield opened


def _files(store: Store, folder: str) -> list[str]:
    return [entry.name for entry in store.list(f"{folder}/kv")]


def test_values_of_all_sizes(cache: KvCache) -> None:
    values = {f"key-{size}": random.Random(size).randbytes(size) for size in SIZES}
    cache.put_many(values)
    assert cache.get_many(list(values)) == list(values.values())
    assert cache.get_many(["absent", "key-1", b"key-1"]) == [None, values["key-1"], values["key-1"]]
    assert cache.exists_many(["key-0", "absent"]) == [True, False]
    cache.put("key-1", b"another")
    assert cache.get("key-1") == b"another"


def test_reads_into_the_callers_buffers(cache: KvCache) -> None:
    small, large = os.urandom(100), os.urandom(5 * MIB)
    cache.put_many([("small", small), ("large", large)])
    tight, roomy = bytearray(5 * MIB), bytearray(b"-" * 200)
    short, untouched = bytearray(b"x" * 10), bytearray(b"x" * MIB)
    lengths = cache.get_into(
        [
            ("large", memoryview(tight)),
            ("small", roomy),
            ("absent", bytearray(1)),
            ("small", short),
            ("large", untouched),
        ]
    )
    assert lengths == [5 * MIB, 100, None, 100, 5 * MIB]
    assert tight == large
    assert roomy == small + b"-" * 100
    assert short == b"x" * 10
    assert untouched == b"x" * MIB


def test_whatever_has_a_buffer(cache: KvCache) -> None:
    numpy = pytest.importorskip("numpy")
    block = numpy.arange(100_000, dtype="float32").reshape(100, 1000)
    cache.put("block", block)
    back = numpy.empty_like(block)
    assert cache.get_into([("block", back)]) == [block.nbytes]
    assert (back == block).all()


def test_prefix_length(cache: KvCache) -> None:
    cache.put_many({f"block-{number}": b"kv" for number in (0, 1, 2, 4)})
    assert cache.prefix_length([f"block-{number}" for number in range(6)]) == 3
    assert cache.prefix_length(["absent"]) == 0
    assert cache.prefix_length([]) == 0


def test_delete(cache: KvCache) -> None:
    cache.put_many({"a": b"1", "b": b"2" * MIB})
    assert cache.delete_many(["a", "a", "b", "absent"]) == 2
    assert cache.get_many(["a", "b"]) == [None, None]
    assert cache.delete("a") is False


def test_bad_input(cache: KvCache, store: Store, folder: str) -> None:
    with pytest.raises(ValueError, match="ttl"):
        cache.put("a", b"", ttl_seconds=0)
    with pytest.raises(ValueError, match="at most"):
        cache.put("a", bytes(VALUE_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="at least 1"):
        KvCache(store, folder, size_bytes_max=0)
    store.symlink(f"{folder}/kv", f"{folder}/link")
    bucket = folder.split("/")[1]
    store.run(store._store.meta.set_trash(bucket, 60))
    try:
        with pytest.raises(OSError, match="trash"):
            KvCache(store, folder, size_bytes_max=1)
    finally:
        store.run(store._store.meta.set_trash(bucket, 0))
    with pytest.raises(OSError, match="link"):
        KvCache(store, f"{folder}/link", size_bytes_max=1)
    with pytest.raises(OSError, match="bucket"):
        KvCache(store, "/", size_bytes_max=1)


def test_expiry(cache: KvCache, clock: LaterClock, store: Store, folder: str) -> None:
    cache.put_many({"short": b"s", "short file": bytes(MIB)}, ttl_seconds=10)
    cache.put("long", bytes(MIB), ttl_seconds=1000)
    clock.later_seconds = 11
    assert cache.get_many(["short", "short file"]) == [None, None]
    assert cache.exists_many(["short", "long"]) == [False, True]
    assert cache.delete("short") is False
    cache.sweep()
    assert len(_files(store, folder)) == 1
    assert cache.usage().size_bytes == MIB
    clock.later_seconds = 1001
    cache.sweep()
    assert _files(store, folder) == []
    assert cache.usage().size_bytes == 0


def test_clear(cache: KvCache, store: Store, folder: str) -> None:
    cache.put_many({"a": b"1", "b": bytes(MIB)})
    cache.clear()
    assert cache.get_many(["a", "b"]) == [None, None]
    assert cache.usage().size_bytes == 0
    assert _files(store, folder) == []


@pytest.mark.parametrize("size", [KIB, 256 * KIB])
def test_bounded_and_what_is_used_stays(
    store: Store, folder: str, clock: LaterClock, size: int
) -> None:
    bound = 64 * size
    with KvCache(store, f"{folder}/kv", size_bytes_max=bound, clock=clock) as cache:
        for start in range(0, 40, 4):
            cache.put_many(
                {f"{number}": bytes([number]) * size for number in range(start, start + 4)}
            )
        clock.later_seconds += 120
        hot = [f"{number}" for number in range(0, 40, 4)]
        assert None not in cache.get_many(hot)
        store.run(_marks_written(cache.asynchronous))
        for start in range(40, 100, 4):
            cache.put_many(
                {f"{number}": bytes([number]) * size for number in range(start, start + 4)}
            )
            assert cache.usage().size_bytes <= bound
        names = [f"{number}" for number in range(100)]
        present = dict(zip(names, cache.get_many(names), strict=True))
        for name, value in present.items():
            assert value in (None, bytes([int(name)]) * size)
        kept = sum(present[name] is not None for name in hot)
        others = [name for name in names[:40] if name not in hot]
        kept_others = sum(present[name] is not None for name in others)
        assert kept >= len(hot) // 2
        assert kept_others < len(others) // 2
        assert present["99"] is not None


async def _marks_written(cache: AsyncKvCache) -> None:
    await asyncio.gather(*cache._tasks)


def test_a_lost_file_is_a_miss(cache: KvCache, store: Store, folder: str) -> None:
    """As for who reads a row just before its batch is dropped."""
    cache.put("value", os.urandom(MIB))
    (name,) = _files(store, folder)
    inode = store.stat(f"{folder}/kv/{name}")
    store.run(_remove_chunks(store, inode.st_ino))
    assert cache.get("value") is None
    assert not cache.exists("value")  # it was dropped, so that nobody tries again


async def _remove_chunks(store: Store, inode_id: int) -> None:
    client = store.asynchronous.client
    inode = await client.meta.get_inode(inode_id)
    for extent in inode.extents:
        assert await client.data.remove_chunks(extent.segment_id, extent.layout, 0)


def test_what_was_left_behind_goes(
    cache: KvCache, store: Store, folder: str, clock: LaterClock
) -> None:
    cache.put("value", bytes(MIB))
    store.run(cache.asynchronous._packs.write(bytes(16), [memoryview(b"nobody's")]))
    store.write_bytes(f"{folder}/kv/notes.txt", b"not of the cache")
    store.make_directory(f"{folder}/other")
    gone_id = store.stat(f"{folder}/other").st_ino
    with KvCache(store, f"{folder}/other", size_bytes_max=MIB) as other:
        other.put("value", b"small")
    store.remove_directory(f"{folder}/other")
    assert store.run(_row_count(store, gone_id)) > 0
    clock.later_seconds = TIDY_SECONDS + ORPHAN_SECONDS
    store.run(cache.asynchronous._room.tidy())
    assert len(_files(store, folder)) == 2
    assert store.run(_row_count(store, gone_id)) == 0
    assert cache.get("value") == bytes(MIB)


async def _row_count(store: Store, folder_id: int) -> int:
    begin, end = Keys(folder_id).all()
    kv = store.asynchronous.client.kv
    return len(await kv.read(lambda tx: tx.get_range(begin, end)))


def test_a_removed_folder_is_told(cache: KvCache, store: Store, folder: str) -> None:
    store.remove_directory(f"{folder}/kv")
    with pytest.raises(OSError, match="open it anew"):
        cache.put("value", b"small")


def test_many_processes(cache: KvCache, config: str, folder: str) -> None:
    """Each puts its values and those all share, drops some, and holds what it gets against its
    key."""
    program = """
import random, sys
from craqen.client import KvCache, connect
config, folder, seed = sys.argv[1:]
chance = random.Random(int(seed))
def value(name):
    return random.Random(name).randbytes(random.Random(name + "n").choice((100, 5000, 70000)))
with connect(config) as store, KvCache(store, folder, size_bytes_max=3 << 20) as cache:
    found = 0
    for _ in range(30):
        names = [f"shared-{chance.randrange(100)}" for _ in range(8)]
        cache.put_many({name: value(name) for name in names[:4]})
        for name, got in zip(names, cache.get_many(names)):
            assert got is None or got == value(name), name
            found += got is not None
        cache.delete(names[0])
    assert found
"""
    workers = [
        subprocess.Popen([sys.executable, "-c", program, config, f"{folder}/kv", str(seed)])
        for seed in range(3)
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert cache.usage().size_bytes <= 3 * MIB * 1.125 + MIB


def test_coroutines(store: Store, folder: str) -> None:
    async def use() -> None:
        async with await AsyncKvCache.open(
            store.asynchronous, f"{folder}/kv", size_bytes_max=64 * MIB
        ) as cache:
            names = [f"{number}" for number in range(20)]
            await asyncio.gather(*(cache.put(name, name.encode() * 999) for name in names))
            found = await asyncio.gather(*(cache.get(name) for name in names))
            assert found == [name.encode() * 999 for name in names]
            await cache.put("large", bytes(INLINE_VALUE_BYTES * 300))
            assert await cache.exists("large")
            assert await cache.delete("large")

    store.run(use())


def test_runs() -> None:
    assert runs([], 10, 3) == []
    assert runs([4, 4, 4], 10, 3) == [range(2), range(2, 3)]
    assert runs([11, 1, 1, 1, 1], 10, 3) == [range(1), range(1, 4), range(4, 5)]


def test_keys_are_text_or_bytes() -> None:
    assert digest_of("ä") == digest_of("ä".encode())
    assert digest_of("a") != digest_of("b")
