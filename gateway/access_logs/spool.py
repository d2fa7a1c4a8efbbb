"""DRIVER: lines that wait for their delivery, in files of this host.

Each worker appends to a file of its own, ``*.open``, which it keeps locked; a full or old one is
renamed to ``*.full``. Whoever delivers takes the full files, and open ones whose worker is gone
(nobody holds their lock). Lines wait in memory for FLUSH_SECONDS at most and are in the kernel's
memory then: a process that is killed loses those, a power cut may lose the last seconds.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FILE_BYTES_MAX = 8 << 20
"""An open file of this size is full. It is delivered in one piece, from memory."""
SPOOL_BYTES_MAX = 256 << 20
"""Of all files of a host; what comes then is lost."""
_OPEN, _FULL = ".open", ".full"


class SpoolFile:
    """A file that is to be delivered; nobody else has it until it is let go."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @property
    def name(self) -> str:
        """The same for every attempt to deliver it, and no other's."""
        return self.path.name.partition(".")[0]

    def read(self) -> tuple[bytes, float]:
        """All that is in it, and when that was written last (seconds since 1970)."""
        found = os.fstat(self._descriptor)
        return os.pread(self._descriptor, 2 * FILE_BYTES_MAX, 0), found.st_mtime

    def remove(self) -> None:
        """It was delivered."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let it go."""
        os.close(self._descriptor)


class _Open(NamedTuple):
    descriptor: int
    path: Path


class Spool:
    """The files of one worker, and those that dead ones left. Called from one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: _Open | None = None
        self._size = 0

    def append(self, data: bytes) -> bool:
        """Write whole lines; returns False if there is no room for them. Raises OSError."""
        if self._open is None:
            if self._bytes_in_all() + len(data) > SPOOL_BYTES_MAX:
                return False
            self._open = self._begin()
            self._size = 0
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._open.descriptor, view) :]
        except OSError:
            # What was written of a line stays; the next file begins with a whole one.
            self.end_file()
            raise
        self._size += len(data)
        if self._size >= FILE_BYTES_MAX:
            self.end_file()
        return True

    def end_file(self) -> None:
        """Let the file that is open be delivered. Raises OSError."""
        if self._open is None:
            return
        descriptor, path = self._open
        self._open = None
        try:
            path.rename(path.with_suffix(_FULL))
        finally:
            os.close(descriptor)

    def take(self) -> Iterator[SpoolFile]:
        """The files that can be delivered; each is let go by the caller. Raises OSError."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if path.suffix not in (_OPEN, _FULL):
                continue
            if self._open is not None and path == self._open.path:
                continue
            taken = _lock(path)
            if taken is not None:
                yield SpoolFile(path, taken)

    def _begin(self) -> _Open:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{secrets.token_hex(12)}{_OPEN}"
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _Open(descriptor, path)

    def _bytes_in_all(self) -> int:
        if not self._folder.is_dir():
            return 0
        total = 0
        for entry in os.scandir(self._folder):
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # it was delivered just now
        return total


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of *path*; None if somebody else has it, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        still = os.stat(path, follow_symlinks=False).st_ino == os.fstat(descriptor).st_ino
    except (BlockingIOError, FileNotFoundError):
        still = False
    if still:
        return descriptor
    os.close(descriptor)
    return None
