"""What both sides of a stream hold each other to: sizes of a call, and what may be in flight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import InvalidArgumentError
from ..limits import FRAME_HEADER_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, KIB, MIB
from ..wire.messages import BATCH_BUFFERS_MAX

EAGER_BYTES_MAX: Final = 64 * KIB
"""Offered buffers up to this total travel with their request; larger ones wait to be pulled, so
that a server without a free buffer does not have to take them in."""

CALLS_IN_FLIGHT_MAX: Final = 1024
REQUEST_BYTES_IN_FLIGHT_MAX: Final = 16 * MIB
"""Of one connection: headers and eager payload of requests not answered yet. It bounds what a
server keeps for a client. The client waits for room; one that does not is out of order."""

DATA_FRAME_BYTES_MAX: Final = MIB
"""Large buffers travel in frames of this size, so that other calls get a word in, and so that a
buffer whose owner wants it back needs no more copied than this."""

PUSH_COPY_BYTES_MAX: Final = 32 * KIB
"""Pushes up to this size are copied instead of waited for: the copy costs less than the wait."""

CLOSE_TIMEOUT_SECONDS: Final = 10.0
"""How long a closing server waits for handlers before it cancels them."""

METHOD_MAX: Final = 0xFFFF

assert FRAME_HEADER_BYTES_MAX + EAGER_BYTES_MAX <= REQUEST_BYTES_IN_FLIGHT_MAX


def eager_length(send_lengths: Sequence[int]) -> int:
    """Bytes of offered buffers that travel with their request: all or none of them."""
    total = sum(send_lengths)
    return total if total <= EAGER_BYTES_MAX else 0


def check_call(
    method: int, header: bytes, send: Sequence[memoryview], receive: Sequence[memoryview]
) -> tuple[Sequence[int], Sequence[int]]:
    """Lengths of the buffers of a call. Raises InvalidArgumentError for what no call may hold."""
    assert 0 <= method <= METHOD_MAX
    if len(header) > FRAME_HEADER_BYTES_MAX:
        raise InvalidArgumentError(
            f"call {method}: a header of {len(header)} bytes; the limit is {FRAME_HEADER_BYTES_MAX}"
        )
    return (
        _lengths(method, send) if send else _NONE,
        _lengths(method, receive) if receive else _NONE,
    )


_NONE: Final[tuple[int, ...]] = ()


def _lengths(method: int, views: Sequence[memoryview]) -> list[int]:
    if len(views) > BATCH_BUFFERS_MAX:
        raise InvalidArgumentError(
            f"call {method}: {len(views)} buffers; the limit is {BATCH_BUFFERS_MAX}"
        )
    for view in views:
        assert view.itemsize == 1
        assert view.contiguous
    lengths = [view.nbytes for view in views]
    if max(lengths) > FRAME_PAYLOAD_BYTES_MAX:
        raise InvalidArgumentError(
            f"call {method}: a buffer of {max(lengths)} bytes; the limit is "
            f"{FRAME_PAYLOAD_BYTES_MAX}"
        )
    return lengths


class Window:
    """How much of one connection is in flight; counted alike on both sides."""

    __slots__ = ("_bytes", "_calls")

    def __init__(self) -> None:
        self._calls = 0
        self._bytes = 0

    def take(self, request_bytes: int) -> bool:
        """Begin one more call, if it fits."""
        if (
            self._calls >= CALLS_IN_FLIGHT_MAX
            or self._bytes + request_bytes > REQUEST_BYTES_IN_FLIGHT_MAX
        ):
            return False
        self._calls += 1
        self._bytes += request_bytes
        return True

    def give(self, request_bytes: int) -> None:
        """A call is answered."""
        self._calls -= 1
        self._bytes -= request_bytes
