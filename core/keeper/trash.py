"""The duty ``trash``: removes for good what was long enough in the trash of a bucket."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

from ..errors import CallerError, CraqenError, NotFoundError
from ..meta.names import is_plain
from ..meta.records import Bucket, Deletion, InodeType
from ..meta.store import MetaStore
from ..meta.trash_names import FOLDER, PREFIX, REMOVED, end_of_hour
from ..meta.version_ids import NULL
from ..metrics import Metric

POLL_SECONDS = 30.0
"""How soon a tree that was removed is come to, at the latest."""
PAGE = 1000
"""Objects that are removed at once, and names or buckets that are looked at."""

_log = logging.getLogger("craqen.keeper")


class TrashDuty:
    """``Duty``."""

    name = "trash"

    def __init__(self, store: MetaStore) -> None:
        self._store = store
        self._removed = 0
        self._failures = 0

    async def run_once(self, now_ns: int) -> float:
        """Look at every bucket; return in how many seconds to look again."""
        async for bucket in self._buckets():
            try:
                for period in await self._due(bucket, now_ns):
                    await self._empty(bucket, PREFIX + period + b"/")
            except CallerError as error:
                # The other buckets' trash is emptied nevertheless.
                self._failures += 1
                _log.error("bucket %s: its trash: %s", bucket.name, error)
        return POLL_SECONDS

    async def _buckets(self) -> AsyncIterator[Bucket]:
        after = ""
        while page := await self._store.list_buckets(after=after, limit=PAGE):
            for bucket in page:
                yield bucket
            after = page[-1].name

    async def _due(self, bucket: Bucket, now_ns: int) -> Sequence[bytes]:
        """The folders of the trash whose time has come. Raises CallerError."""
        try:
            trash = await self._store.lookup(bucket.inode_id, FOLDER)
        except NotFoundError:
            return ()
        if trash.type is not InodeType.DIRECTORY:
            return ()
        due = []
        after = b""
        while True:
            page = await self._store.read_directory(trash.inode_id, after=after, limit=PAGE)
            for entry in page:
                if entry.inode.type is InodeType.DIRECTORY and is_plain(entry.name):
                    if _is_due(bucket, entry.name, now_ns):
                        due.append(entry.name)
            if len(page) < PAGE:
                return due
            after = page[-1].cursor

    async def _empty(self, bucket: Bucket, prefix: bytes) -> None:
        """Remove all keys below *prefix*. Raises CraqenError."""
        removed = 0
        while True:
            page = await self._store.list_objects(bucket.name, prefix=prefix, limit=PAGE)
            if not page.entries:
                break
            # Where versions are kept by now, what is here is the null version.
            deletions = [Deletion(one.key, version_id=NULL) for one in page.entries]
            outcomes = await self._store.delete_objects(bucket.name, deletions)
            failed = [one for one in outcomes if isinstance(one, CraqenError)]
            removed += len(outcomes) - len(failed)
            self._removed += len(outcomes) - len(failed)
            if failed:
                raise failed[0]
        if removed:
            _log.info("bucket %s: %d files of its trash were removed", bucket.name, removed)

    def measures(self) -> Sequence[Metric]:
        """What this process did since it began."""
        return [
            Metric(
                "craqen_trash_removed_total",
                "counter",
                "Files and folders that were removed from the trash of buckets.",
                [({}, self._removed)],
            ),
            Metric(
                "craqen_trash_failures_total",
                "counter",
                "Times that the trash of a bucket could not be emptied.",
                [({}, self._failures)],
            ),
        ]


def _is_due(bucket: Bucket, period: bytes, now_ns: int) -> bool:
    if period == REMOVED:
        return True
    ended = end_of_hour(period)
    if ended is None or not bucket.trash_seconds:
        return False
    return now_ns / 1e9 >= ended + bucket.trash_seconds
