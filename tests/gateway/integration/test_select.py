"""SelectObjectContent by boto3: formats in and out, compression, ranges, errors, large results."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError

from craqen.gateway.handlers.select import QUERIES_MAX
from craqen.gateway.select.frames import job_bytes
from craqen.gateway.select.job import SelectJob

pytest.importorskip("duckdb")

CSV = b'id,name,price\n1,apple,3.5\n2,pear,10\n3,"a, b",7\n4,,1\n'
JSON = b'{"a":1,"b":{"c":["x","y"]}}\n{"a":20,"b":{"c":[]}}\n{"a":"z"}\n'
WITH_HEADER = {"CSV": {"FileHeaderInfo": "USE"}}


def select(
    s3: Any, bucket: str, expression: str, source: Any, target: Any = None, **more: Any
) -> bytes:
    answer = s3.select_object_content(
        Bucket=bucket,
        Key="k",
        Expression=expression,
        ExpressionType="SQL",
        InputSerialization=source,
        OutputSerialization=target or {"JSON": {}},
        **more,
    )
    events = list(answer["Payload"])
    assert list(events[-1]) == ["End"]
    found = b"".join(event["Records"]["Payload"] for event in events if "Records" in event)
    stats = next(event["Stats"]["Details"] for event in events if "Stats" in event)
    assert stats["BytesReturned"] == len(found)
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("SELECT s.name FROM S3Object s WHERE s.price > 5", [{"name": "pear"}, {"name": "a, b"}]),
        ("SELECT COUNT(*), SUM(price) AS total FROM S3Object", [{"_1": 4, "total": 21.5}]),
        ("SELECT UPPER(name) AS n FROM S3Object WHERE name LIKE '%a%' LIMIT 1", [{"n": "APPLE"}]),
        ("SELECT id FROM S3Object WHERE name IS NULL", [{"id": "4"}]),
        (
            "SELECT id FROM S3Object WHERE id IN (1, '3') AND NOT price BETWEEN 5 AND 9",
            [{"id": "1"}],
        ),
        ("SELECT SUBSTRING(name FROM 2 FOR 2) AS x FROM S3Object LIMIT 1", [{"x": "pp"}]),
        (
            "SELECT CASE WHEN CAST(price AS FLOAT) >= 7 THEN 'dear' ELSE 'cheap' END AS c "
            "FROM S3Object",
            [{"c": "cheap"}, {"c": "dear"}, {"c": "dear"}, {"c": "cheap"}],
        ),
        (
            "SELECT DATE_ADD(day, 1, TO_TIMESTAMP('2020-02-28T23:00:00-02:00')) AS t, "
            "EXTRACT(YEAR FROM TO_TIMESTAMP('2020-02-28T')) AS y FROM S3Object LIMIT 1",
            [{"t": "2020-03-01T01:00:00Z", "y": 2020}],
        ),
    ],
)
def test_queries_of_csv(s3: Any, bucket: str, expression: str, expected: list[Any]) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=CSV)
    found = select(s3, bucket, expression, WITH_HEADER)
    assert [json.loads(line) for line in found.splitlines()] == expected


def test_csv_as_it_is_told(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"a;'x;y';1|# no|b;;2|")
    source = {
        "CSV": {
            "FieldDelimiter": ";",
            "RecordDelimiter": "|",
            "QuoteCharacter": "'",
            "Comments": "#",
        }
    }
    target = {"CSV": {"QuoteFields": "ALWAYS", "FieldDelimiter": "\t", "RecordDelimiter": "%|"}}
    found = select(s3, bucket, "SELECT _3, _2 FROM S3Object", source, target)
    assert found == b'"1"\t"x;y"%|"2"\t""%|'


@pytest.mark.parametrize("kind", ["LINES", "DOCUMENT"])
def test_queries_of_json(s3: Any, bucket: str, kind: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=JSON)
    source = {"JSON": {"Type": kind}}

    def rows(expression: str) -> list[Any]:
        return [json.loads(line) for line in select(s3, bucket, expression, source).splitlines()]

    assert rows("SELECT * FROM S3Object[*]") == [json.loads(line) for line in JSON.splitlines()]
    assert rows("SELECT s.a, s.b.c[0] AS q FROM S3Object[*] s WHERE s.a > 0") == [
        {"a": 1, "q": "x"},
        {"a": 20},
    ]
    assert rows("SELECT x FROM S3Object[*].b.c[*] x") == [{"x": "x"}, {"x": "y"}]
    assert rows("SELECT COUNT(*) AS n FROM S3Object s WHERE s.b IS MISSING") == [{"n": 1}]


def test_json_that_comes_faster_than_a_pipe_takes_it() -> None:
    """The process gets more at once than fits between its two threads."""
    record = b'{"a": 1, "b": "' + b"x" * 100 + b'"}\n'
    data = record * 20_000
    job = SelectJob("SELECT SUM(s.a) AS n FROM S3Object s", "json", json_lines=True)
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(ours.sendall, job_bytes(job) + data)
        process = subprocess.Popen(
            [sys.executable, "-m", "craqen.gateway.select.worker"],
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
        )
        theirs.close()
        try:
            sending.result(60)
            ours.shutdown(socket.SHUT_WR)
            found, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert b'{"n":20000}' in found


def test_queries_of_parquet(s3: Any, bucket: str, tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "t.parquet"
    duckdb.sql(
        "COPY (SELECT range AS a, 'x' || range AS b, TIMESTAMPTZ '2020-01-01 10:00:00+02' AS t "
        f"FROM range(5)) TO '{path}' (FORMAT parquet)"
    )
    s3.put_object(Bucket=bucket, Key="k", Body=path.read_bytes())
    found = select(
        s3, bucket, "SELECT b, t FROM S3Object s WHERE s.a >= 3", {"Parquet": {}}, {"CSV": {}}
    )
    assert found == b"x3,2020-01-01T08:00:00Z\nx4,2020-01-01T08:00:00Z\n"


@pytest.mark.parametrize(("name", "pack"), [("GZIP", gzip.compress), ("BZIP2", bz2.compress)])
def test_compressed_objects(s3: Any, bucket: str, name: str, pack: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=pack(CSV))
    source = {**WITH_HEADER, "CompressionType": name}
    assert select(s3, bucket, "SELECT COUNT(*) AS n FROM S3Object", source) == b'{"n":4}\n'
    s3.put_object(Bucket=bucket, Key="k", Body=pack(CSV)[:-5])
    with pytest.raises(ClientError, match="TruncatedInput"):
        select(s3, bucket, "SELECT COUNT(*) FROM S3Object", source)


def test_a_large_result_comes_whole_and_in_order(s3: Any, bucket: str) -> None:
    lines = [b"%d,%s" % (number, os.urandom(20).hex().encode()) for number in range(120_000)]
    data = b"\n".join(lines) + b"\n"
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    found = select(
        s3, bucket, "SELECT * FROM S3Object", {"CSV": {}}, {"CSV": {}},
        RequestProgress={"Enabled": True},
    )  # fmt: skip
    assert found == data


def test_scan_ranges(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=CSV)
    found = select(
        s3, bucket, "SELECT s.id FROM S3Object s", WITH_HEADER, {"CSV": {}},
        ScanRange={"Start": 15, "End": 30},
    )  # fmt: skip
    assert found == b"2\n"
    last = {"End": 12}  # alone: so many bytes at the end
    found = select(s3, bucket, "SELECT s.id FROM S3Object s", WITH_HEADER, {"CSV": {}},
                   ScanRange=last)  # fmt: skip
    assert found == b"4\n"
    with pytest.raises(ClientError, match="InvalidScanRange"):
        select(s3, bucket, "SELECT * FROM S3Object", WITH_HEADER, ScanRange={"Start": 1000})


def test_scan_ranges_of_parquet_partition_the_rows(s3: Any, bucket: str, tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "t.parquet"
    duckdb.sql(
        "COPY (SELECT range AS a, hash(range) AS b FROM range(10000)) "
        f"TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)"
    )
    data = path.read_bytes()
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    step = len(data) // 3 + 1
    pieces = [
        select(s3, bucket, "SELECT a FROM S3Object", {"Parquet": {}}, {"CSV": {}},
               ScanRange={"Start": start, "End": start + step - 1})
        for start in range(0, len(data), step)
    ]  # fmt: skip
    assert b"".join(pieces) == b"".join(b"%d\n" % number for number in range(10000))
    assert all(pieces)


def test_more_queries_than_run_at_once_wait_for_their_turn(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=CSV)
    with ThreadPoolExecutor(QUERIES_MAX * 2) as pool:
        found = pool.map(
            lambda _: select(s3, bucket, "SELECT COUNT(*) AS n FROM S3Object", WITH_HEADER),
            range(QUERIES_MAX * 2),
        )
        assert set(found) == {b'{"n":4}\n'}


@pytest.mark.parametrize(
    ("expression", "source", "code"),
    [
        ("SELECT", WITH_HEADER, "ParseUnexpectedToken"),
        ("SELECT nobody FROM S3Object", WITH_HEADER, "MissingHeaders"),
        ("SELECT CAST(name AS INT) FROM S3Object", WITH_HEADER, "CastFailed"),
        ("SELECT * FROM S3Object", {"Parquet": {}}, "ParquetParsingError"),
        ("SELECT * FROM S3Object", {"JSON": {"Type": "LINES"}}, "JSONParsingError"),
        ("SELECT * FROM S3Object", {"CSV": {}, "JSON": {}}, "InvalidDataSource"),
        ("SELECT * FROM S3Object", {**WITH_HEADER, "CompressionType": "GZIP"},
         "InvalidCompressionFormat"),
    ],
)  # fmt: skip
def test_errors(s3: Any, bucket: str, expression: str, source: Any, code: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=CSV)
    with pytest.raises(ClientError) as caught:
        select(s3, bucket, expression, source)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_error_after_the_first_records_ends_the_stream(s3: Any, bucket: str) -> None:
    lines = b"".join(b"%d\n" % number for number in range(1_000_000)) + b"no number\n"
    s3.put_object(Bucket=bucket, Key="k", Body=lines)
    with pytest.raises(EventStreamError, match="CastFailed"):
        select(s3, bucket, "SELECT CAST(_1 AS INT) AS n FROM S3Object", {"CSV": {}})


def test_a_missing_object(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError, match="NoSuchKey"):
        select(s3, bucket, "SELECT * FROM S3Object", WITH_HEADER)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
