"""Real mounts in processes of their own; skipped, with the reason, where that is impossible."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest

from craqen.core.clock import SystemClock
from craqen.core.kv.embedded import EmbeddedStore
from craqen.core.limits import INLINE_BYTES_MAX
from craqen.core.meta.local import LocalMetaStore
from craqen.core.meta.records import NewContent, ObjectAttributes, Owner
from craqen.core.options import MetaOptions
from craqen.tests.support.folder_data import FolderDataStore

PROGRAM = Path(__file__).parent / "mount_program.py"
END_SECONDS = 30
T = TypeVar("T")


def why_not() -> str | None:
    """Why nothing can be mounted here; None if it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or not open to this user"
    if find_spec("pyfuse3") is None:
        return "pyfuse3 is not installed"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "not root, and fusermount3 is not installed"
    return None


class Mounted:
    """A mount of a fresh store: ``root`` is a bucket's folder in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.point = folder / "mnt"
        self.store.mkdir()
        self.point.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self.errors = folder / "errors"

    @property
    def root(self) -> Path:
        return self.point / "bucket"

    def start(self, *, path: str = "", options: tuple[str, ...] = ()) -> None:
        receive, send = os.pipe()
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, PROGRAM, self.store, self.point, path, *options],
                env={**os.environ, "CRAQEN_READY_FD": str(send)},
                pass_fds=(send,),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        os.close(send)
        with os.fdopen(receive) as ready:
            line = ready.readline()
        assert line == f"READY {self.point}\n", self.errors.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(number)
        return process.wait(END_SECONDS)

    def restart(self) -> None:
        assert self.stop() == 0
        self.start()

    def clear(self) -> None:
        """End whatever is left."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        libc = ctypes.CDLL(None)
        while libc.umount2(os.fsencode(self.point), 2) == 0:
            pass

    def elsewhere(
        self, work: Callable[[LocalMetaStore, FolderDataStore], Coroutine[Any, Any, T]]
    ) -> T:
        """Run *work* on the same store as another client, as the S3 door would."""

        async def run() -> T:
            kv = EmbeddedStore(self.store / "kv", map_bytes=1 << 30)
            (self.store / "data").mkdir(exist_ok=True)
            data = FolderDataStore(self.store / "data")
            meta = await LocalMetaStore.open(kv, SystemClock(), MetaOptions(), description="other")
            try:
                return await work(meta, data)
            finally:
                await meta.close()
                await data.close()
                await kv.close()

        return asyncio.run(run())

    def put(self, key: str, content: bytes) -> None:
        """An S3 PUT of *content*, acknowledged on return."""
        self.elsewhere(lambda meta, data: put(meta, data, key, content))


async def put(meta: LocalMetaStore, data: FolderDataStore, key: str, content: bytes) -> None:
    """What the S3 door does for a PUT."""
    if len(content) <= INLINE_BYTES_MAX:
        new = NewContent(len(content), inline_data=content)
    else:
        await meta.ensure_ids(1)
        layout = meta.default_layout(in_place=False)
        writer = data.new_segment(meta.new_segment_id(), layout, length_bytes=len(content))
        await writer.write(memoryview(content))
        new = NewContent(len(content), extents=await writer.finish())
    await meta.put_object("bucket", key.encode(), new, ObjectAttributes(), Owner())


@contextlib.contextmanager
def fresh_mount() -> Iterator[Mounted]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="craqen-mount-", dir="/dev/shm") as folder:
        os.chmod(folder, 0o711)  # tests also come as another user
        mounted = Mounted(Path(folder))
        try:
            yield mounted
        finally:
            mounted.clear()


@pytest.fixture(scope="module")
def shared_mount() -> Iterator[Mounted]:
    """One mount for the tests of a module that work in folders of their own."""
    with fresh_mount() as mounted:
        mounted.start()
        mounted.root.mkdir()
        yield mounted
        assert mounted.stop() == 0
        log = mounted.errors.read_text()
        assert "Traceback" not in log, log


@pytest.fixture
def own_mount() -> Iterator[Mounted]:
    """A mount of its own, with the folder ``bucket`` in it."""
    with fresh_mount() as mounted:
        mounted.start()
        mounted.root.mkdir()
        yield mounted
        assert "Traceback" not in mounted.errors.read_text(), mounted.errors.read_text()


@pytest.fixture
def folder(shared_mount: Mounted, request: pytest.FixtureRequest) -> Path:
    """A folder of the test's own in the shared mount."""
    path = shared_mount.root / str(request.node.name)
    path.mkdir()
    return path
