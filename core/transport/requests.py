"""What the header of a REQUEST frame holds, and the limits that both sides keep."""

from __future__ import annotations

import msgspec

from ..errors import ProtocolError
from ..limits import FRAME_PAYLOAD_BYTES_MAX
from ..wire.codec import decode
from ..wire.messages import BATCH_BUFFERS_MAX, Message

EAGER_BYTES_MAX = 64 * 1024
"""Offered buffers up to this total follow their request at once; larger ones wait to be pulled, so
that a server without a free buffer does not have to take them in."""

CALLS_IN_FLIGHT_MAX = 4096  # per connection; a peer that asks for more is out of order


class RequestHead(Message):
    """The header of a REQUEST frame."""

    method: int
    send_lengths: tuple[int, ...]
    receive_lengths: tuple[int, ...]
    header: bytes

    @property
    def eager(self) -> bool:
        """Whether the offered buffers follow the request."""
        return sum(self.send_lengths) <= EAGER_BYTES_MAX


_encoder = msgspec.msgpack.Encoder()


def encode_head(head: RequestHead) -> bytes:
    """Return *head* as bytes."""
    return _encoder.encode(head)


def decode_head(data: bytes) -> RequestHead:
    """Return the checked header of a request. Raises ProtocolError."""
    head = decode(RequestHead, data)
    for lengths in (head.send_lengths, head.receive_lengths):
        if len(lengths) > BATCH_BUFFERS_MAX:
            raise ProtocolError(f"a request with {len(lengths)} buffers")
        if lengths and (min(lengths) < 0 or max(lengths) > FRAME_PAYLOAD_BYTES_MAX):
            raise ProtocolError(f"a request with a buffer of {max(lengths)} bytes")
    return head
