"""A gateway in a thread of this process, on an ephemeral loopback port: the production server over
a namespace in memory and a data store in a folder that fails on demand."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
import uvloop
from botocore.config import Config as BotoConfig

from craqen.core.clock import SystemClock
from craqen.core.crypt.key_ring import STORE_KEY_ID, FileKeyRing
from craqen.core.crypt.port import KeyKeeper
from craqen.core.events.outbox import Event, Queue
from craqen.core.identity.records import FIRST_ACCOUNT_ID
from craqen.core.identity.store import IdentityStore
from craqen.core.keeper.outbox import Outbox
from craqen.core.kv.memory import MemoryStore
from craqen.core.kv.store import ReadTransaction
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import Owner
from craqen.core.meta.schema import session_range
from craqen.core.options import MetaOptions
from craqen.gateway.access.authorizer import PolicyAuthorizer
from craqen.gateway.access_logs.delivery import Delivery
from craqen.gateway.access_logs.log import AccessLog
from craqen.gateway.access_logs.spool import Spool
from craqen.gateway.answered import Witness
from craqen.gateway.audit.auditor import Auditor
from craqen.gateway.audit.log import AuditFile
from craqen.gateway.auth.authenticator import Authenticator
from craqen.gateway.auth.store_credentials import StoreCredentials
from craqen.gateway.bucket_info import BucketCache
from craqen.gateway.buffers import BufferPool
from craqen.gateway.exchange import Services
from craqen.gateway.iam.issuers import Issuers
from craqen.gateway.iam.policy_rights import PolicyRights
from craqen.gateway.iam.service import QueryService
from craqen.gateway.protocol import CONNECTIONS_MAX
from craqen.gateway.reply import ServerHead
from craqen.gateway.routing import Router
from craqen.gateway.server import RunningEndpoint
from craqen.tests.gateway.integration.faulty_data import FaultyDataStore
from craqen.tests.gateway.unit.signing_client import ACCESS_KEY, REGION, SECRET_KEY, OneUser

BASE_DOMAIN = "s3.test"
WEBSITE_DOMAIN = "website.test"
START_TIMEOUT_SECONDS = 20.0
WAIT_SECONDS = 20.0

T = TypeVar("T")


def wait_until(condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Return once *condition* holds; fail if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


class Gateway:
    """The running server, and what tests look at behind it."""

    def __init__(
        self,
        folder: Path,
        context: ssl.SSLContext | None,
        connections_max: int,
        removal_grace_seconds: float,
        keeper: KeyKeeper | None = None,
        audit: AuditFile | None = None,
    ) -> None:
        self.keeper = keeper
        """Who keeps keys, if not ``keys``."""
        self.audit = audit
        self.data = FaultyDataStore(folder)
        self.folder = folder
        self.port = 0
        self.secure = context is not None
        self.certificate: Path | None = None
        """What clients of an https gateway trust."""
        self.buffers = BufferPool(4)
        self.keys = FileKeyRing(folder / "keys.yaml")
        for key_id in (STORE_KEY_ID, "testkey-1", "testkey-2"):
            self.keys.create(key_id, "2026-11-23T12:00:00Z")
        self._context = context
        self._connections_max = connections_max
        self._removal_grace_seconds = removal_grace_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._main()), daemon=True)
        self.meta: LocalMetaStore
        self.identities: IdentityStore
        self.access_log: AccessLog
        self.oidc_issuers: list[str] = []
        self._kv: MemoryStore

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            kv = self._kv = MemoryStore()
            clock = SystemClock()
            options = MetaOptions(removal_grace_seconds=self._removal_grace_seconds)
            self.meta = await LocalMetaStore.open(kv, clock, options, description="test")
            executor = concurrent.futures.ThreadPoolExecutor(2)
            self.identities = await IdentityStore.open(kv, clock, None)
            await self.identities.ensure_account(FIRST_ACCOUNT_ID, "tester", 7, 8)
            router = Router([BASE_DOMAIN])
            authenticator = Authenticator(
                StoreCredentials(OneUser(), self.identities.directory),
                region=REGION,
                bucket_of_host=router.bucket_of_host,
            )
            services = Services(
                meta=self.meta,
                data=self.data,
                executor=executor,
                buffers=self.buffers,
                clock=clock,
                router=router,
                authenticator=authenticator,
                control=QueryService(
                    self.identities, PolicyRights(), Issuers(self.oidc_issuers), authenticator
                ),
                region=REGION,
                authorizer=PolicyAuthorizer(),
                buckets=BucketCache(self.meta),
                keys=self.keeper or self.keys,
                accounts=self.identities,
                removal_grace_seconds=options.removal_grace_seconds,
                head=ServerHead("host"),
                websites=Router([WEBSITE_DOMAIN]),
                notification_targets=frozenset({"hook"}),
            )
            endpoint = RunningEndpoint(
                services,
                self._context,
                witnesses=self._witnesses(services),
                connections_max=self._connections_max,
            )
            listener = socket.create_server(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
            await endpoint.start(listener)
        except BaseException as error:
            self._started.set_exception(error)
            raise
        self._started.set_result(None)
        await self._stop.wait()
        await endpoint.stop()
        await self.access_log.stop()
        await self.meta.close()
        await self.data.close()
        await kv.close()
        executor.shutdown()

    def start(self) -> None:
        self._thread.start()
        self._started.result(START_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """End it; again is harmless."""
        assert self._loop is not None
        assert self._stop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_SECONDS)
        assert not self._thread.is_alive(), "the gateway did not stop"

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* on the server's loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_TIMEOUT_SECONDS)

    def _witnesses(self, services: Services) -> list[Witness]:
        spool = Spool(self.folder / "access-logs")
        delivery = Delivery(services, Owner(7, 8))
        self.access_log = AccessLog(services, spool, delivery, interval_seconds=3600)
        self.access_log.start()
        auditors = [] if self.audit is None else [Auditor(self.audit, REGION, "host")]
        return [self.access_log, *auditors]

    def events(self, bucket: str, destination: str) -> list[Event]:
        """What waits for a destination."""

        async def read() -> list[Event]:
            number = (await self.meta.get_bucket(bucket)).inode_id
            page = await Outbox(self._kv).page(Queue(number, destination))
            return [one.event for one in page if one.event is not None]

        return self.call(read())

    @property
    def host(self) -> str:
        """As it stands in the Host header."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The endpoint's URL."""
        return f"{'https' if self.secure else 'http'}://{self.host}"

    def client(
        self,
        *,
        service: str = "s3",
        keys: tuple[str, ...] = (ACCESS_KEY, SECRET_KEY),
        **options: Any,
    ) -> Any:
        """A boto3 client for who has *keys* (with a session token as the third); *options* go to
        its configuration."""
        options.setdefault("retries", {"max_attempts": 0})
        options.setdefault("s3", {"addressing_style": "path"})
        access_key, secret_key, *token = keys
        make: Any = boto3.client  # its type knows services by name only
        return make(
            service,
            endpoint_url=self.url,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token[0] if token else None,
            region_name=REGION,
            verify=None if self.certificate is None else str(self.certificate),
            config=BotoConfig(**options),
        )

    def inode_id(self, bucket: str, key: bytes) -> int:
        """The inode behind a key."""
        return self.call(self.meta.get_object(bucket, key)).inode.inode_id

    def session_count(self, inode_id: int) -> int:
        """How many readers and writers hold an inode."""

        async def count(tx: ReadTransaction) -> int:
            return len(await tx.get_range(*session_range(inode_id)))

        return self.call(self._kv.read(count))

    def segments(self) -> set[str]:
        """Names of the segments that have bytes on disk."""
        return {path.name for path in self.folder.iterdir()}

    def free_buffers(self) -> int:
        """Receive buffers that nobody holds."""

        async def count() -> int:
            taken = []
            while (buffer := self.buffers.take_now()) is not None:
                taken.append(buffer)
            for buffer in taken:
                self.buffers.give(buffer)
            return len(taken)

        return self.call(count())


@contextmanager
def running_gateway(
    folder: Path,
    *,
    context: ssl.SSLContext | None = None,
    connections_max: int = CONNECTIONS_MAX,
    removal_grace_seconds: float = 60.0,
    keeper: KeyKeeper | None = None,
    audit: AuditFile | None = None,
) -> Iterator[Gateway]:
    """A gateway that keeps its segments in *folder*."""
    gateway = Gateway(folder, context, connections_max, removal_grace_seconds, keeper, audit)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()
