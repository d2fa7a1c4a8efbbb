"""DRIVER: the calling side of a stream connection."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from ..errors import CraqenError, DeadlineExceededError, ProtocolError, UnavailableError
from ..wire.codec import decode_error
from ..wire.framing import CANCEL, DATA, ERROR, LENT, PULL, REPLY, Frame, frame, request_frame
from .endpoint import Endpoint
from .flow import Window, check_call, eager_length
from .lending import LendableMemory, lender_of
from .outbox import Transfer
from .port import Reply

TIMER_SLACK_SECONDS: Final = 0.001  # timers may fire this early


class Call:
    """One call under way."""

    __slots__ = (
        "answer",
        "asked",
        "deadline",
        "eager",
        "lent",
        "method",
        "pulled",
        "receive",
        "request_bytes",
        "send",
    )

    def __init__(
        self,
        answer: asyncio.Future[Reply],
        method: int,
        send: Sequence[memoryview],
        receive: Sequence[memoryview],
        request_bytes: int,
        eager: bool,
    ) -> None:
        self.answer = answer
        self.method = method
        self.send = send
        self.receive = receive
        self.request_bytes = request_bytes
        self.eager = eager
        self.deadline = math.inf
        self.asked = 0
        """Where on the stream the request ends."""
        self.pulled: set[int] | None = None
        self.lent: list[LendableMemory] = []
        """What the server may be reading until it answers."""


class StreamConnection(Endpoint):
    """``Connection`` (core/transport/port.py) over a unix or TCP socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._calls: dict[int, Call] = {}
        """Calls that the server has not answered, also those that nobody waits for any more."""
        self._last_call_id = 0
        self._window = Window()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        super().__init__(sock, takes_descriptors=True)

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
        send_lengths, receive_lengths = check_call(method, header, send, receive)
        self.raise_if_lost()
        deadline = math.inf
        if timeout_seconds is not None:
            deadline = self._loop.time() + timeout_seconds
        eager_bytes = eager_length(send_lengths) if send else 0
        request_bytes = len(header) + eager_bytes
        if self._waiting or not self._window.take(request_bytes):
            await self._admission(request_bytes, method, deadline)
        call = Call(
            self._loop.create_future(), method, send, receive, request_bytes, eager_bytes > 0
        )
        call_id = self._last_call_id = self._last_call_id + 1
        self._calls[call_id] = call
        outbox = self.outbox
        outbox.add(
            request_frame(call_id, method, header, send_lengths, receive_lengths, eager_bytes)
        )
        if eager_bytes:
            for view in send:
                if view.nbytes:
                    outbox.add_payload(view, call)
        call.asked = outbox.placed
        if deadline != math.inf:
            call.deadline = deadline
            if deadline < self._timer_at:
                self._set_timer(deadline)
        self.send_soon(now=len(self._calls) == 1)
        try:
            return await call.answer
        except BaseException:
            self._abandon(call_id, call)
            raise
        finally:
            if call.pulled is not None:
                self.forget(call)

    async def close(self) -> None:
        """End the connection; calls under way fail with UnavailableError."""
        self.lose(UnavailableError("connection closed here"))

    # Waiting for room, giving up

    async def _admission(self, request_bytes: int, method: int, deadline: float) -> None:
        """Wait until the window has room, in order of arrival."""
        waiter = self._loop.create_future()
        self._waiting.append((request_bytes, waiter))
        try:
            async with asyncio.timeout_at(None if deadline == math.inf else deadline):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._window.give(request_bytes)
            else:
                waiter.cancel()
            self._admit()
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(
                    f"call {method}: too many calls in flight, no turn within the deadline"
                ) from None
            raise
        if self.lost is not None:
            self._window.give(request_bytes)
            self.raise_if_lost()

    def _admit(self) -> None:
        while self._waiting:
            request_bytes, waiter = self._waiting[0]
            if not waiter.done():
                if not self._window.take(request_bytes):
                    return
                waiter.set_result(None)
            self._waiting.popleft()

    def _abandon(self, call_id: int, call: Call) -> None:
        """The caller leaves with an error. Its buffers are its own again."""
        answer = call.answer
        if not answer.done():
            answer.cancel()
        if not answer.cancelled() and answer.exception() is None:
            # The caller was cancelled in the moment that the answer came.
            _close_all(answer.result().descriptors)
        if self.lost is None and call_id in self._calls:
            self.forget(call)
            self.outbox.add(frame(CANCEL, call_id))
            self.send_soon(now=True)
        call.send = call.receive = ()

    def _set_timer(self, deadline: float) -> None:
        """One timer for all calls: deadlines are many and rarely met."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        now = self._loop.time() + TIMER_SLACK_SECONDS
        following = math.inf
        for call in self._calls.values():
            if call.answer.done():
                continue
            if call.deadline <= now:
                call.answer.set_exception(
                    DeadlineExceededError(f"call {call.method}: no answer within its deadline")
                )
            else:
                following = min(following, call.deadline)
        self._timer, self._timer_at = None, math.inf
        if following != math.inf:
            self._set_timer(following)

    # Frames from the server

    def on_frame(self, frame: Frame) -> memoryview | None:
        """Take the server's frame."""
        kind = frame.kind
        call = self._calls.get(frame.call_id)
        if call is None:
            raise ProtocolError(f"a frame for call {frame.call_id}, which is not under way")
        if kind == REPLY:
            self._answered(frame, call, self.take_descriptors(frame.number) if frame.number else ())
        elif kind == ERROR:
            self._answered(frame, call, decode_error(frame.header))
        elif kind == DATA:
            return self._destination(frame, call)
        elif kind == PULL:
            self._pulled(frame, call)
        else:
            raise ProtocolError(f"a server sent a frame of kind {kind}")
        return None

    def on_payload(self, frame: Frame) -> None:
        """Nothing to do: the reply says that all has come."""

    def _answered(self, frame: Frame, call: Call, outcome: tuple[int, ...] | CraqenError) -> None:
        answer = call.answer
        del self._calls[frame.call_id]
        for memory in call.lent:
            memory.lent -= 1
        self._window.give(call.request_bytes)
        if self._waiting:
            self._admit()
        if self.outbox.gone < call.asked:
            if isinstance(outcome, tuple):
                _close_all(outcome)
            self._fail(call, UnavailableError("the server answered what it was not asked"))
            raise ProtocolError(f"call {frame.call_id} was answered before it was sent")
        if not isinstance(outcome, tuple):
            self._fail(call, outcome)
        elif answer.done():
            _close_all(outcome)
        else:
            answer.set_result(Reply(frame.header, outcome))

    def _fail(self, call: Call, error: CraqenError) -> None:
        if not call.answer.done():
            call.answer.set_exception(error)

    def _pulled(self, frame: Frame, call: Call) -> None:
        if call.answer.done():
            return  # given up: the CANCEL on its way answers this
        number = frame.number
        if call.pulled is None:
            call.pulled = set()
        if (
            number >= len(call.send)
            or call.eager
            or number in call.pulled
            or call.send[number].nbytes == 0
        ):
            raise ProtocolError(f"the server pulled buffer {number}, which is not there to pull")
        call.pulled.add(number)
        view = call.send[number]
        if not (frame.offset and self.shares_files and self._lend(frame, call, view)):
            self.outbox.add_transfer(
                Transfer(frame.call_id, number, view.nbytes, owner=call, source=view)
            )
        self.send_soon(now=False)

    def _lend(self, pull: Frame, call: Call, view: memoryview) -> bool:
        """Let the server take the buffer that it pulls from its memory; whether that can be."""
        memory = lender_of(view)
        if memory is None:
            return False
        try:
            descriptor = os.dup(memory.descriptor)
        except OSError:
            return False  # this process has too many open
        memory.lent += 1
        call.lent.append(memory)
        told = frame(LENT, pull.call_id, number=pull.number, offset=memory.offset_of(view))
        self.outbox.add_with_descriptors(told, (descriptor,))
        return True

    def _destination(self, frame: Frame, call: Call) -> memoryview | None:
        if call.answer.done():
            return None  # given up: what still comes is dropped
        stop = frame.offset + frame.payload_length
        length = call.receive[frame.number].nbytes if frame.number < len(call.receive) else 0
        if stop > length:
            raise ProtocolError(
                f"the server sent {stop} bytes for buffer {frame.number} of {length} bytes"
            )
        self.payload_owner = call
        return call.receive[frame.number][frame.offset : stop]

    def on_lost(self, error: Exception) -> None:
        """Fail every call under way."""
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            self._fail(call, UnavailableError(str(error)))
        waiting, self._waiting = self._waiting, deque()
        for _, waiter in waiting:
            if not waiter.done():
                waiter.set_exception(UnavailableError(str(error)))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _close_all(descriptors: Sequence[int]) -> None:
    for number in descriptors:
        os.close(number)
