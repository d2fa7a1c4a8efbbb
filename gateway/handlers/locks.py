"""Object lock: a bucket's configuration, retention and legal hold of versions."""

from __future__ import annotations

from ...core.errors import BucketStateError, DeleteMarkerError, InvalidArgumentError
from ...core.meta.locks import lock_of
from ...core.meta.records import Lock
from ..errors import S3Error
from ..exchange import Exchange
from ..receive import read_document
from ..reply import Reply, xml_reply
from ..settings import object_lock
from .deletes import may_bypass


async def put_configuration(exchange: Exchange) -> Reply:
    """PutObjectLockConfiguration; a bucket whose versioning is enabled gets object lock by it."""
    default = object_lock.parse_configuration(await read_document(exchange, checksum_required=True))
    await exchange.services.meta.set_object_lock(
        exchange.bucket, object_lock.encode_default(default)
    )
    return Reply(200)


async def get_configuration(exchange: Exchange) -> Reply:
    """GetObjectLockConfiguration."""
    settings = exchange.settings
    if not settings.record.object_lock:
        raise S3Error(
            "ObjectLockConfigurationNotFoundError", fields={"BucketName": exchange.bucket}
        )
    default = settings.parsed(object_lock.ASPECT, object_lock.decode_default)
    return xml_reply(object_lock.configuration_document(default or object_lock.DefaultRetention()))


def _need_lock(exchange: Exchange) -> None:
    if not exchange.settings.record.object_lock:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")


async def _lock(exchange: Exchange) -> Lock:
    _need_lock(exchange)
    try:
        view = await exchange.services.meta.get_object(
            exchange.bucket, exchange.key, version_id=exchange.version_id, with_data=False
        )
    except DeleteMarkerError as error:
        raise _marker(error) from error
    return lock_of(view.inode)


def _marker(error: DeleteMarkerError) -> S3Error:
    """A delete marker has no lock; it is refused whether it was named or is current."""
    return S3Error(
        "MethodNotAllowed",
        headers={"x-amz-delete-marker": "true", "x-amz-version-id": error.version_id},
    )


async def put_retention(exchange: Exchange) -> Reply:
    """PutObjectRetention."""
    _need_lock(exchange)
    mode, until_ns = object_lock.parse_retention(
        await read_document(exchange, checksum_required=True)
    )
    version_id = exchange.version_id
    try:
        await exchange.services.meta.set_retention(
            exchange.bucket,
            exchange.key,
            mode=mode,
            retain_until_ns=until_ns,
            version_id=version_id,
            bypass_governance=await may_bypass(exchange, exchange.key, version_id),
        )
    except DeleteMarkerError as error:
        raise _marker(error) from error
    except (BucketStateError, InvalidArgumentError) as error:
        raise _mapped(error) from error
    return Reply(200)


def _mapped(error: BucketStateError | InvalidArgumentError) -> S3Error:
    if isinstance(error, BucketStateError):
        return S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
    return S3Error("InvalidArgument", str(error))


async def get_retention(exchange: Exchange) -> Reply:
    """GetObjectRetention."""
    lock = await _lock(exchange)
    if not lock.mode:
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml_reply(object_lock.retention_document(lock))


async def put_legal_hold(exchange: Exchange) -> Reply:
    """PutObjectLegalHold."""
    _need_lock(exchange)
    hold = object_lock.parse_legal_hold(await read_document(exchange, checksum_required=True))
    try:
        await exchange.services.meta.set_legal_hold(
            exchange.bucket, exchange.key, hold=hold, version_id=exchange.version_id
        )
    except DeleteMarkerError as error:
        raise _marker(error) from error
    except BucketStateError as error:
        raise _mapped(error) from error
    return Reply(200)


async def get_legal_hold(exchange: Exchange) -> Reply:
    """GetObjectLegalHold."""
    lock = await _lock(exchange)
    if not lock.legal_hold:
        raise S3Error("NoSuchObjectLockConfiguration")
    return xml_reply(object_lock.legal_hold_document(lock))
