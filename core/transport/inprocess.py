"""DRIVER: ``inproc://name``: calls inside one process and event loop, for tests and stores of one
process. It keeps every promise of the port, also the unpleasant ones: a caller that leaves takes
its buffers with it, a closed connection fails its calls while their handlers run on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

from ..errors import (
    CraqenError,
    DataLossError,
    DeadlineExceededError,
    OperatorError,
    UnavailableError,
)
from .flow import CLOSE_TIMEOUT_SECONDS, check_call
from .port import Answer, Handler, PeerGone, Reply, Taken

_log = logging.getLogger("craqen.transport")
_servers: dict[str, InprocessServer] = {}


class InprocessRequest:
    """``IncomingRequest`` by copies between memoryviews."""

    shares_files = True

    def __init__(
        self,
        peer_id: int,
        method: int,
        header: bytes,
        send: Sequence[memoryview],
        receive: Sequence[memoryview],
    ) -> None:
        self.peer_id = peer_id
        self.method = method
        self.header = header
        self.send_lengths: Sequence[int] = [view.nbytes for view in send]
        self.receive_lengths: Sequence[int] = [view.nbytes for view in receive]
        self._send = send
        self._receive = receive
        self._pulled: set[int] = set()
        self._gone = False

    async def pull(self, number: int, into: memoryview, taken: Taken | None = None) -> None:
        """Fill *into* with offered buffer *number*."""
        assert into.nbytes == self.send_lengths[number]
        assert number not in self._pulled, "each buffer may be pulled once"
        self._pulled.add(number)
        self._raise_if_gone()
        into[:] = self._send[number]
        if taken is not None:
            taken(into)

    async def push(self, number: int, source: memoryview) -> None:
        """Put *source* into wanted buffer *number*."""
        assert source.nbytes <= self.receive_lengths[number]
        self._raise_if_gone()
        self._receive[number][: source.nbytes] = source

    async def push_file(self, number: int, descriptor: int, offset: int, length: int) -> None:
        """As ``push``, from a file."""
        assert length <= self.receive_lengths[number]
        self._raise_if_gone()
        into = self._receive[number][:length]
        done = 0
        while done < length:
            count = os.preadv(descriptor, [into[done:]], offset + done)
            if count == 0:
                raise DataLossError(f"a file ends {length - done} bytes early")
            done += count

    def leave(self) -> None:
        """The caller is gone, and its buffers with it."""
        self._gone = True
        self._send = self._receive = ()

    def _raise_if_gone(self) -> None:
        if self._gone:
            raise UnavailableError("the caller has given up")


class InprocessConnection:
    """A connection to a server of this process."""

    shares_files = True

    def __init__(self, server: InprocessServer, peer_id: int) -> None:
        self._server = server
        self._peer_id = peer_id
        self._answers: dict[asyncio.Future[Reply], InprocessRequest] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._closed = False

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
        check_call(method, header, send, receive)
        if self._closed:
            raise UnavailableError("connection closed")
        request = InprocessRequest(self._peer_id, method, header, send, receive)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answers[answer] = request
        self.tasks.add(asyncio.create_task(self._serve(request, answer)))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await answer
        except BaseException as error:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                for number in answer.result().descriptors:
                    os.close(number)
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(
                    f"call {method}: no answer within its deadline"
                ) from None
            raise
        finally:
            self._answers.pop(answer, None)
            request.leave()

    async def _serve(self, request: InprocessRequest, answer: asyncio.Future[Reply]) -> None:
        try:
            outcome = await self._server.handler(request)
            if not answer.done():
                answer.set_result(_reply(outcome))
        except CraqenError as error:
            if not answer.done():
                answer.set_exception(error)
        except (Exception, asyncio.CancelledError) as error:
            if not isinstance(error, asyncio.CancelledError):
                _log.exception("request of method %d failed", request.method)
            if not answer.done():
                answer.set_exception(UnavailableError("internal error; see the server's log"))
        finally:
            task = asyncio.current_task()
            assert task is not None
            self.tasks.discard(task)
            if self._closed and not self.tasks:
                self._server.gone(self, self._peer_id)

    async def close(self) -> None:
        """End the connection: calls under way fail; the server hears of it when their handlers
        have ended."""
        if self._closed:
            return
        self._closed = True
        for answer, request in self._answers.items():
            request.leave()
            if not answer.done():
                answer.set_exception(UnavailableError("connection closed"))
        if not self.tasks:
            self._server.gone(self, self._peer_id)


class InprocessServer:
    """A server of this process."""

    def __init__(self, address: str, handler: Handler, peer_gone: PeerGone | None) -> None:
        self.address = address
        self.handler = handler
        self.refused = 0
        self._peer_gone = peer_gone
        self._connections: set[InprocessConnection] = set()
        self._next_peer_id = 0

    def connect(self) -> InprocessConnection:
        """A new connection."""
        self._next_peer_id += 1
        connection = InprocessConnection(self, self._next_peer_id)
        self._connections.add(connection)
        return connection

    def gone(self, connection: InprocessConnection, peer_id: int) -> None:
        """*connection* is closed and its handlers have ended."""
        self._connections.discard(connection)
        if self._peer_gone is not None:
            try:
                self._peer_gone(peer_id)
            except Exception:
                _log.exception("what belonged to connection %d was not released", peer_id)

    async def close(self) -> None:
        """Stop serving; handlers that take longer than CLOSE_TIMEOUT_SECONDS are cancelled."""
        if _servers.get(self.address) is self:
            del _servers[self.address]
        for connection in list(self._connections):
            await connection.close()
        tasks = [task for connection in self._connections for task in connection.tasks]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CLOSE_TIMEOUT_SECONDS)


class InprocessTransport:
    """Connects by name."""

    async def connect(self, address: str) -> InprocessConnection:
        """Raises UnavailableError if nobody serves *address*."""
        server = _servers.get(address)
        if server is None:
            raise UnavailableError(f"{address}: nobody serves it")
        return server.connect()

    async def serve(
        self, address: str, handler: Handler, *, peer_gone: PeerGone | None = None
    ) -> InprocessServer:
        """Raises OperatorError if the name is taken."""
        if address in _servers:
            raise OperatorError(f"{address}: is served already")
        server = _servers[address] = InprocessServer(address, handler, peer_gone)
        return server


def _reply(answer: Answer) -> Reply:
    return Reply(answer.header, tuple([os.dup(number) for number in answer.descriptors]))
