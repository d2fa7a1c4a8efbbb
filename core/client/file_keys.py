"""DRIVER: the data keys of files, for doors that have a key keeper but no request: what a bucket's
setting says, and what the keeper unwraps."""

from __future__ import annotations

from ..crypt.defaults import ASPECT, DefaultEncryption, decode_default
from ..crypt.envelope import SSE_S3, Encryption, new_data_key
from ..crypt.port import KMS_DEFAULT_KEY_ID, KeyKeeper, WrappedKey
from ..errors import PermissionDeniedError, StaleHandleError
from ..meta.records import Bucket
from ..meta.store import MetaStore
from .sealed_files import ContentKey

BOUND_TO = b"craqen object key"
"""What every data key is wrapped together with, and behind it the encryption context."""
BUCKETS_MAX = 1024


def bound_to(context: str) -> bytes:
    """What a data key with this encryption context is wrapped together with."""
    return BOUND_TO + context.encode()


def key_id_of_default(default: DefaultEncryption) -> str:
    """The outer key's name, as keepers take it."""
    if default.algorithm == SSE_S3:
        return ""
    return default.key_id or KMS_DEFAULT_KEY_ID


class FileKeys:
    """``ContentKeys`` of a store."""

    def __init__(self, meta: MetaStore, keeper: KeyKeeper) -> None:
        self._meta = meta
        self._keeper = keeper
        self._buckets: dict[int, tuple[Bucket, bytes | None]] = {}

    async def open(self, encryption: Encryption) -> bytes:
        """The data key. Raises as ``ContentKeys.open``."""
        if encryption.is_customer_held:
            raise PermissionDeniedError("encrypted with a key that only an S3 client holds")
        wrapped = WrappedKey(encryption.key_id, encryption.key_version, encryption.wrapped_key)
        return await self._keeper.unwrap(wrapped, bound_to(encryption.context))

    async def encrypts(self, bucket_id: int) -> bool:
        """Whether the bucket has a default."""
        setting = await self._setting(bucket_id)
        return setting is not None and bool(decode_default(setting).algorithm)

    async def default(self, bucket_id: int) -> ContentKey | None:
        """A new key by the bucket's setting."""
        setting = await self._setting(bucket_id)
        if setting is None:
            return None
        default = decode_default(setting)
        if not default.algorithm:
            return None
        key_id = key_id_of_default(default)
        data_key = new_data_key()
        wrapped = await self._keeper.wrap(key_id, data_key, bound_to(""))
        encryption = Encryption(
            default.algorithm,
            wrapped.wrapped,
            wrapped.key_id,
            wrapped.key_version,
            has_bucket_key=bool(default.bucket_key),
        )
        return ContentKey(encryption, data_key)

    async def _setting(self, bucket_id: int) -> bytes | None:
        """The bucket's setting as it is now, at the cost of two key reads while it stays."""
        if not bucket_id:
            return None
        try:
            name = (await self._meta.get_inode(bucket_id)).name.decode()
        except StaleHandleError:
            return None
        known = self._buckets.get(bucket_id)
        bucket, settings = await self._meta.bucket_settings(
            name, known=None if known is None else known[0]
        )
        if settings is None:
            assert known is not None
            return known[1]
        if len(self._buckets) >= BUCKETS_MAX:
            self._buckets.clear()
        value = settings.get(ASPECT)
        self._buckets[bucket_id] = bucket, value
        return value
