"""DRIVER: one gateway worker: the listening socket, aiohttp's low-level server, and a clean end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import ssl
from collections.abc import Callable

from aiohttp.web import Server

from ..core.client.connect import Client, connect
from ..core.clock import SystemClock
from ..core.errors import ConfigError, OperatorError
from ..core.meta.records import Owner
from ..core.options import Config
from .app import Application
from .auth.authenticator import Authenticator
from .auth.credential_file import FileCredentialStore
from .exchange import Services
from .listings import Person
from .reply import ServerHead
from .routing import Router
from .tls import Certificates

HEADER_BYTES_MAX = 32 * 1024  # presigned URLs with session tokens and 2 KiB of metadata
READ_BUFFER_BYTES = 256 * 1024
KEEPALIVE_SECONDS = 75.0
LINGER_SECONDS = 5.0  # for a body that nobody wants, before the connection is closed
DRAIN_SECONDS = 10.0  # for requests under way when the worker stops
BACKLOG = 1024
LEASE_CHECK_SECONDS = 1.0
ROOT_NAME = "root"

_log = logging.getLogger("craqen.gateway")


async def run_worker(config: Config, number: int, ready: Callable[[str], None]) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code. *ready* is told the endpoint's URL."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    certificates = Certificates(config) if config.gateway.tls else None
    credentials = FileCredentialStore(config.credentials_file)
    client = await connect(config, f"gateway {number}")
    try:
        application = Application(_services(config, client, credentials))
        server = _low_level_server(application)
        listener = _listen(config)
        context = None if certificates is None else certificates.context
        loop.add_signal_handler(signal.SIGHUP, _reload, credentials, certificates)
        serving = await loop.create_server(server, sock=listener, ssl=context, backlog=BACKLOG)
        ready(endpoint_of(config))
        code = await _until_stopped(stop, client)
        serving.close()
        await server.shutdown(DRAIN_SECONDS)
        return code
    finally:
        await client.close()


def endpoint_of(config: Config) -> str:
    """The URL that clients on this host use."""
    scheme = "https" if config.gateway.tls else "http"
    host = config.gateway.host
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{config.gateway.port}"


def _services(config: Config, client: Client, credentials: FileCredentialStore) -> Services:
    options = config.gateway
    return Services(
        meta=client.meta,
        data=client.data,
        executor=client.executor,
        clock=SystemClock(),
        router=Router(options.base_domains),
        authenticator=Authenticator(credentials, region=options.region),
        region=options.region,
        owner=Owner(options.uid, options.gid),
        person=Person(ROOT_NAME, ROOT_NAME),
        removal_grace_seconds=config.meta.removal_grace_seconds,
        head=ServerHead(secrets.token_hex(16)),
    )


def _low_level_server(application: Application) -> Server:
    # auto_decompress: a body with "Content-Encoding: gzip" is an object that is stored as it came.
    return Server(
        application.handle,  # type: ignore[arg-type]
        access_log=None,
        auto_decompress=False,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=LINGER_SECONDS,
        read_bufsize=READ_BUFFER_BYTES,
    )


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
