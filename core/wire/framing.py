"""MACHINE: frames on a byte stream, without I/O.

A frame is a fixed head (28 bytes, CRC32C over it), then ``header_length`` header bytes, then
``payload_length`` payload bytes. Every length is held against its limit before anything is kept.
The reader hands out header bytes itself, and lets the driver receive payload bytes straight into
their destination.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from ..checksum import crc32c
from ..errors import ProtocolError
from ..limits import FRAME_HEADER_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX

MAGIC = 0x4351  # "CQ"
VERSION = 1

_HEAD = struct.Struct(">HBBIHHIQ")
_CRC = struct.Struct(">I")
HEAD_BYTES = _HEAD.size + _CRC.size


class FrameKind(IntEnum):
    """What a frame says."""

    REQUEST = 1
    REPLY = 2
    ERROR = 3
    PULL = 4
    """From the server: send me offered buffer ``number``."""
    DATA = 5
    """Bytes of buffer ``number`` of the call."""


class Frame(NamedTuple):
    """A frame's head and header bytes; the payload follows on the stream."""

    kind: FrameKind
    call_id: int
    number: int
    """Buffer number; in a REPLY the number of file descriptors that come with it."""
    header: bytes
    payload_length: int


def frame_head(
    kind: FrameKind, call_id: int, *, number: int = 0, header_length: int = 0, payload: int = 0
) -> bytes:
    """The fixed head of a frame."""
    head = _HEAD.pack(MAGIC, VERSION, kind, call_id, number, 0, header_length, payload)
    return head + _CRC.pack(crc32c(head))


class FrameReader:
    """Turns bytes into frames. After a frame with a payload, its bytes are the driver's to take off
    the stream:
    ``feed`` stops behind the header and says how much it used."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header_length = -1
        self._head: tuple[int, int, int, int] = (0, 0, 0, 0)

    def feed(self, data: memoryview) -> tuple[int, Frame | None]:
        """Take bytes from *data* up to the end of one frame's header; return how many, and the
        frame if complete.

        Raises ProtocolError for anything that is no frame; the stream is of no use after that.
        """
        used = 0
        if self._header_length < 0:
            used = min(HEAD_BYTES - len(self._buffer), len(data))
            self._buffer += data[:used]
            if len(self._buffer) < HEAD_BYTES:
                return used, None
            self._parse_head()
        more = min(self._header_length - len(self._buffer), len(data) - used)
        self._buffer += data[used : used + more]
        used += more
        if len(self._buffer) < self._header_length:
            return used, None
        kind, call_id, number, payload_length = self._head
        frame = Frame(FrameKind(kind), call_id, number, bytes(self._buffer), payload_length)
        self._buffer.clear()
        self._header_length = -1
        return used, frame

    def _parse_head(self) -> None:
        head = bytes(self._buffer)
        magic, version, kind, call_id, number, _, header_length, payload = _HEAD.unpack_from(head)
        if magic != MAGIC:
            raise ProtocolError(f"not a Craqen frame: it starts with {head[:2].hex()}")
        if _CRC.unpack_from(head, _HEAD.size)[0] != crc32c(head[: _HEAD.size]):
            raise ProtocolError("a frame head with a wrong checksum")
        if version != VERSION:
            raise ProtocolError(f"frame version {version}; this program speaks version {VERSION}")
        if kind not in _KINDS:
            raise ProtocolError(f"frame of unknown kind {kind}")
        if header_length > FRAME_HEADER_BYTES_MAX:
            raise ProtocolError(
                f"a frame header of {header_length} bytes; the limit is {FRAME_HEADER_BYTES_MAX}"
            )
        if payload > FRAME_PAYLOAD_BYTES_MAX or (payload and kind != FrameKind.DATA):
            raise ProtocolError(f"a frame of kind {kind} with a payload of {payload} bytes")
        self._head = (kind, call_id, number, payload)
        self._header_length = header_length
        self._buffer.clear()


_KINDS = {int(kind) for kind in FrameKind}
