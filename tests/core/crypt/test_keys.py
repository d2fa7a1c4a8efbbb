"""Envelopes and the key ring."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from craqen.core.crypt.envelope import (
    Encryption,
    customer_data_key,
    customer_encryption,
    new_data_key,
    opaque_etag,
    unwrap,
    wrap,
)
from craqen.core.crypt.key_ring import STORE_KEY_ID, FileKeyRing
from craqen.core.errors import (
    AlreadyExistsError,
    ConfigError,
    DataLossError,
    NotFoundError,
    PermissionDeniedError,
)

NOW = "2026-11-23T12:00:00Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


@pytest.fixture
def ring(path: Path) -> FileKeyRing:
    ring = FileKeyRing(path)
    ring.create(STORE_KEY_ID, NOW)
    return ring


def test_wrapping_is_bound_to_its_context() -> None:
    outer, key = os.urandom(32), new_data_key()
    wrapped = wrap(outer, key, b"context")
    assert key not in wrapped
    assert unwrap(outer, wrapped, b"context") == key
    for other, bound in ((os.urandom(32), b"context"), (outer, b"other")):
        with pytest.raises(DataLossError):
            unwrap(other, wrapped, bound)
    with pytest.raises(DataLossError):
        unwrap(outer, b"", b"context")


def test_customer_keys() -> None:
    customer, key = os.urandom(32), new_data_key()
    encryption = customer_encryption(customer, key, "md5")
    assert customer not in encryption.wrapped_key
    assert customer_data_key(encryption, customer) == key
    assert encryption.is_customer_held
    with pytest.raises(PermissionDeniedError):
        customer_data_key(encryption, os.urandom(32))


def test_etags_tell_nothing() -> None:
    md5 = "d41d8cd98f00b204e9800998ecf8427e"
    first, second = (opaque_etag(new_data_key(), md5) for _ in range(2))
    assert len(first) == 32
    assert md5 != first != second


def test_rotated_keys_still_unwrap(ring: FileKeyRing, path: Path) -> None:
    async def run() -> None:
        key = new_data_key()
        first = await ring.wrap("", key, b"")
        assert (first.key_id, first.key_version) == (STORE_KEY_ID, 1)
        assert ring.rotate(STORE_KEY_ID) == 2
        other = FileKeyRing(path)  # another process
        second = await other.wrap("", key, b"")
        assert second.key_version == 2
        assert [await other.unwrap(one, b"") for one in (first, second)] == [key, key]
        ring.set_disabled(STORE_KEY_ID, True)
        with pytest.raises(PermissionDeniedError):
            await other.unwrap(first, b"")
        ring.set_disabled(STORE_KEY_ID, False)
        assert await other.unwrap(first, b"") == key
        with pytest.raises(NotFoundError, match="version 3"):
            await other.unwrap(first._replace(key_version=3), b"")

    asyncio.run(run())


def test_names_as_aws_writes_them(ring: FileKeyRing) -> None:
    async def run() -> None:
        ring.create("testkey-1", NOW)
        for name in ("testkey-1", "alias/testkey-1", "arn:aws:kms:us-east-1:1:key/testkey-1"):
            assert (await ring.wrap(name, new_data_key(), b"")).key_id == "testkey-1"
        with pytest.raises(NotFoundError, match="encryption-key create nobody"):
            await ring.wrap("nobody", new_data_key(), b"")

    asyncio.run(run())


def test_the_file(ring: FileKeyRing, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert [key.key_id for key in ring.keys()] == [STORE_KEY_ID]
    with pytest.raises(AlreadyExistsError):
        ring.create(STORE_KEY_ID, NOW)
    with pytest.raises(ConfigError):
        ring.create("a key", NOW)
    assert "versions" not in repr(ring.keys()[0])
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        FileKeyRing(path).keys()
    secret = path.read_text().split("- ")[-1].split()[0]
    for text in ("keys: 5", "keys: [{id: x, versions: [" + secret + "x]}]", "{", "\0", "[]"):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(ConfigError) as caught:
            FileKeyRing(path).keys()
        assert secret not in str(caught.value)


def test_no_file_is_no_key(path: Path) -> None:
    assert FileKeyRing(path).keys() == []
    encryption = Encryption("AES256", b"")
    assert not encryption.is_customer_held
