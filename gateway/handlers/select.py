"""SelectObjectContent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from weakref import WeakKeyDictionary

from ...core.errors import CraqenError
from ..content import Content
from ..encryption import open_key
from ..errors import S3Error
from ..exchange import Exchange
from ..protocol import STALL_TIMEOUT_SECONDS
from ..receive import read_document
from ..reply import Reply, Sent
from ..select import event_stream
from ..select.errors import MESSAGES, SelectError
from ..select.frames import Frame, counts_of, failure_of
from ..select.job import SelectJob, parse_job
from ..select.process import QueryProcess

QUERIES_MAX = 4  # of one worker at once; each is a process of up to a few hundred MiB
QUERY_SECONDS_MAX = 600.0
WAITING_MAX = 64  # queries of one worker that wait for their turn
WAITING_SECONDS_MAX = 30.0  # less than clients wait for the first byte of an answer
QUIET_SECONDS_MAX = 5.0  # then a message says that the query goes on

_log = logging.getLogger("craqen.gateway")


class _Queue:
    """Who may run a query: so many at once, and so many more that wait for it."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(QUERIES_MAX)
        self._waiting = 0

    async def __aenter__(self) -> None:
        """Raises SelectError Busy."""
        if self._waiting >= WAITING_MAX:
            raise SelectError("Busy")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAITING_SECONDS_MAX):
                await self._turns.acquire()
        except TimeoutError as error:
            raise SelectError("Busy") from error
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._turns.release()


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = WeakKeyDictionary()
"""One of each worker."""


async def select_object_content(exchange: Exchange) -> Reply | Sent:
    """SelectObjectContent: the object's bytes go through a process that runs the query, and its
    result comes back as messages while it goes on."""
    if exchange.query.get("select-type") != "2":
        raise S3Error("MethodNotAllowed")
    job = parse_job(await read_document(exchange))
    async with _queues.setdefault(asyncio.get_running_loop(), _Queue()):
        view = await exchange.services.meta.get_object(exchange.bucket, exchange.key)
        data_key = await open_key(exchange, view.inode.object)
        content = Content(exchange.services, view, data_key)
        return await _run(exchange, content, job.within(content.size))


async def _run(exchange: Exchange, content: Content, job: SelectJob) -> Sent:
    query = await QueryProcess.start(job)
    feeding = asyncio.create_task(_feed(exchange, content, query))
    try:
        async with asyncio.timeout(QUERY_SECONDS_MAX):
            first = await query.next()
            if first[0] is Frame.ERROR:
                raise _error_of(first[1])
            return await _answer(exchange, query, first)
    except TimeoutError as error:
        raise SelectError("Busy", "The query took too long.") from error
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
        await query.close()


def _error_of(payload: bytes) -> S3Error:
    failure = failure_of(payload)
    if failure.code in MESSAGES:
        return SelectError(failure.code, failure.message)
    return S3Error("NotImplemented", failure.message)


async def _feed(exchange: Exchange, content: Content, query: QueryProcess) -> None:
    """Pass the object on. If it cannot be read, the process is ended: half an object has no
    result."""
    try:
        if await _pass_on(exchange, content, query):
            query.end_input()
    except CraqenError as error:
        _log.error(
            "select %s/%s: %s", exchange.bucket, exchange.key.decode(errors="replace"), error
        )
        query.kill()


async def _pass_on(exchange: Exchange, content: Content, query: QueryProcess) -> bool:
    """Whether the process took everything. Raises CraqenError."""
    if content.inline is not None:
        return await query.write(content.inline)
    buffers = exchange.services.buffers
    buffer = await buffers.take()
    try:
        position = 0
        while position < content.size:
            piece = buffer[: min(len(buffer), content.size - position)]
            await content.read(position, piece)
            # A copy: the pipe takes it in its own time, and the buffer is used again.
            if not await query.write(bytes(piece)):
                return False
            position += len(piece)
    finally:
        buffers.give(buffer)
    return True


async def _answer(exchange: Exchange, query: QueryProcess, first: tuple[Frame, bytes]) -> Sent:
    """Send the result as it comes. Raises ConnectionError if the client is gone."""
    reply = Reply(200, {"Content-Type": "application/octet-stream"}, chunked=True)
    if exchange.request.is_last:
        reply.keep_alive = False
    await _write(exchange, exchange.head_of(reply))
    frame: tuple[Frame, bytes] | None = first
    while frame is not None:
        kind, payload = frame
        frame = None
        if kind is Frame.RECORDS:
            await _message(exchange, event_stream.records(payload))
        elif kind is Frame.PROGRESS:
            await _message(exchange, event_stream.progress(*_counts(payload)))
        elif kind is Frame.ERROR:
            failure = failure_of(payload)
            await _message(exchange, event_stream.error(failure.code, failure.message))
            break
        else:
            await _message(exchange, event_stream.stats(*_counts(payload)))
            await _message(exchange, event_stream.end())
            break
        try:
            frame = await _next(exchange, query)
        except SelectError as error:
            await _message(exchange, event_stream.error(error.code, error.message))
    await _write(exchange, b"0\r\n\r\n")
    return Sent(200, keep_alive=reply.keep_alive, finish=exchange.request.protocol.drained)


async def _next(exchange: Exchange, query: QueryProcess) -> tuple[Frame, bytes]:
    """The next frame; the client is told from time to time that there will be one."""
    waiting = asyncio.ensure_future(query.next())
    try:
        while True:
            done, _ = await asyncio.wait([waiting], timeout=QUIET_SECONDS_MAX)
            if done:
                return waiting.result()
            await _message(exchange, event_stream.continuation())
    finally:
        waiting.cancel()


def _counts(payload: bytes) -> tuple[int, int, int]:
    counts = counts_of(payload)
    return counts.scanned, counts.processed, counts.returned


async def _message(exchange: Exchange, data: bytes) -> None:
    await _write(exchange, b"%x\r\n%b\r\n" % (len(data), data))


async def _write(exchange: Exchange, data: bytes) -> None:
    """Raises ConnectionError if the client is gone, or takes nothing for long."""
    transport = exchange.request.transport
    if transport.is_closing():
        raise ConnectionResetError("the client is gone")
    transport.write(data)
    try:
        await exchange.request.protocol.drained()
    except TimeoutError as error:
        raise ConnectionResetError(
            f"the client took nothing for {STALL_TIMEOUT_SECONDS} s"
        ) from error
