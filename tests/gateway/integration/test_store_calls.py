"""Calls whose outcome depends on the real data path and on real transactions: ranges, parts and
copies over blocks, races of clients, connections that go on after errors."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.auth
import pytest
from botocore.exceptions import ClientError

from craqen.core.limits import INLINE_BYTES_MAX, KIB, MIB
from craqen.tests.gateway.integration.raw_client import RawClient
from craqen.tests.gateway.integration.whole_store import WholeStore

CLIENTS = 6
PART = 5 * MIB


@pytest.fixture
def client(store: WholeStore) -> Iterator[RawClient]:
    with RawClient(store) as client:
        yield client


def outcome(call: Callable[..., Any], **arguments: Any) -> str:
    """The error code of a call; empty if it succeeds."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


EDGES = [INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 4 * KIB, MIB - 1, MIB, MIB + 1, 9 * MIB + 3]


@pytest.mark.parametrize("size", EDGES)
def test_ranges_at_the_edges_of_chunks(store_s3: Any, store_bucket: str, size: int) -> None:
    data = os.urandom(size)
    place = {"Bucket": store_bucket, "Key": "k"}
    store_s3.put_object(**place, Body=data)
    assert store_s3.get_object(**place)["Body"].read() == data
    for start in (0, 1, size // 2, MIB - 1, MIB, 8 * MIB - 1, 8 * MIB, size - 1):
        for length in (1, 2, 4097, MIB, size):
            expected = data[start : start + length]
            if expected:
                got = store_s3.get_object(**place, Range=f"bytes={start}-{start + length - 1}")
                assert got["Body"].read() == expected
                assert got["ContentLength"] == len(expected)
    for suffix in (1, size, size + 1):
        assert store_s3.get_object(**place, Range=f"bytes=-{suffix}")["Body"].read() == (
            data[-suffix:] if suffix <= size else data
        )
    assert outcome(store_s3.get_object, **place, Range=f"bytes={size}-") == "InvalidRange"


def test_parts_lie_where_they_came(store_s3: Any, store_bucket: str) -> None:
    """Out of order, one replaced, one copied from a large object and one from a small; read whole,
    by part, and across the borders."""
    large, small = os.urandom(PART + 2 * MIB + 11), os.urandom(1000)
    store_s3.put_object(Bucket=store_bucket, Key="large", Body=large)
    store_s3.put_object(Bucket=store_bucket, Key="small", Body=small)
    place = {"Bucket": store_bucket, "Key": "k"}
    upload = store_s3.create_multipart_upload(**place)["UploadId"]
    first = os.urandom(PART + 5)

    def put(number: int, body: bytes) -> str:
        answer = store_s3.upload_part(**place, UploadId=upload, PartNumber=number, Body=body)
        return str(answer["ETag"])

    def copy(number: int, key: str, span: str) -> str:
        answer = store_s3.upload_part_copy(
            **place,
            UploadId=upload,
            PartNumber=number,
            CopySource={"Bucket": store_bucket, "Key": key},
            CopySourceRange=span,
        )
        return str(answer["CopyPartResult"]["ETag"])

    end = len(large) - 8
    etags = {9: copy(9, "small", "bytes=10-899"), 4: copy(4, "large", f"bytes=7-{end}")}
    put(2, os.urandom(PART))
    etags[2] = put(2, first)
    listed = store_s3.list_parts(**place, UploadId=upload)["Parts"]
    assert [part["PartNumber"] for part in listed] == [2, 4, 9]
    named = [{"PartNumber": number, "ETag": etags[number]} for number in (2, 4, 9)]
    done = store_s3.complete_multipart_upload(
        **place, UploadId=upload, MultipartUpload={"Parts": named}
    )
    pieces = [first, large[7 : end + 1], small[10:900]]
    whole = b"".join(pieces)
    for key in ("large", "small"):  # their bytes are shared, not borrowed
        store_s3.delete_object(Bucket=store_bucket, Key=key)
    got = store_s3.get_object(**place)
    assert got["ETag"] == done["ETag"]
    assert got["Body"].read() == whole
    for number, piece in enumerate(pieces, 1):
        part = store_s3.get_object(**place, PartNumber=number)
        assert (part["PartsCount"], part["Body"].read()) == (3, piece)
    border = 0
    for piece in pieces[:-1]:
        border += len(piece)
        got = store_s3.get_object(**place, Range=f"bytes={border - 3}-{border + 2}")
        assert got["Body"].read() == whole[border - 3 : border + 3]


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_a_copy_lives_without_its_source(store_s3: Any, store_bucket: str, size: int) -> None:
    data = os.urandom(size)
    source = {"Bucket": store_bucket, "Key": "source + ü%"}
    store_s3.put_object(**source, Body=data, Metadata={"a": "1"})
    store_s3.copy_object(Bucket=store_bucket, Key="copy", CopySource=source)
    assert outcome(store_s3.copy_object, **source, CopySource=source) == "InvalidRequest"
    store_s3.put_object(**source, Body=b"replaced")
    got = store_s3.get_object(Bucket=store_bucket, Key="copy")
    assert (got["Body"].read(), got["Metadata"]) == (data, {"a": "1"})


class TestRaces:
    @pytest.mark.parametrize("size", [100, 300 * KIB])
    def test_one_of_many_creates(
        self, store: WholeStore, store_s3: Any, store_bucket: str, size: int
    ) -> None:
        before = store.blocks()
        bodies = [os.urandom(size) for _ in range(CLIENTS)]
        place = {"Bucket": store_bucket, "Key": "k"}

        def create(body: bytes) -> str:
            return outcome(store_s3.put_object, **place, Body=body, IfNoneMatch="*")

        with ThreadPoolExecutor(CLIENTS) as pool:
            outcomes = list(pool.map(create, bodies))
        assert outcomes.count("") == 1
        assert set(outcomes) <= {"", "PreconditionFailed", "ConditionalRequestConflict"}
        winner = bodies[outcomes.index("")]
        assert store_s3.get_object(**place)["Body"].read() == winner
        kept = 0 if size <= INLINE_BYTES_MAX else 1
        after = store.blocks()
        assert (after.used - before.used, after.reserved) == (kept, 0), "the losers' bytes go"

    def test_reads_during_overwrites_are_of_one_version(
        self, store_s3: Any, store_bucket: str
    ) -> None:
        versions = [bytes([number]) * (2 * MIB + number) for number in range(1, 7)]
        place = {"Bucket": store_bucket, "Key": "k"}
        store_s3.put_object(**place, Body=versions[0])

        def read(_: int) -> bytes:
            return bytes(store_s3.get_object(**place)["Body"].read())

        with ThreadPoolExecutor(4) as pool:
            reads = [pool.submit(read, number) for number in range(24)]
            for version in versions[1:]:
                store_s3.put_object(**place, Body=version)
            assert all(one.result() in versions for one in reads)
        assert read(0) == versions[-1]

    def test_completing_at_once_makes_one_object(self, store_s3: Any, store_bucket: str) -> None:
        place = {"Bucket": store_bucket, "Key": "k"}
        upload = store_s3.create_multipart_upload(**place)["UploadId"]
        body = os.urandom(MIB)
        part = store_s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=body)
        named = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}

        def complete(_: int) -> str:
            return outcome(
                store_s3.complete_multipart_upload,
                **place,
                UploadId=upload,
                MultipartUpload=named,
            )

        with ThreadPoolExecutor(CLIENTS) as pool:
            assert set(pool.map(complete, range(CLIENTS))) == {""}, "completing is idempotent"
        assert store_s3.get_object(**place)["Body"].read() == body


class TestConnections:
    def test_one_goes_on_after_every_kind_of_error(
        self, client: RawClient, store_bucket: str
    ) -> None:
        data = os.urandom(100 * KIB)
        assert client.put(f"/{store_bucket}/k", data).status == 200
        for path, headers, expected in [
            ("/k", {"If-Match": '"x"'}, (412, "PreconditionFailed")),
            ("/missing", {}, (404, "NoSuchKey")),
            ("/k", {"Range": "bytes=999999-"}, (416, "InvalidRange")),
            ("/k?torrent", {}, (404, "NoSuchKey")),
            ("?cors", {}, (404, "NoSuchCORSConfiguration")),
            ("?no-such-thing", {}, (501, "NotImplemented")),
            ("/k?versionId=none-of-ours", {}, (400, "InvalidArgument")),
        ]:
            client.send_head(client.signed("GET", f"/{store_bucket}{path}", headers))
            answer = client.answer()
            assert (answer.status, answer.code) == expected, path
            assert b"<ListBucketResult" not in answer.body
        client.send_head(client.signed("HEAD", f"/{store_bucket}/missing"))
        answer = client.answer(head_only=True)
        assert answer.status == 404
        assert client.get(f"/{store_bucket}/k").body == data

    def test_pipelined_requests_are_answered_in_order(
        self, client: RawClient, store_bucket: str
    ) -> None:
        bodies = {f"{number}": os.urandom(size) for number, size in enumerate((10, MIB, 0, 5000))}
        for key, body in bodies.items():
            assert client.put(f"/{store_bucket}/{key}", body).status == 200
        for key in bodies:
            client.send_head(client.signed("GET", f"/{store_bucket}/{key}"))
            client.send_head(client.signed("GET", f"/{store_bucket}/missing"))
        for body in bodies.values():
            assert client.answer().body == body
            assert client.answer().code == "NoSuchKey"

    @pytest.mark.parametrize("minutes", [-20, 20])
    def test_a_wrong_clock_is_told(
        self,
        client: RawClient,
        store_bucket: str,
        minutes: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: moment)
        request = client.signed("GET", f"/{store_bucket}/k")
        monkeypatch.undo()
        client.send_head(request)
        answer = client.answer()
        assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")
        assert client.get(f"/{store_bucket}/k").code == "NoSuchKey"
