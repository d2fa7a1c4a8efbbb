"""What fuzzing and reading for attacks have found, each as the smallest case."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from craqen.core.clock import SystemClock
from craqen.core.errors import DataLossError
from craqen.core.identity import schema as identity_schema
from craqen.core.identity.records import Account
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import Transaction
from craqen.core.meta import schema
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import Bucket, InodeType, NewContent, ObjectAttributes, Owner
from craqen.core.options import MetaOptions
from craqen.gateway import xml
from craqen.gateway.app import Application
from craqen.gateway.bucket_info import BucketInfo
from craqen.gateway.errors import S3Error
from craqen.gateway.forms.parser import FormHead
from craqen.gateway.reply import Sent
from craqen.gateway.request_documents import parse_tagging
from craqen.gateway.select.compiler import Source, compile_query
from craqen.gateway.select.errors import SelectError
from craqen.gateway.select.job import parse_job
from craqen.gateway.select.parser import parse
from craqen.gateway.settings import cors
from craqen.gateway.xml import parse_document
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
        for number in (-1, 1 << 64):
            with pytest.raises(DataLossError):
                schema.inode_key(number)

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


class TestXml:
    """The name of a namespace was kept once for every element name in it: 300 kB became 3 GB."""

    @pytest.mark.parametrize(
        "document",
        [
            b'<Tagging xmlns="%b">%b</Tagging>',
            b"<Tagging xmlns:n='%b'>%b</Tagging>",
            b'<Tagging><a b=">" \n xmlns:n\n=\n"%b">%b</a></Tagging>',
        ],
    )
    def test_long_namespaces(self, document: bytes) -> None:
        names = b"".join(b"<a%d/>" % number for number in range(100))
        for namespace in (b"x" * 200, b"&#120;" * 200):
            with pytest.raises(S3Error, match="MalformedXML"):
                parse_document(document % (namespace, names), "Tagging")
        assert len(parse_document(document % (b"x" * 100, names), "Tagging"))

    def test_text_that_looks_like_one(self) -> None:
        text = b'<Tagging>xmlns="' + b"x" * 1000 + b'"</Tagging>'
        assert len(parse_document(text, "Tagging").text or "") > 1000

    def test_long_names_are_not_remembered(self) -> None:
        before = xml._local.cache_info().currsize
        body = b"<Tagging>" + b"".join(b"<a%db%b/>" % (n, b"x" * 999) for n in range(9))
        with pytest.raises(S3Error, match="MalformedXML"):
            parse_tagging(body + b"</Tagging>")
        assert xml._local.cache_info().currsize <= before + 1


class TestSelect:
    """Numbers of thousands of digits and long chains were errors of the program; texts that are
    needed twice on every level doubled with each."""

    SOURCE = Source("t", "csv", ["a"])

    @pytest.mark.parametrize(
        "query",
        [
            "SELECT * FROM S3Object LIMIT " + "9" * 5000,
            "SELECT " + "+".join(["1"] * 4900) + " FROM S3Object",
            "SELECT * FROM S3Object WHERE a" + "=1" * 4000,
            "SELECT * FROM S3Object WHERE a" + " IS NULL" * 4000,
            "SELECT * FROM S3Object WHERE a" + " BETWEEN 1 AND 2" * 40,
            "SELECT * FROM S3Object WHERE a" + (" IN (" + "1," * 60 + "1)") * 30,
            "SELECT " + "NULLIF(" * 60 + "a" + ",1)" * 60 + " FROM S3Object",
            "SELECT \N{ARABIC-INDIC DIGIT THREE} FROM S3Object",
        ],
    )
    def test_are_refused(self, query: str) -> None:
        with pytest.raises(SelectError):
            compile_query(parse(query), self.SOURCE)

    def test_long_lists_of_conditions(self) -> None:
        for operator in (" OR ", " AND "):
            query = "SELECT * FROM S3Object WHERE " + operator.join(["a=1"] * 2000)
            assert compile_query(parse(query), self.SOURCE).sql.count("TRY_CAST(c1") == 2000

    def test_scan_ranges(self) -> None:
        body = (
            b"<SelectObjectContentRequest><Expression>SELECT * FROM S3Object</Expression>"
            b"<ExpressionType>SQL</ExpressionType><InputSerialization><CSV/></InputSerialization>"
            b"<OutputSerialization><JSON/></OutputSerialization><ScanRange><Start>%b</Start>"
            b"</ScanRange></SelectObjectContentRequest>"
        )
        assert parse_job(body % b"7").scan_start == 7
        with pytest.raises(SelectError, match="InvalidScanRange"):
            parse_job(body % (b"9" * 5000))


def test_a_form_is_the_same_however_it_is_cut() -> None:
    """A line that begins like a delimiter was one or not, by where the pieces ended."""
    named = b'Content-Disposition: form-data; name="file"; filename="f"'
    body = b"--b\r\n--b!\r\n" + named + b"\r\n\r\nx\r\n--b--"
    for cut in range(len(body)):
        head = FormHead(b"b")
        begun = head.feed(body[:cut])
        if begun is None:
            begun = head.feed(body[cut:])
        assert begun is not None
        assert head.file_name == "f"


def test_a_folder_inside_itself_is_damage() -> None:
    """Listings went down for ever, and kept every level."""

    async def test() -> None:
        kv = MemoryStore()
        meta = await LocalMetaStore.open(kv, SystemClock(), MetaOptions(), description="test")
        await meta.create_bucket("bucket", owner="me", region="r", as_owner=Owner(1, 1))
        content = NewContent(1, inline_data=b"x")
        await meta.put_object("bucket", b"folder/k", content, ObjectAttributes(), Owner(1, 1))
        bucket = (await meta.get_bucket("bucket")).inode_id

        async def damage(tx: Transaction) -> None:
            entry = schema.encode_entry(schema.Entry(bucket, InodeType.DIRECTORY, 0))
            tx.set(schema.directory_prefix(bucket) + b"folder/", entry)

        await kv.transact(damage)
        with pytest.raises(DataLossError):
            await meta.list_objects("bucket")
        with pytest.raises(DataLossError):
            await meta.list_object_versions("bucket")

    asyncio.run(test())
