"""RenameObject: in every bucket, and for whole prefixes."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from ...core.errors import CrossDeviceError, NotEmptyError
from ..conditions import rename_conditions
from ..errors import S3Error, invalid_argument
from ..exchange import Exchange
from ..names import check_key
from ..reply import Reply

HEADER = "x-amz-rename-source"
TOKEN_CHARACTERS_MAX = 256  # clients send a UUID
PREFIX_ACTION = "craqen:RenamePrefix"
"""Moves keys that nobody names one by one: a right of its own, which no s3:* grants."""


async def rename_object(exchange: Exchange) -> Reply:
    """RenameObject: another key for an object, or for all below ``prefix/``."""
    source = rename_source(exchange.headers.get(HEADER, ""), exchange.bucket)
    token = exchange.headers.get("x-amz-client-token", "")
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise invalid_argument("The client token is too long", name="x-amz-client-token", value="")
    source_conditions, conditions = rename_conditions(exchange.headers)
    await _check_rights(exchange, source)
    try:
        await exchange.services.meta.rename_object(
            exchange.bucket,
            source,
            exchange.key,
            exchange.owner,
            source_conditions=source_conditions,
            conditions=conditions,
            token=token,
        )
    except (NotEmptyError, CrossDeviceError) as error:
        raise S3Error("InvalidRequest", f"The prefix cannot be renamed: {error}") from error
    return Reply(200)


def rename_source(value: str, bucket: str) -> bytes:
    """The key in the header, percent-decoded once; some clients put ``/bucket/`` in front.

    Raises S3Error: InvalidArgument, KeyTooLongError.
    """
    raw = unquote_to_bytes(value.encode("utf-8", "surrogateescape"))
    key = raw.removeprefix(b"/" + bucket.encode() + b"/")
    if not key:
        raise invalid_argument("A source key must be given", name=HEADER, value=value)
    check_key(key)
    return key


async def _check_rights(exchange: Exchange, source: bytes) -> None:
    """Raise S3Error AccessDenied unless source and target may be read, written and removed."""
    require, bucket = exchange.services.authorizer.require, exchange.bucket
    names = [(source, ("s3:GetObject", "s3:DeleteObject")), (exchange.key, ("s3:PutObject",))]
    for key, actions in names:
        for action in actions:
            await require(exchange, action, bucket, key)
        if key.endswith(b"/"):
            await require(exchange, PREFIX_ACTION, bucket, key)
