"""Server-side encryption: what a request asks for, and the data keys of what it stores and reads.

SSE-S3, SSE-KMS and SSE-C as in docs.aws.amazon.com/AmazonS3/latest/userguide/
serv-side-encryption.html. Whichever it is, content is encrypted under a data key of its own
(core/crypt); only how that key is wrapped differs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

from ..core.client.file_keys import bound_to, key_id_of_default
from ..core.crypt.defaults import ASPECT, DefaultEncryption, decode_default
from ..core.crypt.envelope import (
    CUSTOMER_KEY_BYTES,
    SSE_C,
    SSE_KMS,
    SSE_KMS_DUAL,
    SSE_S3,
    Encryption,
    customer_data_key,
    customer_encryption,
    new_data_key,
    opaque_etag,
)
from ..core.crypt.pages import seal_record
from ..core.crypt.port import KMS_DEFAULT_KEY_ID, KeyKeeper, WrappedKey
from ..core.errors import NotFoundError, PermissionDeniedError
from ..core.meta.records import NewContent, ObjectAttributes
from .bucket_info import BucketInfo
from .errors import S3Error, invalid_argument
from .exchange import Exchange
from .headers import Headers

_PREFIX = "x-amz-server-side-encryption"
_CUSTOMER = f"{_PREFIX}-customer-"
_COPY_SOURCE = "x-amz-copy-source-server-side-encryption-customer-"
_KEY_ID = f"{_PREFIX}-aws-kms-key-id"
_CONTEXT = f"{_PREFIX}-context"
_BUCKET_KEY = f"{_PREFIX}-bucket-key-enabled"
CONTEXT_BYTES_MAX = 8192
MANAGED = frozenset({SSE_S3, SSE_KMS, SSE_KMS_DUAL})


class Sealing(NamedTuple):
    """How new content is encrypted, and its key."""

    encryption: Encryption
    data_key: bytes

    def etag(self, md5: str) -> str:
        """The ETag of content with this MD5: it tells of the content only under SSE-S3."""
        return md5 if self.encryption.algorithm == SSE_S3 else opaque_etag(self.data_key, md5)


class _Managed(NamedTuple):
    """Encryption under a key that the store or its key service keeps."""

    algorithm: str
    key_id: str
    context: str
    has_bucket_key: bool


async def seal_new(exchange: Exchange) -> Sealing | None:
    """The encryption of an object that the request makes: what its headers ask for, else the
    bucket's default; None if there is neither. Also kept as ``exchange.sealing``.

    Raises S3Error.
    """
    sealing = await _sealing_for(exchange, new_data_key())
    exchange.sealing = sealing
    return sealing


async def _sealing_for(exchange: Exchange, data_key: bytes) -> Sealing | None:
    headers = exchange.headers
    managed = _managed(headers)
    _check_not_blocked(exchange)
    customer_key = _customer_key(exchange, _CUSTOMER)
    if customer_key is not None:
        if managed is not None:
            raise invalid_argument(
                "Server Side Encryption with Customer provided key is incompatible with the "
                "encryption method specified",
                name=_PREFIX,
                value=managed.algorithm,
            )
        md5 = headers[f"{_CUSTOMER}key-md5"]
        return Sealing(customer_encryption(customer_key, data_key, md5), data_key)
    if managed is None:
        default = exchange.settings.parsed(ASPECT, decode_default)
        if default is None or not default.algorithm:
            return None
        managed = _of_default(default)
    return await _sealing_of(exchange.services.keys, managed, data_key)


async def _sealing_of(keys: KeyKeeper, managed: _Managed, data_key: bytes) -> Sealing:
    wrapped = await _wrap(keys, managed, data_key)
    encryption = Encryption(
        managed.algorithm,
        wrapped.wrapped,
        wrapped.key_id,
        wrapped.key_version,
        managed.context,
        has_bucket_key=managed.has_bucket_key,
    )
    return Sealing(encryption, data_key)


async def seal_by_default(keys: KeyKeeper, info: BucketInfo) -> Sealing | None:
    """The encryption of what the store itself puts into a bucket. Raises S3Error."""
    default = info.parsed(ASPECT, decode_default)
    if default is None or not default.algorithm:
        return None
    return await _sealing_of(keys, _of_default(default), new_data_key())


def inline_content(sealing: Sealing | None, data: bytes) -> NewContent:
    """Content that is kept in a record, encrypted if there is a sealing."""
    if sealing is None or not data:
        return NewContent(len(data), data)
    return NewContent(len(data), seal_record(sealing.data_key, data))


async def seal_copy(
    exchange: Exchange, source: Encryption | None, source_key: bytes | None
) -> tuple[Sealing | None, bool]:
    """The encryption of a copy, and whether it can refer to the source's bytes as they are: neither
    is encrypted, or both are under keys that the store keeps; then the copy has the source's data
    key, wrapped anew. (A key that a client holds protects its own object only, and all of it.)

    Raises S3Error.
    """
    data_key = new_data_key()
    is_managed = source is not None and not source.is_customer_held
    if is_managed and f"{_CUSTOMER}algorithm" not in exchange.headers:
        assert source_key is not None
        data_key = source_key
    sealing = exchange.sealing = await _sealing_for(exchange, data_key)
    if sealing is None:
        return None, source is None
    return sealing, is_managed and not sealing.encryption.is_customer_held


async def open_key(
    exchange: Exchange, attributes: ObjectAttributes | None, *, as_source: bool = False
) -> bytes | None:
    """The data key of stored content; None if it is not encrypted. *as_source*: it is what the
    request copies from.

    Raises S3Error: the key that the client holds is missing, wrong, or not applicable.
    """
    encryption = None if attributes is None else attributes.encryption
    customer_key = _customer_key(exchange, _COPY_SOURCE if as_source else _CUSTOMER)
    if encryption is None or not encryption.is_customer_held:
        if customer_key is not None:
            raise S3Error(
                "InvalidRequest",
                "The encryption parameters are not applicable to this object.",
            )
        return None if encryption is None else await data_key_of(exchange.services.keys, encryption)
    if customer_key is None:
        raise S3Error(
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption. The correct parameters "
            "must be provided to retrieve the object.",
        )
    try:
        return customer_data_key(encryption, customer_key)
    except PermissionDeniedError as error:
        raise S3Error("AccessDenied") from error


async def check_key(exchange: Exchange, attributes: ObjectAttributes | None) -> None:
    """For answers that tell of an object and give none of its content: is the key right that the
    request brings, or needed? Keys that the store or its key service keeps are not asked for.

    Raises S3Error.
    """
    encryption = None if attributes is None else attributes.encryption
    is_managed = encryption is not None and not encryption.is_customer_held
    if not is_managed or f"{_CUSTOMER}algorithm" in exchange.headers:
        await open_key(exchange, attributes)


async def seal_part(exchange: Exchange, attributes: ObjectAttributes) -> Sealing | None:
    """The encryption of a part of an upload, which is the upload's. Raises S3Error."""
    encryption = attributes.encryption
    if encryption is None or encryption.is_customer_held:
        try:
            data_key = await open_key(exchange, attributes)
        except S3Error as error:
            if error.code != "AccessDenied":
                raise
            raise S3Error(
                "InvalidRequest",
                "The provided encryption parameters did not match the ones used originally.",
            ) from error
    else:
        data_key = await data_key_of(exchange.services.keys, encryption)
    sealing = None
    if encryption is not None and data_key is not None:
        sealing = Sealing(encryption, data_key)
    exchange.sealing = sealing
    return sealing


async def data_key_of(keys: KeyKeeper, encryption: Encryption) -> bytes:
    """The data key of content under a key that is not the client's. Raises S3Error AccessDenied if
    the outer key may not be used, CraqenError."""
    wrapped = WrappedKey(encryption.key_id, encryption.key_version, encryption.wrapped_key)
    try:
        return await keys.unwrap(wrapped, bound_to(encryption.context))
    except NotFoundError as error:
        name = encryption.key_id
        raise S3Error("KMS.NotFoundException", f"Key '{name}' does not exist") from error
    except PermissionDeniedError as error:
        raise S3Error("KMS.DisabledException", f"{encryption.key_id} is disabled.") from error


def check_no_customer_key(exchange: Exchange) -> None:
    """For requests that take no key. Raises S3Error InvalidRequest."""
    if f"{_CUSTOMER}algorithm" in exchange.headers:
        raise S3Error("InvalidRequest", "The encryption parameters are not applicable here.")


def check_reading(exchange: Exchange) -> None:
    """For requests that read: they do not choose how the object is encrypted. Raises S3Error
    InvalidArgument."""
    headers = exchange.headers
    for name in (_PREFIX, _KEY_ID, _CONTEXT):
        if name in headers:
            raise invalid_argument(
                f"{name} header is not supported for this operation.",
                name=name,
                value=headers[name],
            )


def encryption_headers(encryption: Encryption | None) -> dict[str, str]:
    """What answers tell of an object's encryption."""
    if encryption is None:
        return {}
    if encryption.algorithm == SSE_C:
        return {
            f"{_CUSTOMER}algorithm": "AES256",
            f"{_CUSTOMER}key-MD5": encryption.customer_key_md5,
        }
    found = {_PREFIX: encryption.algorithm}
    if encryption.algorithm != SSE_S3:
        found[_KEY_ID] = encryption.key_id
        if encryption.context:
            found[_CONTEXT] = encryption.context
    if encryption.has_bucket_key:
        found[_BUCKET_KEY] = "true"
    return found


async def _wrap(keys: KeyKeeper, managed: _Managed, data_key: bytes) -> WrappedKey:
    try:
        return await keys.wrap(managed.key_id, data_key, bound_to(managed.context))
    except NotFoundError as error:
        raise S3Error("KMS.NotFoundException", f"Key '{managed.key_id}' does not exist") from error
    except PermissionDeniedError as error:
        raise S3Error("KMS.DisabledException", f"{managed.key_id} is disabled.") from error


def _check_not_blocked(exchange: Exchange) -> None:
    """Raise S3Error AccessDenied if the bucket does not let requests choose SSE-C."""
    if f"{_CUSTOMER}algorithm" not in exchange.headers:
        return
    default = exchange.settings.parsed(ASPECT, decode_default)
    if default is not None and SSE_C in default.blocked:
        raise S3Error("AccessDenied", "The bucket does not take objects under SSE-C.")


def _of_default(default: DefaultEncryption) -> _Managed:
    key_id = key_id_of_default(default)
    return _Managed(default.algorithm, key_id, "", bool(default.bucket_key))


def _managed(headers: Headers) -> _Managed | None:
    """SSE-S3 or SSE-KMS as the headers ask for it. Raises S3Error."""
    algorithm = headers.get(_PREFIX)
    key_id, context = headers.get(_KEY_ID, ""), headers.get(_CONTEXT, "")
    if algorithm is None:
        if key_id or context:
            raise invalid_argument(
                "x-amz-server-side-encryption header is required if a key id is given",
                name=_PREFIX,
                value="",
            )
        return None
    if algorithm not in MANAGED:
        raise invalid_argument(
            "The encryption method specified is not supported", name=_PREFIX, value=algorithm
        )
    if algorithm == SSE_S3 and key_id:
        raise invalid_argument(
            "x-amz-server-side-encryption-aws-kms-key-id needs aws:kms", name=_KEY_ID, value=key_id
        )
    if algorithm != SSE_S3 and not key_id:
        key_id = KMS_DEFAULT_KEY_ID
    if len(context) > CONTEXT_BYTES_MAX:
        raise invalid_argument("The encryption context is too long", name=_CONTEXT, value="")
    has_bucket_key = headers.get(_BUCKET_KEY, "").lower() == "true"
    return _Managed(algorithm, key_id, context, has_bucket_key)


def _customer_key(exchange: Exchange, prefix: str) -> bytes | None:
    """The key that the client holds and sends along. Raises S3Error."""
    headers = exchange.headers
    algorithm = headers.get(f"{prefix}algorithm")
    key_text, md5_text = headers.get(f"{prefix}key"), headers.get(f"{prefix}key-md5")
    if algorithm is None and key_text is None and md5_text is None:
        return None
    if algorithm is None:
        raise invalid_argument(
            "Requests specifying Server Side Encryption with Customer provided keys must provide a "
            "valid encryption algorithm.",
            name=f"{prefix}algorithm",
            value="null",
        )
    if algorithm != "AES256":
        raise S3Error("InvalidEncryptionAlgorithmError", fields={"ArgumentName": algorithm})
    if key_text is None:
        raise invalid_argument(
            "Requests specifying Server Side Encryption with Customer provided keys must provide "
            "an appropriate secret key.",
            name=f"{prefix}key",
            value="null",
        )
    if md5_text is None:
        raise invalid_argument(
            "Requests specifying Server Side Encryption with Customer provided keys must provide "
            "the client calculated MD5 of the secret key.",
            name=f"{prefix}key-MD5",
            value="null",
        )
    try:
        key = base64.b64decode(key_text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != CUSTOMER_KEY_BYTES:
        raise invalid_argument(
            "The secret key was invalid for the specified algorithm.",
            name=f"{prefix}key",
            value="null",
        )
    md5 = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
    if not hmac.compare_digest(md5, md5_text):
        raise invalid_argument(
            "The calculated MD5 hash of the key did not match the hash that was provided.",
            name=f"{prefix}key-MD5",
            value="null",
        )
    return key
