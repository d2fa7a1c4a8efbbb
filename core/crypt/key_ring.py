"""DRIVER: a ``KeyKeeper`` over a file of this host: the store's own keys.

The file, of mode 0600, is all that makes encrypted objects readable: keep a copy of it elsewhere.
Every host whose gateways or mounts serve encrypted objects needs it::

    keys:
      - id: craqen-s3
        created: "2026-11-23T12:00:00Z"
        versions: [<base64 of 32 bytes>, …]   # the last one wraps, all unwrap
        disabled: false
"""

from __future__ import annotations

import base64
import os
import re
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..durable_file import write_durably
from ..errors import AlreadyExistsError, ConfigError, NotFoundError, PermissionDeniedError
from .envelope import unwrap, wrap
from .pages import DATA_KEY_BYTES
from .port import KMS_DEFAULT_KEY_ID, WrappedKey

STORE_KEY_ID = "craqen-s3"
"""The key of SSE-S3."""
FILE_BYTES_MAX = 4 * 1024 * 1024
VERSIONS_MAX = 1000
_KEY_ID = re.compile(r"[A-Za-z0-9/_.:+=@-]{1,256}")
_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]*:\d*:(?:key|alias)/(.+)")


@dataclass(frozen=True, slots=True)
class Key:
    """A named key and all its versions, oldest first."""

    key_id: str
    created: str
    versions: tuple[bytes, ...] = field(repr=False)
    disabled: bool = False


class FileKeyRing:
    """Keys of a file. It is read again whenever it has changed, so that what a command does to it
    holds for the next request."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._keys: dict[str, Key] = {}
        self._seen: tuple[int, int, int] | None = None

    async def wrap(self, key_id: str, data_key: bytes, bound_to: bytes) -> WrappedKey:
        """Raises NotFoundError, PermissionDeniedError, ConfigError."""
        key = self._usable(key_id or STORE_KEY_ID)
        wrapped = wrap(key.versions[-1], data_key, bound_to)
        return WrappedKey(key.key_id, len(key.versions), wrapped)

    async def unwrap(self, wrapped: WrappedKey, bound_to: bytes) -> bytes:
        """Raises NotFoundError, PermissionDeniedError, DataLossError, ConfigError."""
        key = self._usable(wrapped.key_id)
        if not 1 <= wrapped.key_version <= len(key.versions):
            raise NotFoundError(
                f"encryption key {key.key_id}: {self._path} has no version {wrapped.key_version}; "
                f"restore the file from your copy"
            )
        return unwrap(key.versions[wrapped.key_version - 1], wrapped.wrapped, bound_to)

    def is_current(self, wrapped: WrappedKey) -> bool:
        """Raises NotFoundError, ConfigError."""
        return wrapped.key_version == len(self._find(wrapped.key_id).versions)

    def has(self, key_id: str) -> bool:
        """Whether there is such a key. Raises ConfigError."""
        try:
            self._find(key_id)
        except NotFoundError:
            return False
        return True

    async def close(self) -> None:
        """Nothing is open."""

    def keys(self) -> list[Key]:
        """All keys, by name. Raises ConfigError."""
        self._refresh()
        return [self._keys[key_id] for key_id in sorted(self._keys)]

    def create(self, key_id: str, now: str) -> None:
        """Make a key. Raises AlreadyExistsError, ConfigError."""
        if not _KEY_ID.fullmatch(key_id):
            raise ConfigError(f"encryption key {key_id!r}: only letters, digits and /_.:+=@-")
        self._refresh()
        if key_id in self._keys:
            raise AlreadyExistsError(f"encryption key {key_id}: exists")
        self._put(Key(key_id, now, (os.urandom(DATA_KEY_BYTES),)))

    def rotate(self, key_id: str) -> int:
        """Add a version, which wraps from now on; return its number. Raises NotFoundError,
        ConfigError."""
        key = self._find(key_id)
        if len(key.versions) >= VERSIONS_MAX:
            raise ConfigError(f"encryption key {key_id}: has {VERSIONS_MAX} versions already")
        self._put(replace(key, versions=(*key.versions, os.urandom(DATA_KEY_BYTES))))
        return len(key.versions) + 1

    def set_disabled(self, key_id: str, disabled: bool) -> None:
        """Whether the key is out of use. Raises NotFoundError, ConfigError."""
        self._put(replace(self._find(key_id), disabled=disabled))

    def _usable(self, key_id: str) -> Key:
        key = self._find(key_id)
        if key.disabled:
            raise PermissionDeniedError(f"encryption key {key_id}: is disabled")
        return key

    def _find(self, key_id: str) -> Key:
        if key_id == KMS_DEFAULT_KEY_ID:
            key_id = STORE_KEY_ID
        match = _ARN.fullmatch(key_id)
        name = match[1] if match else key_id.removeprefix("alias/")
        self._refresh()
        key = self._keys.get(key_id) or self._keys.get(name)
        if key is None:
            raise NotFoundError(
                f"encryption key {key_id}: is not in {self._path}; "
                f"make it: craqen admin encryption-key create {name}"
            )
        return key

    def _refresh(self) -> None:
        """Read the file if it is not the one read last."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._keys, self._seen = {}, None
            return
        except OSError as error:
            raise ConfigError(f"key file {self._path}: {error.strerror}") from error
        seen = found.st_ino, found.st_mtime_ns, found.st_size
        if seen == self._seen:
            return
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(
                f"key file {self._path}: others can reach it; expected mode 0600: "
                f"chmod 600 {self._path}"
            )
        self._keys = _parse(self._path)
        self._seen = seen

    def _put(self, key: Key) -> None:
        keys = {**self._keys, key.key_id: key}
        record = {
            "keys": [
                {
                    "id": one.key_id,
                    "created": one.created,
                    "versions": [base64.b64encode(version).decode() for version in one.versions],
                    "disabled": one.disabled,
                }
                for one in keys.values()
            ]
        }
        try:
            write_durably(self._path, yaml.safe_dump(record, sort_keys=False))
        except OSError as error:
            raise ConfigError(f"key file {self._path}: {error.strerror}") from error
        self._refresh()


def _parse(path: Path) -> dict[str, Key]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ValueError("too large")
        keys = [_key(entry) for entry in yaml.safe_load(data)["keys"]]
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}") from error
    except (yaml.YAMLError, TypeError, KeyError, ValueError):
        # Not chained: the parser's message would quote keys.
        raise ConfigError(
            f"key file {path}: cannot be understood; restore it from your copy"
        ) from None
    return {key.key_id: key for key in keys}


def _key(entry: Any) -> Key:
    versions = tuple(base64.b64decode(text, validate=True) for text in entry["versions"])
    if not versions or any(len(version) != DATA_KEY_BYTES for version in versions):
        raise ValueError("no key of 32 bytes")
    return Key(str(entry["id"]), str(entry["created"]), versions, bool(entry.get("disabled")))
