"""DRIVER: mount points as the kernel has them: checks before mounting, and unmounting.

All calls may block until the process that serves the mount answers; none may run on its event loop.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import stat
import subprocess
from pathlib import Path

from ..core.errors import (
    AlreadyExistsError,
    DiskError,
    NotDirectoryError,
    NotFoundError,
    OperatorError,
)
from .kernel_read_ahead import device_of_mount

FILESYSTEM_NAME = "craqen"
STALE_LAYERS_MAX = 16  # dead mounts on top of each other that are cleared away
UNMOUNT_SECONDS = 30.0

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_log = logging.getLogger("craqen.mount")


def prepare(mount_point: str) -> None:
    """Make sure that *mount_point* (absolute) can be mounted on; detaches dead mounts found there.

    Raises NotFoundError, NotDirectoryError, AlreadyExistsError (a store is mounted there),
    OperatorError.
    """
    for _ in range(STALE_LAYERS_MAX):
        try:
            is_folder = stat.S_ISDIR(os.stat(mount_point).st_mode)
            ours = mounted_type(mount_point) == f"fuse.{FILESYSTEM_NAME}"
            if ours:
                os.statvfs(mount_point)  # stat may come from the cache of a dead mount
        except FileNotFoundError:
            raise NotFoundError(f"{mount_point}: does not exist; make the folder first") from None
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
                raise OperatorError(f"{mount_point}: {error.strerror}") from error
            _log.warning("%s: its file system died; detaching it", mount_point)
            unmount(mount_point, lazily=True)
            continue
        if not is_folder:
            raise NotDirectoryError(f"{mount_point}: is not a folder")
        if ours:
            raise AlreadyExistsError(
                f"{mount_point}: a store is mounted there already; "
                f"unmount it first (fusermount3 -u {mount_point})"
            )
        return
    raise OperatorError(f"{mount_point}: dead file systems keep coming up; unmount them by hand")


def mounted_type(mount_point: str) -> str | None:
    """The type of the topmost file system mounted exactly at *mount_point*; None: none is."""
    device = device_of_mount(mount_point)
    if device is None:
        return None
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if fields[2] == device:
            return fields[fields.index("-") + 1]
    return None


def unmount(mount_point: str, *, lazily: bool) -> bool:
    """Take the topmost mount at *mount_point* away; return False if it is in use (never with
    *lazily*: then it goes from the tree now, and for good with its last user).

    Raises DiskError if that does not work for another reason; nothing mounted is not an error.
    """
    number = _unmount_as_root(mount_point, lazily) if os.geteuid() == 0 else None
    if number is None:
        number = _unmount_by_helper(mount_point, lazily)
    if number == errno.EBUSY:
        return False
    if number not in (0, errno.EINVAL, errno.ENOENT):
        raise DiskError(f"{mount_point}: cannot be unmounted: {os.strerror(number)}")
    return True


def _unmount_as_root(mount_point: str, lazily: bool) -> int:
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazily else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mount_point), flags) == 0:
        return 0
    return ctypes.get_errno()


def _unmount_by_helper(mount_point: str, lazily: bool) -> int:
    words = ["fusermount3", "-u", *(["-z"] if lazily else []), "--", mount_point]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=UNMOUNT_SECONDS, check=False
        )
    except FileNotFoundError:
        return errno.ENOSYS
    except subprocess.TimeoutExpired:
        return errno.ETIMEDOUT
    if done.returncode == 0:
        return 0
    return errno.EBUSY if "busy" in done.stderr.lower() else errno.EPERM
