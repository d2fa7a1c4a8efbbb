"""The bytes of a copy's source: digested, or written anew where they cannot be shared."""

from __future__ import annotations

import asyncio

from ..core.limits import INLINE_BYTES_MAX
from ..core.meta.records import NewContent, ObjectView
from .body.checksums import FULL_OBJECT, Algorithm
from .body.verification import BodyResult, BodyVerifier
from .content import Content
from .exchange import Exchange
from .ranges import ByteRange
from .receive import Received, new_segment, small_content


async def digest_of(
    exchange: Exchange, content: Content, view: ObjectView, span: ByteRange, algorithm: Algorithm
) -> BodyResult:
    """MD5 and checksum of a range of an object, from what is known or by reading it. Raises
    CraqenError."""
    known = _known_digest(view, span, algorithm)
    if known is not None:
        return known
    verifier = BodyVerifier(default=algorithm)
    buffers = exchange.services.buffers
    buffer = await buffers.take()
    position, end = span.start, span.start + span.length
    try:
        while position < end:
            piece = buffer[: min(len(buffer), end - position)]
            await content.read(position, piece)
            await _digest_piece(exchange, verifier, piece)
            position += len(piece)
    finally:
        buffers.give(buffer)
    return verifier.finish()


async def rewrite(
    exchange: Exchange, content: Content, span: ByteRange, algorithm: Algorithm, *, inline: bool
) -> Received:
    """A range of an object written anew, as the exchange's content is to be encrypted; *inline*:
    small ones into a record.

    Raises CraqenError; then nothing is left behind.
    """
    verifier = BodyVerifier(default=algorithm)
    if span.length <= (INLINE_BYTES_MAX if inline else 0):
        data = memoryview(bytearray(span.length))
        if span.length:
            await content.read(span.start, data)
        verifier.update(data)
        made = small_content(exchange, bytes(data)) if inline else NewContent(0)
        return Received(made, verifier.finish(), None)
    await exchange.services.meta.ensure_ids(1)
    writer = new_segment(exchange.services, exchange.sealing, span.length)
    buffers = exchange.services.buffers
    buffer = await buffers.take()
    position, end = span.start, span.start + span.length
    try:
        while position < end:
            piece = buffer[: min(len(buffer), end - position)]
            await content.read(position, piece)
            await _digest_piece(exchange, verifier, piece)
            await writer.write(piece)
            position += len(piece)
        extents = await writer.finish()
    except BaseException:
        await asyncio.shield(writer.abort())
        raise
    finally:
        buffers.give(buffer)
    return Received(NewContent(span.length, None, extents), verifier.finish(), writer)


async def _digest_piece(exchange: Exchange, verifier: BodyVerifier, piece: memoryview) -> None:
    loop, executor = asyncio.get_running_loop(), exchange.services.executor
    jobs = [loop.run_in_executor(executor, lane, piece) for lane in verifier.lanes]
    done, _ = await asyncio.wait(jobs)
    for job in done:
        job.result()


def _known_digest(view: ObjectView, span: ByteRange, algorithm: Algorithm) -> BodyResult | None:
    """The digests of the whole object, if they were stored and still hold."""
    inode, present = view.inode, view.inode.object
    if present is None or present.etag_generation != inode.generation or "-" in present.etag:
        return None
    if span.length != inode.size or present.checksum_type != FULL_OBJECT:
        return None
    value = present.checksums.get(algorithm.name)
    if value is None or present.encryption is not None:
        return None
    return BodyResult(inode.size, present.etag, {algorithm.name: value})
