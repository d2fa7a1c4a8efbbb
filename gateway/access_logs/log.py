"""The access log of one worker: takes requests, and sees that their lines are delivered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from ...core.errors import CraqenError
from ...core.identity.records import Principal
from ..answered import Answered, address_of, signing_of, tls_of
from ..bucket_guard import owner_of
from ..bucket_info import BucketInfo
from ..copy_source import parse_copy_source
from ..errors import S3Error
from ..exchange import Exchange, Services
from ..headers import fold_headers
from ..settings.logging import STORED
from .delivery import Delivery
from .line import Visit, render
from .operations import BATCH_DELETE, COPY_SOURCE, name_of
from .spool import Spool, SpoolFile

FLUSH_SECONDS = 0.5
"""How long lines stay in this process's memory."""
BUFFER_BYTES_MAX = 8 << 20
"""Lines in memory while the disk is slow; what comes then is lost."""

_log = logging.getLogger("craqen.gateway")

T = TypeVar("T")


class AccessLog:
    """``Witness``. Lines are best effort, as AWS's are: a request never waits for its line."""

    def __init__(
        self, services: Services, spool: Spool, delivery: Delivery, interval_seconds: float
    ) -> None:
        self._services = services
        self._spool = spool
        self._delivery = delivery
        self._interval_seconds = interval_seconds
        self._lines: list[str] = []
        self._size = 0
        self._thread = ThreadPoolExecutor(1, "craqen-access-log")
        """The spool's: it is called from one thread, also when this worker stops."""
        self._running: asyncio.Task[None] | None = None
        self.lost = 0
        """Lines that could not be kept or delivered."""
        self.delivered = 0
        """Lines that were delivered."""

    def note(self, answered: Answered) -> None:
        """Keep the request's line, if its bucket wants one."""
        route = answered.route if answered.exchange is None else answered.exchange.route
        if route is None or not route.bucket:
            return
        exchange = answered.exchange
        info = None if exchange is None else exchange.bucket_info
        if info is None:
            info = self._services.buckets.known(route.bucket)
        try:
            if info is not None and _is_logged(info):
                self._keep(self._visit(answered, info))
            if exchange is not None:
                self._note_parts(answered, exchange)
        except Exception:
            _log.exception("request %s: no line of the access log", answered.request_id)
            self.lost += 1

    def _note_parts(self, answered: Answered, exchange: Exchange) -> None:
        """The lines of a copy's source, and of each object of a DeleteObjects."""
        operation = exchange.route.operation
        info = exchange.bucket_info
        if exchange.deleted and info is not None and _is_logged(info):
            whole = self._visit(answered, info)
            for key, version_id, code in exchange.deleted:
                self._keep(
                    whole._replace(
                        operation=BATCH_DELETE,
                        key=key,
                        version_id=version_id,
                        request_line="",
                        status=204 if not code else answered.status,
                        error_code=code,
                        sent_bytes=0,
                    )
                )
        elif operation in COPY_SOURCE:
            try:
                source = parse_copy_source(exchange.headers.get("x-amz-copy-source", ""))
            except S3Error:
                return
            other = self._services.buckets.known(source.bucket)
            if other is not None and _is_logged(other):
                visit = self._visit(answered, other)
                self._keep(
                    visit._replace(
                        operation=COPY_SOURCE[operation],
                        key=source.key,
                        version_id=source.version_id,
                        sent_bytes=0,
                    )
                )

    def _visit(self, answered: Answered, info: BucketInfo) -> Visit:
        incoming, exchange = answered.incoming, answered.exchange
        message = incoming.message
        route = answered.route if exchange is None else exchange.route
        headers = fold_headers(message.raw_headers)
        auth_method, version = signing_of(message.path, headers.get("authorization", ""))
        tls_version, cipher = tls_of(incoming)
        turnaround = None
        if exchange is not None and exchange.answered_ns and not incoming.content.total_bytes:
            turnaround = max(0, exchange.answered_ns - answered.began_ns)
        return Visit(
            owner_of(info.record),
            info.record.name,
            answered.began_ns,
            address_of(incoming),
            "" if exchange is None else _requester(exchange),
            answered.request_id,
            name_of("" if route is None else route.operation, message.method),
            b"" if route is None else route.key,
            f"{message.method} {message.path} HTTP/{message.version[0]}.{message.version[1]}",
            answered.status,
            answered.error[0],
            answered.sent_bytes,
            None if exchange is None else exchange.object_bytes,
            answered.elapsed_ns,
            turnaround,
            headers.get("referer", ""),
            headers.get("user-agent", ""),
            "" if route is None else route.query.get("versionId", ""),
            self._services.head.host_id,
            version,
            cipher,
            auth_method,
            headers.get("host", ""),
            tls_version,
            self._services.region,
        )

    def _keep(self, visit: Visit) -> None:
        line = render(visit)
        if self._size + len(line) > BUFFER_BYTES_MAX:
            self.lost += 1
            return
        self._lines.append(line)
        self._size += len(line)

    def start(self) -> None:
        """Write and deliver from now on."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what is in memory, once what is being written is; whoever looks next delivers
        it. This worker answers nobody any more, so that the loop may wait for the disk."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._thread.shutdown()
        lines, self._lines, self._size = self._lines, [], 0
        try:
            if lines and not self._spool.append(_text(lines)):
                self.lost += len(lines)
            self._spool.end_file()
        except OSError as error:
            _log.error("access log: the last lines are lost: %s", error)

    async def _run(self) -> None:
        due = time.monotonic() + self._interval_seconds
        while True:
            await asyncio.sleep(min(FLUSH_SECONDS, self._interval_seconds))
            try:
                await self._flush()
                if time.monotonic() >= due:
                    due = time.monotonic() + self._interval_seconds
                    await self.deliver()
            except (CraqenError, OSError) as error:
                _log.error("access log: %s; it is tried again", error)
            except Exception:
                _log.exception("access log: it is tried again")

    async def _flush(self) -> None:
        """Write what is in memory. Raises OSError; the lines are lost then."""
        if not self._lines:
            return
        lines, self._lines, self._size = self._lines, [], 0
        written = False
        try:
            written = await self._in_thread(partial(self._spool.append, _text(lines)))
        finally:
            if not written:
                self.lost += len(lines)
        if not written:
            _log.error("access log: no room for %d lines: they are lost", len(lines))

    async def deliver(self) -> None:
        """Deliver what there is. Raises CraqenError, OSError: the rest is tried again."""
        await self._flush()
        await self._in_thread(self._spool.end_file)
        files = self._spool.take()
        while (file := await self._in_thread(partial(_next, files))) is not None:
            try:
                done = await self._delivery.deliver(*await self._in_thread(file.read), file.name)
                await self._in_thread(file.remove)
            finally:
                file.close()
            self.delivered += done.delivered
            self.lost += done.lost

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _text(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _next(files: Iterator[SpoolFile]) -> SpoolFile | None:
    return next(files, None)


def _is_logged(info: BucketInfo) -> bool:
    if STORED.aspect not in info.settings:
        return False
    logged = STORED.of(info)
    return logged is not None and bool(logged.bucket)


def _requester(exchange: Exchange) -> str:
    identity = exchange.identity
    if identity.principal is Principal.ANONYMOUS:
        return ""
    return identity.canonical_id if identity.principal is Principal.ACCOUNT else identity.arn
