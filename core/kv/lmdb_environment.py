"""One LMDB environment of this process: opening, its errors as ours, and changing its map.

The map (LMDB's view of the file in memory) may only be replaced while this process has no
transaction open in it. ``lock`` is held around every write transaction; whoever replaces the map
takes it and has ended every read transaction first.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Final

import lmdb

from ..errors import (
    CraqenError,
    DataLossError,
    DiskError,
    LimitExceededError,
    NoSpaceError,
    OperatorError,
    UnavailableError,
)
from ..limits import GIB, MIB
from . import conflict_log

MAP_BYTES_DEFAULT: Final = 64 * GIB
"""Address space, not disk: the file grows as it fills. Doubled when it does not suffice."""

MAP_BYTES_MIN: Final = 1 * MIB
READERS_MAX: Final = 2048
"""Snapshots open at one time in all processes; 64 bytes of the lock file each."""

SPARE_SNAPSHOTS_MAX: Final = 64
"""Ended snapshots kept for reuse: renewing one takes no lock and no memory."""

READER_CHECK_SECONDS: Final = 10.0
"""How often the snapshots of processes that died are given up, so that their pages are reused."""

SPACE_PROBE_BYTES: Final = 16 * MIB
"""More than the greatest transaction takes: a write that fell short had less than this."""

FORMAT_ROW: Final = b"\xfff"
FORMAT: Final = b"craqen-kv 1"

_SPACE_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def translate(error: lmdb.Error, path: Path) -> CraqenError:
    """Return our error for LMDB's *error* on the store at *path*."""
    code = getattr(error, "code", 0)
    if code in _SPACE_ERRNOS:
        return NoSpaceError(f"{path}: the disk is full or over quota ({error}): free some space")
    if isinstance(error, lmdb.ReadersFullError):
        return UnavailableError(f"{path}: {READERS_MAX} snapshots are open already")
    if isinstance(error, lmdb.TxnFullError):
        return LimitExceededError(f"{path}: the transaction changes too many pages: split it")
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError):
        return DataLossError(f"{path}: the metadata file is damaged ({error}): restore a backup")
    if isinstance(error, lmdb.VersionMismatchError):
        return OperatorError(f"{path}: the file is of another LMDB format ({error})")
    if code == errno.EACCES or code == errno.EPERM or code == errno.EROFS:
        return OperatorError(f"{path}: {error}: check who owns the folder and how it is mounted")
    return DiskError(f"{path}: {error}: look at the kernel log, then at the disk")


class LmdbEnvironment:
    """The environment in one folder, opened for this process."""

    def __init__(self, folder: Path, *, map_bytes: int, sync: bool) -> None:
        """Open or create the store in *folder*.

        Raises OperatorError (open in this process already, other format, no permission),
        NoSpaceError, DiskError, DataLossError.
        """
        self.folder: Final = folder
        self.lock: Final = threading.RLock()
        self._map_bytes = max(map_bytes, MAP_BYTES_MIN)
        self._sync = sync
        self._reader_check_at = time.monotonic() + READER_CHECK_SECONDS
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(f"{folder}: cannot make the folder: {error}") from error
        self.env = self._open()
        try:
            self._initialise()
        except lmdb.Error as error:
            self.env.close()
            raise translate(error, folder) from error
        except BaseException:
            self.env.close()
            raise

    def close(self) -> None:
        """Close; no transaction may be open."""
        with self.lock:
            self.env.close()

    def reopen(self) -> None:
        """Close and open again, after an error that LMDB calls fatal. Nothing may be open."""
        with self.lock:
            self.env.close()
            self.env = self._open()

    def grow(self) -> None:
        """Double the map. No transaction may be open."""
        with self.lock:
            self.env.set_mapsize(self.map_bytes() * 2)

    def adopt_size(self) -> None:
        """Follow a map that another process has grown. No transaction may be open."""
        with self.lock:
            self.env.set_mapsize(0)

    def explain(self, error: lmdb.Error) -> CraqenError:
        """Return our error for a write that failed with *error*.

        LMDB calls a short write an I/O error, and on a full disk the first write that fails is
        short as a rule. Asking for the space directly tells the two apart; where it is granted, it
        lies at the end of the file and LMDB uses it next.
        """
        if getattr(error, "code", 0) == errno.EIO:
            try:
                descriptor = os.open(self.folder / "data.mdb", os.O_RDWR | os.O_CLOEXEC)
                try:
                    end = os.fstat(descriptor).st_size
                    os.posix_fallocate(descriptor, end, SPACE_PROBE_BYTES)
                finally:
                    os.close(descriptor)
            except OSError as refusal:
                if refusal.errno in _SPACE_ERRNOS:
                    return NoSpaceError(
                        f"{self.folder}: the disk is full or over quota ({refusal}): free some"
                    )
        return translate(error, self.folder)

    def flush(self) -> None:
        """Put everything committed on stable storage. Raises lmdb.Error."""
        self.env.sync(True)

    def map_bytes(self) -> int:
        """Return the present size of the map."""
        size: int = self.env.info()["map_size"]
        return size

    def check_readers(self) -> None:
        """Give up the snapshots of dead processes, if it was not done just now."""
        now = time.monotonic()
        if now >= self._reader_check_at:
            self._reader_check_at = now + READER_CHECK_SECONDS
            self.env.reader_check()

    def _open(self) -> lmdb.Environment:
        try:
            environment = lmdb.open(
                os.fspath(self.folder),
                map_size=self._map_bytes,
                mode=0o600,
                metasync=self._sync,
                sync=self._sync,
                max_readers=READERS_MAX,
                max_spare_txns=SPARE_SNAPSHOTS_MAX,
                readahead=False,
            )
            environment.reader_check()
        except lmdb.Error as error:
            if "already open" in str(error):
                raise OperatorError(
                    f"{self.folder}: the store is already open in this process: share that one"
                ) from error
            raise translate(error, self.folder) from error
        return environment

    def _flush_folders(self) -> None:
        """Make the names of a new store's folder and files as durable as their content is."""
        for folder in (self.folder, self.folder.resolve().parent):
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise DiskError(f"{folder}: cannot be flushed: {error}") from error

    def _initialise(self) -> None:
        """Mark a new store; refuse one of another format."""
        with self.env.begin() as snapshot:
            found = snapshot.get(FORMAT_ROW)
            fresh = found is None and snapshot.stat()["entries"] == 0
            stale_log = conflict_log.is_from_another_life(snapshot)
        if fresh or stale_log:
            with self.env.begin(write=True) as txn:
                if txn.get(FORMAT_ROW) is None:
                    txn.put(FORMAT_ROW, FORMAT)
                if conflict_log.is_from_another_life(txn):
                    conflict_log.clear(txn)
            if fresh:
                self._flush_folders()
        elif found != FORMAT:
            raise OperatorError(
                f"{self.folder}: not a key-value store of this release "
                f"(format {found!r}, expected {FORMAT!r})"
            )
