"""DRIVER: the process that runs one query: bytes in on descriptor 0, frames out on descriptor 1.

A process of its own, so that a query that takes too much memory or time ends alone. The engine can
reach nothing but the pipe that the object comes through.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
from typing import Any

from ...core.errors import MissingDependencyError
from .compiler import Compiled, Source, compile_query, identifier, quoted
from .errors import SelectError
from .event_stream import RECORDS_BYTES_MAX
from .frames import LENGTH, Counts, Failure, Frame, frame, job_of
from .job import SelectJob
from .parser import parse
from .rendering import Renderer
from .streams import RECORD_BYTES_MAX, RecordEnds, ScanRange, decompressor, first_record

READ_BYTES = 256 * 1024
ROWS_AT_ONCE = 1000
CPU_SECONDS_MAX = 600
ADDRESS_BYTES_MAX = 4 << 30
ENGINE_MEMORY = "512MB"
JSON_DOCUMENT_BYTES_MAX = 64 << 20
COLUMNS_MAX = 5000

_NO_FIELD = "\ue000\ue001\ue000"
"""What the engine takes for NULL: something that no field is. An empty field is an empty text."""


class _Input(threading.Thread):
    """Reads the object, and puts what the engine is to see into a pipe or a file."""

    def __init__(self, job: SelectJob) -> None:
        super().__init__(daemon=True)
        self._job = job
        self._decompressor = decompressor(job.compression)
        self._range = ScanRange(job)
        self._ends = RecordEnds(job.csv)
        self._beginning: bytearray | None = bytearray() if job.input_format == "csv" else None
        """A CSV file's bytes until its first record is whole."""
        self.fields: list[str] = []
        self.ready = threading.Event()
        """Set when the engine may begin: the columns are known, or the file is complete."""
        self.error: SelectError | None = None
        self.scanned = self.processed = 0
        if job.input_format == "parquet":
            # Its index is at its end. The file has no name: nothing is left whatever happens.
            self._file = tempfile.TemporaryFile()
            self.descriptor = self._sink = self._file.fileno()
        else:
            self.descriptor, self._sink = os.pipe()

    def run(self) -> None:
        try:
            while (data := os.read(0, READ_BYTES)) and not self._range.is_over:
                self.scanned += len(data)
                for piece in self._decompressor.feed(data):
                    self.processed += len(piece)
                    self._pass_on(self._ends.feed(self._range.feed(piece)))
            self._decompressor.finish()
            self._pass_on(self._ends.feed(self._range.finish()) + self._ends.finish())
            self._begin(is_all=True)
        except SelectError as error:
            self.error = error
        except BrokenPipeError:
            pass  # the engine has all it needs
        finally:
            if self._job.input_format != "parquet":
                os.close(self._sink)
            self.ready.set()

    def _pass_on(self, data: bytes) -> None:
        if self._beginning is not None:
            self._beginning += data
            self._begin(is_all=False)
        else:
            self._write(data)

    def _begin(self, *, is_all: bool) -> None:
        """Find out the columns, as soon as that can be done."""
        beginning = self._beginning
        if beginning is None:
            if not is_all or self._job.input_format != "parquet":
                self.ready.set()
            return
        data = bytes(beginning)
        fields = first_record(data + b"\n" if is_all and data else data, self._job.csv)
        if fields is None:
            if len(data) > RECORD_BYTES_MAX:
                raise SelectError("OverMaxRecordSize")
            return
        if len(fields) > COLUMNS_MAX:
            raise SelectError("CSVParsingError", f"More than {COLUMNS_MAX} columns.")
        self.fields = fields
        self._beginning = None
        self.ready.set()
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._job.input_format == "json" and data:
            self.ready.set()  # first: a pipe takes less than a read may bring
        view = memoryview(data)
        while view:
            view = view[os.write(self._sink, view) :]


def _limit() -> None:
    """Bound what the process may take."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _engine(path: str) -> Any:
    """A connection that can reach *path* and nothing else. Raises MissingDependencyError."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingDependencyError(
            "S3 Select needs DuckDB, which is not installed: pip install 'craqen[select]'"
        ) from error
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "memory_limit": ENGINE_MEMORY,
            "temp_directory": "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET allowed_paths = [{quoted(path)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _source(job: SelectJob, data: _Input, connection: Any) -> Source:
    path = quoted(f"/dev/fd/{data.descriptor}")
    if job.input_format == "parquet":
        relation = f"read_parquet({path})"
        described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        # The engine keeps such times as UTC, but needs a time zone library to give them to Python.
        zoned = ", ".join(
            f"CAST({identifier(name)} AS TIMESTAMP) AS {identifier(name)}"
            for name, kind, *_ in described
            if kind == "TIMESTAMP WITH TIME ZONE"
        )
        if job.scan_start is not None:
            relation = _row_groups_within(job, path, connection)
        if zoned:
            relation = f"(SELECT * REPLACE ({zoned}) FROM {relation})"
        return Source(relation, "parquet", [row[0] for row in described])
    if job.input_format == "json":
        if job.json_lines:
            relation = f"read_ndjson_objects({path}, maximum_object_size={RECORD_BYTES_MAX})"
        else:
            relation = (
                f"read_json_objects({path}, format='unstructured', "
                f"maximum_object_size={JSON_DOCUMENT_BYTES_MAX})"
            )
        return Source(f"(SELECT json AS j FROM {relation})", "json", ())
    csv, fields = job.csv, data.fields
    if not fields:
        return Source("(SELECT NULL AS c1 WHERE false)", "csv", [""])
    columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(1, len(fields) + 1))
    comment = f", comment={quoted(csv.comment)}" if csv.comment else ""
    relation = (
        f"read_csv({path}, auto_detect=false, columns={{{columns}}}, "
        f"header={str(csv.header != 'NONE').lower()}, delim={quoted(csv.field_delimiter)}, "
        f"quote={quoted(csv.quote)}, escape={quoted(csv.escape)}, null_padding=true, "
        f"strict_mode=false, nullstr={quoted(_NO_FIELD)}, "
        f"max_line_size={RECORD_BYTES_MAX}{comment})"
    )
    names = fields if csv.header == "USE" else [""] * len(fields)
    return Source(relation, "csv", names)


def _row_groups_within(job: SelectJob, path: str, connection: Any) -> str:
    """The rows of a Parquet file whose groups begin in the scan range."""
    groups = connection.execute(
        "SELECT any_value(row_group_num_rows), "
        "min(least(coalesce(nullif(dictionary_page_offset, 0), data_page_offset), "
        f"data_page_offset)) FROM parquet_metadata({path}) "
        "GROUP BY row_group_id ORDER BY row_group_id"
    ).fetchall()
    within: list[str] = []
    row = 0
    for count, begin in groups:
        if job.scan_start <= begin and (job.scan_end is None or begin <= job.scan_end):
            within.append(f"file_row_number BETWEEN {row} AND {row + count - 1}")
        row += count
    condition = " OR ".join(within) or "false"
    return (
        f"(SELECT * EXCLUDE (file_row_number) FROM read_parquet({path}, file_row_number=true) "
        f"WHERE {condition})"
    )


class _Output:
    """Frames out, records gathered."""

    def __init__(self, job: SelectJob, data: _Input) -> None:
        self._progress = job.progress
        self._data = data
        self._records: list[bytes] = []
        self._size = 0
        self._returned = 0

    def add(self, record: bytes) -> None:
        if self._size + len(record) > RECORDS_BYTES_MAX:
            self.flush()
        for start in range(0, len(record), RECORDS_BYTES_MAX):
            piece = record[start : start + RECORDS_BYTES_MAX]
            self._records.append(piece)
            self._size += len(piece)
            if self._size >= RECORDS_BYTES_MAX:
                self.flush()

    def flush(self) -> None:
        if self._records:
            send(frame(Frame.RECORDS, b"".join(self._records)))
            self._returned += self._size
            self._records, self._size = [], 0
            if self._progress:
                send(frame(Frame.PROGRESS, self.counts()))

    def counts(self) -> Counts:
        return Counts(self._data.scanned, self._data.processed, self._returned)


def send(data: bytes) -> None:
    """Write all of it to the gateway."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _read_exactly(count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = os.read(0, count - len(found))
        if not piece:
            raise EOFError("the gateway went away")
        found += piece
    return found


def _run(job: SelectJob) -> None:
    data = _Input(job)
    connection = _engine(f"/dev/fd/{data.descriptor}")
    data.start()
    data.ready.wait()
    if data.error is not None:
        raise data.error
    compiled: Compiled = compile_query(parse(job.expression), _source(job, data, connection))
    renderer, output = Renderer(job, compiled), _Output(job, data)
    result = connection.execute(compiled.sql)
    while True:
        rows = result.fetchmany(ROWS_AT_ONCE)
        if data.error is not None:
            raise data.error
        if not rows:
            break
        for row in rows:
            output.add(renderer.record(row))
        output.flush()
    send(frame(Frame.DONE, output.counts()))


def _failure(error: Exception, job: SelectJob) -> Failure:
    if isinstance(error, SelectError):
        return Failure(error.code, error.message)
    kind = type(error).__name__
    if isinstance(error, MissingDependencyError):
        return Failure("NotImplemented", str(error))
    if kind in ("ConversionException", "OutOfRangeException"):
        return Failure("CastFailed", SelectError("CastFailed").message)
    if isinstance(error, MemoryError) or kind == "OutOfMemoryException":
        return Failure("Busy", "The query needs more memory than one may take.")
    if kind in ("InvalidInputException", "IOException", "BinderException"):
        code = {"csv": "CSVParsingError", "json": "JSONParsingError"}.get(
            job.input_format, "ParquetParsingError"
        )
        if kind == "BinderException":
            code = "IllegalSqlFunctionArgument"
        return Failure(code, SelectError(code).message)
    print(f"craqen select: {kind}: {error}", file=sys.stderr)
    return Failure("InternalError", SelectError("InternalError").message)


def main() -> None:
    """Run the query that the gateway sends."""
    _limit()
    job = job_of(_read_exactly(LENGTH.unpack(_read_exactly(LENGTH.size))[0]))
    try:
        _run(job)
    except BrokenPipeError:
        pass  # the gateway has gone
    except Exception as error:
        send(frame(Frame.ERROR, _failure(error, job)))
    os._exit(0)  # the thread may wait for bytes that nobody needs


if __name__ == "__main__":
    main()
