"""Disks that tests break: small ones, and such as fail reads or writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from craqen.tests.faults.network import run

PROGRAM = Path(__file__).parent / "failing_device.py"
DEVICE_BYTES = 1 << 30  # sparse
END_SECONDS = 20
PAGE_BYTES = 4096


class SmallDisk:
    """A disk that something else fills."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no space."""
        at = 0
        with self._ballast.open("wb") as file:
            for piece_bytes in (16 << 20, 1 << 20, PAGE_BYTES):
                with suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), at, piece_bytes)
                        at += piece_bytes

    def relieve(self) -> None:
        """Give the space back."""
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[SmallDisk]:
    """A file system of that size at *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        run("umount", "-l", str(folder))


class FailingDisk:
    """An ext4 file system at *folder*, on a loop device on a file that fails on demand."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder = folder
        self._mode = work / "mode"
        self._point = work / "fuse"
        backing = work / "backing"
        self._point.mkdir(parents=True)
        self.mend()
        with backing.open("wb") as file:
            file.truncate(DEVICE_BYTES)
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, backing, self._mode, self._point],
            stdout=subprocess.PIPE,
        )
        self._device = ""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"READY\n"
        self._device = run("losetup", "--find", "--show", str(self._point / "device")).strip()
        run("mkfs.ext4", "-q", "-m", "0", self._device)
        folder.mkdir(parents=True, exist_ok=True)
        self.mount()

    def mount(self) -> None:
        run("mount", self._device, str(self.folder))

    def unmount(self) -> None:
        run("umount", str(self.folder))

    def check(self) -> None:
        """As an operator does with a disk that had errors: 1 says that it was mended."""
        done = subprocess.run(
            ["fsck.ext4", "-p", "-f", self._device], check=False, capture_output=True, text=True
        )
        assert done.returncode in (0, 1), done.stdout

    def fail(self, what: str) -> None:
        """Reads ("r"), writes ("w") or both ("x") fail from now on, and the kernel has
        none of the chunks in memory."""
        block_files = [os.open(path, os.O_RDONLY) for path in self.folder.glob("*/blocks/*")]
        self._mode.write_text(what)
        for descriptor in block_files:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def mend(self) -> None:
        """Nothing fails any more."""
        self._mode.write_text("-")

    def close(self) -> None:
        """Take everything away."""
        self.mend()
        for words in (
            ["umount", "-l", str(self.folder)],
            ["losetup", "--detach", self._device],
            ["umount", "-l", str(self._point)],
        ):
            subprocess.run(words, check=False, capture_output=True)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def failing_disk(folder: Path, work: Path) -> Iterator[FailingDisk]:
    """See FailingDisk."""
    disk = FailingDisk(folder, work)
    try:
        yield disk
    finally:
        disk.close()
