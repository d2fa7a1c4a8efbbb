"""MACHINE: frames on a byte stream, without I/O.

A frame is a fixed head (34 bytes), in a REQUEST the lengths of the buffers of the call, then header
bytes, then payload bytes. The head begins with the CRC32C of everything between itself and the
payload, so nothing of a damaged frame is believed; payload has checksums of its own, end to end.
Every length is held against its limit before room is made for it. The reader never holds payload
beyond what one receive call brought along: the driver receives it straight into its destination.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec

from ..checksum import crc32c
from ..errors import ProtocolError
from ..limits import FRAME_HEADER_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX
from .messages import BATCH_BUFFERS_MAX

MAGIC: Final = 0x4351  # "CQ"
VERSION: Final = 1

RECEIVE_BUFFER_BYTES: Final = 64 * 1024
"""What a reader takes in at a time; it grows only while a frame with a longer header arrives."""

# CRC; magic, version and kind; call id; number; lengths sent and wanted; header, payload, offset
_HEAD: Final = struct.Struct(">IIQHHHIII")
_REST: Final = struct.Struct(">IQHHHIII")
_CRC: Final = struct.Struct(">I")
HEAD_BYTES: Final = _HEAD.size
_CRC_BYTES: Final = _CRC.size
_UNPACK_HEAD: Final = _HEAD.unpack_from

_MARK: Final = MAGIC << 16 | VERSION << 8
_KIND_MASK: Final = 0xFF

assert FRAME_PAYLOAD_BYTES_MAX < 1 << 32


class FrameKind(IntEnum):
    """What a frame says."""

    REQUEST = 1
    """From the client: a call. ``number`` is the method; the payload is the offered buffers, end
    to end, where they are small."""
    REPLY = 2
    """From the server: the call's answer. ``number`` file descriptors come with the frame."""
    ERROR = 3
    """From the server: the call failed; the header tells how."""
    PULL = 4
    """From the server: send offered buffer ``number``; ``offset`` is 1 if it may also be lent."""
    DATA = 5
    """Bytes of buffer ``number`` of the call, from ``offset`` on."""
    CANCEL = 6
    """From the client: the answer is not waited for any more, and the buffers are gone."""
    LENT = 7
    """From the client, instead of DATA: buffer ``number`` lies at ``offset`` of the memory whose
    file descriptor comes with the frame."""


REQUEST: Final = int(FrameKind.REQUEST)
REPLY: Final = int(FrameKind.REPLY)
ERROR: Final = int(FrameKind.ERROR)
PULL: Final = int(FrameKind.PULL)
DATA: Final = int(FrameKind.DATA)
CANCEL: Final = int(FrameKind.CANCEL)
LENT: Final = int(FrameKind.LENT)

_BARE: Final = frozenset({REQUEST, REPLY, ERROR, PULL, CANCEL, LENT})
_WITH_PAYLOAD: Final = frozenset({REQUEST, DATA})


class Frame(msgspec.Struct, frozen=True, gc=False):
    """Everything of a frame but its payload, which follows on the stream."""

    kind: int
    call_id: int
    number: int
    send_lengths: tuple[int, ...]
    receive_lengths: tuple[int, ...]
    header: bytes
    payload_length: int
    offset: int


def frame(
    kind: int,
    call_id: int,
    *,
    number: int = 0,
    header: bytes = b"",
    payload_length: int = 0,
    offset: int = 0,
) -> bytes:
    """A frame up to its payload."""
    rest = (
        _REST.pack(_MARK | kind, call_id, number, 0, 0, len(header), payload_length, offset)
        + header
    )
    return _CRC.pack(crc32c(rest)) + rest


def request_frame(
    call_id: int,
    method: int,
    header: bytes,
    send_lengths: Sequence[int],
    receive_lengths: Sequence[int],
    payload_length: int,
) -> bytes:
    """A REQUEST frame up to its payload."""
    sent, wanted = len(send_lengths), len(receive_lengths)
    rest = _REST.pack(
        _MARK | REQUEST, call_id, method, sent, wanted, len(header), payload_length, 0
    )
    if sent or wanted:
        rest += struct.pack(f">{sent + wanted}I", *send_lengths, *receive_lengths)
    rest += header
    return _CRC.pack(crc32c(rest)) + rest


class FrameReader:
    """Turns received bytes into frames.

    Receive into ``space()``, say how much came by ``received``, then take frames from ``next``
    until it gives None. After a frame with a payload, take the part of it that is already here by
    ``take`` before asking for the next frame.
    """

    def __init__(self) -> None:
        self._store = bytearray(RECEIVE_BUFFER_BYTES)
        self._view = memoryview(self._store)
        self._start = 0
        self._end = 0

    @property
    def pending(self) -> int:
        """Bytes received and not yet handed out: part of a frame."""
        return self._end - self._start

    def space(self) -> memoryview:
        """Where to receive the next bytes; never empty."""
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._store) > RECEIVE_BUFFER_BYTES:
                self._replace_store(RECEIVE_BUFFER_BYTES)
        elif self._end == len(self._store):
            if self._start:
                self._move_to_front()
            else:
                self._replace_store(2 * len(self._store))
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """*count* bytes were received into ``space()``."""
        self._end += count

    def take(self, into: memoryview) -> int:
        """Move payload bytes that are here already into *into*; return how many."""
        count = min(self._end - self._start, into.nbytes)
        if count:
            into[:count] = self._view[self._start : self._start + count]
            self._start += count
        return count

    def skip(self, count: int) -> int:
        """Drop up to *count* payload bytes that are here already; return how many."""
        count = min(self._end - self._start, count)
        self._start += count
        return count

    def next(self) -> Frame | None:
        """The next frame, or None if more bytes are needed.

        Raises ProtocolError for anything that is no frame; the stream is of no use after that.
        """
        start = self._start
        end = self._end
        body = start + HEAD_BYTES
        if end < body:
            return None
        crc, mark, call_id, number, sent, wanted, header_length, payload, offset = _UNPACK_HEAD(
            self._store, start
        )
        kind = mark & _KIND_MASK
        if (
            mark ^ kind != _MARK
            or header_length > FRAME_HEADER_BYTES_MAX
            or payload > FRAME_PAYLOAD_BYTES_MAX
            or offset > FRAME_PAYLOAD_BYTES_MAX
            or sent > BATCH_BUFFERS_MAX
            or wanted > BATCH_BUFFERS_MAX
        ):
            raise _refusal(self._store[start : start + HEAD_BYTES])
        lengths: tuple[int, ...] = ()
        listed = sent + wanted
        if listed:
            body += 4 * listed
        stop = body + header_length
        if end < stop:
            return None
        view = self._view
        if crc32c(view[start + _CRC_BYTES : stop]) != crc:
            raise ProtocolError(f"a frame of call {call_id} whose head or header is damaged")
        if listed:
            lengths = struct.unpack_from(f">{listed}I", self._store, start + HEAD_BYTES)
        if payload or listed or kind not in _BARE:
            _check(kind, lengths, payload)
        self._start = stop
        return Frame(
            kind,
            call_id,
            number,
            lengths[:sent],
            lengths[sent:],
            bytes(view[body:stop]),
            payload,
            offset,
        )

    def _move_to_front(self) -> None:
        count = self._end - self._start
        self._store[:count] = self._store[self._start : self._end]
        self._start, self._end = 0, count

    def _replace_store(self, size: int) -> None:
        store = bytearray(size)
        count = self._end - self._start
        store[:count] = self._view[self._start : self._end]
        self._store, self._view = store, memoryview(store)
        self._start, self._end = 0, count


def _check(kind: int, lengths: tuple[int, ...], payload: int) -> None:
    if kind not in _KINDS:
        raise ProtocolError(f"a frame of unknown kind {kind}")
    if lengths and kind != REQUEST:
        raise ProtocolError(f"a frame of kind {FrameKind(kind).name} with buffer lengths")
    if lengths and max(lengths) > FRAME_PAYLOAD_BYTES_MAX:
        raise ProtocolError(
            f"a buffer of {max(lengths)} bytes; the limit is {FRAME_PAYLOAD_BYTES_MAX}"
        )
    if (payload and kind not in _WITH_PAYLOAD) or (not payload and kind == DATA):
        raise ProtocolError(f"a frame of kind {FrameKind(kind).name} with {payload} payload bytes")


def _refusal(head: bytearray) -> ProtocolError:
    """Say what is wrong with a head that was refused."""
    _, mark, _, _, sent, wanted, header_length, payload, offset = _HEAD.unpack(head)
    magic, version = mark >> 16, mark >> 8 & 0xFF
    if magic != MAGIC:
        return ProtocolError(f"not a Craqen frame: it starts with {head[:6].hex()}")
    if version != VERSION:
        return ProtocolError(f"frame version {version}; this program speaks version {VERSION}")
    if header_length > FRAME_HEADER_BYTES_MAX:
        return ProtocolError(
            f"a frame header of {header_length} bytes; the limit is {FRAME_HEADER_BYTES_MAX}"
        )
    if max(sent, wanted) > BATCH_BUFFERS_MAX:
        return ProtocolError(
            f"a request with {max(sent, wanted)} buffers; the limit is {BATCH_BUFFERS_MAX}"
        )
    return ProtocolError(
        f"a payload of {payload} bytes at {offset}; the limit is {FRAME_PAYLOAD_BYTES_MAX}"
    )


_KINDS: Final = frozenset(int(kind) for kind in FrameKind)
