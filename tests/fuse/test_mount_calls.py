"""Every system call on a real mount, and what it answers."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from craqen.core.limits import KIB, MIB

pytestmark = pytest.mark.mount

NOREPLACE, EXCHANGE = 1, 2
AT_FDCWD = -100


def refused(number: int) -> pytest.RaisesExc[OSError]:
    return pytest.raises(OSError, check=lambda error: error.errno == number)


def renameat2(old: Path, new: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def punch_hole(descriptor: int, offset: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(descriptor, 3, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def as_nobody(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python *code* as an unprivileged user."""
    program = f"import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); {code}"
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_write_read_and_attributes(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"hello")
    assert path.read_bytes() == b"hello"
    status = path.stat()
    assert (status.st_size, status.st_nlink, status.st_uid) == (5, 1, os.getuid())
    assert stat.S_ISREG(status.st_mode)
    os.chmod(path, 0o640)
    os.chown(path, 12, 34)
    os.utime(path, ns=(1_111_222_333_444_555_666, 1_222_333_444_555_666_777))
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 12, 34)
    assert status.st_atime_ns == 1_111_222_333_444_555_666
    assert status.st_mtime_ns == 1_222_333_444_555_666_777


def test_times_set_on_an_open_file_outlive_its_close(folder: Path) -> None:
    with (folder / "file").open("wb") as file:
        file.write(b"x" * 100)
        file.flush()
        os.utime(file.fileno(), ns=(10**18, 10**18 + 1))
    assert (folder / "file").stat().st_mtime_ns == 10**18 + 1


def test_umask_and_setgid_folder(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        os.close(os.open(folder / "file", os.O_CREAT | os.O_WRONLY, 0o777))
        (folder / "sub").mkdir(0o777)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0o750
    assert stat.S_IMODE((folder / "sub").stat().st_mode) == 0o750
    os.chown(folder / "sub", 0, 777)
    os.chmod(folder / "sub", 0o2770)
    (folder / "sub" / "inner").write_bytes(b"")
    (folder / "sub" / "below").mkdir()
    assert (folder / "sub" / "inner").stat().st_gid == 777
    assert (folder / "sub" / "below").stat().st_mode & stat.S_ISGID


def test_special_files_and_symlinks(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(folder / "plain", stat.S_IFREG | 0o600)
    with socket.socket(socket.AF_UNIX) as server:
        short = f"/proc/self/fd/{os.open(folder, os.O_PATH)}/socket"
        server.bind(short)
    os.symlink("some/where", folder / "link")
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    assert (folder / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISREG((folder / "plain").stat().st_mode)
    assert stat.S_ISSOCK((folder / "socket").stat().st_mode)
    assert os.readlink(folder / "link") == "some/where"
    assert os.lstat(folder / "link").st_size == 10
    assert sorted(os.listdir(folder)) == ["fifo", "link", "null", "plain", "socket"]


def test_hard_links(folder: Path) -> None:
    (folder / "a").write_bytes(b"shared")
    os.link(folder / "a", folder / "b")
    assert (folder / "a").stat().st_ino == (folder / "b").stat().st_ino
    assert (folder / "b").stat().st_nlink == 2
    with (folder / "b").open("ab") as file:
        file.write(b" more")
    assert (folder / "a").read_bytes() == b"shared more"
    os.unlink(folder / "a")
    assert (folder / "b").stat().st_nlink == 1
    assert (folder / "b").read_bytes() == b"shared more"


def test_rename_and_its_flags(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).write_text(name)
    with refused(errno.EEXIST):
        renameat2(folder / "one", folder / "two", NOREPLACE)
    renameat2(folder / "one", folder / "two", EXCHANGE)
    assert (folder / "one").read_text() == "two"
    assert (folder / "two").read_text() == "one"
    renameat2(folder / "one", folder / "three", NOREPLACE)
    assert sorted(os.listdir(folder)) == ["three", "two"]
    os.rename(folder / "two", folder / "three")
    assert (folder / "three").read_text() == "one"
    with refused(errno.ENOENT):
        renameat2(folder / "three", folder / "absent", EXCHANGE)
    (folder / "sub" / "deep").mkdir(parents=True)
    with refused(errno.EINVAL):
        os.rename(folder / "sub", folder / "sub" / "deep" / "er")
    os.rename(folder / "sub", folder / "moved")
    assert os.listdir(folder / "moved") == ["deep"]


def test_refusals(folder: Path, shared_mount: object) -> None:
    (folder / "file").write_bytes(b"x")
    (folder / "sub" / "inner").mkdir(parents=True)
    with refused(errno.ENOENT):
        os.stat(folder / "absent")
    with refused(errno.EEXIST):
        os.mkdir(folder / "file")
    with refused(errno.EEXIST):
        os.open(folder / "file", os.O_CREAT | os.O_EXCL)
    with refused(errno.ENOTDIR):
        os.stat(folder / "file" / "below")
    with refused(errno.ENOTDIR):
        os.rmdir(folder / "file")
    with refused(errno.EISDIR):
        os.unlink(folder / "sub")
    with refused(errno.EISDIR):
        os.open(folder / "sub", os.O_WRONLY)
    with refused(errno.ENOTEMPTY):
        os.rmdir(folder / "sub")
    with refused(errno.ENOTEMPTY):
        (folder / "other").mkdir()
        os.rename(folder / "other", folder / "sub")
    with refused(errno.ENAMETOOLONG):
        os.mkdir(folder / ("n" * 256))
    with refused(errno.EFBIG):
        os.truncate(folder / "file", 1 << 60)
    with refused(errno.EPERM):
        os.link(folder / "sub", folder / "hard")
    with refused(errno.EPERM):
        (folder.parent.parent / "file-at-the-root").write_bytes(b"")
    with refused(errno.EINVAL):
        (folder.parent.parent / "Not_A_Bucket").mkdir()
    assert as_nobody("open(sys.argv[1], 'ab')", folder / "file").returncode != 0
    (folder / ("n" * 255)).mkdir()


def test_buckets_are_folders_of_the_root(shared_mount: object, folder: Path) -> None:
    root = folder.parent.parent
    (root / "another-bucket").mkdir()
    assert "another-bucket" in os.listdir(root)
    (root / "another-bucket" / "f").write_bytes(b"1")
    with refused(errno.ENOTEMPTY):
        (root / "another-bucket").rmdir()
    (root / "another-bucket" / "f").unlink()
    (root / "another-bucket").rmdir()
    assert "another-bucket" not in os.listdir(root)


def test_extended_attributes(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"")
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.big", b"b" * 60_000)
    assert os.getxattr(path, "user.one") == b"1"
    assert sorted(os.listxattr(path)) == ["user.big", "user.one"]
    assert os.getxattr(path, "user.big") == b"b" * 60_000
    with refused(errno.EEXIST):
        os.setxattr(path, "user.one", b"2", os.XATTR_CREATE)
    with refused(errno.ENODATA):
        os.setxattr(path, "user.none", b"2", os.XATTR_REPLACE)
    with refused(errno.ENODATA):
        os.getxattr(path, "user.none")
    os.removexattr(path, "user.one")
    with refused(errno.ENODATA):
        os.removexattr(path, "user.one")
    assert os.listxattr(path) == ["user.big"]
    os.setxattr(path, "security.craqen", b"1")
    assert os.getxattr(path, "security.craqen") == b"1"
    os.removexattr(path, "security.craqen")
    with refused(errno.ENODATA):
        os.getxattr(path, "security.craqen")
    with refused(errno.EOPNOTSUPP):
        os.setxattr(path, "system.craqen", b"1")


def test_attributes_change_the_time_of_the_inode_alone(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"")
    before = path.stat()
    os.setxattr(path, "user.one", b"1")
    after = path.stat()
    assert after.st_ctime_ns > before.st_ctime_ns
    assert after.st_mtime_ns == before.st_mtime_ns


def test_a_capability_goes_with_the_first_write(folder: Path) -> None:
    path = folder / "program"
    path.write_bytes(b"x")
    path.write_bytes(b"y")  # the mount has looked for one by now
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(path, "security.capability", capability)
    assert os.getxattr(path, "security.capability") == capability
    with path.open("ab") as file:
        file.write(b"z")
    with refused(errno.ENODATA):
        os.getxattr(path, "security.capability")


def test_mapped_memory(folder: Path) -> None:
    content = bytearray(random.Random(2).randbytes(3 * MIB + 123))
    path = folder / "file"
    path.write_bytes(content)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        assert view[:] == content
        view[MIB : MIB + 5] = b"mmap!"
        view.flush()
    content[MIB : MIB + 5] = b"mmap!"
    assert path.read_bytes() == content


def test_sparse_files_and_truncation(folder: Path) -> None:
    path = folder / "file"
    with path.open("wb") as file:
        file.seek(5 * MIB)
        file.write(b"end")
    assert path.stat().st_size == 5 * MIB + 3
    content = path.read_bytes()
    assert content == bytes(5 * MIB) + b"end"
    os.truncate(path, 5 * MIB + 1)
    os.truncate(path, 6 * MIB)
    assert path.read_bytes() == bytes(5 * MIB) + b"e" + bytes(MIB - 1)
    with path.open("r+b") as file:
        file.write(b"start")
        file.flush()
        os.ftruncate(file.fileno(), 3)
        assert os.fstat(file.fileno()).st_size == 3
        file.seek(0)
        assert file.read() == b"sta"
    assert path.read_bytes() == b"sta"
    path.write_bytes(b"new")  # O_TRUNC
    assert path.read_bytes() == b"new"
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    assert path.stat().st_size == 0


def test_appends_of_two_handles_interleave(folder: Path) -> None:
    with (folder / "log").open("ab", buffering=0) as one, (folder / "log").open("ab", 0) as two:
        for number in range(50):
            one.write(b"a%03d" % number)
            two.write(b"b%03d" % number)
    expected = b"".join(b"a%03db%03d" % (number, number) for number in range(50))
    assert (folder / "log").read_bytes() == expected


def test_handles_see_each_others_unflushed_bytes(folder: Path) -> None:
    with (folder / "file").open("w+b", buffering=0) as one:
        one.write(b"0123456789")
        with (folder / "file").open("r+b", buffering=0) as two:
            assert two.read() == b"0123456789"
            two.seek(2)
            two.write(b"XY")
            one.seek(0)
            assert one.read() == b"01XY456789"
            assert os.fstat(one.fileno()).st_size == 10


def test_unlinked_and_replaced_files_stay_usable_while_open(folder: Path) -> None:
    content = random.Random(3).randbytes(2 * MIB)
    for name in ("gone", "covered"):
        (folder / name).write_bytes(content)
    (folder / "cover").write_bytes(b"cover")
    with (folder / "gone").open("r+b", 0) as gone, (folder / "covered").open("r+b", 0) as covered:
        os.unlink(folder / "gone")
        os.rename(folder / "cover", folder / "covered")
        assert not (folder / "gone").exists()
        assert (folder / "covered").read_bytes() == b"cover"
        for file in (gone, covered):
            assert os.fstat(file.fileno()).st_nlink == 0
            assert file.read() == content
            file.write(b"tail")
            os.fsync(file.fileno())
            assert os.pread(file.fileno(), 10, len(content)) == b"tail"
        again = os.open(f"/proc/self/fd/{gone.fileno()}", os.O_RDONLY)
        assert os.pread(again, 100, len(content)) == b"tail"
        os.close(again)


def test_listing_while_removing(folder: Path) -> None:
    names = {f"entry-{number:04}" for number in range(2000)}
    for name in names:
        os.mknod(folder / name)
    assert set(os.listdir(folder)) == names
    seen = []
    with os.scandir(folder) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert len(seen) == len(set(seen)), "no name twice"
    assert set(seen) == names, "none is missed"
    assert os.listdir(folder) == []


def test_removed_names_do_not_come_back_from_a_listing(folder: Path) -> None:
    for number in range(300):
        os.mknod(folder / f"{number:03}")
    with os.scandir(folder) as entries:
        first = next(entries).name
        for number in range(300):
            if f"{number:03}" != first:
                os.unlink(folder / f"{number:03}")
        list(entries)
    for number in range(300):
        assert (folder / f"{number:03}").exists() == (f"{number:03}" == first)


def test_random_writes_to_a_big_file(folder: Path, tmp_path: Path) -> None:
    chooser = random.Random(5)
    size = 64 * MIB
    model = bytearray(chooser.randbytes(size))
    path = folder / "big"
    path.write_bytes(model)
    with path.open("r+b", buffering=0) as file:
        for _ in range(300):
            length = chooser.choice([1, 100, 4 * KIB, 70 * KIB, MIB])
            offset = chooser.randrange(size - length)
            data = chooser.randbytes(length)
            assert os.pwrite(file.fileno(), data, offset) == length
            model[offset : offset + length] = data
            if chooser.random() < 0.05:
                probe = chooser.randrange(size - MIB)
                assert os.pread(file.fileno(), MIB, probe) == model[probe : probe + MIB]
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for offset in range(0, size, 8 * MIB):
            assert os.pread(file.fileno(), 8 * MIB, offset) == model[offset : offset + 8 * MIB]


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its user")
def test_writing_and_giving_away_take_privilege_bits(folder: Path) -> None:
    path = folder / "program"
    path.write_bytes(b"#!")
    os.chmod(path, 0o6777)
    assert stat.S_IMODE(path.stat().st_mode) == 0o6777
    done = as_nobody("open(sys.argv[1], 'ab').write(b'x')", path)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o777
    os.chmod(path, 0o6755)
    os.chown(path, 1000, 1000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_space(folder: Path) -> None:
    status = os.statvfs(folder)
    assert 0 < status.f_bavail < status.f_blocks
    assert status.f_namemax == 255


def test_what_is_not_there_says_so(folder: Path) -> None:
    with (folder / "file").open("wb") as file, refused(errno.EOPNOTSUPP):
        punch_hole(file.fileno(), 0, 10)


def test_access_time_of_reads_is_not_kept(folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"x")
    os.utime(path, ns=(10**18, 10**18))
    path.read_bytes()
    assert path.stat().st_atime_ns == 10**18
    assert time.time_ns() > path.stat().st_ctime_ns > 10**18
