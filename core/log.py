"""Log lines on standard error: one event a line, for people or as JSON. No secret is ever given to
it."""

from __future__ import annotations

import json
import logging
import sys
import time

from .options import LogOptions

_RECORD_FIELDS = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
"""What names could forge lines with, or command a terminal."""


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        extra = "".join(f" {key}={value}" for key, value in _extra(record).items())
        line = (
            f"{moment}.{int(record.msecs):03d} {record.levelname.lower():7} "
            f"{record.name.removeprefix('craqen.')}: {record.getMessage()}{extra}"
        ).translate(_CONTROLS)
        if record.exc_info:
            # Indented: what an exception quotes cannot begin a line.
            line += "".join(
                f"\n    {told.translate(_CONTROLS)}"
                for told in self.formatException(record.exc_info).splitlines()
            )
        return line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _RECORD_FIELDS}


def set_up_logging(options: LogOptions) -> None:
    """Send all log records of this process to standard error as *options* say."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if options.format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(options.level.upper())
