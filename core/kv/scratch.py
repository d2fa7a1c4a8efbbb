"""Durability by interval: flushing from time to time, and refusing a store that may be damaged.

Without a flush in each commit, LMDB's pages reach the disk in any order. That is harmless while the
kernel lives. So while a store is open this way a mark in its folder names the running kernel (its
boot id); the last process that closes the store flushes it and takes the mark away. A mark of
another boot means that the host went down with the store open, and then the file is not trusted.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import lmdb

from ..errors import DiskError, OperatorError

if TYPE_CHECKING:
    from .lmdb_environment import LmdbEnvironment

DURABILITY_FLUSH: Final = "flush"
DURABILITY_INTERVAL: Final = "interval"

MARK_NAME: Final = "unflushed"
_BOOT_ID_PATH: Final = Path("/proc/sys/kernel/random/boot_id")


class IntervalFlusher:
    """Flushes one environment every so often, and keeps the mark of its folder.

    ATTRIBUTES ``failure``: the error of the first flush that failed; no commit is taken after it.
    """

    def __init__(self, folder: Path, interval_seconds: float) -> None:
        """Set the mark. Raises OperatorError when it tells of a crash, or cannot be set."""
        self._interval_seconds = interval_seconds
        self._path = folder / MARK_NAME
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._environment: LmdbEnvironment | None = None
        self.failure: DiskError | None = None
        self.refuse_damaged(folder)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = self._lock_mark()
            os.pwrite(self._fd, _boot_id(), 0)
            os.fsync(self._fd)
        except OSError as error:
            raise OperatorError(f"{self._path}: cannot be written: {error}") from error

    @staticmethod
    def refuse_damaged(folder: Path) -> None:
        """Raise OperatorError when *folder* was open by interval as the host went down."""
        path = folder / MARK_NAME
        try:
            found = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise OperatorError(f"{path}: cannot be read: {error}") from error
        if found and found != _boot_id():
            raise OperatorError(
                f"{folder}: the host went down while this store was open with durability "
                f"'interval'; it may be damaged. Make the data anew in an empty folder, or remove "
                f"{path} to open it at your own risk"
            )

    def start(self, environment: LmdbEnvironment) -> None:
        """Begin to flush *environment*."""
        self._environment = environment
        self._thread = threading.Thread(target=self._run, name="craqen-kv-flush", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Flush a last time; the last process takes the mark away.

        After a failed flush the mark stays, for the file cannot be trusted past this boot.
        """
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        self._flush()
        if self.failure is None:
            self.abandon()
        else:
            os.close(self._fd)

    def abandon(self) -> None:
        """Let the mark go, and remove it when no other process holds it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # Another process has the store open: it is the one to remove the mark.
        finally:
            os.close(self._fd)

    def _lock_mark(self) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_SH)
            try:
                if os.fstat(fd).st_ino == os.stat(self._path).st_ino:
                    return fd
            except FileNotFoundError:
                pass
            os.close(fd)  # The last process removed it between our open and our lock.

    def _run(self) -> None:
        while self.failure is None and not self._stop.wait(self._interval_seconds):
            self._flush()

    def _flush(self) -> None:
        assert self._environment is not None
        try:
            self._environment.flush()
        except lmdb.Error as error:
            self.failure = DiskError(f"{self._path.parent}: flushing failed: {error}")


def _boot_id() -> bytes:
    return _BOOT_ID_PATH.read_bytes().strip()
