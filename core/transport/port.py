"""PORT: requests with small headers, and bulk bytes that the server moves.

A call carries a header (bytes, at most FRAME_HEADER_BYTES_MAX) and *describes* two lists of
buffers: what the caller offers to send and where it wants bytes received. The server decides when
to pull and push them. By RDMA these are one-sided READs and WRITEs on registered memory; on a
stream they are payload after the frame header; in-process they are copies between memoryviews.
Answers may carry file descriptors where the transport can (unix sockets, in-process):
``shares_files`` says so.

Addresses: ``inproc://name``, ``unix:///path``, ``tcp://host:port``, later ``rdma://host:port``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

Taken = Callable[[memoryview], None]
"""Looks at bytes while they are in the processor's cache: a checksum of them costs a fraction of
what it costs later. Must not wait or raise."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The answer to one call."""

    header: bytes
    descriptors: tuple[int, ...] = ()
    """Open file descriptors, owned by the receiver of the reply."""


class IncomingRequest(Protocol):
    """One request at the server, valid until its handler returns."""

    @property
    def method(self) -> int: ...

    @property
    def header(self) -> bytes: ...

    @property
    def peer_id(self) -> int:
        """Names the connection, for state that ends with it."""
        ...

    @property
    def shares_files(self) -> bool:
        """True if descriptors may be sent back on this connection."""
        ...

    @property
    def send_lengths(self) -> Sequence[int]:
        """Lengths of the buffers that the caller offers."""
        ...

    @property
    def receive_lengths(self) -> Sequence[int]:
        """Lengths of the buffers that the caller wants filled."""
        ...

    async def pull(self, number: int, into: memoryview, taken: Taken | None = None) -> None:
        """Fill *into* with offered buffer *number* (equal lengths). Each may be pulled once.
        *taken* is given its pieces in order as they come.

        Raises UnavailableError if the caller is gone or has given up.
        """
        ...

    async def push(self, number: int, source: memoryview) -> None:
        """Put *source* at the start of wanted buffer *number*. *source* may be reused after the
        return. Raises UnavailableError if the caller is gone or has given up."""
        ...

    async def push_file(self, number: int, descriptor: int, offset: int, length: int) -> None:
        """As ``push``, from a file: by sendfile where the transport can, so the bytes must stay
        what they are until the caller has them, not only until the return. Raises DataLossError if
        the file is shorter."""
        ...


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a handler returns. Descriptors stay the server's; the transport duplicates them."""

    header: bytes
    descriptors: tuple[int, ...] = ()


Handler = Callable[[IncomingRequest], Awaitable[Answer]]
"""Answers one request. A CraqenError raised here reaches the caller as the same class and message;
any other exception is logged and reaches the caller as UnavailableError."""

PeerGone = Callable[[int], None]
"""Called once with the peer_id when a connection has ended and so have its handlers."""


class Connection(Protocol):
    """A client's connection; any number of calls may be in flight."""

    @property
    def shares_files(self) -> bool: ...

    async def call(
        self,
        method: int,
        header: bytes,
        *,
        send: Sequence[memoryview] = (),
        receive: Sequence[memoryview] = (),
        timeout_seconds: float | None = None,
    ) -> Reply:
        """Make one call. *send* must not change, nor *receive* be read, until it returns.

        Raises what the handler raised; UnavailableError when the connection is lost (the outcome is
        then unknown); DeadlineExceededError past *timeout_seconds*, which includes waiting for a
        turn when very many calls are in flight; InvalidArgumentError for a header or buffer over
        its limit (core/limits.py). After an error or a cancellation the transport no longer touches
        the buffers; the handler runs on, but its pulls and pushes fail.
        """
        ...

    async def close(self) -> None:
        """End the connection; calls under way fail with UnavailableError. Idempotent."""
        ...


class Server(Protocol):
    """A listening server."""

    @property
    def address(self) -> str:
        """The address really bound (a port 0 resolved)."""
        ...

    @property
    def refused(self) -> int:
        """How many connections were ended because of what came over them."""
        ...

    async def close(self) -> None:
        """Stop accepting, end all connections, and wait for running handlers (bounded, then they
        are cancelled)."""
        ...


class Transport(Protocol):
    """Makes connections and servers for one address scheme."""

    async def connect(self, address: str) -> Connection:
        """Raises UnavailableError if nobody answers there, InvalidArgumentError for an address that
        is none."""
        ...

    async def serve(
        self, address: str, handler: Handler, *, peer_gone: PeerGone | None = None
    ) -> Server:
        """Raises OperatorError if the address cannot be listened on, InvalidArgumentError."""
        ...
