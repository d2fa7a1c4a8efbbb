"""Truth tables of ranges, part numbers and conditional requests."""

from __future__ import annotations

import pytest

from craqen.core.meta.records import NO_CONDITIONS, WriteConditions
from craqen.gateway.conditions import (
    check_copy_source,
    delete_conditions,
    is_not_modified,
    range_applies,
    write_conditions,
)
from craqen.gateway.copy_source import CopySource, parse_copy_source
from craqen.gateway.errors import S3Error
from craqen.gateway.ranges import (
    ByteRange,
    parse_copy_range,
    parse_part_number,
    parse_range,
    part_range,
    requested_range,
)
from craqen.gateway.times import http_date, iso_milliseconds, parse_http_date, parse_time_ns


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=0-9", 10, (0, 10)),
        ("bytes=2-5", 10, (2, 4)),
        ("bytes=5-", 10, (5, 5)),
        ("bytes=9-100", 10, (9, 1)),
        ("bytes=-3", 10, (7, 3)),
        ("bytes=-100", 10, (0, 10)),
        ("bytes=0-99999999999999999999", 10, (0, 10)),
        # makes no sense, or is more than one: all of it
        ("bytes=5-2", 10, None),
        ("bytes=-", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=1-2,4-5", 10, None),
        ("bytes 1-2", 10, None),
        ("items=0-1", 10, None),
        ("", 10, None),
        ("bytes=0-" + "9" * 5000, 10, None),
        ("bytes=٠-٣", 10, None),
        # outside
        ("bytes=10-", 10, "InvalidRange"),
        ("bytes=10-20", 10, "InvalidRange"),
        ("bytes=-0", 10, "InvalidRange"),
        ("bytes=0-", 0, "InvalidRange"),
        ("bytes=0-0", 0, "InvalidRange"),
        ("bytes=-5", 0, "InvalidRange"),
    ],
)
def test_range(header: str, size: int, expected: tuple[int, int] | str | None) -> None:
    if isinstance(expected, str):
        with pytest.raises(S3Error) as caught:
            parse_range(header, size)
        assert (caught.value.code, caught.value.status) == (expected, 416)
        assert caught.value.headers["Content-Range"] == f"bytes */{size}"
        assert caught.value.fields["ActualObjectSize"] == str(size)
    else:
        assert parse_range(header, size) == expected


def test_content_range() -> None:
    assert ByteRange(2, 4).content_range(10) == "bytes 2-5/10"


@pytest.mark.parametrize("text", ["0", "10001", "-1", "", "a", "1.5", "٣", "9" * 30])
def test_part_numbers_that_are_none(text: str) -> None:
    with pytest.raises(S3Error, match="Part number must be"):
        parse_part_number(text)


@pytest.mark.parametrize(
    ("sizes", "number", "expected"),
    [
        ([], 1, (0, 12)),
        ([], 2, None),
        ([5, 5, 2], 1, (0, 5)),
        ([5, 5, 2], 3, (10, 2)),
        ([5, 5, 2], 4, None),
    ],
)
def test_part_range(sizes: list[int], number: int, expected: tuple[int, int] | None) -> None:
    if expected is None:
        with pytest.raises(S3Error) as caught:
            part_range(sizes, number, 12)
        assert (caught.value.code, caught.value.status) == ("InvalidPart", 400)
    else:
        assert part_range(sizes, number, 12) == expected


def test_requested_range() -> None:
    assert requested_range(None, None, 12, []) is None
    assert requested_range("bytes=1-2", None, 12, []) == (1, 2)
    assert requested_range(None, "2", 12, [5, 7]) == (5, 7)
    with pytest.raises(S3Error, match="Cannot specify both"):
        requested_range("bytes=1-2", "2", 12, [5, 7])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=3-3", (3, 1)),
        ("bytes=3-10", "InvalidRange"),
        ("bytes=5-2", "InvalidArgument"),
        ("bytes=5-", "InvalidArgument"),
        ("bytes=-5", "InvalidArgument"),
        ("0-9", "InvalidArgument"),
        ("bytes=0-1,3-4", "InvalidArgument"),
    ],
)
def test_copy_range(header: str, expected: tuple[int, int] | str) -> None:
    if isinstance(expected, str):
        with pytest.raises(S3Error) as caught:
            parse_copy_range(header, 10)
        assert caught.value.code == expected
    else:
        assert parse_copy_range(header, 10) == expected


MTIME_NS = 1_700_000_000_999_999_999
AT = http_date(1_700_000_000)
BEFORE = http_date(1_699_999_999)
AFTER = http_date(1_700_000_001)
MATCH, UNMODIFIED = "if-match", "if-unmodified-since"
NONE_MATCH, MODIFIED = "if-none-match", "if-modified-since"

READ_TABLE = [
    ({}, "200"),
    ({MATCH: '"etag"'}, "200"),
    ({MATCH: "etag"}, "200"),
    ({MATCH: '"other", "etag"'}, "200"),
    ({MATCH: "*"}, "200"),
    ({MATCH: '"other"'}, "If-Match"),
    ({MATCH: ""}, "If-Match"),
    ({NONE_MATCH: '"etag"'}, "304"),
    ({NONE_MATCH: 'W/"etag"'}, "304"),
    ({NONE_MATCH: "*"}, "304"),
    ({NONE_MATCH: '"other"'}, "200"),
    ({MODIFIED: BEFORE}, "200"),
    ({MODIFIED: AT}, "304"),
    ({MODIFIED: AFTER}, "304"),
    ({MODIFIED: "no date"}, "200"),
    ({UNMODIFIED: BEFORE}, "If-Unmodified-Since"),
    ({UNMODIFIED: AT}, "200"),
    ({UNMODIFIED: AFTER}, "200"),
    ({UNMODIFIED: "no date"}, "200"),
    # the ETag beats the date
    ({MATCH: '"etag"', UNMODIFIED: BEFORE}, "200"),
    ({MATCH: '"other"', UNMODIFIED: AFTER}, "If-Match"),
    ({NONE_MATCH: '"etag"', MODIFIED: BEFORE}, "304"),
    ({NONE_MATCH: '"other"', MODIFIED: AFTER}, "200"),
    # 412 before 304
    ({MATCH: '"other"', NONE_MATCH: '"etag"'}, "If-Match"),
    ({UNMODIFIED: BEFORE, NONE_MATCH: '"etag"'}, "If-Unmodified-Since"),
    ({MATCH: '"etag"', NONE_MATCH: '"etag"'}, "304"),
]


@pytest.mark.parametrize(("headers", "outcome"), READ_TABLE)
def test_read_conditions(headers: dict[str, str], outcome: str) -> None:
    if outcome in ("200", "304"):
        assert is_not_modified(headers, "etag", MTIME_NS) is (outcome == "304")
    else:
        with pytest.raises(S3Error) as caught:
            is_not_modified(headers, "etag", MTIME_NS)
        assert caught.value.status == 412
        assert caught.value.fields["Condition"] == outcome


@pytest.mark.parametrize(("headers", "outcome"), READ_TABLE)
def test_copy_source_conditions(headers: dict[str, str], outcome: str) -> None:
    """The same table; what a read answers by 304 a copy refuses."""
    source = {f"x-amz-copy-source-{name}": value for name, value in headers.items()}
    if outcome == "200":
        check_copy_source(source, "etag", MTIME_NS)
    else:
        with pytest.raises(S3Error) as caught:
            check_copy_source(source, "etag", MTIME_NS)
        assert caught.value.status == 412
        assert caught.value.fields["Condition"].startswith("x-amz-copy-source-If-")
    check_copy_source(headers, "etag", MTIME_NS)  # plain ones are the destination's


@pytest.mark.parametrize(
    ("value", "applies"),
    [
        (None, True),
        ('"etag"', True),
        ('"other"', False),
        ('W/"etag"', False),
        (AT, True),
        (BEFORE, False),
    ],
)
def test_if_range(value: str | None, applies: bool) -> None:
    headers = {} if value is None else {"if-range": value}
    assert range_applies(headers, "etag", MTIME_NS) is applies


def test_write_conditions() -> None:
    assert write_conditions({}) is NO_CONDITIONS
    assert write_conditions({NONE_MATCH: "*"}) == WriteConditions(if_none_match=("*",))
    assert write_conditions({MATCH: '"a", b'}) == WriteConditions(if_match=("a", "b"))
    for name in (MODIFIED, UNMODIFIED):
        with pytest.raises(S3Error) as caught:
            write_conditions({name: AT})
        assert caught.value.status == 501


def test_delete_conditions() -> None:
    assert delete_conditions({}) is NO_CONDITIONS
    headers = {
        MATCH: "*",
        "x-amz-if-match-size": "12",
        "x-amz-if-match-last-modified-time": AT,
    }
    assert delete_conditions(headers) == WriteConditions(
        if_match=("*",), if_match_size=12, if_match_mtime_ns=1_700_000_000_000_000_000
    )
    for name, value in (
        ("x-amz-if-match-size", "-1"),
        ("x-amz-if-match-size", "1e3"),
        ("x-amz-if-match-last-modified-time", "soon"),
    ):
        with pytest.raises(S3Error) as caught:
            delete_conditions({name: value})
        assert caught.value.code == "InvalidArgument"
    with pytest.raises(S3Error, match="NotImplemented"):
        delete_conditions({NONE_MATCH: "*"})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 784_111_777),
        ("", None),
        ("soon", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("x" * 10_000, None),
        ("Sun, 06 Nov 99999999999 08:49:37 GMT", None),
    ],
)
def test_http_dates(text: str, seconds: int | None) -> None:
    assert parse_http_date(text) == seconds


def test_times_round_trip() -> None:
    assert http_date(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert iso_milliseconds(784_111_777_123_999_999) == "1994-11-06T08:49:37.123Z"
    assert iso_milliseconds(0) == "1970-01-01T00:00:00.000Z"
    for text in ("1994-11-06T08:49:37.123Z", "1994-11-06T09:49:37.123+01:00"):
        assert parse_time_ns(text) == 784_111_777_123_000_000
    assert parse_time_ns("1994-11-06T08:49:37") == 784_111_777_000_000_000
    assert parse_time_ns("soon") is None
    assert parse_time_ns("9" * 100) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/bucket/key", ("bucket", b"key", "")),
        ("bucket/a/b", ("bucket", b"a/b", "")),
        ("bucket//a", ("bucket", b"/a", "")),
        ("bucket/a%20b+c%2B", ("bucket", b"a b+c+", "")),
        ("bucket%2Fkey", ("bucket", b"key", "")),
        ("bucket/%C3%A9", ("bucket", "é".encode(), "")),
        ("bucket/é", ("bucket", "é".encode(), "")),
        ("bucket/100%", ("bucket", b"100%", "")),
        ("bucket/100%/a%20b", ("bucket", b"100%/a%20b", "")),
        ("bucket/key?versionId=null", ("bucket", b"key", "null")),
        ("bucket/a%3FversionId=b", ("bucket", b"a?versionId=b", "")),
    ],
)
def test_copy_source(value: str, expected: tuple[str, bytes, str]) -> None:
    assert parse_copy_source(value) == CopySource(*expected)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "InvalidArgument"),
        ("/", "InvalidArgument"),
        ("bucket", "InvalidArgument"),
        ("bucket/", "InvalidArgument"),
        ("//key", "InvalidArgument"),
        ("Bad_Bucket/key", "InvalidBucketName"),
        ("bucket/" + "k" * 1025, "KeyTooLongError"),
        ("bucket/%ff", "InvalidURI"),
        ("arn:aws:s3:::accesspoint/x/object/key", "NotImplemented"),
    ],
)
def test_copy_source_refused(value: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse_copy_source(value)
    assert caught.value.code == code
