"""Several processes on one embedded store: they share it, and the death of one harms no other."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.kv.store import KeyValue, Transaction

PROGRAM = Path(__file__).parent / "kv_process.py"
MAP_BYTES = 1 << 20


class Process:
    """One run of kv_process.py."""

    def __init__(self, folder: Path, work: str, number: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), work, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.number = number

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def kill(self) -> list[str]:
        """Kill -9; return what it had said and was not read yet."""
        self._process.kill()
        said, _ = self._process.communicate()
        return said.split()

    def finish(self) -> list[str]:
        """Wait for the end; return what it said."""
        said, _ = self._process.communicate()
        assert self._process.returncode == 0
        return said.split()


async def everything(store: EmbeddedStore) -> dict[bytes, bytes]:
    """Return all pairs."""
    return dict(await store.read(lambda tx: tx.get_range(b"", b"\xff")))


async def put(store: EmbeddedStore, *pairs: KeyValue) -> None:
    """Set *pairs*."""

    async def function(tx: Transaction) -> None:
        for key, value in pairs:
            tx.set(key, value)

    await store.transact(function)


def check_books(data: dict[bytes, bytes]) -> int:
    """Check that no money was made or lost and nothing is torn; return the number of transfers."""
    accounts = [int(value) for key, value in data.items() if key.startswith(b"account/")]
    logged = sum(1 for key in data if key.startswith(b"log/"))
    assert sum(accounts) == 0
    assert int.from_bytes(data.get(b"count", b""), "little") == logged
    return logged


def test_transfers_by_several_processes(tmp_path: Path) -> None:
    processes = [Process(tmp_path, "transfer", number) for number in range(3)]
    for process in processes:
        assert len(process.finish()) == 121

    async def main() -> None:
        store = EmbeddedStore(tmp_path, map_bytes=MAP_BYTES)
        assert check_books(await everything(store)) == 3 * 120
        await store.close()

    asyncio.run(main())


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Writers are killed in the middle of it; what they had been promised is there."""
    generator = random.Random(7)
    promised: set[bytes] = set()

    async def main() -> None:
        store = EmbeddedStore(tmp_path, map_bytes=MAP_BYTES)
        for number in range(6):
            with Process(tmp_path, "transfer-forever", number) as process:
                assert process.line() == "ready"
                said = [process.line() for _ in range(generator.randrange(1, 60))]
                said += process.kill()
            promised.update(b"log/%d/%06d" % (number, int(sequence)) for sequence in said)
            # This process goes on at once, also when the other died holding the lock.
            await put(store, (b"alive", b"%d" % number))
            check_books(await everything(store))
        await store.close()
        store = EmbeddedStore(tmp_path, map_bytes=MAP_BYTES)
        data = await everything(store)
        await store.close()
        check_books(data)
        assert promised <= data.keys()
        assert data[b"alive"] == b"5"

    asyncio.run(main())


def test_killed_while_holding_the_write_lock(tmp_path: Path) -> None:
    async def main() -> None:
        store = EmbeddedStore(tmp_path, map_bytes=MAP_BYTES)
        await put(store, (b"a", b"1"))
        with Process(tmp_path, "hold-lock") as process:
            assert process.line() == "ready"
            commit = asyncio.ensure_future(put(store, (b"a", b"2")))
            reading = await everything(store)
            assert reading == {b"a": b"1"}
            assert not commit.done()
            process.kill()
            await asyncio.wait_for(commit, 10)
        assert await everything(store) == {b"a": b"2"}
        await store.close()

    asyncio.run(main())


def test_watch_sees_another_process(tmp_path: Path) -> None:
    async def main() -> None:
        store = EmbeddedStore(tmp_path, map_bytes=MAP_BYTES)
        with Process(tmp_path, "set", 5) as process:
            assert process.line() == "ready"

            async def watches(tx: Transaction) -> asyncio.Future[None]:
                return tx.watch(b"watched")

            future = await store.transact(watches)
            assert not future.done()
            process.go()
            await asyncio.wait_for(future, 10)
            assert await everything(store) == {b"watched": b"5"}
            process.finish()
        await store.close()

    asyncio.run(main())


def test_the_map_grows_under_several_processes(tmp_path: Path) -> None:
    async def main() -> None:
        store = EmbeddedStore(tmp_path, map_bytes=MAP_BYTES)
        await put(store, (b"a", b"1"))
        with Process(tmp_path, "fill", 100) as process:
            process.finish()
        # The file is 5 MB now, the map of this process still 1 MiB.
        data = await everything(store)
        assert len(data) == 101
        for number in range(100):
            await put(store, (b"more/%d" % number, b"y" * 50_000))
        assert len(await everything(store)) == 201
        await store.close()

    asyncio.run(main())


def test_pages_of_a_dead_reader_are_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craqen.core.kv.lmdb_environment.READER_CHECK_SECONDS", 0.0)

    async def main() -> None:
        store = EmbeddedStore(tmp_path, map_bytes=MAP_BYTES)
        await put(store, (b"a", b"1"))
        with Process(tmp_path, "read") as process:
            assert process.line() == "ready"
            assert process.line() == "open"
        for number in range(100):
            await put(store, (b"a", b"%d" % number * 20_000))
        size_bytes = (tmp_path / "data.mdb").stat().st_size
        assert size_bytes < 20 * 20_000 * 2
        await store.close()

    asyncio.run(main())


_FULL = """
import asyncio, resource, sys
from pathlib import Path
from craqen.core.errors import NoSpaceError
from craqen.core.kv.embedded import EmbeddedStore

async def main():
    store = EmbeddedStore(Path(sys.argv[1]), map_bytes=1 << 26)
    async def put(key, value):
        async def function(tx):
            tx.set(key, value)
        await store.transact(function)
    await put(b"before", b"1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
    outcomes = []
    for number in range(60):
        try:
            await put(b"big/%d" % number, b"x" * 90_000)
            outcomes.append(True)
        except NoSpaceError:
            outcomes.append(False)
    assert True in outcomes and False in outcomes
    # Together with one that does not fit, small ones still do.
    results = await asyncio.gather(
        *(put(b"small/%d" % number, b"s") for number in range(5)),
        put(b"too big", b"x" * 100_000),
        return_exceptions=True,
    )
    assert results[:5] == [None] * 5, results
    assert isinstance(results[5], NoSpaceError), results
    data = dict(await store.read(lambda tx: tx.get_range(b"", b"\\xff")))
    assert data[b"before"] == b"1" and b"small/4" in data and b"too big" not in data
    assert [b"big/%d" % n in data for n in range(60)] == outcomes
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    await put(b"after", b"1")
    await store.close()

asyncio.run(main())
"""


def test_a_full_disk_fails_what_does_not_fit_and_nothing_else(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: the write fails in the same place."""
    subprocess.run([sys.executable, "-c", _FULL, str(tmp_path)], check=True)

    async def main() -> None:
        store = EmbeddedStore(tmp_path, map_bytes=1 << 26)
        assert (await everything(store))[b"after"] == b"1"
        await store.close()

    asyncio.run(main())
