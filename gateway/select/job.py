"""What a query is to do: the request's document as a record, and the way of that record to the
process that runs it. Pure."""

from __future__ import annotations

import msgspec

from ..xml import Element, children, local_name, malformed, parse_document, texts
from .errors import SelectError
from .parser import parse

COMPRESSIONS = ("NONE", "GZIP", "BZIP2")
_DIGITS_MAX = 18  # of a position in an object


class CsvInput(msgspec.Struct, frozen=True):
    header: str = "NONE"
    """``NONE``, ``USE`` or ``IGNORE``: what the first record is."""
    field_delimiter: str = ","
    record_delimiter: str = "\n"
    quote: str = '"'
    escape: str = '"'
    comment: str = ""
    quoted_record_delimiters: bool = False


class CsvOutput(msgspec.Struct, frozen=True):
    always_quote: bool = False
    field_delimiter: str = ","
    record_delimiter: str = "\n"
    quote: str = '"'
    escape: str = '"'


class JsonOutput(msgspec.Struct, frozen=True):
    record_delimiter: str = "\n"


class SelectJob(msgspec.Struct, frozen=True):
    """A query over one object."""

    expression: str
    input_format: str
    """``csv``, ``json`` or ``parquet``."""
    compression: str = "NONE"
    csv: CsvInput = CsvInput()
    json_lines: bool = False
    csv_output: CsvOutput | None = None
    """None: JSON."""
    json_output: JsonOutput = JsonOutput()
    scan_start: int | None = None
    scan_end: int | None = None
    """First and last byte at which records may begin; None: from the start, to the end. An end
    alone: so many bytes at the end."""
    progress: bool = False

    def within(self, size_bytes: int) -> SelectJob:
        """The same over an object of this size, with a scan range that has a start if there is
        one. Raises SelectError InvalidScanRange for one that begins behind the object."""
        if self.scan_start is not None and self.scan_start >= max(size_bytes, 1):
            raise SelectError("InvalidScanRange")
        if self.scan_start is not None or self.scan_end is None:
            return self
        start = max(size_bytes - self.scan_end, 0)
        return msgspec.structs.replace(self, scan_start=start, scan_end=None)


def parse_job(body: bytes) -> SelectJob:
    """The job that a SelectObjectContentRequest asks for.

    Raises S3Error MalformedXML, SelectError.
    """
    root = parse_document(body, "SelectObjectContentRequest")
    found = texts(root)
    expression = found.get("Expression", "")
    if not expression:
        raise SelectError("MissingRequiredParameter")
    if found.get("ExpressionType", "").upper() != "SQL":
        raise SelectError("InvalidExpressionType")
    source, target = _child(root, "InputSerialization"), _child(root, "OutputSerialization")
    if source is None or target is None:
        raise SelectError("MissingRequiredParameter")
    compression = (texts(source).get("CompressionType") or "NONE").upper()
    if compression not in COMPRESSIONS:
        raise SelectError("InvalidCompressionFormat")
    input_format, settings = _one_of(source, ("CSV", "JSON", "Parquet"), "InvalidDataSource")
    output_format, output = _one_of(target, ("CSV", "JSON"), "ObjectSerializationConflict")
    start, end = _scan_range(_child(root, "ScanRange"))
    job = SelectJob(
        expression,
        input_format.lower(),
        compression,
        _csv_input(settings) if input_format == "CSV" else CsvInput(),
        _json_lines(settings) if input_format == "JSON" else False,
        _csv_output(output) if output_format == "CSV" else None,
        JsonOutput(_characters(texts(output), "RecordDelimiter", "\n", 2)),
        start,
        end,
        _progress(_child(root, "RequestProgress")),
    )
    _check_together(job)
    parse(expression)
    return job


def _check_together(job: SelectJob) -> None:
    if job.input_format == "parquet" and job.compression != "NONE":
        raise SelectError("InvalidCompressionFormat")
    if job.scan_start is None and job.scan_end is None:
        return
    lines = job.input_format != "json" or job.json_lines
    if not lines or job.compression != "NONE" or job.csv.quoted_record_delimiters:
        raise SelectError("UnsupportedScanRangeInput")


def _child(root: Element, name: str) -> Element | None:
    return next(children(root, name), None)


def _one_of(element: Element, names: tuple[str, ...], code: str) -> tuple[str, Element]:
    present = [child for child in element if local_name(child) in names]
    if len(present) != 1:
        raise SelectError(code)
    return local_name(present[0]), present[0]


def _csv_input(element: Element) -> CsvInput:
    found = texts(element)
    header = (found.get("FileHeaderInfo") or "NONE").upper()
    if header not in ("NONE", "USE", "IGNORE"):
        raise SelectError("InvalidFileHeaderInfo")
    return CsvInput(
        header,
        _characters(found, "FieldDelimiter", ",", 1),
        _characters(found, "RecordDelimiter", "\n", 2),
        _characters(found, "QuoteCharacter", '"', 1),
        _characters(found, "QuoteEscapeCharacter", '"', 1),
        _characters(found, "Comments", "", 1),
        _boolean(found, "AllowQuotedRecordDelimiter"),
    )


def _csv_output(element: Element) -> CsvOutput:
    found = texts(element)
    quote_fields = (found.get("QuoteFields") or "ASNEEDED").upper()
    if quote_fields not in ("ALWAYS", "ASNEEDED"):
        raise SelectError("InvalidQuoteFields")
    return CsvOutput(
        quote_fields == "ALWAYS",
        _characters(found, "FieldDelimiter", ",", 1),
        _characters(found, "RecordDelimiter", "\n", 2),
        _characters(found, "QuoteCharacter", '"', 1),
        _characters(found, "QuoteEscapeCharacter", '"', 1),
    )


def _json_lines(element: Element) -> bool:
    kind = texts(element).get("Type", "").upper()
    if kind not in ("DOCUMENT", "LINES"):
        raise SelectError("InvalidJsonType")
    return kind == "LINES"


def _scan_range(element: Element | None) -> tuple[int | None, int | None]:
    if element is None:
        return None, None
    found = texts(element)
    values = [found.get(name) for name in ("Start", "End")]
    for value in values:
        if value is None:
            continue
        if not (value.isascii() and value.isdigit()) or len(value) > _DIGITS_MAX:
            raise SelectError("InvalidScanRange")
    start, end = (None if value is None else int(value) for value in values)
    if start is not None and end is not None and start > end:
        raise SelectError("InvalidScanRange")
    return start, end


def _progress(element: Element | None) -> bool:
    return element is not None and _boolean(texts(element), "Enabled")


def _boolean(found: dict[str, str], name: str) -> bool:
    value = (found.get(name) or "false").lower()
    if value not in ("true", "false"):
        raise malformed()
    return value == "true"


def _characters(found: dict[str, str], name: str, default: str, most: int) -> str:
    value = found.get(name)
    if not value:
        return default
    if len(value) > most or not value.isascii():
        raise SelectError("InvalidRequestParameter", f"{name} must be one character of ASCII.")
    return value
