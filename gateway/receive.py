"""Request bodies: decoded, verified, and kept in memory or written to a segment while they arrive.

For a large body three things go on at once: the next bytes arrive in one buffer while the last full
one is digested in worker threads and written to its block. Two buffers are all that a body holds,
and one if the process has no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol, TypeVar

from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from ..core.client.encrypted import EncryptedSegmentWriter
from ..core.client.port import SegmentWriter
from ..core.crypt.pages import stored_length
from ..core.errors import CallerError, ConflictError
from ..core.limits import INLINE_BYTES_MAX, PUT_BYTES_MAX
from ..core.meta.records import NewContent
from .auth.chunked import ChunkDecoder, decoded_length_bytes, trailer_names
from .body.checksums import ALGORITHMS, HEADER_PREFIX
from .body.verification import BodyResult, BodyVerifier
from .encryption import Sealing, inline_content
from .errors import S3Error
from .exchange import Exchange, Services
from .headers import Headers
from .protocol import IDLE_TIMEOUT_SECONDS, BodyReceiver, is_slow
from .xml import DOCUMENT_BYTES_MAX

T = TypeVar("T")

THREADED_DIGEST_BYTES = 64 * 1024  # below this a thread hop costs more than the digest
FRAMING_BYTES_MAX = 1 << 30  # aws-chunked framing of the largest body in chunks of 1 KiB

_LOST = (
    ClientPayloadError,
    RequestPayloadError,
    HttpProcessingError,
    ConnectionError,
    EOFError,
)


class PayloadDecoder(Protocol):
    """Finds the payload in a body that frames it."""

    @property
    def trailers(self) -> dict[str, str]:
        """What came behind the payload."""
        ...

    def feed(self, data: bytes | memoryview, /) -> list[memoryview]:
        """Take the next bytes; return the payload among them, never more than was taken. Raises
        S3Error."""
        ...

    def finish(self) -> None:
        """The body has ended. Raises S3Error if that is too early."""
        ...


class Body:
    """The body of one request, to be read once: by ``read``, or by ``fill`` until it gives less."""

    def __init__(self, exchange: Exchange) -> None:
        """Raises S3Error: MissingContentLength, EntityTooLarge, and what is wrong with the
        headers."""
        self._exchange = exchange
        self._content = exchange.request.content
        self._rest = memoryview(b"")
        headers = exchange.headers
        self.length: int | None = None
        """Length of the payload, if the request states it."""
        self.decoder: PayloadDecoder | None = None
        """Set if the body frames its payload: as aws-chunked, or as the file of a form."""
        text = headers.get("content-length")
        self._wire_length = None if text is None else int(text)
        authentication = exchange.authentication
        if authentication.payload.is_chunked:
            self.length = decoded_length_bytes(headers)
            self.decoder = ChunkDecoder(
                authentication.payload,
                decoded_length_bytes=self.length,
                signing=authentication.chunk_signing,
                trailer_names=trailer_names(headers),
            )
        elif self._wire_length is not None or "transfer-encoding" not in headers:
            self.length = self._wire_length or 0
        for length, most in (
            (self.length, PUT_BYTES_MAX),
            (self._wire_length, PUT_BYTES_MAX + FRAMING_BYTES_MAX),
        ):
            if length is not None and length > most:
                raise S3Error(
                    "EntityTooLarge",
                    fields={"ProposedSize": str(length), "MaxSizeAllowed": str(PUT_BYTES_MAX)},
                )

    @property
    def states_length(self) -> bool:
        """Whether the request says how long its body is, if only by Transfer-Encoding."""
        headers = self._exchange.headers
        return self._wire_length is not None or "transfer-encoding" in headers

    @property
    def trailers(self) -> dict[str, str]:
        """Trailing headers, once the body has ended."""
        return {} if self.decoder is None else self.decoder.trailers

    async def read(self, limit: int) -> bytes:
        """All of the payload, at most *limit* bytes.

        Raises S3Error: EntityTooLarge, IncompleteBody, and what the chunk decoder finds.
        """
        content = self._content
        if content.is_eof() and self.decoder is None and content.total_bytes <= limit:
            return await self._next()
        self._exchange.send_continue()
        parts: list[bytes | memoryview] = []
        size = 0
        while data := await self._next():
            for piece in (data,) if self.decoder is None else self.decoder.feed(data):
                size += len(piece)
                if size > limit:
                    raise S3Error("EntityTooLarge")
                parts.append(piece)
        self.finish()
        return b"".join(parts)

    async def fill(self, target: memoryview) -> int:
        """Fill *target* with the next bytes as they stand on the wire; less only at the end.

        Raises S3Error: IncompleteBody, RequestTimeout.
        """
        exchange, content = self._exchange, self._content
        exchange.send_continue()
        began = asyncio.get_running_loop().time()
        filled = 0
        while filled < len(target):
            if self._rest:
                count = min(len(self._rest), len(target) - filled)
                target[filled : filled + count] = self._rest[:count]
                self._rest = self._rest[count:]
                filled += count
            elif exchange.receiver is not None:
                return filled + await self._receive(target[filled:])
            elif content.exception() is None and (data := content.read_nowait()):
                self._rest = memoryview(data)
            elif (receiver := self._take_over()) is not None:
                exchange.receiver = receiver
            elif data := await self._next():
                self._rest = memoryview(data)
                if is_slow(filled + len(data), began, self._others_wait):
                    raise S3Error("RequestTimeout")
            else:
                break
        return filled

    def _others_wait(self) -> bool:
        return self._exchange.services.buffers.is_short

    def unread(self, data: bytes) -> None:
        """Put bytes back in front of what ``fill`` gives next."""
        self._rest = memoryview(data + bytes(self._rest))

    def finish(self) -> None:
        """The body has ended: is its framing whole? Raises S3Error as the chunk decoder does."""
        if self.decoder is not None:
            self.decoder.finish()

    def _take_over(self) -> BodyReceiver | None:
        content = self._content
        if self._wire_length is None or content.is_eof() or content.exception() is not None:
            return None
        return self._exchange.request.protocol.take_body(content, self._wire_length)

    async def _receive(self, target: memoryview) -> int:
        """As ``fill``, past aiohttp."""
        receiver = self._exchange.receiver
        assert receiver is not None
        if not receiver.remaining_bytes:
            return 0
        try:
            return await receiver.fill(target, self._others_wait)
        except TimeoutError as error:
            raise S3Error("RequestTimeout") from error
        except _LOST as error:
            raise S3Error("IncompleteBody") from error

    async def _next(self) -> bytes:
        """What aiohttp has of the body, or gets next; empty at its end."""
        content = self._content
        try:
            if content.is_eof():
                return content.read_nowait()
            if self._exchange.request.protocol.half_closed:
                raise EOFError("the body ended early")
            async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
                return await content.readany()
        except TimeoutError as error:
            raise S3Error("RequestTimeout") from error
        except _LOST as error:
            raise S3Error("IncompleteBody") from error


async def read_document(
    exchange: Exchange, *, checksum_required: bool = False, checksum_of_object: bool = False
) -> bytes:
    """A request's XML document, verified.

    *checksum_required*: a request without a checksum of its document is refused.
    *checksum_of_object*: the checksum headers are not of the document but of the object at issue.
    Raises S3Error.
    """
    body = Body(exchange)
    verifier = BodyVerifier.for_request(
        _without_checksums(exchange.headers) if checksum_of_object else exchange.headers,
        exchange.authentication,
        length_bytes=body.length,
        checksum_required=checksum_required,
    )
    data = await body.read(DOCUMENT_BYTES_MAX)
    verifier.update(data)
    verifier.finish(body.trailers)
    return data


def _without_checksums(headers: Headers) -> Headers:
    return {name: value for name, value in headers.items() if not name.startswith(HEADER_PREFIX)}


class Received(NamedTuple):
    """A body that arrived whole and as stated."""

    content: NewContent
    result: BodyResult
    writer: SegmentWriter | None
    """Of the segment that holds it; None if it is in memory."""

    async def put_by(self, put: Awaitable[T]) -> T:
        """Await *put*, which makes the content known; free the content if it was refused.

        After an error that leaves it open whether the content is known by now, nothing is freed:
        segments that nobody refers to are found in the end.
        """
        try:
            return await put
        except (CallerError, ConflictError):
            if self.writer is not None:
                await asyncio.shield(self.writer.abort())
            raise


class Lead(NamedTuple):
    """Bytes that go into a segment in front of a body."""

    length_bytes: int
    write: Callable[[SegmentWriter], Awaitable[None]]


async def receive_content(
    exchange: Exchange,
    *,
    inline: bool,
    default_algorithm: str = "crc64nvme",
    also_algorithm: str = "",
    lead: Lead | None = None,
) -> Received:
    """The body as content ready to be put: small bodies in memory (where *inline* is allowed),
    others in a segment. *also_algorithm*: a checksum to compute besides the one that is stated.
    *lead*: what goes in front of the body in a segment, and is no part of it.

    Raises S3Error and CraqenError; then nothing is left behind.
    """
    body = Body(exchange)
    if not body.states_length:
        raise S3Error("MissingContentLength")
    verifier = BodyVerifier.for_request(
        exchange.headers,
        exchange.authentication,
        length_bytes=body.length,
        default=ALGORITHMS[default_algorithm],
        also=ALGORITHMS.get(also_algorithm),
    )
    if body.length is not None and body.length <= (INLINE_BYTES_MAX if inline else 0):
        data = await body.read(INLINE_BYTES_MAX)
        verifier.update(data)
        result = verifier.finish(body.trailers)
        content = small_content(exchange, data) if inline else NewContent(0)
        return Received(content, result, None)
    return await receive_segment(exchange, body, verifier, lead=lead)


def small_content(exchange: Exchange, data: bytes) -> NewContent:
    """Content that is kept in a record, encrypted if the exchange's is."""
    return inline_content(exchange.sealing, data)


def new_segment(services: Services, sealing: Sealing | None, length: int | None) -> SegmentWriter:
    """A writer of a segment for *length* bytes (if that is known), which encrypts if there is a
    sealing. ``ensure_ids`` was awaited."""
    segment_id = services.meta.new_segment_id()
    layout = services.meta.layout_of(segment_id, in_place=False)
    if sealing is None:
        return services.data.new_segment(segment_id, layout, length_bytes=length)
    stored = None if length is None else stored_length(length)
    writer = services.data.new_segment(segment_id, layout, length_bytes=stored)
    return EncryptedSegmentWriter(writer, sealing.data_key, services.executor, segment_id, layout)


async def receive_segment(
    exchange: Exchange, body: Body, verifier: BodyVerifier, *, lead: Lead | None = None
) -> Received:
    """All of *body*, or the rest of it, in a segment of its own, behind *lead*.

    Raises S3Error and CraqenError; then nothing is left behind.
    """
    meta = exchange.services.meta
    bucket_id = exchange.settings.record.inode_id
    await meta.check_room(bucket_id, exchange.owner.uid, body.length or 1)
    await meta.ensure_ids(1)
    ahead = 0 if lead is None else lead.length_bytes
    length = None if body.length is None else ahead + body.length
    writer = new_segment(exchange.services, exchange.sealing, length)
    try:
        if lead is not None:
            await lead.write(writer)
        await _Stream(exchange, body, verifier, writer).run()
        result = verifier.finish(body.trailers)
        extents = await writer.finish()
    except BaseException:
        await asyncio.shield(writer.abort())
        raise
    return Received(NewContent(ahead + result.length_bytes, None, extents), result, writer)


class _Stream:
    """The way of one large body: from the wire into a segment."""

    def __init__(
        self, exchange: Exchange, body: Body, verifier: BodyVerifier, writer: SegmentWriter
    ) -> None:
        self._executor = exchange.services.executor
        self._pool = exchange.services.buffers
        self._body = body
        self._verifier = verifier
        self._writer = writer
        self._written = 0

    async def run(self) -> None:
        """Receive all of it. Raises S3Error, CraqenError; then the writer has to be aborted."""
        buffer = await self._pool.take()
        spare: memoryview | None = None
        working: asyncio.Task[None] | None = None
        try:
            while count := await self._body.fill(buffer):
                if working is not None:
                    await _settled(working)
                working = asyncio.create_task(self._consume(buffer[:count]))
                if count < len(buffer):
                    break
                spare = spare or self._pool.take_now()
                if spare is None:
                    await _settled(working)
                else:
                    buffer, spare = spare, buffer
            if working is not None:
                await _settled(working)
            self._body.finish()
        except BaseException:
            # What is under way uses the buffers and the writer, which is about to be aborted.
            if working is not None and not working.done():
                await asyncio.wait((working,))
            if working is not None and not working.cancelled():
                working.exception()  # the first error is the one to tell
            raise
        finally:
            held = [buffer] if spare is None else [buffer, spare]
            if working is None or working.done():
                self._give(held)
            else:
                # Cut short: a thread still reads the buffers.
                working.add_done_callback(lambda _: self._give(held))

    def _give(self, buffers: list[memoryview]) -> None:
        for buffer in buffers:
            self._pool.give(buffer)

    async def _consume(self, data: memoryview) -> None:
        """Decode one buffer; digest and write its payload, side by side."""
        verifier, writer = self._verifier, self._writer
        loop, executor = asyncio.get_running_loop(), self._executor
        threaded = len(data) >= THREADED_DIGEST_BYTES
        if self._body.decoder is not None:
            if threaded:
                data = await loop.run_in_executor(executor, self._decode, data)
            else:
                data = self._decode(data)
        self._written += len(data)
        if self._written > PUT_BYTES_MAX:
            raise S3Error("EntityTooLarge")
        if not threaded:
            verifier.update(data)
            await writer.write(data)
            return
        jobs = [loop.run_in_executor(executor, lane, data) for lane in verifier.lanes]
        results = await asyncio.gather(writer.write(data), *jobs, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _decode(self, data: memoryview) -> memoryview:
        """The payload in *data*, moved together at its front."""
        decoder = self._body.decoder
        assert decoder is not None
        size = 0
        for piece in decoder.feed(data):
            end = size + len(piece)
            data[size:end] = piece  # moves to the left or not at all
            size = end
        return data[:size]


async def _settled(working: asyncio.Task[None]) -> None:
    """Wait for *working* without cancelling it along: threads use its buffer."""
    await asyncio.wait((working,))
    working.result()
