"""DRIVER: socket files: long paths, mode, and files that a dead process left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from typing import Final

from ..errors import OperatorError

UNIX_PATH_BYTES_MAX: Final = 107  # sockaddr_un holds 108 with the terminating zero
SOCKET_MODE: Final = 0o600


@contextlib.contextmanager
def short_path(path: str) -> Iterator[str]:
    """*path*, by way of a descriptor of its folder if it is too long for a socket address.

    Raises OSError if the folder is not there.
    """
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
        if len(os.fsencode(short)) > UNIX_PATH_BYTES_MAX:
            raise OSError(errno.ENAMETOOLONG, "the name of the socket file is too long")
        yield short
    finally:
        os.close(folder)


def listen(path: str, backlog: int) -> tuple[socket.socket, tuple[int, int]]:
    """A listening socket at *path* (mode 0600), and the identity of its file. A socket file that
    nobody listens on is replaced.

    Raises OperatorError if somebody listens there, or something else is there; OSError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file takes its mode from the socket, so at no moment it has another one.
        os.fchmod(sock.fileno(), SOCKET_MODE)
        with short_path(path) as short:
            _remove_stale(short, path)
            sock.bind(short)
            made = os.lstat(short)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock, (made.st_dev, made.st_ino)


def remove(path: str, identity: tuple[int, int]) -> None:
    """Remove the socket file at *path* unless another server's has taken its place."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == identity:
            os.unlink(path)


def _remove_stale(short: str, path: str) -> None:
    """Remove a socket file that nobody listens on. Raises OperatorError for anything else."""
    try:
        found = os.lstat(short)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OperatorError(f"{path}: is there already and is no socket; remove it or name another")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(short)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(short)
            return
        except BlockingIOError:
            pass  # somebody listens, and is busy
    raise OperatorError(f"{path}: another process listens there; stop it or name another path")
