"""multipart/form-data (RFC 7578) as browsers send an upload: fields first, then the file. Pure.

``FormHead`` takes bytes until the file begins; ``FileDecoder`` finds where the file ends. What
comes behind the file is ignored, as in S3.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from ..errors import S3Error, invalid_argument

FIELDS_BYTES_MAX = 20 * 1024  # AWS's limit on everything in front of the file
BOUNDARY_CHARACTERS_MAX = 200  # RFC 2046 allows 70; some programs use a little more
FILE_FIELD = "file"

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\r\n]+)"|([^\s;"]+))', re.IGNORECASE)
_PARAMETER = re.compile(r';\s*([a-zA-Z]+\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type states. Raises S3Error MalformedPOSTRequest."""
    match = _BOUNDARY.search(content_type)
    text = (match[1] or match[2]) if match else ""
    if not 1 <= len(text) <= BOUNDARY_CHARACTERS_MAX:
        raise S3Error("MalformedPOSTRequest")
    return text.encode("utf-8", "surrogateescape")


class FormHead:
    """The fields of a form, up to the file."""

    def __init__(self, boundary: bytes) -> None:
        self._boundary = b"--" + boundary
        self._buffer = bytearray()
        self._position = -1
        """Behind the last delimiter's line, or where that begins; -1 before the first."""
        self._at_delimiter = False
        """Whether the delimiter's line is still to be passed: not all of it has come."""
        self.fields: dict[str, str] = {}
        """By lower-case name; of a repeated field the last counts."""
        self.file_name = ""
        """The last component of the file's name, as the client has it."""

    def feed(self, data: bytes | memoryview) -> bytes | None:
        """Take the next bytes. Returns what is already there of the file once it begins, None as
        long as it does not.

        Raises S3Error: MalformedPOSTRequest, MaxPostPreDataLengthExceededError, InvalidArgument
        (the form ends without a file).
        """
        self._buffer += data
        if self._position < 0 and not self._open():
            self._wait()
            return None
        while (part := self._part_headers()) is not None:
            name, file_name, start = part
            if name == FILE_FIELD:
                self.file_name = re.split(r"[/\\]", file_name)[-1]
                if start > FIELDS_BYTES_MAX:
                    raise S3Error("MaxPostPreDataLengthExceededError")
                return bytes(self._buffer[start:])
            end = self._buffer.find(b"\r\n" + self._boundary, start)
            if end < 0:
                break
            self.fields[name] = _text(bytes(self._buffer[start:end]))
            self._position, self._at_delimiter = end + 2, True
            if not self._pass_delimiter():
                break
        self._wait()
        return None

    def missing_file(self) -> S3Error:
        """The error for a form that has ended before its file."""
        return invalid_argument(
            "POST requires exactly one file upload per request.", name="file", value="0"
        )

    def _wait(self) -> None:
        if len(self._buffer) > FIELDS_BYTES_MAX:
            raise S3Error("MaxPostPreDataLengthExceededError")

    def _open(self) -> bool:
        """Find the first delimiter."""
        at = self._buffer.find(self._boundary)
        if at < 0:
            return False
        if at > 0 and self._buffer[at - 1 : at] != b"\n":
            raise S3Error("MalformedPOSTRequest")
        self._position, self._at_delimiter = at, True
        return self._pass_delimiter()

    def _pass_delimiter(self) -> bool:
        """Move behind the line of the delimiter at the position; False if it is not all there."""
        start = self._position + len(self._boundary)
        end = self._buffer.find(b"\r\n", start)
        if self._buffer[start : start + 2] == b"--":
            raise self.missing_file()
        if end < 0:
            return False
        if self._buffer[start:end].strip(b" \t"):
            raise S3Error("MalformedPOSTRequest")
        self._position, self._at_delimiter = end + 2, False
        return True

    def _part_headers(self) -> tuple[str, str, int] | None:
        """(name, file name, where the content begins) of the part at the position; None if its
        headers are not all there."""
        if self._at_delimiter and not self._pass_delimiter():
            return None
        end = self._buffer.find(b"\r\n\r\n", self._position)
        if end < 0:
            return None
        for line in bytes(self._buffer[self._position : end]).split(b"\r\n"):
            label, _, value = line.partition(b":")
            if label.strip().lower() == b"content-disposition":
                name, file_name = _disposition(_text(value))
                return name, file_name, end + 4
        raise S3Error("MalformedPOSTRequest")


def _disposition(text: str) -> tuple[str, str]:
    """Name and file name of a part."""
    name, file_name = "", ""
    for match in _PARAMETER.finditer(text):
        value = match[3] if match[2] is None else re.sub(r'\\(["\\])', r"\1", match[2])
        label = match[1].lower()
        if label == "name":
            name = value.lower()
        elif label == "filename" and not file_name:
            file_name = value
        elif label == "filename*":
            file_name = _text(unquote_to_bytes(value.rpartition("'")[2]))
    if not name or not text.strip().lower().startswith("form-data"):
        raise S3Error("MalformedPOSTRequest")
    return name, file_name


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise S3Error("MalformedPOSTRequest") from error


class FileDecoder:
    """The file of a form, from its first byte on; *least* and *most* bytes may be in it.

    Used like the decoder of aws-chunked bodies: what ``feed`` gives is never longer than what it
    took.
    """

    def __init__(self, boundary: bytes, *, least: int, most: int) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._least, self._most = least, most
        self._held = b""
        self._size = 0
        self._ended = False
        self.trailers: dict[str, str] = {}

    def feed(self, data: bytes | bytearray | memoryview) -> list[memoryview]:
        """Take the next bytes; return those of the file among them and before them. Raises S3Error
        EntityTooLarge."""
        if self._ended:
            return []
        joined = self._held + bytes(data)
        end = joined.find(self._delimiter)
        if end < 0:
            # What may be the beginning of the delimiter waits for the rest of it.
            end = max(0, len(joined) - len(self._delimiter) + 1)
            self._held = joined[end:]
        else:
            self._ended = True
        self._size += end
        if self._size > self._most:
            raise S3Error(
                "EntityTooLarge",
                fields={"ProposedSize": str(self._size), "MaxSizeAllowed": str(self._most)},
            )
        return [memoryview(joined)[:end]] if end else []

    def finish(self) -> None:
        """The body has ended. Raises S3Error: MalformedPOSTRequest if the file has not,
        EntityTooSmall."""
        if not self._ended:
            raise S3Error("MalformedPOSTRequest")
        if self._size < self._least:
            raise S3Error(
                "EntityTooSmall",
                fields={"ProposedSize": str(self._size), "MinSizeAllowed": str(self._least)},
            )
