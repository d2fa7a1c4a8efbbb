"""DRIVER: ``unix://`` and ``tcp://`` transports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

from ..errors import InvalidArgumentError, OperatorError, UnavailableError
from .port import Handler, PeerGone
from .stream_client import StreamConnection
from .stream_server import BACKLOG, StreamServer

UNIX_PATH_BYTES_MAX = 107  # sockaddr_un


class UnixTransport:
    """Sockets of this host; answers may carry descriptors."""

    async def connect(self, address: str) -> StreamConnection:
        """Connect to ``unix:///path``. Raises UnavailableError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            with _short_path(_unix_path(address)) as path:
                await asyncio.get_running_loop().sock_connect(sock, path)
        except OSError as error:
            sock.close()
            raise UnavailableError(f"{address}: cannot connect: {error.strerror}") from error
        except BaseException:
            sock.close()
            raise
        return StreamConnection(sock)

    async def serve(
        self, address: str, handler: Handler, *, peer_gone: PeerGone | None = None
    ) -> StreamServer:
        """Listen on ``unix:///path`` (mode 0600); a socket file that nobody listens on is replaced.

        Raises OperatorError if somebody listens there or the path cannot be used.
        """
        path = _unix_path(address)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short_path(path) as short:
                _remove_stale(short, address)
                mask = os.umask(0o177)
                try:
                    sock.bind(short)
                finally:
                    os.umask(mask)
                sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise OperatorError(f"{address}: cannot listen: {error.strerror}") from error
        return StreamServer(sock, address, handler, peer_gone)


class TcpTransport:
    """Sockets between hosts."""

    async def connect(self, address: str) -> StreamConnection:
        """Connect to ``tcp://host:port``. Raises UnavailableError."""
        host, port = _host_and_port(address)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UnavailableError(f"{address}: {error.strerror}") from error
        problem: OSError | None = None
        for family, kind, protocol, _, place in found:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, place)
                return StreamConnection(sock)
            except OSError as error:
                sock.close()
                problem = error
            except BaseException:
                sock.close()
                raise
        raise UnavailableError(f"{address}: cannot connect: {problem}")

    async def serve(
        self, address: str, handler: Handler, *, peer_gone: PeerGone | None = None
    ) -> StreamServer:
        """Listen on ``tcp://host:port`` (port 0: any). Raises OperatorError."""
        host, port = _host_and_port(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise OperatorError(f"{address}: cannot listen: {error.strerror}") from error
        shown = f"[{host}]" if ":" in host else host
        return StreamServer(sock, f"tcp://{shown}:{sock.getsockname()[1]}", handler, peer_gone)


def _unix_path(address: str) -> str:
    path = address.removeprefix("unix://")
    if not path.startswith("/"):
        raise InvalidArgumentError(f"{address}: expected unix:///absolute/path")
    return path


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InvalidArgumentError(f"{address}: expected tcp://host:port")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def _short_path(path: str) -> Iterator[str]:
    """*path*, by way of a descriptor of its folder if it is too long for a socket address."""
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def _remove_stale(path: str, address: str) -> None:
    """Remove a socket file that nobody listens on. Raises OperatorError if somebody does."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    finally:
        probe.close()
    raise OperatorError(f"{address}: another process listens there")
