"""DRIVER: how far the kernel reads ahead on one mount.

A new FUSE mount reads 128 KiB ahead, so buffered reads arrive in pieces of that size and cost more
than twice the CPU time for each byte. No mount option changes it; the mount's own entry below
/sys/class/bdi does, for root.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

READ_AHEAD_KIBIBYTES = 1024

_log = logging.getLogger("craqen.mount")


async def set_read_ahead(mount_point: str, kibibytes: int = READ_AHEAD_KIBIBYTES) -> bool:
    """Have the kernel read *kibibytes* ahead on the file system at *mount_point*; return whether it
    does.

    Call it while the file system is being served, by this process or another: the kernel sets its
    own figure when it gets the answer to its first request, so this waits for one to be answered.
    Where it is not allowed, the mount works as well, only slower: that is logged.
    """
    await asyncio.to_thread(os.stat, mount_point)
    device = device_of_mount(mount_point)
    if device is None:
        _log.warning("%s: not in /proc/self/mountinfo; read-ahead stays as it is", mount_point)
        return False
    try:
        Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(f"{kibibytes}\n")
    except OSError as error:
        _log.warning(
            "%s: read-ahead stays as it is, sequential reads are slower: %s", mount_point, error
        )
        return False
    return True


def device_of_mount(mount_point: str) -> str | None:
    """``major:minor`` of the topmost file system mounted at *mount_point* (an absolute path), or
    None."""
    wanted = _escaped(mount_point)
    found = None
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        fields = os.fsdecode(line).split(" ")
        if fields[4:5] == [wanted]:
            found = fields[2]  # a later line is mounted over an earlier one
    return found


def _escaped(path: str) -> str:
    """*path* as mountinfo writes it."""
    for character in "\\ \t\n":  # the backslash first
        path = path.replace(character, f"\\{ord(character):03o}")
    return path
