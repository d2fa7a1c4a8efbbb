"""Access control lists in a mount: the kernel decides by them, the store keeps them true."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from craqen.core.access.acl import (
    GROUP_OBJ,
    MASK,
    OTHER,
    USER,
    USER_OBJ,
    Entry,
    encode,
    parse,
)
from craqen.tests.fuse.test_mount_calls import refused

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
GUEST = 4711
GUEST_READS = encode(
    [
        Entry(USER_OBJ, 6),
        Entry(USER, 4, GUEST),
        Entry(GROUP_OBJ, 0),
        Entry(MASK, 4),
        Entry(OTHER, 0),
    ]
)
GUEST_WRITES_BELOW = encode(
    [
        Entry(USER_OBJ, 7),
        Entry(USER, 7, GUEST),
        Entry(GROUP_OBJ, 5),
        Entry(MASK, 7),
        Entry(OTHER, 0),
    ]
)
PLAIN = encode([Entry(USER_OBJ, 6), Entry(GROUP_OBJ, 4), Entry(OTHER, 0)])

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else"),
]


def as_guest(work: Callable[[], object]) -> int:
    """The errno that *work* ends with when the guest does it; 0 if it ends well."""
    child = os.fork()
    if child == 0:
        number = 99
        try:
            os.setgroups([])
            os.setresgid(GUEST, GUEST, GUEST)
            os.setresuid(GUEST, GUEST, GUEST)
            work()
            number = 0
        except OSError as error:
            number = error.errno or 99
        finally:
            os._exit(number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_list_lets_somebody_in(folder: Path) -> None:
    folder.chmod(0o711)
    path = folder / "file"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    assert as_guest(lambda: path.read_bytes()) == errno.EACCES
    os.setxattr(path, ACCESS, GUEST_READS)
    assert os.getxattr(path, ACCESS) == GUEST_READS
    assert ACCESS in os.listxattr(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640  # the mask
    assert as_guest(lambda: path.read_bytes()) == 0
    assert as_guest(lambda: path.write_bytes(b"x")) == errno.EACCES
    path.chmod(0o600)
    assert [one.permissions for one in parse(os.getxattr(path, ACCESS)) if one.tag == MASK] == [0]
    assert as_guest(lambda: path.read_bytes()) == errno.EACCES
    os.removexattr(path, ACCESS)
    with refused(errno.ENODATA):
        os.getxattr(path, ACCESS)


def test_a_list_that_says_what_the_mode_says_is_the_mode(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"")
    os.setxattr(path, ACCESS, PLAIN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert ACCESS not in os.listxattr(path)


def test_what_is_made_in_a_folder_begins_with_its_default_list(folder: Path) -> None:
    folder.chmod(0o711)
    top = folder / "shared"
    top.mkdir(mode=0o700)
    os.setxattr(top, DEFAULT, GUEST_WRITES_BELOW)
    mask = os.umask(0)
    try:
        (top / "below").mkdir()
        (top / "below" / "file").write_bytes(b"1")
        (top / "link").symlink_to("below")
    finally:
        os.umask(mask)
    assert os.getxattr(top / "below", DEFAULT) == GUEST_WRITES_BELOW
    assert stat.S_IMODE((top / "below").stat().st_mode) == 0o770
    assert stat.S_IMODE((top / "below" / "file").stat().st_mode) == 0o660
    path = top / "below" / "file"
    assert as_guest(lambda: path.write_bytes(b"2")) == errno.EACCES  # not into the top
    os.setxattr(top, ACCESS, GUEST_WRITES_BELOW)
    assert as_guest(lambda: path.write_bytes(b"2")) == 0
    assert path.read_bytes() == b"2"


def test_only_folders_have_default_lists(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"")
    with refused(errno.EACCES):
        os.setxattr(path, DEFAULT, GUEST_WRITES_BELOW)


def test_what_is_no_list_is_refused(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"")
    with refused(errno.EINVAL):
        os.setxattr(path, ACCESS, GUEST_READS[:-8])
