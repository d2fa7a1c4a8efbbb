"""The load: plain system calls on a mounted folder, each function a fixed piece of work that
returns its operations."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from pathlib import Path

from ...core.limits import KIB, MIB

SEQUENTIAL_BYTES = 512 * MIB
RANDOM_READS = 8000
RANDOM_FILE_BYTES = 128 * MIB
SMALL_FILES = 2000
STAT_FILES = 10_000
SMALL_FILE_BYTES = 4 * KIB

_MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 2, 4, 32


def drop_names(mount_point: Path) -> bool:
    """Have the kernel forget every name and attribute of the file system mounted there, so that it
    asks for each again; return False where that is not allowed.

    Remounting with nothing changed does it, for this file system alone. Needs root.
    """
    flags = _MS_REMOUNT | _MS_NOSUID | _MS_NODEV
    done: int = ctypes.CDLL(None).mount(None, os.fsencode(mount_point), None, flags, None)
    return done == 0


def drop_cache(path: Path) -> None:
    """Have the kernel forget the file's pages."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def write_file(path: Path, size: int) -> None:
    """Fill *path* with *size* random bytes (a multiple of 1 MiB)."""
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())


def read_sequentially(path: Path) -> int:
    """Read the whole file, 1 MiB at a time."""
    buffer = memoryview(bytearray(MIB))
    operations = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while os.readv(descriptor, [buffer]):
            operations += 1
    finally:
        os.close(descriptor)
    return operations


def read_randomly(path: Path) -> int:
    """4 KiB reads at random places, past the kernel's cache (O_DIRECT)."""
    chooser = random.Random(1)
    pages = path.stat().st_size // SMALL_FILE_BYTES
    buffer = mmap.mmap(-1, SMALL_FILE_BYTES)  # page aligned, as O_DIRECT wants it
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        for _ in range(RANDOM_READS):
            count = os.preadv(descriptor, [buffer], chooser.randrange(pages) * SMALL_FILE_BYTES)
            assert count == SMALL_FILE_BYTES
    finally:
        os.close(descriptor)
    return RANDOM_READS


def create_files(folder: Path) -> int:
    """Create, write 4 KiB, close."""
    content = os.urandom(SMALL_FILE_BYTES)
    for number in range(SMALL_FILES):
        descriptor = os.open(folder / f"file{number:05}", os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(descriptor, content)
        os.close(descriptor)
    return SMALL_FILES


def make_empty_files(folder: Path) -> None:
    """The files of ``stat_files``."""
    for number in range(STAT_FILES):
        os.close(os.open(folder / f"stat{number:05}", os.O_WRONLY | os.O_CREAT, 0o644))


def stat_files(folder: Path) -> int:
    """stat each of them once."""
    for number in range(STAT_FILES):
        os.stat(folder / f"stat{number:05}")
    return STAT_FILES
