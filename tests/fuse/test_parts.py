"""Parts of the mount that need no kernel."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest

from craqen.core import errors
from craqen.core.client.feed_follower import FeedFollower
from craqen.core.clock import ManualClock
from craqen.core.errno_map import ERRNO_OF, errno_of
from craqen.core.errors import CraqenError, UnavailableError
from craqen.core.meta.records import DirectoryEntry, FeedEvent, Inode, InodeType
from craqen.fuse.handles import DirectoryHandle, HandleTable
from craqen.fuse.inode_table import InodeTable
from craqen.fuse.invalidation import Notifier


def every_error(kind: type[CraqenError] = CraqenError) -> list[type[CraqenError]]:
    found = [kind]
    for child in kind.__subclasses__():
        found += every_error(child)
    return found


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (errors.BucketNotFoundError, errno.ENOENT),
        (errors.NameTooLongError, errno.ENAMETOOLONG),
        (errors.InvalidArgumentError, errno.EINVAL),
        (errors.ConflictError, errno.EBUSY),
        (errors.ChunkBusyError, errno.EBUSY),
        (errors.UnavailableError, errno.EHOSTDOWN),
        (errors.DeadlineExceededError, errno.ETIMEDOUT),
        (errors.NoSpaceError, errno.ENOSPC),
        (errors.DataLossError, errno.EIO),
        (errors.StaleHandleError, errno.ESTALE),
        (errors.CrossDeviceError, errno.EXDEV),
    ],
)
def test_errno_of(kind: type[CraqenError], number: int) -> None:
    assert errno_of(kind("x")) == number


def test_every_error_has_an_errno() -> None:
    for kind in every_error():
        if kind is not CraqenError:
            assert any(base in ERRNO_OF for base in kind.__mro__), kind


def test_lookups_are_counted() -> None:
    table = InodeTable()
    table.looked_up(7)
    table.looked_up(7)
    table.shown(7, 100)
    table.shown(8, 5)
    assert table.get(7).shown_size == 100
    assert 8 not in table
    table.forget(7, 1)
    assert 7 in table
    table.forget(7, 1)
    assert 7 not in table
    table.forget(7, 1)


def test_handle_numbers_are_not_used_twice() -> None:
    table: HandleTable[str] = HandleTable()
    first = table.add("a")
    assert table.remove(first) == "a"
    assert table.add("b") != first
    with pytest.raises(KeyError):
        table[first]


class Directory:
    """A directory that only knows names."""

    def __init__(self, names: Sequence[bytes]) -> None:
        self.names = sorted(names)

    async def read_directory(
        self, inode_id: int, *, after: bytes = b"", limit: int = 1000
    ) -> list[DirectoryEntry]:
        inode = Inode(9, InodeType.FILE, 0o644, 0, 0, 1, 0, 0, 0, 0, 0)
        left = [name for name in self.names if name + b"\0" > after]
        return [DirectoryEntry(name, inode, name + b"\0") for name in left[:limit]]


def test_cookies_of_a_directory_stay_good_while_entries_go() -> None:
    async def body() -> None:
        directory = Directory([b"%04d" % number for number in range(1500)])
        handle = DirectoryHandle(9)
        seen: list[tuple[int, bytes]] = []
        cookie, changes = 2, 0
        while True:
            page = handle.ready(cookie, changes)
            if page is None:
                cookie = await handle.load(directory, cookie, changes)  # type: ignore[arg-type]
                page = handle.ready(cookie, changes)
                if page is None:
                    break
            for number, entry in page[:100]:
                seen.append((number, entry.name))
                cookie = number
            for name in directory.names[:50]:
                directory.names.remove(name)
            changes += 1
        names = [name for _, name in seen]
        assert len(set(names)) == len(names)
        assert names == sorted(names)
        assert len(names) > 700
        middle, name = seen[300]
        cookie = await handle.load(directory, middle, changes)  # type: ignore[arg-type]
        page = handle.ready(cookie, changes)
        assert page is not None
        assert page[0][1].name == min(left for left in directory.names if left > name)

    asyncio.run(body())


class SlowKernel:
    """Holds notifications until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.sent: list[object] = []

    def invalidate_inode(self, number: int, attributes_only: bool) -> None:
        assert self.go.wait(10)
        self.sent.append((number, attributes_only))

    def invalidate_entry(self, parent_number: int, name: bytes) -> None:
        assert self.go.wait(10)
        self.sent.append((parent_number, name))
        raise OSError(errno.ENOENT, "unknown to the kernel")


def test_notifications_hold_nobody_up_keep_their_order_and_end_with_stop() -> None:
    async def body() -> None:
        kernel = SlowKernel()
        notifier = Notifier(kernel)
        notifier.start()
        notifier.inode(1)
        notifier.entry(1, b"name")
        notifier.inode(2, attributes_only=True)
        await asyncio.sleep(0)  # the loop runs on while the kernel holds the first one back
        assert kernel.sent == []
        kernel.go.set()
        await notifier.attributes_now(3)
        assert (3, True) in kernel.sent
        while len(kernel.sent) < 4:
            await asyncio.sleep(0.001)
        assert [item for item in kernel.sent if item != (3, True)] == [
            (1, False),
            (1, b"name"),
            (2, True),
        ]
        await notifier.stop()
        notifier.inode(4)
        await notifier.attributes_now(5)
        assert len(kernel.sent) == 4

    asyncio.run(body())


class Feed:
    """A feed in memory, with one failure."""

    client_id = 1

    def __init__(self) -> None:
        self.events: list[FeedEvent] = []
        self.news = asyncio.Event()
        self.failures = 1

    async def feed(self, after: bytes | None) -> tuple[list[FeedEvent], bytes]:
        if after is None:
            return [], b"%d" % len(self.events)
        if self.failures and self.events:
            self.failures -= 1
            raise UnavailableError("not now")
        return self.events[int(after) :], b"%d" % len(self.events)

    async def wait_feed(self, after: bytes) -> None:
        await self.news.wait()
        self.news.clear()


def test_feed_is_followed_over_failures_and_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("craqen.core.client.feed_follower.RETRY_SECONDS", 0.001)

    async def body() -> None:
        feed, clock = Feed(), ManualClock()
        told: list[FeedEvent] = []
        lost = asyncio.Event()

        async def changed(events: Sequence[FeedEvent]) -> None:
            told.extend(events)

        follower = FeedFollower(
            feed,  # type: ignore[arg-type]
            clock,
            retention_seconds=100,
            changed=changed,
            lost=lost.set,
        )
        await follower.start()
        following = asyncio.create_task(follower.run())
        own, foreign = FeedEvent("inode", 5, client_id=1), FeedEvent("inode", 6, client_id=2)
        feed.events += [own, foreign]
        feed.news.set()
        while not told:
            await asyncio.sleep(0.001)
        assert told == [foreign]
        clock.advance(60)
        feed.news.set()
        async with asyncio.timeout(10):
            await lost.wait()
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following

    asyncio.run(body())


def test_attributes_of_an_inode() -> None:
    pyfuse3 = pytest.importorskip("pyfuse3")
    from craqen.fuse.attributes import fill

    inode = Inode(2**63, InodeType.FILE, 0o6751, 1, 2, 3, 1000, 10**18 + 1, 10**18 + 2, 3, 4)
    entry = fill(
        pyfuse3.EntryAttributes(),
        inode,
        inode.inode_id,
        entry_timeout_seconds=60,
        attribute_timeout_seconds=0,
    )
    assert (entry.st_ino, entry.st_size, entry.st_blocks) == (2**63, 1000, 2)
    assert entry.st_mode == stat.S_IFREG | 0o6751
    assert (entry.st_atime_ns, entry.st_mtime_ns) == (10**18 + 1, 10**18 + 2)
    assert (entry.entry_timeout, entry.attr_timeout) == (60, 0)


def test_missing_pyfuse3_is_explained() -> None:
    code = (
        "import sys; sys.modules['pyfuse3'] = None\n"
        "from craqen.fuse.__main__ import command\n"
        "from craqen.core.errors import MissingDependencyError\n"
        "try: command.run(None, None)\n"
        "except MissingDependencyError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert "libfuse3-dev" in done.stdout
    assert "craqen[mount]" in done.stdout
