"""A process that works on an embedded store until it is told to stop, or killed.

Run as ``python kv_process.py FOLDER WORK NUMBER``; prints a line for everything acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import lmdb

from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.kv.lmdb_environment import LmdbEnvironment
from craqen.core.kv.store import Transaction

ACCOUNTS = 8
IN_FLIGHT = 4


def account(number: int) -> bytes:
    """Return the key of an account; every other one is a long key."""
    return b"account/%d" % number + (b"x" * 600 if number % 2 else b"")


async def transfers(store: EmbeddedStore, name: int, count: int) -> None:
    """Move money *count* times, each time with a line in the log; say what was acknowledged."""
    generator = random.Random(name)

    async def one(sequence: int) -> None:
        source, target = generator.sample(range(ACCOUNTS), 2)
        amount = generator.randrange(100)

        async def function(tx: Transaction) -> None:
            have = [int(await tx.get(account(n)) or b"0") for n in (source, target)]
            tx.set(account(source), b"%d" % (have[0] - amount))
            tx.set(account(target), b"%d" % (have[1] + amount))
            tx.set(b"log/%d/%06d" % (name, sequence), b"%d" % amount)
            tx.add(b"count", 1)

        await store.transact(function)
        print(sequence, flush=True)

    async def worker(first: int) -> None:
        for sequence in range(first, count, IN_FLIGHT):
            await one(sequence)

    await asyncio.gather(*(worker(first) for first in range(IN_FLIGHT)))


async def main(folder: Path, work: str, number: int) -> None:
    """Do *work*."""
    store = EmbeddedStore(folder, map_bytes=1 << 20)
    print("ready", flush=True)
    if work == "transfer":
        await transfers(store, number, 120)
    elif work == "transfer-forever":
        await transfers(store, number, 1_000_000)
    elif work == "set":
        sys.stdin.readline()

        async def sets(tx: Transaction) -> None:
            tx.set(b"watched", b"%d" % number)

        await store.transact(sets)
    elif work == "fill":
        for position in range(number):

            async def fills(tx: Transaction, position: int = position) -> None:
                tx.set(b"fill/%06d" % position, b"x" * 50_000)

            await store.transact(fills)
    elif work == "read":

        async def holds(tx: object) -> None:
            print("open", flush=True)
            sys.stdin.readline()

        await store.read(holds)
    await store.close()


def hold_lock(folder: Path) -> None:
    """Hold LMDB's write lock with a change under way, until killed."""
    environment = LmdbEnvironment(folder, map_bytes=1 << 20, sync=True)
    txn: lmdb.Transaction[bytes] = environment.env.begin(write=True)
    txn.put(b"torn", b"never committed")
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    if sys.argv[2] == "hold-lock":
        hold_lock(Path(sys.argv[1]))
    else:
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
