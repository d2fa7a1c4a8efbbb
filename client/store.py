"""The store for ordinary code: an ``AsyncStore`` on an event loop in a thread of its own. What can
be read without waiting is read in the caller's thread."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import logging
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, wait
from types import TracebackType
from typing import IO, Any, TypeVar, cast

import uvloop

from ..core.options import Config
from .async_store import AsyncStore, connect_async
from .batches import read_at_once, read_share, shares
from .fast_reads import FastReads
from .files import StoreFile
from .modes import parse_mode
from .pages import CACHE_BYTES
from .paths import Path
from .records import DirectoryEntry, Stat

T = TypeVar("T")

BUFFER_BYTES = 1 << 20  # of files that are opened with a buffer
END_SECONDS = 30.0
CLOSED = -1

_log = logging.getLogger("craqen.client")


class Store:
    """The files of a store. Get it from ``connect``, and close it, or use it in ``with``.

    Paths are ``/bucket/folder/file``. Every call raises OSError as the functions of ``os`` do. Any
    thread may call. A forked child cannot use its parent's store: it calls ``connect`` in a process
    that was spawned (multiprocessing's method "spawn" or "forkserver"); a pickled store connects
    anew where it arrives.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As ``connect``."""
        self._how = arguments, options
        self._process = 0
        self._lock = threading.Lock()
        self._begun: set[asyncio.Task[object]] = set()
        self._connected()

    def __reduce__(self) -> tuple[Any, ...]:
        return _connect_again, self._how

    # The loop

    def _connected(self) -> AsyncStore:
        if self._process == os.getpid():
            return self._store
        with self._lock:
            if self._process != os.getpid():
                self._start()
        return self._store

    def _start(self) -> None:
        """A loop in a thread, and a connection on it."""
        if self._process == CLOSED:
            raise ValueError("the store is closed")
        if self._process:
            # The metadata store's memory map counts its readers by process: a child that used its
            # parent's would take protection from what the parent reads.
            raise OSError(
                errno.EBUSY,
                "this store was opened before a fork: a child cannot share it. Start worker "
                "processes by spawn (multiprocessing.set_start_method), not by fork",
            )
        arguments, options = self._how
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="craqen-client", daemon=True
        )
        self._thread.start()
        try:
            self._store = self._run_on(self._loop, connect_async(*arguments, **options))
        except BaseException:
            self._end_loop()
            raise
        self._process = os.getpid()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    @staticmethod
    def _run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except CancelledError as error:
            raise ValueError("the store is closed") from error
        except BaseException:
            future.cancel()  # the caller was interrupted: the work is not wanted any more
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a call of the ``AsyncStore`` or of its files, and return what it returns."""
        if self._process != os.getpid():
            work.close()
            self._start()  # says why not
        return self._run_on(self._loop, work)

    @property
    def closed(self) -> bool:
        """Whether it was closed, or belongs to a parent process."""
        return self._process != os.getpid()

    def is_loop_thread(self) -> bool:
        """Whether the caller is the thread of the loop, which cannot wait for its own work."""
        return threading.current_thread() is self._thread

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin *work* on the loop, in whose thread the caller is. Its errors are logged."""
        task = self._loop.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._begun.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a file that was not closed: %s", task.exception())

    @property
    def asynchronous(self) -> AsyncStore:
        """The same store for coroutines; they run by ``run``."""
        return self._connected()

    @property
    def fast(self) -> FastReads:
        """Reads that need not wait."""
        return self._connected().fast

    def close(self) -> None:
        """Store what open files hold, and end the connection; closing twice does nothing. Raises
        OSError."""
        with self._lock:
            if self._process != os.getpid():
                return
            try:
                self._run_on(self._loop, self._store.close())
            finally:
                self._process = CLOSED
                self._end_loop()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Files

    def open_raw(self, path: Path, mode: str = "rb") -> StoreFile:
        """Open a file without a buffer: for batches, and for reads and writes at positions."""
        store = self._connected()
        return StoreFile(self, self.run(store.open(path, mode)))

    def open(
        self,
        path: Path,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """As the built-in ``open``. Raises OSError, ValueError."""
        parsed = parse_mode(mode)
        raw = self.open_raw(path, mode)
        if buffering == 0:
            if parsed.text:
                raw.close()
                raise ValueError("text has a buffer")
            return cast(IO[bytes], raw)
        size = buffering if buffering > 1 else BUFFER_BYTES
        buffered: io.BufferedIOBase
        if parsed.reads and parsed.writes:
            buffered = io.BufferedRandom(raw, size)
        elif parsed.writes:
            buffered = io.BufferedWriter(raw, size)
        else:
            buffered = io.BufferedReader(raw, size)
        if not parsed.text:
            return cast(IO[bytes], buffered)
        return io.TextIOWrapper(
            buffered,
            encoding,
            errors,
            newline,
            line_buffering=buffering == 1,
        )

    def read_bytes(self, path: Path) -> bytes:
        """All of a file."""
        return self.run(self._connected().read_bytes(path))

    def read_files(
        self, paths: Sequence[Path], inode_ids: Sequence[int] | None = None
    ) -> list[bytes]:
        """As ``AsyncStore.read_files``."""
        return self.run(self._connected().read_files(paths, inode_ids))

    def write_bytes(self, path: Path, data: Any) -> None:
        """Make *data* all of a file, durable on return."""
        self.run(self._connected().write_bytes(path, data))

    def read_batch(self, reads: Iterable[Any]) -> list[int]:
        """Do many reads (``Read``, or tuples of a file from ``open_raw``, an offset, a buffer);
        return how many bytes each got: fewer than its buffer holds only at the end of the file.

        Raises OSError of the first read that failed, after all have been tried.
        """
        store = self._connected()
        lengths: list[int] = []
        waiting, large = read_at_once(store.fast, reads, lengths)
        if large:
            mine, *others = shares(large)
            jobs = [store.executor.submit(read_share, store.fast, it, lengths) for it in others]
            try:
                waiting += read_share(store.fast, mine, lengths)
            finally:
                wait(jobs)  # they write into the caller's buffers
            for job in jobs:
                waiting += job.result()
        if waiting:
            self.run(store.read_waiting(waiting, lengths))
        return lengths

    def write_batch(self, writes: Iterable[Any]) -> None:
        """Do many writes (``Write``, or tuples of a file from ``open_raw``, an offset, data), and
        make all of them durable together."""
        self.run(self._connected().write_batch(writes))

    # Names

    def stat(self, path: Path, *, follow: bool = True) -> Stat:
        """What is known of *path*."""
        return self.run(self._connected().stat(path, follow=follow))

    def exists(self, path: Path) -> bool:
        """Whether *path* leads to something."""
        return self.run(self._connected().exists(path))

    def list(self, path: Path = "/") -> list[DirectoryEntry]:
        """All entries of a folder, in the order of their names."""
        return self.run(self._connected().list(path))

    def walk(self, path: Path = "/") -> Iterator[DirectoryEntry]:
        """All that is below a folder, each folder before what is in it."""
        waiting = [path]
        while waiting:
            for entry in self.list(waiting.pop()):
                yield entry
                if entry.stat.is_directory:
                    waiting.append(entry.path)

    def make_directory(self, path: Path, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a folder (below ``/``: a bucket)."""
        self.run(self._connected().make_directory(path, parents=parents, exist_ok=exist_ok))

    def remove(self, path: Path) -> None:
        """Remove a name of a file."""
        self.run(self._connected().remove(path))

    def remove_directory(self, path: Path) -> None:
        """Remove an empty folder."""
        self.run(self._connected().remove_directory(path))

    @contextlib.contextmanager
    def lock(
        self, path: Path, *, exclusive: bool = True, timeout_seconds: float | None = None
    ) -> Iterator[None]:
        """Hold a lock of a file or folder, among all clients of the store, for a ``with`` block.
        Raises BlockingIOError after *timeout_seconds* (None: it waits as long as it takes)."""
        taking = self._connected().lock(path, exclusive=exclusive, timeout_seconds=timeout_seconds)
        lock = self.run(taking)
        try:
            yield
        finally:
            self.run(lock.release())

    def remove_tree(self, path: Path) -> bool:
        """Remove a folder with all that is below it, in one step; False where it cannot be one."""
        return self.run(self._connected().remove_tree(path))

    def rename(self, path: Path, to: Path, *, no_replace: bool = False) -> None:
        """Move *path* to the name *to*, in one step, however much is below it."""
        self.run(self._connected().rename(path, to, no_replace=no_replace))

    def copy_file(self, path: Path, to: Path) -> None:
        """Make *to* a file with the content of *path*; no bytes are moved where that can be."""
        self.run(self._connected().copy_file(path, to))

    def link(self, path: Path, to: Path) -> None:
        """Give a file the further name *to*."""
        self.run(self._connected().link(path, to))

    def symlink(self, target: Path, path: Path) -> None:
        """Make *path* a symbolic link to *target*."""
        self.run(self._connected().symlink(target, path))

    def read_link(self, path: Path) -> str:
        """Where a symbolic link leads."""
        return self.run(self._connected().read_link(path))

    def set_attributes(self, path: Path, **changes: Any) -> None:
        """As ``AsyncStore.set_attributes``."""
        self.run(self._connected().set_attributes(path, **changes))


def connect(
    config: str | os.PathLike[str] | Config | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Store:
    """Connect to the store of a configuration file (None: the one that CRAQEN_CONFIG names).

    *cache_bytes*: for verified pages kept in memory. Raises OSError.
    """
    return Store(config, environment=environment, cache_bytes=cache_bytes)


def _connect_again(arguments: tuple[Any, ...], options: dict[str, Any]) -> Store:
    return Store(*arguments, **options)
