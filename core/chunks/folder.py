"""DRIVER: the folder of one target: who has it open, whose it is, and its block files.

target.yaml     format version, cluster and target; written when all else is in place
lock            held by the process that has the store open
index/          the chunk index (core/chunks/index.py)
blocks/         block files, ``blocks-CLASS-NUMBER``; they grow, and never shrink or move
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path

import yaml

from ..errors import DataLossError, DiskError, NoSpaceError, OperatorError
from .allocator import CLASS_SIZES, FILES_PER_CLASS_MAX, Growth, number_of
from .direct import open_direct
from .index import FULL_ERRNOS
from .store import Block

FORMAT_VERSION = 1
HEADER_NAME = "target.yaml"
HEADER_BYTES_MAX = 4096
_BLOCK_FILE = re.compile(r"blocks-(\d{1,2})-(\d{1,5})")


class TargetFolder:
    """The folder, locked for this process."""

    def __init__(self, folder: Path, *, target_id: int, cluster_id: str) -> None:
        """Lock the folder, making it if need be, and check whose it is.

        Raises OperatorError (in use, another target's, of another format, not a target's),
        DataLossError (its index is gone), DiskError.
        """
        self.folder = folder
        self._header = {
            "format": FORMAT_VERSION,
            "cluster_id": cluster_id,
            "target_id": int(target_id),
        }
        self._descriptors: dict[int, int] = {}
        self._direct: dict[int, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock(folder)
        except OSError as error:
            raise OperatorError(f"{folder}: cannot be opened: {error.strerror}") from error
        try:
            self._check()
            for name in ("blocks", "index"):
                (folder / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            self.close()
            raise DiskError(f"{folder}: {error.strerror}: look at the kernel log") from error
        except BaseException:
            self.close()
            raise

    @property
    def index(self) -> Path:
        """Where the index lies."""
        return self.folder / "index"

    def complete(self) -> None:
        """The index is made: write the header if the folder is new. Raises DiskError,
        NoSpaceError."""
        path = self.folder / HEADER_NAME
        if path.exists():
            return
        draft = self.folder / (HEADER_NAME + ".new")
        try:
            flush_folder(self.index)
            flush_folder(self.folder)
            with draft.open("w") as file:
                yaml.safe_dump(self._header, file, sort_keys=False)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
            flush_folder(self.folder)
            flush_folder(self.folder.resolve().parent)
        except OSError as error:
            raise _disk_error(self.folder, error) from error

    def blocks_on_disk(self) -> list[int]:
        """How many blocks of each class have space on disk. Raises DiskError."""
        counts = [0] * len(CLASS_SIZES)
        try:
            for path in (self.folder / "blocks").iterdir():
                match = _BLOCK_FILE.fullmatch(path.name)
                if match is None or int(match[1]) >= len(CLASS_SIZES):
                    continue
                class_number, file_number = int(match[1]), int(match[2])
                size = CLASS_SIZES[class_number]
                blocks = path.stat().st_size // size
                if blocks:
                    file_id = class_number * FILES_PER_CLASS_MAX + file_number
                    _, last = number_of(Block(file_id, (blocks - 1) * size, size))
                    counts[class_number] = max(counts[class_number], last + 1)
        except OSError as error:
            raise _disk_error(self.folder, error) from error
        return counts

    def open_file(self, file_id: int) -> int:
        """The block file's descriptor. Raises DataLossError if it is gone, DiskError."""
        descriptor = self._descriptors.get(file_id)
        if descriptor is not None:
            return descriptor
        path = self._block_file(file_id)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise DataLossError(f"{path}: the block file is gone") from error
        except OSError as error:
            raise _disk_error(path, error) from error
        self._descriptors[file_id] = descriptor
        return descriptor

    def open_direct(self, file_id: int) -> int:
        """Another descriptor, past the page cache; -1: there is no such way. Raises as
        ``open_file``."""
        direct = self._direct.get(file_id)
        if direct is None:
            direct = self._direct[file_id] = open_direct(self.open_file(file_id))
        return direct

    def allocate(self, growth: Growth) -> None:
        """Give *growth* its space on disk. Raises NoSpaceError, DiskError."""
        descriptor = self._descriptors.get(growth.file_id)
        try:
            if descriptor is None:
                path = self._block_file(growth.file_id)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    flush_folder(path.parent)
                except BaseException:
                    os.close(descriptor)
                    raise
                self._descriptors[growth.file_id] = descriptor
            os.posix_fallocate(descriptor, growth.offset_bytes, growth.length_bytes)
        except OSError as error:
            raise _disk_error(self.folder, error) from error

    def close(self) -> None:
        """Close the block files and let go of the folder."""
        for direct in self._direct.values():
            if direct >= 0:
                os.close(direct)
        self._direct.clear()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        os.close(self._lock)

    def _block_file(self, file_id: int) -> Path:
        class_number, number = divmod(file_id, FILES_PER_CLASS_MAX)
        return self.folder / "blocks" / f"blocks-{class_number}-{number}"

    def _check(self) -> None:
        """Hold the header against whose the folder should be."""
        path = self.folder / HEADER_NAME
        if not path.exists():
            self._check_unused()
            return
        with path.open("rb") as file:
            text = file.read(HEADER_BYTES_MAX)
        try:
            found = yaml.safe_load(text)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise OperatorError(f"{path}: cannot be understood: restore it") from error
        if not isinstance(found, dict):
            raise OperatorError(f"{path}: cannot be understood: restore it")
        for name, wanted in self._header.items():
            if found.get(name) != wanted:
                raise OperatorError(
                    f"{path}: {name} is {found.get(name)!r}, expected {wanted!r}: "
                    f"is this the folder of another target?"
                )
        if not (self.index / "data.mdb").exists():
            raise DataLossError(
                f"{self.folder}: the index is gone: clear the folder and let the chain fill it"
            )

    def _check_unused(self) -> None:
        """Without a header the store was never complete: nothing in it was acknowledged."""
        blocks = self.folder / "blocks"
        if blocks.is_dir() and any(blocks.iterdir()):
            raise OperatorError(
                f"{self.folder}: has block files but no {HEADER_NAME}: restore that file, or "
                f"clear the folder"
            )
        for name in ("data.mdb", "lock.mdb"):
            (self.index / name).unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Make the names in *folder* durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """Lock the folder for this process. Raises OperatorError if another has it, OSError."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OperatorError(f"{folder}: another process has this chunk store open") from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _disk_error(where: Path, error: OSError) -> DiskError | NoSpaceError:
    if error.errno in FULL_ERRNOS:
        return NoSpaceError(f"{where}: the disk is full: free some space")
    name = errno.errorcode.get(error.errno or 0, "unknown")
    return DiskError(f"{where}: {error.strerror} ({name}): look at the kernel log")
