"""Messages of the event stream that answers SelectObjectContent. Pure.

Framing: docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html: two lengths and
their CRC-32, headers, payload, CRC-32 of all of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from ..xml_text import escape

RECORDS_BYTES_MAX = 128 * 1024  # of one message's payload; AWS goes to 1 MiB

_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_TEXT = 7  # the header type of strings


def message(headers: Sequence[tuple[str, str]], payload: bytes = b"") -> bytes:
    """One message."""
    encoded = b"".join(_header(name, value) for name, value in headers)
    total = _PRELUDE.size + _CRC.size + len(encoded) + len(payload) + _CRC.size
    prelude = _PRELUDE.pack(total, len(encoded))
    head = prelude + _CRC.pack(zlib.crc32(prelude))
    crc = zlib.crc32(payload, zlib.crc32(encoded, zlib.crc32(head)))
    return b"".join((head, encoded, payload, _CRC.pack(crc)))


def records(payload: bytes) -> bytes:
    """Some of the result."""
    return message(_event("Records", "application/octet-stream"), payload)


def continuation() -> bytes:
    """Nothing yet, but the query goes on."""
    return message(_event("Cont"))


def progress(scanned: int, processed: int, returned: int) -> bytes:
    """How far it has come."""
    return message(
        _event("Progress", "text/xml"), _counts("Progress", scanned, processed, returned)
    )


def stats(scanned: int, processed: int, returned: int) -> bytes:
    """What it came to."""
    return message(_event("Stats", "text/xml"), _counts("Stats", scanned, processed, returned))


def end() -> bytes:
    """The result is complete."""
    return message(_event("End"))


def error(code: str, text: str) -> bytes:
    """The query failed after it had begun to answer."""
    return message(
        [(":message-type", "error"), (":error-code", code), (":error-message", text[:1000])]
    )


def _event(kind: str, content_type: str = "") -> list[tuple[str, str]]:
    headers = [(":message-type", "event"), (":event-type", kind)]
    if content_type:
        headers.append((":content-type", content_type))
    return headers


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return bytes([len(key)]) + key + bytes([_TEXT]) + struct.pack(">H", len(text)) + text


def _counts(root: str, scanned: int, processed: int, returned: int) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><{escape(root)}>'
        f"<BytesScanned>{scanned}</BytesScanned><BytesProcessed>{processed}</BytesProcessed>"
        f"<BytesReturned>{returned}</BytesReturned></{escape(root)}>"
    ).encode()
