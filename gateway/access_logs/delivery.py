"""Turns spooled lines into objects of the buckets that they are for.

Nothing of it is a request, so that no line is made of it. What is delivered again after a crash has
the same keys: it replaces itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from typing import NamedTuple

from ...core.errors import BucketNotFoundError, CallerError, ConflictError
from ...core.events.origin import Origin, origin
from ...core.limits import INLINE_BYTES_MAX
from ...core.meta.records import Acl, Grant, NewContent, ObjectAttributes, Owner
from ..body.checksums import ALGORITHMS, FULL_OBJECT, compute
from ..bucket_guard import owner_of
from ..bucket_info import BucketInfo
from ..encryption import inline_content, seal_by_default
from ..errors import S3Error
from ..exchange import Services
from ..receive import new_segment
from ..settings import logging as target_setting
from ..settings import ownership
from .keys import day_of, object_key

ALGORITHM = "crc64nvme"
_SERVICE = Origin("s3.amazonaws.com", "logging.s3.amazonaws.com")
_CONTENT_TYPE = "text/plain"

_log = logging.getLogger("craqen.gateway")


class Done(NamedTuple):
    """What became of the lines of a file."""

    delivered: int
    lost: int


class Delivery:
    """Writes objects."""

    def __init__(self, services: Services, owner: Owner) -> None:
        """*owner*: whose files they are."""
        self._services = services
        self._owner = owner

    async def deliver(self, data: bytes, written_seconds: float, unique: str) -> Done:
        """Deliver the lines of a file that was written last at *written_seconds*; *unique* names
        the file.

        Raises CraqenError: nothing is known then, and all is to be delivered again.
        """
        *lines, _ = data.split(b"\n")  # what has no end was cut by a crash
        by_bucket: defaultdict[str, list[bytes]] = defaultdict(list)
        for line in lines:
            by_bucket[line.split(b" ", 2)[1].decode("ascii", "replace")].append(line)
        done = lost = 0
        token = origin.set(_SERVICE)
        try:
            for bucket, own in by_bucket.items():
                if await self._deliver_bucket(bucket, own, written_seconds, unique):
                    done += len(own)
                else:
                    lost += len(own)
        finally:
            origin.reset(token)
        return Done(done, lost)

    async def _deliver_bucket(
        self, bucket: str, lines: list[bytes], written_seconds: float, unique: str
    ) -> bool:
        """Returns whether somebody has the lines, or wanted none. Raises CraqenError."""
        services = self._services
        try:
            source = await services.buckets.get(bucket)
        except BucketNotFoundError:
            return True
        setting = target_setting.STORED.of(source)
        if setting is None or not setting.bucket:
            return True
        try:
            target = await services.buckets.get(setting.bucket)
            if owner_of(target.record) != owner_of(source.record):
                raise CallerError(f"bucket {setting.bucket}: has another owner")
            account = await services.accounts.account_by_canonical_id(owner_of(source.record))
            by_day: defaultdict[str, list[bytes]] = defaultdict(list)
            for line in lines:
                by_day[day_of(line) if setting.date_source == "EventTime" else ""].append(line)
            for day, own in by_day.items():
                key = object_key(
                    setting,
                    bucket,
                    "-" if account is None else account.account_id,
                    services.region,
                    day=day,
                    delivered_seconds=written_seconds,
                    unique=unique,
                )
                await self._put(target, key, b"\n".join(own) + b"\n", self._acl(target, setting))
        except (CallerError, S3Error) as error:
            _log.error("access log of bucket %s: %d lines are lost: %s", bucket, len(lines), error)
            return False
        return True

    def _acl(self, target: BucketInfo, setting: target_setting.Logging) -> Acl | None:
        """Who may read the object besides the bucket's owner, where ACLs count."""
        mode = ownership.mode_of(target, self._services.object_ownership)
        if not setting.grants or mode == ownership.ENFORCED:
            return None
        grants = tuple(
            Grant(each.grantee.rpartition("/")[2], each.permission, each.display_name)
            for each in setting.grants
            if each.kind != "AmazonCustomerByEmail"
        )
        owner = owner_of(target.record)
        return Acl(owner, "", (Grant(owner, "FULL_CONTROL"), *grants))

    async def _put(self, target: BucketInfo, key: bytes, data: bytes, acl: Acl | None) -> None:
        services = self._services
        sealing = await seal_by_default(services.keys, target)
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        attributes = ObjectAttributes(
            etag=digest if sealing is None else sealing.etag(digest),
            headers={"content-type": _CONTENT_TYPE},
            checksums={ALGORITHM: compute(ALGORITHMS[ALGORITHM], data)},
            checksum_type=FULL_OBJECT,
            encryption=None if sealing is None else sealing.encryption,
            acl=acl,
        )
        bucket = target.record.name
        if len(data) <= INLINE_BYTES_MAX:
            content = inline_content(sealing, data)
            await services.meta.put_object(bucket, key, content, attributes, self._owner)
            return
        await services.meta.ensure_ids(1)
        writer = new_segment(services, sealing, len(data))
        try:
            await writer.write(memoryview(data))
            content = NewContent(len(data), None, await writer.finish())
            await services.meta.put_object(bucket, key, content, attributes, self._owner)
        except (CallerError, ConflictError):
            await asyncio.shield(writer.abort())
            raise
