"""What fuzzing and reading for attacks have found, each as the smallest case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from craqen.core.errors import DataLossError
from craqen.core.identity import schema as identity_schema
from craqen.core.identity.records import Account
from craqen.core.meta import schema
from craqen.core.meta.records import Bucket
from craqen.gateway.app import Application
from craqen.gateway.bucket_info import BucketInfo
from craqen.gateway.reply import Sent
from craqen.gateway.settings import cors
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.running_gateway import Gateway, running_gateway

NO_UTF8 = b"\xa3\xff\xfe\xfd"  # a text of three bytes that are none


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("segments")) as running:
        yield running


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


class TestDoor:
    def test_a_header_that_is_no_text(self, gateway: Gateway) -> None:
        """It was hashed as an account's name: 500, with a traceback."""
        with RawClient(gateway) as client:
            request = client.signed("PUT", "/bucket-no-text")
            client.send_head(request, {"content-length": "0"})
            assert client.answer().status == 200
        with RawClient(gateway) as client:
            client.send(
                b"GET /bucket-no-text HTTP/1.1\r\nHost: h\r\n"
                b"x-amz-expected-bucket-owner: \xc2\x20\xff\r\n\r\n"
            )
            answer = client.answer()
            assert (answer.status, answer.code) == (400, "InvalidArgument")

    def test_a_client_that_stops_sending_is_let_go(
        self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If its last bytes and the end came apart, the connection stayed for 75 seconds."""

        answer = Application._answer

        async def late(self: Application, request: Any) -> Sent:
            """The end comes between the answer and the wait for the next request."""
            sent = await answer(self, request)
            request.incoming.protocol.eof_received()
            return sent

        monkeypatch.setattr(Application, "_answer", late)
        with RawClient(gateway) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.answer().status == 403
            assert client.is_closed()
