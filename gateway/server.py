"""DRIVER: one gateway worker: the listening socket, aiohttp's low-level server, and a clean end."""

from __future__ import annotations

import asyncio
import logging
import resource
import secrets
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.client.connect import Client, connect
from ..core.clock import SystemClock
from ..core.errors import ConfigError, OperatorError
from ..core.events.destinations import parse_destinations
from ..core.identity.records import FIRST_ACCOUNT_ID
from ..core.identity.store import IdentityStore
from ..core.limits import MIB
from ..core.meta.records import Owner
from ..core.metrics import MetricsServer, listening_place
from ..core.options import Config
from .access.authorizer import PolicyAuthorizer
from .access_logs.delivery import Delivery
from .access_logs.log import AccessLog
from .access_logs.spool import Spool
from .answered import Witness
from .app import Application
from .audit.auditor import Auditor
from .audit.log import AuditFile
from .auth.authenticator import Authenticator
from .auth.credential_file import ROOT_NAME, FileCredentialStore
from .auth.store_credentials import StoreCredentials
from .bucket_info import BucketCache
from .buffers import BufferPool
from .exchange import Services
from .iam.issuers import Issuers
from .iam.policy_rights import PolicyRights
from .iam.service import QueryService
from .measures import measures
from .protocol import CONNECTIONS_MAX, GatewayServer
from .reply import ServerHead
from .routing import Router
from .tls import Certificates

METRICS_PORTS_BELOW = 100  # worker N answers on metrics.listen's port less this and N
DRAIN_SECONDS = 10.0  # for requests under way when the worker stops
BACKLOG = 1024
DESCRIPTORS_BESIDE = 1024  # block files, sockets of the store, the rest
LEASE_CHECK_SECONDS = 1.0

_log = logging.getLogger("craqen.gateway")


async def run_worker(config: Config, number: int, ready: Callable[[str], None]) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code. *ready* is told the endpoint's URL."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    certificates = Certificates(config) if config.gateway.tls else None
    credentials = FileCredentialStore(
        config.credentials_file, uid=config.gateway.uid, gid=config.gateway.gid
    )
    audit = _open_audit_log(config)
    _raise_descriptor_limit()
    client = await connect(config, f"gateway {number}")
    try:
        services = await _services(config, client, credentials)
        access_log = _access_log(config, services)
        witnesses: list[Witness] = [access_log]
        if audit is not None:
            witnesses.append(Auditor(audit, services.region, services.head.host_id))
        endpoint = RunningEndpoint(
            services,
            None if certificates is None else certificates.context,
            witnesses=witnesses,
        )
        loop.add_signal_handler(signal.SIGHUP, _reload, credentials, certificates)
        await endpoint.start(_listen(config))
        access_log.start()
        metrics = MetricsServer(lambda: measures(access_log, audit))
        if config.metrics.listen:
            place = listening_place(config.metrics.listen, -METRICS_PORTS_BELOW - number)
            await metrics.start(*place)
        ready(endpoint_of(config))
        code = await _until_stopped(stop, client)
        await endpoint.stop()
        await metrics.close()
        await access_log.stop()
        return code
    finally:
        await client.close()
        if audit is not None:
            audit.close()


class RunningEndpoint:
    """The S3 door on one listening socket, until it is stopped."""

    def __init__(
        self,
        services: Services,
        context: ssl.SSLContext | None = None,
        *,
        witnesses: Sequence[Witness] = (),
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._context = context
        self._server = GatewayServer(
            Application(services, witnesses), connections_max=connections_max
        )
        self._listening: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve *listener*, which is bound; it is closed in the end."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            self._server, sock=listener, ssl=self._context, backlog=BACKLOG
        )

    async def stop(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Take no more connections; let requests under way end, but not for longer than
        *drain_seconds*."""
        if self._listening is not None:
            self._listening.close()
        await self._server.stop(drain_seconds)


def endpoint_of(config: Config) -> str:
    """The URL that clients on this host use."""
    scheme = "https" if config.gateway.tls else "http"
    host = config.gateway.host
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{config.gateway.port}"


async def _services(config: Config, client: Client, credentials: FileCredentialStore) -> Services:
    options = config.gateway
    clock = SystemClock()
    identities = await IdentityStore.open(client.kv, clock, config.cluster_secret())
    await identities.ensure_account(FIRST_ACCOUNT_ID, ROOT_NAME, options.uid, options.gid)
    router = Router(options.base_domains)
    authenticator = Authenticator(
        StoreCredentials(credentials, identities.directory),
        region=options.region,
        signature_v2=options.signature_version_2,
        bucket_of_host=router.bucket_of_host,
    )
    return Services(
        meta=client.meta,
        data=client.data,
        executor=client.executor,
        buffers=BufferPool(),
        clock=clock,
        router=router,
        authenticator=authenticator,
        control=QueryService(
            identities, PolicyRights(), Issuers(options.oidc_issuers), authenticator
        ),
        authorizer=PolicyAuthorizer(),
        buckets=BucketCache(client.meta),
        keys=client.keys,
        accounts=identities,
        region=options.region,
        removal_grace_seconds=config.meta.removal_grace_seconds,
        head=ServerHead(secrets.token_hex(16)),
        websites=Router(options.website_domains) if options.website_domains else None,
        notification_targets=frozenset(parse_destinations(config.events.destinations)),
        object_ownership=options.object_ownership,
        access_mode=options.access_mode,
    )


def _access_log(config: Config, services: Services) -> AccessLog:
    options = config.gateway
    return AccessLog(
        services,
        Spool(Path(config.data_folder) / "access-logs"),
        Delivery(services, Owner(options.uid, options.gid)),
        options.access_log_interval_seconds,
    )


def _open_audit_log(config: Config) -> AuditFile | None:
    """None if there is to be none. Raises ConfigError."""
    options = config.gateway
    if not options.audit_log:
        return None
    path = Path(options.audit_log)
    return AuditFile(path, options.audit_log_mebibytes * MIB, options.audit_log_files)


def _listen(config: Config) -> socket.socket:
    """A socket that all workers share by SO_REUSEPORT. Raises ConfigError."""
    options = config.gateway
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"gateway.host, gateway.port: cannot listen on {options.host}:{options.port}: "
            f"{error.strerror}"
        ) from error
    return listener


def _raise_descriptor_limit() -> None:
    """Each connection takes a descriptor, a large answer one more: ask for what the host allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS_MAX + DESCRIPTORS_BESIDE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _until_stopped(stop: asyncio.Event, client: Client) -> int:
    """Wait for a signal. A worker that was declared dead ends by itself, to be started afresh."""
    while not stop.is_set():
        if client.lease_lost:
            _log.error("this worker's lease ran out: it ends, and begins anew")
            return 1
        try:
            async with asyncio.timeout(LEASE_CHECK_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
    return 0


def _reload(credentials: FileCredentialStore, certificates: Certificates | None) -> None:
    """SIGHUP: read credentials and certificates anew; what is wrong with them leaves the old ones
    in force."""
    try:
        credentials.reload()
        if certificates is not None:
            certificates.reload()
    except (OperatorError, ssl.SSLError, OSError) as error:
        _log.error("not reloaded: %s", error)
