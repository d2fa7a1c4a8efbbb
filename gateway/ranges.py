"""Byte ranges by the rules of S3, which are not quite those of HTTP. Pure.

One range only: several are answered with the whole object, as is a header that makes no sense.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..core.limits import PARTS_MAX
from .errors import S3Error, invalid_argument

_RANGE = re.compile(r"bytes=([0-9]{0,40})-([0-9]{0,40})")
_COPY_RANGE = re.compile(r"bytes=([0-9]{1,40})-([0-9]{1,40})")


class ByteRange(NamedTuple):
    """A run of bytes of an object."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """The Content-Range header for an object of *size* bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def parse_range(header: str, size: int) -> ByteRange | None:
    """The range that a Range header asks of *size* bytes; None: the whole object (200).

    Raises S3Error InvalidRange (416) if it is well formed and lies outside.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        length = min(int(last), size)
        if not length:
            raise _unsatisfiable(header, size)
        return ByteRange(size - length, length)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise _unsatisfiable(header, size)
    end = min(int(last), size - 1) if last else size - 1
    return ByteRange(start, end - start + 1)


def _unsatisfiable(header: str, size: int) -> S3Error:
    return S3Error(
        "InvalidRange",
        fields={"RangeRequested": header, "ActualObjectSize": str(size)},
        headers={"Content-Range": f"bytes */{size}"},
    )


def parse_part_number(text: str) -> int:
    """The part number in a query. Raises S3Error InvalidArgument unless it is 1 to 10,000."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= number <= PARTS_MAX:
        raise invalid_argument(
            f"Part number must be an integer between 1 and {PARTS_MAX}, inclusive",
            name="partNumber",
            value=text,
        )
    return number


def part_range(part_sizes: Sequence[int], number: int, size: int) -> ByteRange:
    """Where part *number* lies in an object of *size* bytes.

    *part_sizes* is empty for an object put in one piece: all of it is part 1. Raises S3Error
    InvalidPart.
    """
    if number > max(1, len(part_sizes)):
        raise S3Error(
            "InvalidPart",
            "The requested partnumber is not satisfiable",
            fields={
                "PartNumberRequested": str(number),
                "ActualPartCount": str(max(1, len(part_sizes))),
            },
        )
    if not part_sizes:
        return ByteRange(0, size)
    return ByteRange(sum(part_sizes[: number - 1]), part_sizes[number - 1])


def requested_range(
    range_header: str | None, part_number: str | None, size: int, part_sizes: Sequence[int]
) -> ByteRange | None:
    """What GET and HEAD shall answer: a range (206), or None for all of it (200).

    Raises S3Error: InvalidRange, InvalidPart, InvalidArgument, InvalidRequest (both given).
    """
    if part_number is not None:
        if range_header is not None:
            raise S3Error(
                "InvalidRequest",
                "Cannot specify both Range header and partNumber query parameter",
            )
        return part_range(part_sizes, parse_part_number(part_number), size)
    return None if range_header is None else parse_range(range_header, size)


def parse_copy_range(header: str, size: int) -> ByteRange:
    """The range of ``x-amz-copy-source-range``, which must be exact.

    Raises S3Error InvalidArgument for any other form, InvalidRange if it is not all inside.
    """
    match = _COPY_RANGE.fullmatch(header)
    start, last = (int(match[1]), int(match[2])) if match else (1, 0)
    if last < start:
        raise invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first "
            "and last are the zero-based offsets of the first and last bytes to copy",
            name="x-amz-copy-source-range",
            value=header,
        )
    if last >= size:
        raise S3Error(
            "InvalidRange",
            f"Range specified is not valid for source object of size: {size}",
            fields={"RangeRequested": header, "ActualObjectSize": str(size)},
        )
    return ByteRange(start, last - start + 1)
