"""What fuzzing and reading for attacks have found, each as the smallest case."""

from __future__ import annotations

import msgspec
import pytest

from craqen.core.errors import DataLossError
from craqen.core.identity import schema as identity_schema
from craqen.core.identity.records import Account
from craqen.core.meta import schema
from craqen.core.meta.records import Bucket
from craqen.gateway.bucket_info import BucketInfo
from craqen.gateway.settings import cors

NO_UTF8 = b"\xa3\xff\xfe\xfd"  # a text of three bytes that are none


class TestDamagedRecords:
    """Decoders raised UnicodeDecodeError, struct.error or IndexError: an error of the program, with
    a traceback, instead of damage to be reported."""

    def test_texts(self) -> None:
        with pytest.raises(DataLossError):
            schema.decode_bucket(b"\1\x95" + NO_UTF8 + b"\1\1" + NO_UTF8 + NO_UTF8)
        with pytest.raises(DataLossError):
            identity_schema.decode(b"\1\x92" + NO_UTF8 + NO_UTF8, Account)

    def test_numbers(self) -> None:
        with pytest.raises(DataLossError):
            schema.unpack_number(b"\0\0")

    def test_a_batch_with_an_empty_value(self) -> None:
        with pytest.raises(DataLossError):
            schema.decode_inodes([b""])

    def test_settings(self) -> None:
        info = BucketInfo(Bucket("b", 1, 1, "o", "r"), {"cors": msgspec.msgpack.encode([["x"]])})
        with pytest.raises(DataLossError, match="bucket b: the setting cors"):
            cors.STORED.of(info)
