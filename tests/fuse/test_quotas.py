"""Quotas as programs on a mount see them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from craqen.core.limits import KIB, MIB
from craqen.core.meta.accounts import Account, Kind
from craqen.core.meta.local import LocalMetaStore
from craqen.tests.fuse.conftest import Mounted
from craqen.tests.fuse.test_mount_calls import refused
from craqen.tests.support.folder_data import FolderDataStore

pytestmark = pytest.mark.mount


def limit(mounted: Mounted, path: str, size_bytes: int, files: int = 0) -> None:
    """Set a quota as another process does, before the mount looks at any."""

    async def work(meta: LocalMetaStore, data: FolderDataStore) -> None:
        inode = await meta.lookup(1, b"bucket")
        for name in path.split("/") if path else []:
            inode = await meta.lookup(inode.inode_id, name.encode())
        kind = Kind.DIRECTORY if path else Kind.BUCKET
        await meta.set_quota(Account(kind, inode.inode_id), size_bytes=size_bytes, files=files)
        if path:
            await meta.settle_quota(inode.inode_id)

    mounted.elsewhere(work)


def test_a_full_bucket(own_mount: Mounted) -> None:
    own_mount.stop()
    limit(own_mount, "", 4 * MIB, 3)
    own_mount.start()
    root = own_mount.root
    with (root / "file").open("wb", buffering=0) as file:
        file.write(bytes(3 * MIB))
        with refused(errno.EDQUOT):
            while True:
                file.write(bytes(128 * KIB))
        assert os.fstat(file.fileno()).st_size == 4 * MIB
    assert (root / "file").stat().st_size == 4 * MIB
    with refused(errno.EDQUOT):
        os.truncate(root / "file", 5 * MIB)
    with refused(errno.EDQUOT):
        (root / "small").write_bytes(b"x")
    with (root / "file").open("r+b", buffering=0) as file:
        file.write(bytes(1 * MIB))  # what is there may be written over
    (root / "third").touch()
    with refused(errno.EDQUOT):
        (root / "fourth").touch()
    with refused(errno.EDQUOT):
        (root / "link").symlink_to("nowhere")
    (root / "folder").mkdir()  # folders do not count
    os.unlink(root / "file")
    (root / "small").write_bytes(bytes(1 * MIB))
    assert os.getxattr(root, "craqen.usage.bytes") == b"%d" % MIB
    assert os.getxattr(root, "craqen.usage.files") == b"2"
    assert os.getxattr(root, "craqen.quota.files") == b"3"
    with refused(errno.ENODATA):
        os.getxattr(root / "folder", "craqen.usage.bytes")
    with refused(errno.EOPNOTSUPP):
        os.setxattr(root, "craqen.quota.bytes", b"1")


def test_df_of_a_folder_with_a_quota(own_mount: Mounted) -> None:
    folder: Path = own_mount.root / "team"
    folder.mkdir()
    (folder / "file").write_bytes(bytes(1 * MIB))
    (own_mount.root / "other").write_bytes(bytes(1 * MIB))
    everything = shutil.disk_usage(own_mount.point).total
    own_mount.stop()
    limit(own_mount, "", 64 * MIB)
    limit(own_mount, "team", 16 * MIB, 10)
    own_mount.start()
    assert shutil.disk_usage(own_mount.point).total == everything
    own_mount.stop()
    own_mount.start(path="bucket")
    assert shutil.disk_usage(own_mount.point)[:1] == (64 * MIB,)
    assert shutil.disk_usage(own_mount.point).free == 62 * MIB
    own_mount.stop()
    own_mount.start(path="bucket/team")
    assert shutil.disk_usage(own_mount.point) == (16 * MIB, 1 * MIB, 15 * MIB)
    status = os.statvfs(own_mount.point)
    assert (status.f_files, status.f_ffree) == (10, 9)
    (own_mount.point / "more").write_bytes(b"x")
    with refused(errno.EDQUOT):
        (own_mount.point / "large").write_bytes(bytes(16 * MIB))
    own_mount.stop()
    own_mount.start()
    with refused(errno.EXDEV):
        os.link(own_mount.root / "other", folder / "other")
    (own_mount.root / "outer").mkdir()
    (own_mount.root / "outer" / "file").touch()
    with refused(errno.EXDEV):
        os.rename(own_mount.root / "outer", folder / "outer")
    os.rename(folder, own_mount.root / "outer" / "team")  # the quota moves along
    moved = own_mount.root / "outer" / "team"
    assert os.getxattr(moved, "craqen.quota.bytes") == b"%d" % (16 * MIB)
