"""DRIVER: ``unix://`` and ``tcp://`` transports."""

from __future__ import annotations

import asyncio
import functools
import os
import socket

from ..errors import InvalidArgumentError, OperatorError, UnavailableError
from . import unix_sockets
from .port import Handler, PeerGone
from .stream_client import StreamConnection
from .stream_server import BACKLOG, StreamServer


class UnixTransport:
    """Sockets of this host; answers may carry descriptors."""

    async def connect(self, address: str) -> StreamConnection:
        """Connect to ``unix:///path``. Raises UnavailableError, InvalidArgumentError."""
        path = _unix_path(address)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with unix_sockets.short_path(path) as short:
                # Answers at once: the kernel queues the connection, or says EAGAIN if it cannot.
                sock.connect(short)
            return StreamConnection(sock)
        except OSError as error:
            sock.close()
            raise UnavailableError(f"{address}: cannot connect: {_reason(error)}") from error

    async def serve(
        self, address: str, handler: Handler, *, peer_gone: PeerGone | None = None
    ) -> StreamServer:
        """Listen on ``unix:///path`` (mode 0600); a socket file that nobody listens on is replaced.

        Raises OperatorError if somebody listens there or the path cannot be used,
        InvalidArgumentError.
        """
        path = _unix_path(address)
        try:
            sock, identity = unix_sockets.listen(path, BACKLOG)
        except OSError as error:
            raise OperatorError(f"{address}: cannot listen: {_reason(error)}") from error
        clean_up = functools.partial(unix_sockets.remove, path, identity)
        return StreamServer(sock, address, handler, peer_gone, clean_up)


class TcpTransport:
    """Sockets between hosts."""

    async def connect(self, address: str) -> StreamConnection:
        """Connect to ``tcp://host:port``. Raises UnavailableError, InvalidArgumentError."""
        host, port = _host_and_port(address)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UnavailableError(f"{address}: {_reason(error)}") from error
        problem = "the name has no address"
        for family, kind, protocol, _, place in found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                await loop.sock_connect(sock, place)
                return StreamConnection(sock)
            except OSError as error:
                sock.close()
                problem = _reason(error)
            except BaseException:
                sock.close()
                raise
        raise UnavailableError(f"{address}: cannot connect: {problem}")

    async def serve(
        self, address: str, handler: Handler, *, peer_gone: PeerGone | None = None
    ) -> StreamServer:
        """Listen on ``tcp://host:port`` (port 0: any). Raises OperatorError,
        InvalidArgumentError."""
        host, port = _host_and_port(address)
        loop = asyncio.get_running_loop()
        sock: socket.socket | None = None
        try:
            found = await loop.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, place = found[0]
            sock = socket.socket(family, kind, protocol)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(place)
            sock.listen(BACKLOG)
        except OSError as error:
            if sock is not None:
                sock.close()
            raise OperatorError(f"{address}: cannot listen: {_reason(error)}") from error
        shown = f"[{host}]" if ":" in host else host
        return StreamServer(sock, f"tcp://{shown}:{sock.getsockname()[1]}", handler, peer_gone)


def _reason(error: OSError) -> str:
    """The plain reason: asyncio's own texts tell the address instead, and resolvers have their own
    numbers."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _unix_path(address: str) -> str:
    path = address.removeprefix("unix://")
    if path == address or not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"{address}: expected unix:///absolute/path")
    return path


def _host_and_port(address: str) -> tuple[str, int]:
    rest = address.removeprefix("tcp://")
    host, _, port = rest.rpartition(":")
    plain = host.removeprefix("[").removesuffix("]")
    whole = host == f"[{plain}]" if ":" in plain else host == plain
    if rest == address or not plain or not whole or not (port.isascii() and port.isdigit()):
        raise InvalidArgumentError(f"{address}: expected tcp://host:port or tcp://[ipv6]:port")
    if int(port) > 65535:
        raise InvalidArgumentError(f"{address}: ports end at 65535")
    return plain, int(port)
