"""The program ``craqen bench lifecycle``: passes of lifecycle rules over a bucket of many objects,
in the embedded store on a fresh folder.

The rows of the objects are those that S3 requests write, laid down directly: what is measured is
the passes. Beside each stands a listing of the same bucket, page by page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from ..clock import ManualClock
from ..errors import CraqenError
from ..keeper.expiration import BucketPass
from ..kv.embedded import EmbeddedStore
from ..kv.store import KeyValueStore, Transaction
from ..lifecycle.calendar import DAY_NS, REAL_DAYS
from ..lifecycle.plan import Plan
from ..lifecycle.progress import Tally
from ..lifecycle.records import ASPECT, Filter, Lifecycle, Rule, encode_lifecycle
from ..meta.local import LocalMetaStore
from ..meta.records import Inode, NewContent, ObjectAttributes, Owner
from ..meta.schema import Entry, VersionRecord, encode, inline_key, version_key
from ..meta.tree import put_entry, put_inode
from ..options import MetaOptions
from .measure import Report, Sample, add_runs, measure, median

OBJECTS: Final = 200_000
PER_FOLDER: Final = 1_000
VERSIONS_EACH: Final = 4
RATE_ASKED: Final = 50_000
CONTENT: Final = b"x" * 100
ATTRIBUTES: Final = ObjectAttributes(
    etag="0" * 32,
    headers={"content-type": "application/octet-stream"},
    metadata={"origin": "bench"},
    tags={"kind": "log"},
    checksums={"crc64nvme": "AAAAAAAAAAA="},
    checksum_type="FULL_OBJECT",
)


class Bucket:
    """A bucket with the rows of many objects, none of which is due."""

    def __init__(self, kv: KeyValueStore, meta: LocalMetaStore, name: str, versions: int) -> None:
        """*versions* of each key; 1: the bucket was never versioned."""
        self._kv = kv
        self._meta = meta
        self.name = name
        self._versions = versions

    async def fill(self, objects: int) -> None:
        """Make the bucket, and *objects* objects or versions in it."""
        meta = self._meta
        await meta.create_bucket(self.name, owner="bench", region="r", as_owner=Owner())
        if self._versions > 1:
            await meta.set_bucket_versioning(self.name, enabled=True)
        keys_each = PER_FOLDER // self._versions
        for folder in range(-(-objects // PER_FOLDER)):
            key = b"logs/%06d/000000" % folder
            content = NewContent(len(CONTENT), CONTENT)
            made = await meta.put_object(self.name, key, content, ATTRIBUTES, Owner())
            path = (b"logs", b"%06d" % folder)
            directory_id = (await meta.get_bucket(self.name)).inode_id
            for name in path:
                directory_id = (await meta.lookup(directory_id, name)).inode_id
            await self._fill_folder(directory_id, keys_each, made.inode)

    async def _fill_folder(self, directory_id: int, keys: int, like: Inode) -> None:
        await self._meta.ensure_ids(keys * self._versions)
        ids = [self._meta.new_segment_id() for _ in range(keys * self._versions)]

        async def write(tx: Transaction) -> None:
            numbers = iter(ids)
            for key in range(1, keys):
                name = b"%06d" % key
                for age in range(self._versions):
                    number = next(numbers)
                    inode = msgspec.structs.replace(like, inode_id=number)
                    tx.set(inline_key(number), CONTENT)
                    sequence = like.birth_ns - age if self._versions > 1 else 0
                    if age == 0:
                        put_entry(tx, directory_id, name, Entry(number, like.type, 0, sequence))
                    else:
                        inode = msgspec.structs.replace(inode, nlink=0, noncurrent=True)
                        record = VersionRecord(number, like.type, False, like.birth_ns)
                        tx.set(version_key(directory_id, name, sequence), encode(record))
                    put_inode(tx, inode)

        await self._kv.transact(write)

    async def run_rules(self, *rules: Rule, now_ns: int) -> Tally:
        """One pass."""
        lifecycle = Lifecycle(rules)
        setting = encode_lifecycle(lifecycle)
        await self._meta.set_bucket_setting(self.name, ASPECT, setting)
        bucket = await self._meta.get_bucket(self.name)
        tally = Tally()
        plan = Plan(lifecycle, now_ns, REAL_DAYS)
        if not await BucketPass(self._meta, bucket, setting, plan, tally).run():
            raise CraqenError("nobody else changes this store")
        return tally

    async def list_all(self) -> int:
        """The reference: how many keys, or versions, the pages of a listing show."""
        seen, after_key, after_version = 0, b"", ""
        while True:
            if self._versions > 1:
                page = await self._meta.list_object_versions(
                    self.name, after_key=after_key, after_version=after_version
                )
                seen += len(page.entries)
                if page.next_key is None:
                    return seen
                after_key, after_version = page.next_key, page.next_version
            else:
                listing = await self._meta.list_objects(self.name, after=after_key)
                seen += len(listing.entries)
                if listing.next_after is None:
                    return seen
                after_key = listing.next_after


class Bench:
    """One run of the program."""

    def __init__(self, runner: asyncio.Runner, report: Report, runs: int) -> None:
        self._runner = runner
        self._report = report
        self._runs = runs
        self._process = [os.getpid()]

    def passes(self, work: str, bucket: Bucket, what: str, *rules: Rule, now_ns: int) -> None:
        """A row of passes that end nothing, beside listings."""
        mine: list[Sample] = []
        listings: list[Sample] = []
        for _ in range(self._runs):
            mine.append(self._measured(lambda: self._scan(bucket, rules, now_ns)))
            listings.append(self._measured(lambda: self._runner.run(bucket.list_all())))
        rate = median(mine, _rate)
        self._report.add(
            work,
            f"{rate:,.0f} {what} a CPU second ({median(mine, _cost):.1f} us each)",
            f"listing: {median(listings, _cost):.1f} us each; asked: {RATE_ASKED:,} a second",
            ratio=rate / RATE_ASKED,
            at_least=1,
        )

    def _scan(self, bucket: Bucket, rules: Sequence[Rule], now_ns: int) -> int:
        tally = self._runner.run(bucket.run_rules(*rules, now_ns=now_ns))
        assert tally.ended == 0
        return tally.scanned

    def removals(self, bucket: Bucket, objects: int, now_ns: int) -> None:
        """A row of objects that end: ten folders at a time, if there are so many."""
        samples = []
        digits = 5 if objects >= 10 * PER_FOLDER * self._runs else 6
        for number in range(self._runs):
            rule = Rule("r", True, Filter(f"logs/{number:0{digits}}"), expiration_days=1)

            def remove(rule: Rule = rule) -> int:
                tally = self._runner.run(bucket.run_rules(rule, now_ns=now_ns))
                assert tally.ended == tally.scanned
                return tally.ended

            samples.append(self._measured(remove))
        removed = samples[0].operations
        self._report.add(
            f"{removed:,} objects end in {removed // PER_FOLDER} folders",
            f"{median(samples, lambda one: one.rate):,.0f}/s, "
            f"{median(samples, _cost):.0f} us CPU each",
            "",
        )

    def _measured(self, work: Callable[[], int]) -> Sample:
        return measure(work, self._process)


def _rate(sample: Sample) -> float:
    return sample.operations / sample.cpu_seconds


def _cost(sample: Sample) -> float:
    return sample.microseconds


def main(arguments: Sequence[str]) -> int:
    """Run the work list and print the table; return 1 if a bound is missed."""
    parser = argparse.ArgumentParser(prog="craqen bench lifecycle")
    add_runs(parser)
    parser.add_argument(
        "--objects", type=int, default=OBJECTS, help=f"in each bucket (default: {OBJECTS:,})"
    )
    choice = parser.parse_args(arguments)
    report = Report(
        "craqen bench lifecycle",
        [
            f"median of {choice.runs} runs; {choice.objects:,} objects, {PER_FOLDER:,} in a folder",
            f"of 100 bytes, with tags, metadata and a checksum; one process; versions: "
            f"{VERSIONS_EACH} of each key",
        ],
    )
    with (
        tempfile.TemporaryDirectory() as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        kv = runner.run(_opened(Path(name)))
        clock = ManualClock()
        meta = runner.run(LocalMetaStore.open(kv, clock, MetaOptions(), description="bench"))
        try:
            _measure(Bench(runner, report, choice.runs), runner, kv, meta, clock, choice.objects)
        finally:
            runner.run(meta.close())
            runner.run(kv.close())
    print(report.text())
    return int(any(row.reached is False for row in report.rows))


async def _opened(folder: Path) -> EmbeddedStore:
    return EmbeddedStore(folder)


def _measure(
    bench: Bench,
    runner: asyncio.Runner,
    kv: KeyValueStore,
    meta: LocalMetaStore,
    clock: ManualClock,
    objects: int,
) -> None:
    plain, versioned = Bucket(kv, meta, "plain", 1), Bucket(kv, meta, "versioned", VERSIONS_EACH)
    runner.run(plain.fill(objects))
    runner.run(versioned.fill(objects))
    now_ns = clock.wall_ns()
    later_ns = now_ns + 10 * DAY_NS
    old = Rule("r", True, expiration_days=100, noncurrent_days=100)
    tagged = Rule("r", True, Filter(tags={"kind": "other"}), expiration_days=1, noncurrent_days=1)
    bench.passes("nothing is old enough", plain, "objects", old, now_ns=later_ns)
    bench.passes("all is old enough, tags differ", plain, "objects", tagged, now_ns=later_ns)
    bench.passes("nothing is old enough, versions", versioned, "versions", old, now_ns=later_ns)
    bench.passes(
        "all is old enough, tags differ, versions", versioned, "versions", tagged, now_ns=later_ns
    )
    bench.removals(plain, objects, later_ns)
