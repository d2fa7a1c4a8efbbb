"""The language of S3 Select: what is understood, what is refused, and what the engine is given."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.gateway.select import event_stream
from craqen.gateway.select.compiler import Source, compile_query
from craqen.gateway.select.errors import SelectError
from craqen.gateway.select.job import CsvInput, SelectJob
from craqen.gateway.select.parser import DEPTH_MAX, EXPRESSION_BYTES_MAX, parse
from craqen.gateway.select.streams import (
    PIECE_BYTES,
    RecordEnds,
    ScanRange,
    decompressor,
    first_record,
)
from craqen.gateway.select.syntax import Binary, Literal, LiteralKind, Path, Step, Unary
from craqen.gateway.select.time_patterns import time_pieces

CSV = Source("rows", "csv", ["id", "Name", ""])


def code_of(expression: str) -> str:
    with pytest.raises(SelectError) as caught:
        compile_query(parse(expression), CSV)
    return caught.value.code


def test_precedence() -> None:
    condition = parse("SELECT * FROM S3Object WHERE NOT a = 1 OR b = 2 + 3 * 4 AND c").condition
    one, two, three, four = (Literal(LiteralKind.NUMBER, text) for text in "1234")
    a, b, c = (Path((Step(name),)) for name in "abc")
    assert condition == Binary(
        "OR",
        Unary("NOT", Binary("=", a, one)),
        Binary("AND", Binary("=", b, Binary("+", two, Binary("*", three, four))), c),
    )


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("", "ParseExpectedKeyword"),
        ("DROP TABLE x", "ParseExpectedKeyword"),
        ("SELECT * FROM rows", "ParseExpectedIdentForAlias"),
        ("SELECT * FROM S3Object; SELECT 1", "LexerInvalidChar"),
        ("SELECT * FROM S3Object WHERE a = 'x", "LexerInvalidChar"),
        ("SELECT * FROM S3Object -- comment", "ParseUnexpectedToken"),
        ("SELECT * FROM S3Object LIMIT 1.5", "ParseExpectedNumber"),
        ("SELECT * FROM S3Object, S3Object", "ParseUnexpectedToken"),
        ("SELECT read_text('/etc/passwd') FROM S3Object", "UnsupportedFunction"),
        ("SELECT CAST(a AS BLOB) FROM S3Object", "ParseExpectedTypeName"),
        ("SELECT (SELECT 1) FROM S3Object", "ParseUnexpectedToken"),
        ("SELECT COUNT(*), id FROM S3Object", "UnsupportedSqlStructure"),
        ("SELECT SUM(COUNT(id)) FROM S3Object", "UnsupportedSqlStructure"),
        ("SELECT id FROM S3Object WHERE COUNT(*) > 1", "UnsupportedSqlStructure"),
        ("SELECT nobody FROM S3Object", "MissingHeaders"),
        ('SELECT "name" FROM S3Object', "MissingHeaders"),
        ("SELECT _4 FROM S3Object", "InvalidColumnIndex"),
        ("SELECT id.x FROM S3Object", "InvalidColumnIndex"),
        ("SELECT LOWER(id, id) FROM S3Object", "EvaluatorInvalidArguments"),
        ("SELECT INT(id, id) FROM S3Object", "ParseExpectedTokenType"),
        ("SELECT `no` FROM S3Object", "LexerInvalidIONLiteral"),
        ("SELECT s.*, id FROM S3Object s", "ParseExpectedKeyword"),
        ("SELECT " + "(" * (DEPTH_MAX + 1) + "1", "ExpressionTooLong"),
        ("SELECT " + " " * EXPRESSION_BYTES_MAX, "ExpressionTooLong"),
    ],
)
def test_what_is_refused(expression: str, code: str) -> None:
    assert code_of(expression) == code


@pytest.mark.parametrize(
    ("expression", "sql"),
    [
        ("*", "SELECT c1 AS r0, c2 AS r1, c3 AS r2 FROM rows"),
        ("s.*", "SELECT c1 AS r0, c2 AS r1, c3 AS r2 FROM rows"),
        ("s.NAME, s._3", "SELECT c2 AS r0, c3 AS r1 FROM rows"),
        ("id + 1", "SELECT (TRY_CAST(c1 AS DOUBLE) + 1) AS r0 FROM rows"),
        ("'it''s' || \"Name\"", "SELECT ('it''s' || c2) AS r0 FROM rows"),
    ],
)
def test_what_the_engine_is_given(expression: str, sql: str) -> None:
    assert compile_query(parse(f"SELECT {expression} FROM S3Object s"), CSV).sql == sql


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for expression in (
        text,
        f"SELECT {text} FROM S3Object",
        f"SELECT * FROM S3Object WHERE {text}",
    ):
        try:
            compile_query(parse(expression), CSV)
        except SelectError:
            continue


@settings(deadline=None)
@given(st.text())
def test_a_text_of_a_query_stays_a_text(text: str) -> None:
    literal = "'" + text.replace("'", "''") + "'"
    duckdb = pytest.importorskip("duckdb")
    compiled = compile_query(
        parse(f"SELECT {literal} FROM S3Object"), Source("(SELECT 1 AS c1)", "csv", [""])
    )
    if "\ud800" <= max(text, default="") <= "\udfff" or any(
        "\ud800" <= character <= "\udfff" for character in text
    ):
        return  # no UTF-8, so no request document can hold it
    assert duckdb.sql(compiled.sql).fetchall() == [(text.replace("\0", ""),)]


def test_time_patterns() -> None:
    (piece,) = time_pieces("yyyy-MM-dd'T'HH:mm:ss 100%")
    assert piece.pattern == "%Y-%m-%dT%H:%M:%S 100%%"
    for unknown in ("Q", "SSSSSSSSSS", "xxxxxx", "nn"):
        with pytest.raises(SelectError):
            time_pieces(unknown)


VALUES = [
    ("7 - 2 * 3", 1),
    ("'a' || 'b'", "ab"),
    ("INT('12')", 12),
    ("CAST('12' AS INT) + 1", 13),
    ("CAST('1.5' AS DECIMAL)", 1.5),
    ("CAST(0 AS BOOL)", False),
    ("LOWER('AbC') || UPPER('AbC')", "abcABC"),
    ("CHAR_LENGTH('four')", 4),
    ("SUBSTRING('123456789', 0, 4)", "123"),
    ("SUBSTRING('123456789' FROM 5 FOR 3)", "567"),
    ("TRIM(BOTH '12' FROM '1112211foobar22211122')", "foobar"),
    ("TRIM(LEADING FROM '  x ')", "x "),
    ("'50%' LIKE '%!%' ESCAPE '!'", True),
    ("'a' LIKE '_b'", False),
    ("2 BETWEEN 1 AND 3 AND 2 NOT BETWEEN 3 AND 4", True),
    ("'b' IN ('a', 'b')", True),
    ("NULLIF(1, 1) IS NULL", True),
    ("COALESCE(NULL, MISSING, 'x')", "x"),
    ("CASE 2 WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE 'many' END", "two"),
    ("CASE WHEN 1 > 2 THEN 'more' END", None),
    ("(1 = 1) = TRUE", True),
    ("EXTRACT(MONTH FROM `2010-03-04T`)", 3),
    ("DATE_DIFF(day, `2010-01-01T23:00Z`, `2010-01-02T01:00Z`)", 0),
    ("DATE_DIFF(month, `2011T`, `2010T`)", -12),
    ("TO_STRING(DATE_ADD(year, 5, `2010-01-01`), 'yyyy-MM-dd')", "2015-01-01"),
    (
        "TO_STRING(TO_TIMESTAMP('1969-07-20T20:18:13.25Z'), 'MMMMM d, y h:m a s.SS n X xxx')",
        "J 20, 1969 8:18 PM 13.25 250000000 Z +00:00",
    ),
]


@pytest.mark.parametrize(("expression", "value"), VALUES)
def test_what_expressions_come_to(expression: str, value: object) -> None:
    duckdb = pytest.importorskip("duckdb")
    source = Source("(SELECT 1 AS c1)", "csv", [""])
    compiled = compile_query(parse(f"SELECT {expression} FROM S3Object"), source)
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    assert connection.execute(compiled.sql).fetchall() == [(value,)]


@pytest.mark.parametrize(
    ("end", "start", "size", "found"),
    [
        (None, None, 100, (None, None)),
        (30, None, 100, (70, None)),
        (300, None, 100, (0, None)),
        (None, 99, 100, (99, None)),
        (5, 2, 100, (2, 5)),
    ],
)
def test_a_scan_range_of_a_certain_object(
    end: int | None, start: int | None, size: int, found: tuple[int | None, int | None]
) -> None:
    job = SelectJob("", "csv", scan_start=start, scan_end=end).within(size)
    assert (job.scan_start, job.scan_end) == found
    with pytest.raises(SelectError, match="InvalidScanRange"):
        SelectJob("", "csv", scan_start=size).within(size)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_scan_ranges_partition_the_records(size: int) -> None:
    data = b"".join(b"%d,%s\n" % (number, b"x" * (number % 7)) for number in range(50)) + b"end"
    found = b""
    for start in range(0, len(data), 37):
        job = SelectJob("", "csv", scan_start=start, scan_end=start + 36)
        scan = ScanRange(job)
        for at in range(0, len(data), size):
            found += scan.feed(data[at : at + size])
        found += scan.finish()
    assert found == data


@pytest.mark.parametrize("name", ["NONE", "GZIP", "BZIP2"])
def test_decompression_in_small_pieces(name: str) -> None:
    import bz2

    plain = bytes(3 * PIECE_BYTES) + b"end"
    half = len(plain) // 2
    packs: dict[str, Callable[[bytes], bytes]] = {
        "NONE": bytes,
        "GZIP": gzip.compress,
        "BZIP2": bz2.compress,
    }
    pack = packs[name]
    data = pack(plain[:half]) + pack(plain[half:])
    step = decompressor(name)
    pieces = [
        piece for at in range(0, len(data), 7919) for piece in step.feed(data[at : at + 7919])
    ]
    step.finish()
    assert b"".join(pieces) == plain
    assert max(map(len, pieces)) <= PIECE_BYTES
    if name != "NONE":
        cut = decompressor(name)
        list(cut.feed(data[:-1]))
        with pytest.raises(SelectError, match="TruncatedInput"):
            cut.finish()
        with pytest.raises(SelectError, match="InvalidCompressionFormat"):
            list(decompressor(name).feed(b"no such thing" * 10))


def test_record_ends() -> None:
    ends = RecordEnds(CsvInput(record_delimiter="##"))
    assert ends.feed(b"a#b#") + ends.feed(b"#c##") + ends.feed(b"d#") + ends.finish() == (
        b"a#b\nc\nd#"
    )


def test_first_record() -> None:
    csv = CsvInput(comment="#")
    assert first_record(b'# no\n"a ""b""","c,\nd",\r\n1', csv) == ['a "b"', "c,\nd", ""]
    assert first_record(b"a,b", csv) is None
    assert first_record(b"\n", csv) == [""]


def test_messages_of_the_event_stream() -> None:
    data = io.BytesIO(event_stream.records(b"payload"))
    total, headers_length, prelude_crc = struct.unpack(">III", data.read(12))
    assert total == len(data.getvalue())
    assert prelude_crc == zlib.crc32(data.getvalue()[:8])
    headers = data.read(headers_length)
    assert b"\x0b:event-type\x07\x00\x07Records" in headers
    assert data.read(7) == b"payload"
    assert struct.unpack(">I", data.read())[0] == zlib.crc32(data.getvalue()[:-4])
