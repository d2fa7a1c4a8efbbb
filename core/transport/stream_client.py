"""DRIVER: the calling side of a stream connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import DeadlineExceededError, ProtocolError, UnavailableError
from ..wire.codec import decode_error
from ..wire.framing import Frame, FrameKind, frame_head
from .endpoint import Endpoint
from .port import Reply
from .requests import RequestHead, encode_head


@dataclass(slots=True)
class Call:
    """One call under way."""

    answer: asyncio.Future[Reply]
    send: Sequence[memoryview]
    receive: Sequence[memoryview]
    filled: list[int]
    """How much of each receive buffer has come so far."""


class StreamConnection(Endpoint):
    """``Connection`` (core/transport/port.py) over a unix or TCP socket."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._calls: dict[int, Call] = {}
        self._next_call_id = 0
        self._closed: asyncio.Future[None] = self._loop.create_future()

    async def call(
        self,
        method: int,
        header: bytes,
        *,
        send: Sequence[memoryview] = (),
        receive: Sequence[memoryview] = (),
        timeout_seconds: float | None = None,
    ) -> Reply:
        """Make one call (see the port)."""
        self._raise_if_lost()
        if self._queued_bytes:
            await self.room()
        self._next_call_id = (self._next_call_id + 1) & 0xFFFFFFFF
        call_id = self._next_call_id
        head = RequestHead(
            method,
            tuple([view.nbytes for view in send]),
            tuple([view.nbytes for view in receive]),
            header,
        )
        call = Call(self._loop.create_future(), send, receive, [0] * len(receive))
        self._calls[call_id] = call
        encoded = encode_head(head)
        pieces: list[bytes | memoryview] = [
            frame_head(FrameKind.REQUEST, call_id, header_length=len(encoded)) + encoded
        ]
        if send and head.eager:
            for number, view in enumerate(send):
                pieces.append(
                    frame_head(FrameKind.DATA, call_id, number=number, payload=view.nbytes)
                )
                pieces.append(view)
        timer = None
        if timeout_seconds is not None:
            timer = self._loop.call_later(timeout_seconds, _expire, call, method, timeout_seconds)
        try:
            self.send(pieces)
            return await call.answer
        finally:
            if timer is not None:
                timer.cancel()
            self._calls.pop(call_id, None)
            if send:
                self.detach_queued(send)
            if receive:
                self.redirect_payload(receive)

    def on_frame(self, frame: Frame) -> memoryview | None:
        """Take the server's frame."""
        call = self._calls.get(frame.call_id)
        if frame.kind == FrameKind.REPLY:
            reply = Reply(frame.header, self.take_descriptors(frame.number))
            if call is None or call.answer.done():
                for descriptor in reply.descriptors:
                    os.close(descriptor)
            else:
                call.answer.set_result(reply)
        elif frame.kind == FrameKind.ERROR:
            if call is not None and not call.answer.done():
                call.answer.set_exception(decode_error(frame.header))
        elif frame.kind == FrameKind.PULL:
            self._pulled(frame, call)
        elif frame.kind == FrameKind.DATA:
            if call is None or call.answer.done():
                return None  # the caller has given up: what still comes is dropped
            return self._destination(frame, call)
        else:
            raise ProtocolError(f"a server sent a frame of kind {frame.kind.name}")
        return None

    def on_payload(self, frame: Frame) -> None:
        """Nothing to do: the reply says that all has come."""

    def _pulled(self, frame: Frame, call: Call | None) -> None:
        if call is None or call.answer.done():
            # The caller has given up and its buffer is gone: the server's handler must not wait for
            # it.
            head = frame_head(FrameKind.ERROR, frame.call_id, number=frame.number)
            self.send([head])
            return
        if frame.number >= len(call.send):
            raise ProtocolError(f"the server pulled buffer {frame.number} of {len(call.send)}")
        view = call.send[frame.number]
        head = frame_head(FrameKind.DATA, frame.call_id, number=frame.number, payload=view.nbytes)
        self.send([head, view])

    def _destination(self, frame: Frame, call: Call) -> memoryview:
        if frame.number >= len(call.receive):
            raise ProtocolError(f"the server filled buffer {frame.number} of {len(call.receive)}")
        start = call.filled[frame.number]
        buffer = call.receive[frame.number]
        if start + frame.payload_length > buffer.nbytes:
            raise ProtocolError(
                f"the server sent {start + frame.payload_length} bytes for a buffer of "
                f"{buffer.nbytes}"
            )
        call.filled[frame.number] = start + frame.payload_length
        return buffer[start : start + frame.payload_length]

    def on_lost(self, error: Exception) -> None:
        """Fail every call under way."""
        for call in self._calls.values():
            if not call.answer.done():
                call.answer.set_exception(UnavailableError(str(error)))
        if not self._closed.done():
            self._closed.set_result(None)

    async def close(self) -> None:
        """End the connection."""
        self.lose(UnavailableError("connection closed here"))
        with contextlib.suppress(asyncio.CancelledError):
            await self._closed


def _expire(call: Call, method: int, timeout_seconds: float) -> None:
    if not call.answer.done():
        call.answer.set_exception(
            DeadlineExceededError(f"call {method}: no answer within {timeout_seconds:g} s")
        )
