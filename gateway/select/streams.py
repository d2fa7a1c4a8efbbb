"""Steps between an object's bytes and the engine: decompression, the scan range, record ends. Pure:
each takes a piece and gives what comes out of it."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Iterator

from .errors import SelectError
from .job import CsvInput, SelectJob

PIECE_BYTES = 256 * 1024
"""Most that a decompressor gives at once: a bomb does not fill the memory."""
RECORD_BYTES_MAX = 1024 * 1024  # AWS's limit


class Plain:
    """No compression."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        """Nothing can be missing."""


class Gzip:
    """Gzip members, one behind the other."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self._is_open = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises SelectError."""
        while data:
            self._is_open = True
            try:
                yield self._inflate.decompress(data, PIECE_BYTES)
                while not self._inflate.eof and self._inflate.unconsumed_tail:
                    yield self._inflate.decompress(self._inflate.unconsumed_tail, PIECE_BYTES)
            except zlib.error as error:
                raise SelectError("InvalidCompressionFormat") from error
            if not self._inflate.eof:
                return
            data = self._inflate.unused_data
            self._inflate = zlib.decompressobj(wbits=31)
            self._is_open = False

    def finish(self) -> None:
        """Raises SelectError if the end is missing."""
        if self._is_open:
            raise SelectError("TruncatedInput")


class Bzip2:
    """Bzip2 streams, one behind the other."""

    def __init__(self) -> None:
        self._inflate = bz2.BZ2Decompressor()
        self._is_open = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises SelectError."""
        try:
            while data:
                self._is_open = True
                yield self._inflate.decompress(data, PIECE_BYTES)
                while not self._inflate.eof and not self._inflate.needs_input:
                    yield self._inflate.decompress(b"", PIECE_BYTES)
                if not self._inflate.eof:
                    return
                data = self._inflate.unused_data
                self._inflate = bz2.BZ2Decompressor()
                self._is_open = False
        except OSError as error:
            raise SelectError("InvalidCompressionFormat") from error

    def finish(self) -> None:
        """Raises SelectError if the end is missing."""
        if self._is_open:
            raise SelectError("TruncatedInput")


def decompressor(name: str) -> Plain | Gzip | Bzip2:
    """For ``NONE``, ``GZIP`` or ``BZIP2``."""
    if name == "GZIP":
        return Gzip()
    return Bzip2() if name == "BZIP2" else Plain()


class ScanRange:
    """Lets the records through that begin in ``[start, end]``; the first one of all too where it is
    the header."""

    def __init__(self, job: SelectJob) -> None:
        is_lines = job.input_format != "parquet"  # that one knows where its rows are
        self._start = (job.scan_start or 0) if is_lines else 0
        self._end = job.scan_end if is_lines else None
        self._delimiter = job.csv.record_delimiter.encode() if job.input_format == "csv" else b"\n"
        self._keeps_first = job.input_format == "csv" and job.csv.header != "NONE"
        self._position = 0
        """Of the next byte to come."""
        self._rest = b""
        """Bytes not decided on: the beginning of a record, or half a delimiter."""
        self.is_over = False
        """Whether nothing that comes now can pass."""

    def feed(self, data: bytes) -> bytes:
        """What of *data*, and of what was held back, passes."""
        if self._start == 0 and self._end is None:
            return data
        out: list[bytes] = []
        self._rest += data
        while not self.is_over:
            found = self._rest.find(self._delimiter)
            if found < 0:
                break
            size = found + len(self._delimiter)
            self._decide(self._rest[:size], out)
            self._rest = self._rest[size:]
        if len(self._rest) > RECORD_BYTES_MAX:
            raise SelectError("OverMaxRecordSize")
        return b"".join(out)

    def finish(self) -> bytes:
        """The last record, if it has no delimiter and passes."""
        out: list[bytes] = []
        if self._rest and not self.is_over:
            self._decide(self._rest, out)
            self._rest = b""
        return b"".join(out)

    def _decide(self, record: bytes, out: list[bytes]) -> None:
        begin = self._position
        self._position += len(record)
        if self._end is not None and begin > self._end:
            self.is_over = True
        elif begin >= self._start or (begin == 0 and self._keeps_first):
            out.append(record)


class RecordEnds:
    """Record delimiters of a CSV file as line feeds, which is what the engine takes."""

    def __init__(self, csv: CsvInput) -> None:
        delimiter = csv.record_delimiter.encode()
        self._delimiter = b"" if delimiter in (b"\n", b"\r\n", b"\r") else delimiter
        self._held = b""
        if self._delimiter and csv.quoted_record_delimiters:
            raise SelectError(
                "InvalidRequestParameter",
                "AllowQuotedRecordDelimiter needs a RecordDelimiter of line feeds.",
            )

    def feed(self, data: bytes) -> bytes:
        """*data* with its delimiters replaced; half a delimiter at its end waits."""
        if not self._delimiter:
            return data
        *records, rest = (self._held + data).split(self._delimiter)
        self._held = b""
        if len(self._delimiter) == 2 and rest.endswith(self._delimiter[:1]):
            rest, self._held = rest[:-1], rest[-1:]
        return b"\n".join([*records, rest])

    def finish(self) -> bytes:
        """What waited."""
        return self._held


def first_record(data: bytes, csv: CsvInput) -> list[str] | None:
    """The fields of the first record in *data* that is not a comment; None if its end is not
    there."""
    quote, escape, comma = csv.quote, csv.escape, csv.field_delimiter
    text = data.decode("utf-8", "surrogateescape")
    fields: list[str] = []
    field: list[str] = []
    is_quoted = False
    position = 0
    while position < len(text):
        character = text[position]
        if csv.comment and character == csv.comment and not fields and not field and not is_quoted:
            end = text.find("\n", position)
            if end < 0:
                return None
            position = end + 1
            continue
        if is_quoted:
            following = text[position + 1 : position + 2]
            if character == escape and following in (quote, escape) and following:
                field.append(following)
                position += 1
            elif character == quote:
                is_quoted = False
            else:
                field.append(character)
        elif character == quote and not field:
            is_quoted = True
        elif character == comma:
            fields.append("".join(field))
            field = []
        elif character in "\r\n":
            return [*fields, "".join(field)]
        else:
            field.append(character)
        position += 1
    return None
