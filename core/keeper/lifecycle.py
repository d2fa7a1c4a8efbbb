"""The duty ``lifecycle``: ends what the rules of buckets end."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import msgspec

from ..errors import UNREADABLE, CallerError, DataLossError
from ..kv.store import KeyValueStore
from ..lifecycle import progress as book
from ..lifecycle.calendar import DAY_NS, Calendar
from ..lifecycle.plan import Plan
from ..lifecycle.progress import Position, Progress, Tally
from ..lifecycle.records import decode_lifecycle
from ..meta.records import Bucket
from ..metrics import Metric
from ..options import LifecycleOptions
from .clocks import check_clock
from .expiration import BucketPass, Store

POLL_SECONDS = 30.0
"""How soon rules that were changed are looked at, at the latest."""
SAVE_SECONDS = 5.0
"""How much of a pass a crash may cost."""
BUCKET_ERRORS: tuple[type[Exception], ...] = (DataLossError, CallerError, *UNREADABLE)
"""What is the matter with one bucket alone."""

_log = logging.getLogger("craqen.lifecycle")


def calendar_of(options: LifecycleOptions) -> Calendar:
    """How long a day is."""
    return Calendar(min(DAY_NS, int(options.day_seconds * 1e9)))


class LifecycleDuty:
    """Goes over each bucket with rules once in every interval, and anew when its rules change."""

    name = "lifecycle"

    def __init__(self, kv: KeyValueStore, store: Store, options: LifecycleOptions) -> None:
        self._kv = kv
        self._store = store
        self._calendar = calendar_of(options)
        self._interval_ns = int(options.interval_seconds * 1e9)
        self._total = Tally()
        self._passes = 0
        self._failures = 0
        self._pass_seconds = 0.0

    async def run_once(self, now_ns: int) -> float:
        """Make all passes that are due; return in how many seconds to look again."""
        await check_clock(self._kv, self._store.client_id, now_ns)
        found = await self._store.lifecycle_buckets()
        known = await book.read_all(self._kv)
        for bucket_id in known.keys() - {bucket.inode_id for bucket, _ in found}:
            await book.write(self._kv, bucket_id, None)
        wait_ns = min(self._interval_ns, int(POLL_SECONDS * 1e9))
        for bucket, setting in found:
            progress = known.get(bucket.inode_id)
            rules = book.digest_of(setting, bucket.versioning)
            if progress is None or progress.rules != rules:
                progress = Progress(bucket.name, rules, now_ns)
            elif progress.finished_ns:
                due_ns = progress.now_ns + self._interval_ns
                if now_ns < due_ns <= now_ns + self._interval_ns:
                    wait_ns = min(wait_ns, due_ns - now_ns)
                    continue
                progress = Progress(bucket.name, rules, now_ns)
            try:
                await self._pass(bucket, setting, progress)
            except BUCKET_ERRORS as error:
                # The other buckets' objects end nevertheless.
                self._failures += 1
                _log.error("bucket %s: its lifecycle rules: %s", bucket.name, error)
        return wait_ns / 1e9

    async def _pass(self, bucket: Bucket, setting: bytes, progress: Progress) -> None:
        """Begin or go on with a pass."""
        plan = Plan(decode_lifecycle(setting), progress.now_ns, self._calendar)
        before = msgspec.structs.replace(progress.tally)
        began = saved = time.monotonic()

        async def save(position: Position) -> None:
            nonlocal saved
            progress.position = position
            if time.monotonic() - saved >= SAVE_SECONDS:
                await book.write(self._kv, bucket.inode_id, progress)
                saved = time.monotonic()

        one = BucketPass(self._store, bucket, setting, plan, progress.tally, save=save)
        try:
            is_done = await one.run(progress.position)
        finally:
            self._add(before, progress.tally)
        if not is_done:
            _log.info("bucket %s: its rules changed meanwhile; it is gone over anew", bucket.name)
            return
        progress.finished_ns = time.time_ns()
        progress.position = Position()
        await book.write(self._kv, bucket.inode_id, progress)
        self._passes += 1
        self._pass_seconds = time.monotonic() - began
        if progress.tally.ended:
            _log.info("bucket %s: %s", bucket.name, told(progress.tally))

    def _add(self, before: Tally, after: Tally) -> None:
        for name in Tally.__struct_fields__:
            gained = getattr(after, name) - getattr(before, name)
            setattr(self._total, name, getattr(self._total, name) + gained)

    def measures(self) -> Sequence[Metric]:
        """What this process did since it began."""
        total = self._total
        kinds = (
            ("object", total.objects),
            ("version", total.versions),
            ("marker", total.markers),
            ("upload", total.uploads),
        )
        return [
            _counter(
                "craqen_lifecycle_scanned_total",
                "Keys, versions and uploads that lifecycle rules were held against.",
                total.scanned,
            ),
            Metric(
                "craqen_lifecycle_ended_total",
                "counter",
                "What lifecycle rules ended.",
                [({"kind": name}, count) for name, count in kinds],
            ),
            _counter(
                "craqen_lifecycle_ended_bytes_total",
                "Size of the objects and versions that lifecycle rules ended.",
                total.size_bytes,
            ),
            _counter(
                "craqen_lifecycle_kept_total",
                "What had ended, and had changed or was locked when it was to be removed.",
                total.kept,
            ),
            _counter(
                "craqen_lifecycle_passes_total",
                "Passes over a bucket that were finished.",
                self._passes,
            ),
            _counter(
                "craqen_lifecycle_failures_total",
                "Passes over a bucket that failed for what it holds.",
                self._failures,
            ),
            Metric(
                "craqen_lifecycle_pass_seconds",
                "gauge",
                "How long the last pass over a bucket took.",
                [({}, self._pass_seconds)],
            ),
        ]


def told(tally: Tally) -> str:
    """A tally for people."""
    return (
        f"{tally.objects} objects, {tally.versions} versions, {tally.markers} delete markers and "
        f"{tally.uploads} uploads ended ({tally.size_bytes} bytes), {tally.kept} were kept; "
        f"{tally.scanned} looked at"
    )


def _counter(name: str, text: str, value: float) -> Metric:
    return Metric(name, "counter", text, [({}, value)])
