"""Lifecycle rules at the S3 door: what answers tell of them, and what a whole store does by them,
keepers that are killed included. Its days are seconds."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ClientError

from craqen.core.bench.measure import command_line
from craqen.core.lifecycle.records import ASPECT
from craqen.core.limits import MIB
from craqen.tests.gateway.integration.conftest import make_bucket
from craqen.tests.gateway.integration.running_gateway import WAIT_SECONDS, Gateway, wait_until
from craqen.tests.gateway.integration.whole_store import WholeStore, whole_store

DAY_SECONDS = 2
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FUTURE = datetime(2090, 1, 1, tzinfo=UTC)


def rule(name: str, prefix: str = "", **members: Any) -> dict[str, Any]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, **members}


def put_rules(s3: Any, bucket: str, *rules: dict[str, Any]) -> None:
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)}
    )


def keys(s3: Any, bucket: str) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


# x-amz-expiration


def told(answer: dict[str, Any]) -> tuple[datetime, str] | None:
    text = answer.get("Expiration")
    if text is None:
        assert "x-amz-expiration" not in answer["ResponseMetadata"]["HTTPHeaders"]
        return None
    match = re.fullmatch(r'expiry-date="([^"]+)", rule-id="([^"]+)"', text)
    assert match is not None, text
    date = datetime.strptime(match[1], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    return date, match[2]


def midnight_after(moment: datetime, days: int) -> datetime:
    reached = moment + timedelta(days=days + 1)
    return reached.replace(hour=0, minute=0, second=0, microsecond=0)


def test_every_answer_about_an_object_tells_when_it_ends(s3: Any, bucket: str) -> None:
    assert told(s3.put_object(Bucket=bucket, Key="logs/a")) is None
    put_rules(s3, bucket, rule("old logs/ü", "logs/", Expiration={"Days": 3}))
    expected_id = "old%20logs%2F%C3%BC"
    made = s3.put_object(Bucket=bucket, Key="logs/a", Body=b"x")
    head = s3.head_object(Bucket=bucket, Key="logs/a")
    expected = midnight_after(head["LastModified"], 3), expected_id
    assert told(made) == told(head) == expected
    assert told(s3.get_object(Bucket=bucket, Key="logs/a")) == expected
    part = s3.get_object(Bucket=bucket, Key="logs/a", Range="bytes=0-0")
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert told(part) == expected
    source = f"{bucket}/logs/a"
    copied = s3.copy_object(Bucket=bucket, Key="logs/b", CopySource=source)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="logs/c")["UploadId"]
    of = {"Bucket": bucket, "Key": "logs/c", "UploadId": upload}
    tag = s3.upload_part(**of, PartNumber=1, Body=b"x")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    completed = s3.complete_multipart_upload(**of, MultipartUpload=parts)
    form = s3.generate_presigned_post(bucket, "logs/d")
    fields = {**form["fields"], "file": ("d", b"x")}
    with urllib3.PoolManager() as pool:
        posted = pool.request("POST", form["url"], fields=fields)
    assert posted.status == 204
    days = re.findall(r'expiry-date="(.*) 00:00:00 GMT"', posted.headers["x-amz-expiration"])
    assert len(days) == 1
    for name, answer in (("logs/b", copied), ("logs/c", completed)):
        since = s3.head_object(Bucket=bucket, Key=name)["LastModified"]
        assert told(answer) == (midnight_after(since, 3), expected_id)
    assert told(s3.put_object(Bucket=bucket, Key="other")) is None
    assert told(s3.head_object(Bucket=bucket, Key="other")) is None


def test_the_header_knows_dates_tags_and_sizes(s3: Any, bucket: str) -> None:
    put_rules(
        s3,
        bucket,
        rule("late", Expiration={"Date": FUTURE}),
        {**rule("off", Expiration={"Days": 1}), "Status": "Disabled"},
        {
            "ID": "tagged", "Status": "Enabled", "Expiration": {"Days": 9},
            "Filter": {"And": {"Tags": [{"Key": "a", "Value": "1"}], "ObjectSizeLessThan": 3}},
        },
    )  # fmt: skip
    since = datetime.now(UTC)
    plain = s3.put_object(Bucket=bucket, Key="k", Body=b"xx")
    assert told(plain) == (FUTURE, "late")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    found = told(s3.head_object(Bucket=bucket, Key="k"))
    assert found is not None
    assert found[1] == "tagged"
    assert since + timedelta(days=9) < found[0] <= since + timedelta(days=11)
    large = s3.put_object(Bucket=bucket, Key="k", Body=b"xxx", Tagging="a=1")
    assert told(large) == (FUTURE, "late")


def test_of_versions_only_the_current_one_has_an_end_told(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    noncurrent = {"NoncurrentDays": 1}
    put_rules(s3, bucket, rule("r", Expiration={"Days": 1}, NoncurrentVersionExpiration=noncurrent))
    old = s3.put_object(Bucket=bucket, Key="k")
    assert told(old) is not None
    s3.put_object(Bucket=bucket, Key="k")
    assert told(s3.head_object(Bucket=bucket, Key="k")) is not None
    assert told(s3.head_object(Bucket=bucket, Key="k", VersionId=old["VersionId"])) is None


def test_rules_that_are_damaged_hide_no_object(gateway: Gateway, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"whole")
    gateway.call(gateway.meta.set_bucket_setting(bucket, ASPECT, b"\xc1"))
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert answer["Body"].read() == b"whole"
    assert told(answer) is None
    with pytest.raises(ClientError, match="damaged"):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)


# A whole store.


@pytest.fixture(scope="module")
def short_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStore]:
    """A store whose days are short."""
    options = [
        f"CRAQEN_LIFECYCLE_DAY_SECONDS={DAY_SECONDS}",
        "CRAQEN_LIFECYCLE_INTERVAL_SECONDS=0.2",
        "CRAQEN_CLUSTER_LEASE_SECONDS=1",
    ]
    with whole_store(tmp_path_factory.mktemp("short"), options=options) as running:
        yield running


@pytest.fixture(scope="module")
def short_s3(short_days: WholeStore) -> Iterator[Any]:
    client = short_days.client()
    yield client
    client.close()


@pytest.fixture
def short_bucket(short_s3: Any) -> str:
    return make_bucket(short_s3)


def eventually(state: Callable[[], Any], expected: Any, seconds: float = WAIT_SECONDS) -> None:
    """Wait until *state* is *expected*."""
    seen: Any = None

    def reached() -> bool:
        nonlocal seen
        seen = state()
        return bool(seen == expected)

    try:
        wait_until(reached, seconds)
    except AssertionError:
        assert seen == expected  # says what it is instead
        raise


def test_objects_end_when_their_days_are_over(short_s3: Any, short_bucket: str) -> None:
    s3, bucket = short_s3, short_bucket
    put_rules(s3, bucket, rule("r", "logs/", Expiration={"Days": 1}))
    for key in ("logs/small", "logs/large", "kept"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * (MIB if "large" in key else 3))
    began = time.monotonic()
    answer = s3.get_object(Bucket=bucket, Key="logs/large")
    first = answer["Body"].read(1000)
    eventually(lambda: keys(s3, bucket), ["kept"])
    assert time.monotonic() - began > DAY_SECONDS / 2
    # Whoever reads it goes on undisturbed.
    assert len(first + answer["Body"].read()) == MIB
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="logs/large")


def test_versions_markers_locks_tags_and_uploads(short_s3: Any) -> None:
    s3 = short_s3
    bucket = "locked-and-versioned"
    region = s3.meta.region_name
    s3.create_bucket(
        Bucket=bucket,
        CreateBucketConfiguration={"LocationConstraint": region},
        ObjectLockEnabledForBucket=True,
    )
    for name, tags in (("free", "end=yes"), ("held", "end=yes"), ("other", "end=no")):
        made = s3.put_object(Bucket=bucket, Key=f"{name}/k", Body=b"old", Tagging=tags)
        if name == "held":
            s3.put_object_legal_hold(
                Bucket=bucket,
                Key=f"{name}/k",
                VersionId=made["VersionId"],
                LegalHold={"Status": "ON"},
            )
            held = made["VersionId"]
    s3.create_multipart_upload(Bucket=bucket, Key="free/upload")
    put_rules(
        s3,
        bucket,
        {
            "ID": "tagged", "Status": "Enabled", "Expiration": {"Days": 1},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
            "Filter": {"Tag": {"Key": "end", "Value": "yes"}},
        },
        rule("markers", Expiration={"ExpiredObjectDeleteMarker": True}),
        rule("uploads", AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1}),
    )  # fmt: skip

    def shown() -> list[str]:
        page = s3.list_object_versions(Bucket=bucket)
        found = [one["Key"] for one in page.get("Versions", [])]
        return found + [f"{one['Key']}!" for one in page.get("DeleteMarkers", [])]

    eventually(shown, ["held/k", "other/k", "held/k!"])
    eventually(lambda: s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []), [])
    s3.put_object_legal_hold(
        Bucket=bucket, Key="held/k", VersionId=held, LegalHold={"Status": "OFF"}
    )
    eventually(shown, ["other/k"])
    assert keys(s3, bucket) == ["other/k"]


def test_a_killed_keeper_is_started_again_and_goes_on(
    short_days: WholeStore, short_s3: Any, short_bucket: str
) -> None:
    (keeper,) = _keepers(short_days)
    os.kill(keeper, signal.SIGKILL)
    put_rules(short_s3, short_bucket, rule("r", Expiration={"Date": PAST}))
    short_s3.put_object(Bucket=short_bucket, Key="k")
    # A process has to start, and to find out that the one before it is gone.
    eventually(lambda: keys(short_s3, short_bucket), [], 3 * WAIT_SECONDS)
    (another,) = _keepers(short_days)
    assert another != keeper


def _keepers(store: WholeStore) -> list[int]:
    process_id = store.local.process_id
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(word) for word in text.split() if " keeper " in command_line(int(word))]
