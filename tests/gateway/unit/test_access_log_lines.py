"""Lines, names and spools of access logs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from craqen.gateway.access_logs import spool as spool_module
from craqen.gateway.access_logs.keys import day_of, object_key
from craqen.gateway.access_logs.line import Visit, render
from craqen.gateway.access_logs.operations import name_of
from craqen.gateway.access_logs.spool import Spool
from craqen.gateway.settings.logging import Logging

# What readers of such logs use, field by field (AWS's guide shows the like for Athena).
FIELDS = re.compile(r'("[^"]*"|\[[^\]]*\]|\S+)')

VISIT = Visit(
    "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be",
    "amzn-s3-demo-bucket1",
    1_549_411_238_000_000_000,
    "192.0.2.3",
    "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be",
    "3E57427F3EXAMPLE",
    "REST.GET.VERSIONING",
    b"",
    "GET /amzn-s3-demo-bucket1?versioning HTTP/1.1",
    200,
    "",
    113,
    None,
    7_900_000,
    None,
    "",
    "S3Console/0.4",
    "",
    "s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234=",
    "SigV4",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AuthHeader",
    "amzn-s3-demo-bucket1.s3.us-west-1.amazonaws.com",
    "TLSv1.2",
    "us-west-1",
)


def test_a_line_has_the_fields_of_the_published_example() -> None:
    owner = VISIT.bucket_owner
    assert render(VISIT) == (
        f"{owner} amzn-s3-demo-bucket1 [06/Feb/2019:00:00:38 +0000] 192.0.2.3 {owner} "
        '3E57427F3EXAMPLE REST.GET.VERSIONING - "GET /amzn-s3-demo-bucket1?versioning HTTP/1.1" '
        '200 - 113 - 7 - "-" "S3Console/0.4" - '
        "s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234= SigV4 "
        "ECDHE-RSA-AES128-GCM-SHA256 AuthHeader amzn-s3-demo-bucket1.s3.us-west-1.amazonaws.com "
        "TLSv1.2 - - us-west-1"
    )


@pytest.mark.parametrize("evil", ['a" b', "a\r\nb", "ü \x00", "x" * 10_000, "a] [b"])
def test_what_clients_send_begins_no_other_field(evil: str) -> None:
    visit = VISIT._replace(
        key=evil.encode(), request_line=evil, referer=evil, user_agent=evil, host=evil
    )
    line = render(visit)
    assert line.isascii()
    assert line.isprintable()
    assert len(FIELDS.findall(line)) == len(FIELDS.findall(render(VISIT)))
    assert len(line) < 60_000


@pytest.mark.parametrize(
    ("operation", "method", "name"),
    [
        ("GetObject", "GET", "REST.GET.OBJECT"),
        ("ListObjectsV2", "GET", "REST.GET.BUCKET"),
        ("CopyObject", "PUT", "REST.COPY.OBJECT"),
        ("DeleteObjects", "POST", "REST.POST.MULTI_OBJECT_DELETE"),
        ("UploadPart", "PUT", "REST.PUT.PART"),
        ("GetBucketVersioning", "GET", "REST.GET.VERSIONING"),
        ("PutBucketLifecycleConfiguration", "PUT", "REST.PUT.LIFECYCLE"),
        ("GetBucketRequestPayment", "GET", "REST.GET.REQUEST_PAYMENT"),
        ("GetPublicAccessBlock", "GET", "REST.GET.PUBLIC_ACCESS_BLOCK"),
        ("DeleteBucketOwnershipControls", "DELETE", "REST.DELETE.OWNERSHIP_CONTROLS"),
        ("GetObjectLockConfiguration", "GET", "REST.GET.OBJECT_LOCK"),
        ("", "PATCH", "REST.PATCH.UNKNOWN"),
    ],
)
def test_names_of_operations(operation: str, method: str, name: str) -> None:
    assert name_of(operation, method) == name


def test_names_of_objects() -> None:
    where = {"day": "2019-02-06", "delivered_seconds": 1_549_500_000.0, "unique": "u"}
    simple = object_key(Logging("logs", "p/"), "bucket", "1", "eu", **where)  # type: ignore[arg-type]
    assert re.fullmatch(rb"p/2019-02-07-00-40-00-[0-9A-F]{16}", simple)
    partitioned = Logging("logs", "p/", key_format="partitioned", date_source="EventTime")
    by_event = object_key(partitioned, "bucket", "000000000001", "eu", **where)  # type: ignore[arg-type]
    assert by_event.startswith(b"p/000000000001/eu/bucket/2019/02/06/2019-02-06-00-00-00-")
    partitioned = Logging("logs", "", key_format="partitioned", date_source="DeliveryTime")
    by_delivery = object_key(partitioned, "bucket", "000000000001", "eu", **where)  # type: ignore[arg-type]
    assert by_delivery.startswith(b"000000000001/eu/bucket/2019/02/07/2019-02-07-00-40-00-")
    assert day_of(render(VISIT).encode()) == "2019-02-06"
    assert day_of(b"cut") == ""


def test_what_a_dead_worker_left_is_taken_by_another(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    dead, living = Spool(folder), Spool(folder)
    assert dead.append(b"one\n")
    assert living.append(b"two\n")
    assert [one.name for one in living.take()] == []  # the first one lives still
    assert dead._open is not None
    os.close(dead._open.descriptor)  # as the kernel does when it dies
    [left] = living.take()
    assert left.read()[0] == b"one\n"
    assert list(Spool(folder).take()) == []  # it is being delivered, and the other one lives
    left.remove()
    left.close()
    living.end_file()
    [own] = living.take()
    assert own.read()[0] == b"two\n"
    own.close()


def test_a_spool_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "FILE_BYTES_MAX", 10)
    monkeypatch.setattr(spool_module, "SPOOL_BYTES_MAX", 40)
    spool = Spool(tmp_path / "logs")
    assert [spool.append(b"0123456789\n") for _ in range(5)] == [True, True, True, False, False]
    for file in spool.take():
        file.remove()
        file.close()
    assert spool.append(b"0123456789\n")
