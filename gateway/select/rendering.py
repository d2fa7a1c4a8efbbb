"""Rows of the engine as the bytes of a result. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from .compiler import Compiled, Kind
from .job import CsvOutput, SelectJob

_EXACT = float(1 << 53)


class Renderer:
    """Makes records of rows, for one query."""

    def __init__(self, job: SelectJob, compiled: Compiled) -> None:
        self._names = compiled.names
        self._kinds = compiled.kinds
        self._whole = compiled.whole
        self._csv = job.csv_output
        self._json_end = job.json_output.record_delimiter

    def record(self, row: Sequence[Any]) -> bytes:
        """One record, with its delimiter."""
        if self._csv is not None:
            return self._csv_record(self._csv, self._fields(row))
        if self._whole:
            text = row[0] if row[0] is not None else "{}"
            return f"{_compact(text)}{self._json_end}".encode("utf-8", "surrogateescape")
        members: dict[str, Any] = {}
        for name, kind, value in zip(self._names, self._kinds, row, strict=True):
            if value is None and kind is Kind.JSON:
                continue  # MISSING: a member that is not there
            members[name] = json.loads(value) if kind is Kind.JSON else _plain(value)
        text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
        return f"{text}{self._json_end}".encode("utf-8", "surrogateescape")

    def _fields(self, row: Sequence[Any]) -> list[str]:
        if self._whole:
            document = json.loads(row[0]) if row[0] is not None else {}
            values = list(document.values()) if isinstance(document, dict) else [document]
            return [_json_text(value) for value in values]
        return [
            _json_text(json.loads(value))
            if kind is Kind.JSON and value is not None
            else _text(value)
            for kind, value in zip(self._kinds, row, strict=True)
        ]

    def _csv_record(self, output: CsvOutput, fields: Sequence[str]) -> bytes:
        special = {output.field_delimiter, output.quote, "\r", "\n", *output.record_delimiter}
        shown: list[str] = []
        for field in fields:
            if output.always_quote or any(character in field for character in special):
                inner = field
                if output.escape != output.quote:
                    inner = inner.replace(output.escape, output.escape * 2)
                inner = inner.replace(output.quote, output.escape + output.quote)
                field = f"{output.quote}{inner}{output.quote}"
            shown.append(field)
        line = output.field_delimiter.join(shown) + output.record_delimiter
        return line.encode("utf-8", "surrogateescape")


def _compact(text: str) -> str:
    """A JSON document without line breaks, which would end a record."""
    if "\n" not in text and "\r" not in text:
        return text
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """A value of the engine as JSON has it."""
    if isinstance(value, bool) or value is None or isinstance(value, int | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return _text(value)


def _text(value: Any) -> str:
    """A value of the engine as a field of CSV."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo is not None else value
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].replace(".000", "") + "Z"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _json_text(value: Any) -> str:
    """A JSON value as a field of CSV."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _text(value)
