"""DRIVER: one request at the serving side of a stream: pulls and pushes of its buffers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..errors import DataLossError, ProtocolError, UnavailableError
from ..wire.framing import DATA, PULL, Frame, frame
from .flow import DATA_FRAME_BYTES_MAX, PUSH_COPY_BYTES_MAX
from .lending import BORROWED_PIECE_BYTES, BORROWED_TURN_BYTES
from .outbox import Transfer
from .port import Taken

if TYPE_CHECKING:
    from .stream_server import StreamPeer

FILE_PIECE_BYTES: Final = DATA_FRAME_BYTES_MAX


class Pull:
    """A buffer on its way here."""

    __slots__ = ("arrival", "borrowed", "into", "received", "taken")

    def __init__(
        self, into: memoryview, arrival: asyncio.Future[None], taken: Taken | None
    ) -> None:
        self.into = into
        self.taken = taken
        self.arrival = arrival
        self.received = 0
        self.borrowed: tuple[int, int] | None = None
        """The descriptor of memory in which the bytes lie, and where they begin."""


class StreamRequest:
    """``IncomingRequest`` (core/transport/port.py) on a stream."""

    __slots__ = (
        "_asked",
        "_eager",
        "_gone",
        "_peer",
        "_pulls",
        "call_id",
        "dropped",
        "header",
        "method",
        "receive_lengths",
        "request_bytes",
        "send_lengths",
        "task",
    )

    def __init__(self, peer: StreamPeer, frame: Frame, eager: memoryview | None) -> None:
        self._peer = peer
        self.call_id = frame.call_id
        self.method = frame.number
        self.header = frame.header
        self.send_lengths: Sequence[int] = frame.send_lengths
        self.receive_lengths: Sequence[int] = frame.receive_lengths
        self.request_bytes = len(frame.header) + frame.payload_length
        self.task: asyncio.Task[None] | None = None
        self.dropped = False
        """Whether a pull was given up: some of its bytes may still come."""
        self._eager = eager
        self._asked = 0
        """Bit i: buffer i has been pulled."""
        self._pulls: dict[int, Pull] | None = None
        self._gone: str | None = None

    @property
    def peer_id(self) -> int:
        return self._peer.peer_id

    @property
    def shares_files(self) -> bool:
        return self._peer.shares_files

    async def pull(self, number: int, into: memoryview, taken: Taken | None = None) -> None:
        """Fill *into* with offered buffer *number* (see the port)."""
        length = self.send_lengths[number]
        assert into.nbytes == length
        assert not self._asked >> number & 1, "each buffer may be pulled once"
        self._asked |= 1 << number
        if length == 0:
            return
        if self._eager is not None:
            start = sum(self.send_lengths[:number])
            into[:] = self._eager[start : start + length]
            if taken is not None:
                taken(into)
            return
        self._raise_if_gone()
        if self._pulls is None:
            self._pulls = {}
        pulls = self._pulls
        pull = pulls[number] = Pull(into, asyncio.get_running_loop().create_future(), taken)
        may_lend = int(self._peer.shares_files)
        self._peer.outbox.add(frame(PULL, self.call_id, number=number, offset=may_lend))
        self._peer.send_soon(now=False)
        try:
            await pull.arrival
            if pull.borrowed is not None:
                await self._borrow(*pull.borrowed, into, taken)
        except BaseException:
            self.dropped = True
            self._peer.forget(pull)
            raise
        finally:
            del pulls[number]
            if pull.borrowed is not None:
                os.close(pull.borrowed[0])

    async def _borrow(
        self, descriptor: int, offset: int, into: memoryview, taken: Taken | None
    ) -> None:
        """Copy from the caller's memory. Raises UnavailableError if the caller has given up: its
        bytes need not be what they were."""
        done = 0
        while done < into.nbytes:
            self._raise_if_gone()
            piece = into[done : done + BORROWED_PIECE_BYTES]
            count = os.preadv(descriptor, [piece], offset + done)
            if count == 0:
                raise UnavailableError("the caller's memory ends before the bytes that it offered")
            if taken is not None:
                taken(piece[:count])
            done += count
            if done % BORROWED_TURN_BYTES == 0:
                await asyncio.sleep(0)
        self._raise_if_gone()

    async def push(self, number: int, source: memoryview) -> None:
        """Put *source* into wanted buffer *number* (see the port)."""
        self._check_push(number, source.nbytes)
        await self._push_part(number, source, 0)

    async def push_file(self, number: int, descriptor: int, offset: int, length: int) -> None:
        """As ``push``, from a file (see the port): sendfile of what is in the page cache. The rest
        is read by a thread first, since sendfile would hold up the loop for the disk."""
        self._check_push(number, length)
        if os.fstat(descriptor).st_size < offset + length:
            raise DataLossError(f"a file is shorter than the {offset + length} bytes it should be")
        done = 0
        while done < length:
            count = min(FILE_PIECE_BYTES, length - done)
            if _in_page_cache(descriptor, offset + done, count):
                self._raise_if_gone()
                transfer = Transfer(
                    self.call_id,
                    number,
                    count,
                    owner=self,
                    descriptor=descriptor,
                    file_offset=offset + done,
                    start=done,
                )
                await self._peer.send_transfer(transfer)
            else:
                loop = asyncio.get_running_loop()
                piece = await loop.run_in_executor(
                    None, _read_exactly, descriptor, offset + done, count
                )
                await self._push_part(number, piece, done)
            done += count

    async def _push_part(self, number: int, source: memoryview, start: int) -> None:
        self._raise_if_gone()
        length = source.nbytes
        if length == 0:
            return
        peer = self._peer
        if length > PUSH_COPY_BYTES_MAX:
            await peer.send_transfer(
                Transfer(self.call_id, number, length, owner=self, source=source, start=start)
            )
            return
        head = frame(DATA, self.call_id, number=number, payload_length=length, offset=start)
        peer.outbox.add(head)
        peer.outbox.add(bytes(source))
        peer.send_soon(now=False)
        await peer.room()

    # Called by the peer

    def destination(self, frame: Frame) -> memoryview | None:
        """Where the payload of a DATA frame goes; None to drop it. Raises ProtocolError."""
        pull = self._pull(frame.number)
        if pull is None:
            self._check_asked(frame.number, "sent")
            return None
        stop = frame.offset + frame.payload_length
        if pull.borrowed is not None or frame.offset != pull.received or stop > pull.into.nbytes:
            raise ProtocolError(
                f"bytes {frame.offset} to {stop} of buffer {frame.number}, which has "
                f"{pull.into.nbytes} and has received {pull.received}"
            )
        self._peer.payload_owner = pull
        return pull.into[frame.offset : stop]

    def arrived(self, frame: Frame) -> None:
        """The payload of a DATA frame is complete."""
        pull = self._pull(frame.number)
        if pull is None:
            return
        start, pull.received = pull.received, pull.received + frame.payload_length
        if pull.taken is not None and not pull.arrival.done():
            pull.taken(pull.into[start : pull.received])
        if pull.received == pull.into.nbytes and not pull.arrival.done():
            pull.arrival.set_result(None)

    def lent(self, frame: Frame, descriptor: int) -> bool:
        """The bytes of a pulled buffer lie in memory that was lent. Whether the descriptor is this
        request's from now on. Raises ProtocolError."""
        pull = self._pull(frame.number)
        if pull is None:
            self._check_asked(frame.number, "lent")
            return False
        if pull.received or pull.borrowed is not None:
            raise ProtocolError(f"buffer {frame.number} was lent after it was sent")
        if pull.arrival.done():
            return False
        pull.borrowed = (descriptor, frame.offset)
        pull.arrival.set_result(None)
        return True

    def _pull(self, number: int) -> Pull | None:
        return self._pulls.get(number) if self._pulls else None

    def _check_asked(self, number: int, what: str) -> None:
        """Raise ProtocolError for a buffer that came unasked: of a pull that was given up it may
        still come."""
        if not (self.dropped and self._asked >> number & 1):
            raise ProtocolError(f"buffer {number} was {what} without having been pulled")

    def end(self, why: str) -> None:
        """The caller is gone, or has given up: nothing more will come, or is wanted."""
        self._gone = why
        for pull in (self._pulls or {}).values():
            if not pull.arrival.done():
                pull.arrival.set_exception(UnavailableError(why))

    def _raise_if_gone(self) -> None:
        if self._gone is not None:
            raise UnavailableError(self._gone)

    def _check_push(self, number: int, length: int) -> None:
        assert length <= self.receive_lengths[number], "more bytes than the caller has room for"


def _in_page_cache(descriptor: int, offset: int, length: int) -> bool:
    """Whether the range can likely be read without the disk: its first and last byte are in memory,
    or the file system cannot tell (those that cannot are memory's own)."""
    probe = [bytearray(1)]
    try:
        for place in (offset, offset + length - 1):
            os.preadv(descriptor, probe, place, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _read_exactly(descriptor: int, offset: int, length: int) -> memoryview:
    view = memoryview(bytearray(length))
    done = 0
    while done < length:
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if count == 0:
            raise DataLossError(f"a file ends {length - done} bytes early")
        done += count
    return view
