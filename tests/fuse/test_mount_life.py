"""The mount and the world around it: changes by S3, killed daemons, unmounting."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from craqen.core.limits import MIB
from craqen.core.meta.local import LocalMetaStore
from craqen.tests.support.folder_data import FolderDataStore

pytestmark = pytest.mark.mount

SEEN_SECONDS = 10.0  # far above what it takes: the machine may be busy


def soon(condition: Callable[[], bool]) -> bool:
    """Whether *condition* comes true."""
    end = time.monotonic() + SEEN_SECONDS
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False


def test_s3_put_is_seen_by_the_next_open_and_soon_by_stat(own_mount: Any) -> None:
    path = own_mount.root / "object"
    own_mount.put("object", b"first")
    assert path.read_bytes() == b"first"
    own_mount.put("object", b"the second")
    assert path.read_bytes() == b"the second", "open is exact"
    big = random.Random(1).randbytes(3 * MIB)
    own_mount.put("object", big)
    assert path.read_bytes() == big
    own_mount.put("object", b"3")
    assert soon(lambda: path.stat().st_size == 1)
    own_mount.put("dir/new", b"x")
    assert (own_mount.root / "dir" / "new").read_bytes() == b"x", "absent names are not remembered"


def test_s3_delete_is_seen(own_mount: Any) -> None:
    own_mount.put("object", b"here")
    path = own_mount.root / "object"
    assert path.stat().st_size == 4

    async def delete(meta: LocalMetaStore, data: FolderDataStore) -> None:
        await meta.delete_object("bucket", b"object")

    own_mount.elsewhere(delete)
    with pytest.raises(FileNotFoundError):
        path.open("rb")
    assert soon(lambda: not path.exists())


def test_reader_of_a_replaced_object_goes_on_undisturbed(own_mount: Any) -> None:
    old = random.Random(2).randbytes(4 * MIB)
    own_mount.put("object", old)
    with (own_mount.root / "object").open("rb", buffering=0) as file:
        assert file.read(MIB) == old[:MIB]
        own_mount.put("object", b"new")
        assert soon(lambda: (own_mount.root / "object").stat().st_size == 3)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        assert file.read() == old
    assert (own_mount.root / "object").read_bytes() == b"new"


def test_change_in_place_elsewhere_is_seen_by_the_next_open(own_mount: Any) -> None:
    path = own_mount.root / "file"
    path.write_bytes(b"a" * 100)
    inode_id = path.stat().st_ino
    assert path.read_bytes() == b"a" * 100

    async def grow(meta: LocalMetaStore, data: FolderDataStore) -> None:
        assert await meta.write_inline(inode_id, 50, b"b" * 100) is not None

    own_mount.elsewhere(grow)
    assert path.read_bytes() == b"a" * 50 + b"b" * 100

    async def overwrite(meta: LocalMetaStore, data: FolderDataStore) -> None:
        assert await meta.write_inline(inode_id, 0, b"c" * 150) is not None

    own_mount.elsewhere(overwrite)
    assert path.read_bytes() == b"c" * 150
    own_mount.elsewhere(grow)
    own_mount.elsewhere(lambda meta, data: meta.write_inline(inode_id, 150, b"d"))
    with path.open("ab") as file:
        file.write(b"end")
    assert path.read_bytes() == b"c" * 50 + b"b" * 100 + b"dend"


def test_written_file_is_seen_elsewhere_after_close(own_mount: Any) -> None:
    content = random.Random(3).randbytes(2 * MIB + 7)
    (own_mount.root / "small").write_bytes(b"small")
    (own_mount.root / "large").write_bytes(content)

    async def read(meta: LocalMetaStore, data: FolderDataStore) -> tuple[bytes | None, bytes]:
        small = await meta.get_object("bucket", b"small")
        large = await meta.get_object("bucket", b"large")
        into = bytearray(large.inode.size)
        await data.read(large.inode.extents, 0, memoryview(into))
        return small.inline_data, bytes(into)

    assert own_mount.elsewhere(read) == (b"small", content)


def test_files_are_consistent_while_s3_and_the_mount_change_them_at_once(own_mount: Any) -> None:
    """The trap: notifications sent while requests on the same inodes are under way."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        path = own_mount.root / f"object-{number % 2}"
        try:
            while not stop.is_set():
                data = path.read_bytes()
                assert len(set(data)) <= 1, "never a mixture"
                (own_mount.root / f"own-{number}").write_bytes(b"o" * 5000)
                os.listdir(own_mount.root)
                os.unlink(own_mount.root / f"own-{number}")
        except BaseException as error:
            failures.append(error)

    for number in range(2):
        own_mount.put(f"object-{number}", b"0" * 100)
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()

    async def replace(meta: LocalMetaStore, data: FolderDataStore) -> None:
        from craqen.core.meta.records import NewContent, ObjectAttributes, Owner

        for number in range(120):
            content = b"%d" % (number % 10) * (100 + number)
            new = NewContent(len(content), inline_data=content)
            key = f"object-{number % 2}".encode()
            await meta.put_object("bucket", key, new, ObjectAttributes(), Owner())

    own_mount.elsewhere(replace)
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "the mount is wedged"
    assert not failures, failures
    assert own_mount.stop() == 0


def test_fsynced_bytes_survive_a_killed_daemon_and_the_mount_comes_back(own_mount: Any) -> None:
    content = random.Random(4).randbytes(3 * MIB)
    descriptors = []
    for name, data in (("large", content), ("small", b"small")):
        descriptors.append(os.open(own_mount.root / name, os.O_CREAT | os.O_WRONLY))
        os.write(descriptors[-1], data)
        os.fsync(descriptors[-1])
    assert own_mount.stop(signal.SIGKILL) == -signal.SIGKILL
    for descriptor in descriptors:
        with pytest.raises(OSError) as caught:
            os.close(descriptor)
        assert caught.value.errno == errno.ENOTCONN
    own_mount.start()  # finds the dead mount, and detaches it
    assert (own_mount.root / "large").read_bytes() == content
    assert (own_mount.root / "small").read_bytes() == b"small"


def test_stop_stores_what_was_written(own_mount: Any) -> None:
    descriptor = os.open(own_mount.root / "open", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"not closed")
    assert own_mount.stop(signal.SIGINT) == 0
    assert "in use" in own_mount.errors.read_text()
    assert not os.path.ismount(own_mount.point)
    with pytest.raises(OSError):
        os.write(descriptor, b"too late")
    with pytest.raises(OSError):
        os.close(descriptor)
    own_mount.start()
    assert (own_mount.root / "open").read_bytes() == b"not closed"


def test_unmounting_by_hand_ends_the_process(own_mount: Any) -> None:
    (own_mount.root / "file").write_bytes(b"x")
    subprocess.run(["fusermount3", "-u", own_mount.point], check=True)
    process, own_mount.process = own_mount.process, None
    assert process.wait(20) == 0
    assert not os.path.ismount(own_mount.point)


def test_restart_finds_everything(own_mount: Any) -> None:
    (own_mount.root / "dir").mkdir()
    (own_mount.root / "dir" / "file").write_bytes(b"content")
    os.setxattr(own_mount.root / "dir", "user.x", b"y")
    own_mount.restart()
    assert (own_mount.root / "dir" / "file").read_bytes() == b"content"
    assert os.getxattr(own_mount.root / "dir", "user.x") == b"y"


def test_one_folder_as_root_and_read_only(own_mount: Any) -> None:
    (own_mount.root / "dir" / "sub").mkdir(parents=True)
    (own_mount.root / "dir" / "file").write_bytes(b"content")
    assert own_mount.stop() == 0
    own_mount.start(path="bucket/dir")
    assert sorted(os.listdir(own_mount.point)) == ["file", "sub"]
    assert own_mount.point.stat().st_ino == 1
    (own_mount.point / "sub" / "more").write_bytes(b"more")
    assert (own_mount.point / "sub" / ".." / "file").read_bytes() == b"content"
    own_mount.put("dir/by-s3", b"by s3")
    assert soon(lambda: (own_mount.point / "by-s3").exists())
    assert own_mount.stop() == 0
    own_mount.start(path="bucket", options=("ro",))
    assert (own_mount.point / "dir" / "sub" / "more").read_bytes() == b"more"
    with pytest.raises(OSError) as caught:
        (own_mount.point / "x").write_bytes(b"")
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize(
    ("path", "complaint"),
    [("absent", "NotFoundError"), ("bucket/file", "NotDirectoryError")],
)
def test_what_cannot_be_the_root_is_refused(own_mount: Any, path: str, complaint: str) -> None:
    (own_mount.root / "file").write_bytes(b"x")
    assert own_mount.stop() == 0
    with pytest.raises(AssertionError, match=complaint):
        own_mount.start(path=path)
    assert own_mount.process.wait(20) == 1
    assert not os.path.ismount(own_mount.point)


def test_second_mount_on_a_live_one_is_refused(own_mount: Any) -> None:
    first = own_mount.process
    with pytest.raises(AssertionError, match="AlreadyExistsError"):
        own_mount.start()
    assert own_mount.process.wait(20) == 1
    own_mount.process = first
    assert os.listdir(own_mount.point) == ["bucket"]


def test_stat_is_fresh_within_milliseconds(own_mount: Any) -> None:
    """Not a measurement: that a change arrives by the feed at all, and not by a timeout."""
    path = own_mount.root / "object"
    own_mount.put("object", b"x")
    sizes = []

    async def replace(meta: LocalMetaStore, data: FolderDataStore) -> None:
        from craqen.core.meta.records import NewContent, ObjectAttributes, Owner

        for number in range(2, 8):
            assert path.stat().st_size == number - 1  # now in the kernel's cache
            new = NewContent(number, inline_data=b"x" * number)
            await meta.put_object("bucket", b"object", new, ObjectAttributes(), Owner())
            began = time.monotonic()
            assert soon(lambda wanted=number: path.stat().st_size == wanted)  # type: ignore[misc]
            sizes.append(time.monotonic() - began)

    own_mount.elsewhere(replace)
    print("seconds until stat saw it:", [f"{seconds:.4f}" for seconds in sizes], file=sys.stderr)
