"""Settings of buckets: what PUT, GET and DELETE of one aspect do is the same for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...core.errors import BucketNotFoundError
from ...core.events.records import Notification
from ..bucket_guard import owner_of
from ..errors import S3Error
from ..exchange import Exchange
from ..receive import read_document
from ..reply import Reply, xml_reply
from ..settings import (
    absent,
    cors,
    encryption,
    lifecycle,
    logging,
    notification,
    public_access_block,
    request_payment,
    tagging,
    website,
)
from ..settings.stored import Stored

T = TypeVar("T")
SettingHandler = Callable[[Exchange], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One aspect, as the operations on it see it."""

    stored: Stored[T]
    parse: Callable[[bytes], T]
    """The record of a document; raises S3Error."""
    render: Callable[[T], bytes]
    """The document of a record."""
    missing: str = ""
    """Error that GET answers if it was never set; empty: the document of ``default``."""
    default: T | None = None
    put_status: int = 200
    checksum_required: bool = True
    """Whether the document must come with a checksum of it."""
    check: Callable[[Exchange, T], Awaitable[None]] | None = None
    """What a new record must satisfy beyond its own document; raises S3Error."""

    async def put(self, exchange: Exchange) -> Reply:
        """PUT of the document."""
        body = await read_document(exchange, checksum_required=self.checksum_required)
        record = self.parse(body)
        if self.check is not None:
            await self.check(exchange, record)
        await exchange.services.meta.set_bucket_setting(
            exchange.bucket, self.stored.aspect, self.stored.encode(record)
        )
        return Reply(self.put_status)

    async def get(self, exchange: Exchange) -> Reply:
        """GET of the document."""
        record = self.stored.of(exchange.settings)
        if record is None:
            record = self.default
        if record is None:
            raise S3Error(self.missing, fields={"BucketName": exchange.bucket})
        return xml_reply(self.render(record))

    async def delete(self, exchange: Exchange) -> Reply:
        """DELETE: never an error if it was not set."""
        await exchange.services.meta.set_bucket_setting(exchange.bucket, self.stored.aspect, None)
        return Reply(204)


_TAGGING = Setting(
    tagging.STORED, tagging.parse, tagging.render, missing="NoSuchTagSet", put_status=204
)
_CORS = Setting(cors.STORED, cors.parse, cors.render, missing="NoSuchCORSConfiguration")
_REQUEST_PAYMENT = Setting(
    request_payment.STORED,
    request_payment.parse,
    request_payment.render,
    default=request_payment.OWNER,
)


_ENCRYPTION = Setting(
    encryption.STORED,
    encryption.parse,
    encryption.render,
    missing="ServerSideEncryptionConfigurationNotFoundError",
)
_WEBSITE = Setting(
    website.STORED, website.parse, website.render, missing="NoSuchWebsiteConfiguration"
)


async def _check_log_bucket(exchange: Exchange, record: logging.Logging) -> None:
    """A log goes to a bucket of the same owner."""
    if not record.bucket:
        return
    try:
        target = await exchange.services.buckets.get(record.bucket)
    except BucketNotFoundError as error:
        raise S3Error(
            "InvalidTargetBucketForLogging", fields={"TargetBucket": record.bucket}
        ) from error
    if owner_of(target.record) != owner_of(exchange.settings.record):
        raise S3Error(
            "InvalidTargetBucketForLogging",
            "The owner for the bucket to be logged and the target bucket must be the same.",
            fields={"TargetBucket": record.bucket},
        )


async def _check_targets(exchange: Exchange, record: Notification) -> None:
    if exchange.headers.get("x-amz-skip-destination-validation", "").lower() != "true":
        notification.check_targets(record, exchange.services.notification_targets)


_PUBLIC_ACCESS_BLOCK = Setting(
    public_access_block.STORED,
    public_access_block.parse,
    public_access_block.render,
    missing="NoSuchPublicAccessBlockConfiguration",
    checksum_required=False,
)
_LOGGING = Setting(
    logging.STORED,
    logging.parse,
    logging.render,
    default=logging.Logging(),
    check=_check_log_bucket,
)
_NOTIFICATION = Setting(
    notification.STORED,
    notification.parse,
    notification.render,
    default=Notification(),
    checksum_required=False,
    check=_check_targets,
)
_LIFECYCLE = Setting(
    lifecycle.STORED, lifecycle.parse, lifecycle.render, missing="NoSuchLifecycleConfiguration"
)


async def put_lifecycle(exchange: Exchange) -> Reply:
    """PutBucketLifecycleConfiguration: one header belongs to the document."""
    minimum_size = exchange.headers.get(lifecycle.MINIMUM_SIZE_HEADER, "")
    body = await read_document(exchange, checksum_required=True)
    record = lifecycle.parse(body, minimum_size)
    await exchange.services.meta.set_bucket_setting(
        exchange.bucket, lifecycle.STORED.aspect, lifecycle.STORED.encode(record)
    )
    return Reply(200, {lifecycle.MINIMUM_SIZE_HEADER: record.minimum_size})


async def get_lifecycle(exchange: Exchange) -> Reply:
    """GetBucketLifecycleConfiguration."""
    reply = await _LIFECYCLE.get(exchange)
    record = lifecycle.STORED.of(exchange.settings)
    if record is not None:
        reply.headers = {**reply.headers, lifecycle.MINIMUM_SIZE_HEADER: record.minimum_size}
    return reply


def _shown(body: bytes) -> SettingHandler:
    async def show(exchange: Exchange) -> Reply:
        return xml_reply(body)

    return show


def _failing(code: str) -> SettingHandler:
    async def fail(exchange: Exchange) -> Reply:
        raise S3Error(code, fields={"BucketName": exchange.bucket})

    return fail


def _refusing(what: str) -> SettingHandler:
    async def refuse(exchange: Exchange) -> Reply:
        raise S3Error(
            "NotImplemented",
            f"{what} is not implemented: the bucket behaves as one where it was never set up",
            fields={"Header": exchange.route.operation},
        )

    return refuse


async def _done(exchange: Exchange) -> Reply:
    return Reply(204)


HANDLERS: dict[str, SettingHandler] = {
    "GetBucketTagging": _TAGGING.get,
    "PutBucketTagging": _TAGGING.put,
    "DeleteBucketTagging": _TAGGING.delete,
    "GetBucketCors": _CORS.get,
    "PutBucketCors": _CORS.put,
    "DeleteBucketCors": _CORS.delete,
    "GetBucketRequestPayment": _REQUEST_PAYMENT.get,
    "PutBucketRequestPayment": _REQUEST_PAYMENT.put,
    "GetBucketEncryption": _ENCRYPTION.get,
    "PutBucketEncryption": _ENCRYPTION.put,
    "DeleteBucketEncryption": _ENCRYPTION.delete,
    "GetBucketLifecycleConfiguration": get_lifecycle,
    "PutBucketLifecycleConfiguration": put_lifecycle,
    "DeleteBucketLifecycle": _LIFECYCLE.delete,
    "GetPublicAccessBlock": _PUBLIC_ACCESS_BLOCK.get,
    "PutPublicAccessBlock": _PUBLIC_ACCESS_BLOCK.put,
    "DeletePublicAccessBlock": _PUBLIC_ACCESS_BLOCK.delete,
    "GetBucketLogging": _LOGGING.get,
    "PutBucketLogging": _LOGGING.put,
    "GetBucketNotificationConfiguration": _NOTIFICATION.get,
    "PutBucketNotificationConfiguration": _NOTIFICATION.put,
    "GetBucketWebsite": _WEBSITE.get,
    "PutBucketWebsite": _WEBSITE.put,
    "DeleteBucketWebsite": _WEBSITE.delete,
    **{operation: _shown(body) for operation, body in absent.EMPTY.items()},
    **{operation: _failing(code) for operation, code in absent.MISSING.items()},
    **{operation: _refusing(what) for operation, what in absent.REFUSED.items()},
    **dict.fromkeys(absent.NOTHING_TO_DELETE, _done),
}
"""The operations on settings that are like this."""
