"""DRIVER: the file that audit records go to, shared by all workers of a host, and its rotation.

A record is one write to a file that is open for appending, so lines of several processes do not
mix, and a record is written before the next request of its connection is looked at. It is in the
kernel's memory then: a process that is killed loses none, a power cut may lose the last seconds.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path

from ...core.errors import ConfigError

REPORT_SECONDS = 60.0
"""How often it is logged that records cannot be written."""

_log = logging.getLogger("craqen.gateway")


class AuditFile:
    """Appends records; starts a new file when one is full. Not for several threads."""

    def __init__(self, path: Path, file_bytes_max: int, files_max: int) -> None:
        """*files_max*: how many full files are kept, at least one: ``path.1`` (newest) and so on.

        Raises ConfigError.
        """
        self._path = path
        self._file_bytes_max = file_bytes_max
        self._files_max = files_max
        self.lost = 0
        """Records that could not be written."""
        self._reported_seconds = -REPORT_SECONDS
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise ConfigError(
                f"gateway.audit_log: {path} cannot be written: {error.strerror}"
            ) from error

    def write(self, record: bytes) -> None:
        """Append one line. One that cannot be written is counted and reported in the log: requests
        go on without."""
        try:
            size = self._current_size()
            if size is None or (size and size + len(record) > self._file_bytes_max):
                self._rotate()
            written = os.write(self._descriptor, record)
            if written < len(record):
                os.write(self._descriptor, b"\n")  # the next record is a line of its own
                raise OSError(0, f"only {written} of {len(record)} bytes were taken")
        except OSError as error:
            self._lose(error)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)

    def _rotate(self) -> None:
        """Go on with the file at the path, a new one if the present one is full. Raises OSError."""
        lock = os.open(self._numbered("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._current_size() is not None:  # else another worker was first
                for number in range(self._files_max - 1, 0, -1):
                    older = self._numbered(str(number))
                    if older.exists():
                        older.rename(self._numbered(str(number + 1)))
                self._path.rename(self._numbered("1"))
            fresh = self._open()
        finally:
            os.close(lock)
        os.close(self._descriptor)
        self._descriptor = fresh

    def _current_size(self) -> int | None:
        """The size of the file that is open; None if it is not the one at the path: another worker,
        or a program that keeps logs, moved it away. Raises OSError."""
        own = os.fstat(self._descriptor)
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return None
        same = (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)
        return own.st_size if same else None

    def _numbered(self, suffix: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{suffix}")

    def _lose(self, error: OSError) -> None:
        self.lost += 1
        now = time.monotonic()
        if now - self._reported_seconds >= REPORT_SECONDS:
            self._reported_seconds = now
            _log.error(
                "audit log %s: %d records are lost so far: %s",
                self._path,
                self.lost,
                error.strerror,
            )
