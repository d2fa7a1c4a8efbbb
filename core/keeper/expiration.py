"""DRIVER: one pass over a bucket, by its rules as they are for one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from ..errors import BucketNotFoundError, ConflictError
from ..lifecycle.plan import Plan
from ..lifecycle.progress import Position, Tally
from ..meta.expiry_scan import Cursor, Due, Kind
from ..meta.expiry_store import ExpiryStore
from ..meta.records import Bucket, Upload, Versioning
from ..meta.version_ids import version_id

KEYS_PER_PAGE = 1000
UPLOADS_PER_PAGE = 1000
REMOVALS_PER_TRANSACTION = 500
VERSIONED_REMOVALS_PER_TRANSACTION = 100  # each writes several records
START = Position()


class Store(ExpiryStore, Protocol):
    """The part of the namespace that a pass needs."""

    @property
    def client_id(self) -> int: ...

    async def list_uploads(
        self,
        bucket: str,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_upload_id: str = "",
        limit: int = 1000,
    ) -> tuple[list[Upload], bool]: ...


class Ended(msgspec.Struct, frozen=True):
    """Something that ended, or would."""

    kind: str
    """object, version, marker or upload."""
    key: str
    version_id: str
    """Of an upload: its id. Of an object: empty."""
    size_bytes: int
    rule_id: str


async def nothing(position: Position) -> None:
    """For passes whose progress nobody keeps."""


class BucketPass:
    """Applies the rules *setting* of *bucket* to all that it holds."""

    def __init__(
        self,
        store: Store,
        bucket: Bucket,
        setting: bytes,
        plan: Plan,
        tally: Tally,
        *,
        dry_run: bool = False,
        told: Callable[[Ended], None] | None = None,
        save: Callable[[Position], Awaitable[None]] = nothing,
    ) -> None:
        """*tally* is added to. *told* hears of all that ends (or would, in a *dry_run*); *save* is
        given the position after each page: all before it is done."""
        self._store = store
        self._bucket = bucket
        self._setting = setting
        self._plan = plan
        self._tally = tally
        self._dry_run = dry_run
        self._told = told
        self._save = save
        self._is_versioned = bucket.versioning != Versioning.NEVER

    async def run(self, position: Position = START) -> bool:
        """Go through the bucket from *position* on; False: its rules changed, or it is gone, and
        the rest was left alone."""
        objects = self._plan.object_prefixes(versioned=self._is_versioned)
        regions = [*objects, *self._plan.upload_prefixes()]
        for region in range(position.region, len(regions)):
            start = position if region == position.region else Position(region)
            scan = self._scan_keys if region < len(objects) else self._scan_uploads
            if not await scan(regions[region], start):
                return False
        return True

    async def _scan_keys(self, prefix: bytes, position: Position) -> bool:
        cursor: Cursor | None = Cursor(
            position.key, position.sequence, position.newer, position.made_ns
        )
        while cursor is not None:
            page = await self._store.scan_expiry(
                self._bucket, self._plan, prefix, cursor, limit=KEYS_PER_PAGE
            )
            self._tally.scanned += page.scanned
            if page.due and not await self._end(page.due):
                return False
            cursor = page.next
            if cursor is not None:
                await self._save(Position(position.region, *cursor))
            await asyncio.sleep(0)  # a store that is in memory never waits
        return True

    async def _end(self, due: Sequence[Due]) -> bool:
        if self._dry_run:
            for one in due:
                self._count(one)
            return True
        at_once = (
            VERSIONED_REMOVALS_PER_TRANSACTION if self._is_versioned else REMOVALS_PER_TRANSACTION
        )
        groups = [due[start : start + at_once] for start in range(0, len(due), at_once)]
        while groups:
            group = groups.pop(0)
            try:
                removed = await self._store.expire(self._bucket, self._setting, self._plan, group)
            except ConflictError:
                # Somebody is busy with some of them: the others need not wait.
                if len(group) == 1:
                    self._tally.kept += 1
                else:
                    middle = len(group) // 2
                    groups[:0] = [group[:middle], group[middle:]]
                continue
            if removed is None:
                return False
            for one, is_removed in zip(group, removed, strict=True):
                if is_removed:
                    self._count(one)
                else:
                    self._tally.kept += 1
            await asyncio.sleep(0)
        return True

    def _count(self, due: Due) -> None:
        tally = self._tally
        tally.objects += due.kind == Kind.OBJECT
        tally.versions += due.kind == Kind.VERSION
        tally.markers += due.kind == Kind.MARKER
        tally.size_bytes += due.size
        if self._told is not None:
            name = ""
            if due.kind != Kind.OBJECT:
                name = version_id(due.sequence, is_null=due.is_null)
            key = due.key.decode(errors="replace")
            self._told(Ended(due.kind.name.lower(), key, name, due.size, due.rule_id))

    async def _scan_uploads(self, prefix: bytes, position: Position) -> bool:
        key, upload_id, more = position.key, position.upload_id, True
        while more:
            try:
                uploads, more = await self._store.list_uploads(
                    self._bucket.name,
                    prefix=prefix,
                    after_key=key,
                    after_upload_id=upload_id,
                    limit=UPLOADS_PER_PAGE,
                )
            except BucketNotFoundError:
                return False
            self._tally.scanned += len(uploads)
            for upload in uploads:
                await self._end_upload(upload)
            if more:
                key, upload_id = uploads[-1].key, uploads[-1].upload_id
                await self._save(Position(position.region, key, upload_id=upload_id))
            await asyncio.sleep(0)
        return True

    async def _end_upload(self, upload: Upload) -> None:
        rule_id = self._plan.upload_rule(upload.key, upload.initiated_ns)
        if rule_id is None:
            return
        if not self._dry_run and not await self._store.expire_upload(
            self._bucket, self._setting, upload
        ):
            self._tally.kept += 1
            return
        self._tally.uploads += 1
        if self._told is not None:
            key = upload.key.decode(errors="replace")
            self._told(Ended("upload", key, upload.upload_id, 0, rule_id))
