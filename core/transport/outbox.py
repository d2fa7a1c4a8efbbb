"""What goes out next on a stream: small frames first, large buffers cut into DATA frames.

No I/O: the endpoint sends what ``first`` and ``gather`` name and says how much went by ``advance``.
Payload is referred to, never copied, until its owner wants it back (``forget``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from ..wire.framing import DATA, frame
from .flow import DATA_FRAME_BYTES_MAX

PIECES_PER_SEND: Final = 64  # well under IOV_MAX; more save nothing
GATHER_BYTES: Final = 1 << 20  # a send call takes a few hundred KiB at most


class Transfer:
    """A buffer, or part of a file, on its way into buffer *number* of a call, from *start* on."""

    __slots__ = (
        "call_id",
        "descriptor",
        "file_offset",
        "length",
        "number",
        "owner",
        "sent",
        "source",
        "start",
        "taken",
        "waiter",
    )

    def __init__(
        self,
        call_id: int,
        number: int,
        length: int,
        *,
        owner: object,
        source: memoryview | None = None,
        descriptor: int = -1,
        file_offset: int = 0,
        start: int = 0,
    ) -> None:
        self.call_id = call_id
        self.number = number
        self.length = length
        self.owner = owner
        self.source = source
        self.descriptor = descriptor
        self.file_offset = file_offset
        self.start = start
        self.taken = 0
        """Bytes made into frames."""
        self.sent = 0
        self.waiter: asyncio.Future[None] | None = None

    @property
    def finished(self) -> bool:
        return self.sent == self.length


class Piece:
    """Bytes in their place on the stream that are not simply a small frame."""

    __slots__ = (
        "descriptor",
        "descriptors",
        "file_offset",
        "length",
        "owner",
        "small",
        "transfer",
        "view",
    )

    def __init__(
        self,
        view: memoryview,
        length: int,
        *,
        owner: object = None,
        transfer: Transfer | None = None,
        descriptors: tuple[int, ...] = (),
        descriptor: int = -1,
        file_offset: int = 0,
        small: bool = False,
    ) -> None:
        self.view = view
        self.length = length
        self.owner = owner
        self.transfer = transfer
        self.descriptors = descriptors
        """Descriptors to pass along; they are this piece's own."""
        self.descriptor = descriptor
        """The file whose bytes these are, or -1."""
        self.file_offset = file_offset
        self.small = small
        """Counted in ``small_bytes``."""

    def replace(self, data: bytes) -> None:
        """Be a copy, and nobody's."""
        assert len(data) == self.length
        self.view = memoryview(data)
        self.owner = self.transfer = None
        self.descriptor = -1


_NOTHING: Final = memoryview(b"")


class Outbox:
    """The outgoing half of one stream."""

    def __init__(self) -> None:
        self._ready: deque[bytes | Piece] = deque()
        self._transfers: deque[Transfer] = deque()
        self.small_bytes = 0
        """Waiting bytes that are the transport's own: what back-pressure holds down."""
        self.placed = 0
        """Bytes that were ever given their place on the stream."""
        self.gone = 0
        """Bytes that were ever sent."""
        self.finished: list[Transfer] = []
        """Transfers whose last byte was sent; the endpoint empties it."""

    def __bool__(self) -> bool:
        return bool(self._ready or self._transfers)

    def add(self, data: bytes) -> None:
        """Append a small frame, or a small payload behind its frame."""
        self._ready.append(data)
        self.small_bytes += len(data)
        self.placed += len(data)

    def add_payload(self, view: memoryview, owner: object) -> None:
        """Append payload behind its frame; *owner* may want it back."""
        self._ready.append(Piece(view, view.nbytes, owner=owner))
        self.placed += view.nbytes

    def add_with_descriptors(self, data: bytes, descriptors: tuple[int, ...]) -> None:
        """Append a frame that descriptors go with; they are the outbox's from now on."""
        self._ready.append(Piece(memoryview(data), len(data), descriptors=descriptors, small=True))
        self.small_bytes += len(data)
        self.placed += len(data)

    def add_transfer(self, transfer: Transfer) -> None:
        """Send *transfer* when its turn comes."""
        self._transfers.append(transfer)

    def first(self) -> bytes | Piece | None:
        """What goes out next."""
        if not self._ready:
            if not self._transfers:
                return None
            self._place_data()
        return self._ready[0]

    def gather(self) -> tuple[list[bytes | memoryview], int, bool]:
        """Buffers for one send call, their length, and whether a file's bytes follow them."""
        buffers: list[bytes | memoryview] = []
        size = 0
        for entry in self._ready:
            if type(entry) is bytes:
                buffers.append(entry)
                size += len(entry)
            else:
                assert isinstance(entry, Piece)
                if entry.descriptor >= 0 or entry.descriptors:
                    return buffers, size, entry.descriptor >= 0
                buffers.append(entry.view)
                size += entry.length
            if len(buffers) >= PIECES_PER_SEND:
                return buffers, size, False
        while self._transfers and size < GATHER_BYTES and len(buffers) < PIECES_PER_SEND:
            head, piece = self._place_data()
            buffers.append(head)
            size += len(head)
            if piece.descriptor >= 0:
                return buffers, size, True
            buffers.append(piece.view)
            size += piece.length
        return buffers, size, False

    def advance(self, count: int) -> None:
        """*count* bytes were sent."""
        self.gone += count
        ready = self._ready
        while count:
            entry = ready[0]
            if type(entry) is bytes:
                size = len(entry)
                self.small_bytes -= min(size, count)
                if count < size:
                    rest = memoryview(entry)[count:]
                    ready[0] = Piece(rest, size - count, small=True)
                    return
            else:
                assert isinstance(entry, Piece)
                size = entry.length
                self._advance_piece(entry, min(size, count))
                if count < size:
                    return
            ready.popleft()
            count -= size

    def _advance_piece(self, piece: Piece, count: int) -> None:
        if piece.small:
            self.small_bytes -= count
        transfer = piece.transfer
        if transfer is not None:
            transfer.sent += count
            if transfer.finished:
                self.finished.append(transfer)
        piece.length -= count
        if piece.descriptor >= 0:
            piece.file_offset += count
        else:
            piece.view = piece.view[count:]

    def forget(self, owner: object) -> list[Piece]:
        """Drop what belongs to *owner* (a transfer, or the owner of payload) and has no place on
        the stream yet. Returns the pieces that have: each must be replaced by a copy."""
        if self._transfers:
            self._transfers = deque(
                transfer
                for transfer in self._transfers
                if transfer is not owner and transfer.owner is not owner
            )
        return [
            entry
            for entry in self._ready
            if isinstance(entry, Piece)
            and entry.length
            and (
                (entry.owner is not None and entry.owner is owner)
                or (entry.transfer is not None and entry.transfer is owner)
            )
        ]

    def transfers_of(self, owner: object) -> set[Transfer]:
        """The unfinished transfers of *owner*."""
        return {transfer for transfer in self._unfinished() if transfer.owner is owner}

    def _unfinished(self) -> set[Transfer]:
        found = set(self._transfers)
        for entry in self._ready:
            if isinstance(entry, Piece) and entry.transfer is not None:
                found.add(entry.transfer)
        return found

    def clear(self) -> tuple[set[Transfer], list[int]]:
        """Drop everything; returns transfers that are not finished, and descriptors to close."""
        transfers = self._unfinished()
        descriptors = [
            number
            for entry in self._ready
            if isinstance(entry, Piece)
            for number in entry.descriptors
        ]
        self._ready.clear()
        self._transfers.clear()
        self.small_bytes = 0
        return transfers, descriptors

    def _place_data(self) -> tuple[bytes, Piece]:
        """Make the next DATA frame of the first transfer."""
        transfer = self._transfers[0]
        done = transfer.taken
        count = min(DATA_FRAME_BYTES_MAX, transfer.length - done)
        head = frame(
            DATA,
            transfer.call_id,
            number=transfer.number,
            payload_length=count,
            offset=transfer.start + done,
        )
        source = transfer.source
        piece = Piece(
            _NOTHING if source is None else source[done : done + count],
            count,
            owner=transfer.owner,
            transfer=transfer,
            descriptor=transfer.descriptor,
            file_offset=transfer.file_offset + done,
        )
        transfer.taken = done + count
        if transfer.taken == transfer.length:
            self._transfers.popleft()
        self.add(head)
        self._ready.append(piece)
        self.placed += count
        return head, piece
