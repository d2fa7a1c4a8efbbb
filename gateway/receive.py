"""Request bodies: decoded, verified, and kept in memory or written to a segment while they arrive.

For a large body three things go on at once: the next bytes arrive in one buffer while the last full
one is digested in worker threads and written to its block. Two buffers of 1 MiB are all that a body
holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError

from ..core.client.port import SegmentWriter
from ..core.limits import INLINE_BYTES_MAX, MIB, PUT_BYTES_MAX
from ..core.meta.records import NewContent
from .auth.chunked import ChunkDecoder, decoded_length_bytes, trailer_names
from .body.checksums import ALGORITHMS
from .body.verification import BodyResult, BodyVerifier
from .errors import S3Error
from .exchange import Exchange
from .xml import DOCUMENT_BYTES_MAX

BUFFER_BYTES = MIB
THREADED_DIGEST_BYTES = 64 * 1024  # below this a thread hop costs more than the digest
IDLE_TIMEOUT_SECONDS = 60.0  # a client that sends nothing for so long is gone


class Body:
    """The body of one request, to be read once."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._content = exchange.request.content
        headers = exchange.headers
        self.length: int | None = None
        """Length of the payload, if the request states it."""
        self._decoder: ChunkDecoder | None = None
        authentication = exchange.authentication
        if authentication.payload.is_chunked:
            self.length = decoded_length_bytes(headers)
            self._decoder = ChunkDecoder(
                authentication.payload,
                decoded_length_bytes=self.length,
                signing=authentication.chunk_signing,
                trailer_names=trailer_names(headers),
            )
        elif "content-length" in headers:
            self.length = int(headers["content-length"])
        elif "transfer-encoding" not in headers:
            self.length = 0
            if exchange.request.method in ("PUT", "POST") and not self._content.at_eof():
                raise S3Error("MissingContentLength")
        if self.length is not None and self.length > PUT_BYTES_MAX:
            raise S3Error(
                "EntityTooLarge",
                fields={"ProposedSize": str(self.length), "MaxSizeAllowed": str(PUT_BYTES_MAX)},
            )

    @property
    def trailers(self) -> dict[str, str]:
        """Trailing headers, once the body has ended."""
        return {} if self._decoder is None else self._decoder.trailers

    async def pieces(self) -> AsyncIterator[memoryview]:
        """The payload as it arrives. Raises S3Error IncompleteBody and what the chunk decoder
        finds."""
        self._exchange.send_continue()
        decoder, content = self._decoder, self._content
        while True:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT_SECONDS):
                    data = await content.readany()
            except TimeoutError as error:
                raise S3Error("RequestTimeout") from error
            except (ClientPayloadError, HttpProcessingError, ConnectionError, EOFError) as error:
                raise S3Error("IncompleteBody") from error
            if not data:
                break
            if decoder is None:
                yield memoryview(data)
            else:
                for view in decoder.feed(data):
                    yield view
        if decoder is not None:
            decoder.finish()

    async def read(self, limit: int) -> bytes:
        """All of it, at most *limit* bytes. Raises S3Error EntityTooLarge."""
        parts: list[bytes] = []
        size = 0
        async for piece in self.pieces():
            size += len(piece)
            if size > limit:
                raise S3Error("EntityTooLarge")
            parts.append(bytes(piece))
        if self._decoder is None and self.length is not None and size != self.length:
            raise S3Error("IncompleteBody")
        return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_document(exchange: Exchange, *, checksum_required: bool = False) -> bytes:
    """A request's XML document, verified."""
    body = Body(exchange)
    verifier = BodyVerifier.for_request(
        exchange.headers,
        exchange.authentication,
        length_bytes=body.length,
        checksum_required=checksum_required,
    )
    data = await body.read(DOCUMENT_BYTES_MAX)
    verifier.update(data)
    verifier.finish(body.trailers)
    return data


async def receive_content(
    exchange: Exchange, *, inline: bool, default_algorithm: str | None = "crc64nvme"
) -> tuple[NewContent, BodyResult]:
    """The body as content ready to be put: small bodies in memory (where *inline* is allowed),
    others in a segment.

    On any error nothing is left behind.
    """
    body = Body(exchange)
    default = None if default_algorithm is None else ALGORITHMS[default_algorithm]
    verifier = BodyVerifier.for_request(
        exchange.headers, exchange.authentication, length_bytes=body.length, default=default
    )
    if inline and body.length is not None and body.length <= INLINE_BYTES_MAX:
        data = await body.read(INLINE_BYTES_MAX)
        verifier.update(data)
        result = verifier.finish(body.trailers)
        return NewContent(len(data), data), result
    if body.length == 0:
        await body.read(0)
        verifier.update(b"")
        return NewContent(0, None), verifier.finish(body.trailers)
    services = exchange.services
    await services.meta.ensure_ids(1)
    segment_id = services.meta.new_segment_id()
    layout = services.meta.layout_of(segment_id, in_place=False)
    writer = services.data.new_segment(segment_id, layout, length_bytes=body.length)
    try:
        await _stream(exchange, body, verifier, writer)
        result = verifier.finish(body.trailers)
        extents = await writer.finish()
    except BaseException:
        await asyncio.shield(writer.abort())
        raise
    return NewContent(result.length_bytes, None, extents), result


async def _stream(
    exchange: Exchange, body: Body, verifier: BodyVerifier, writer: SegmentWriter
) -> None:
    """Gather pieces into buffers; digest and write each full one while the next fills."""
    size = BUFFER_BYTES if body.length is None else min(BUFFER_BYTES, body.length)
    buffers = [memoryview(bytearray(size)), memoryview(bytearray(size))]
    filled, current = 0, 0
    working: asyncio.Task[None] | None = None
    total = 0
    try:
        async for piece in body.pieces():
            total += len(piece)
            if total > PUT_BYTES_MAX:
                raise S3Error("EntityTooLarge")
            while piece:
                room = min(size - filled, len(piece))
                buffers[current][filled : filled + room] = piece[:room]
                filled += room
                piece = piece[room:]
                if filled == size:
                    if working is not None:
                        await working
                    working = asyncio.create_task(
                        _consume(exchange, verifier, writer, buffers[current])
                    )
                    current, filled = 1 - current, 0
        if working is not None:
            await working
            working = None
        if filled:
            await _consume(exchange, verifier, writer, buffers[current][:filled])
    finally:
        if working is not None:
            # An error on the way: the buffer is in use until this ends.
            await asyncio.gather(working, return_exceptions=True)


async def _consume(
    exchange: Exchange, verifier: BodyVerifier, writer: SegmentWriter, data: memoryview
) -> None:
    """Digest and write one buffer, side by side."""
    if len(data) < THREADED_DIGEST_BYTES:
        verifier.update(data)
        await writer.write(data)
        return
    loop = asyncio.get_running_loop()
    executor = exchange.services.executor
    jobs = [loop.run_in_executor(executor, lane, data) for lane in verifier.lanes]
    results = await asyncio.gather(writer.write(data), *jobs, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
