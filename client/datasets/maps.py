"""Datasets with a number for each sample, for samplers to choose from."""

from __future__ import annotations

import bisect
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..files import StoreFile
from ..shared import known_store, shared_store
from ..store import Store, connect
from .records import INDEX_SUFFIX, content_of, read_ends
from .torch_base import MapBase

FILES_OPEN_MAX = 1024  # of one dataset in one process

Decode = Callable[[str, bytes], Any]
"""Makes a sample of a name and its bytes."""


class MapDataset(MapBase):
    """A map-style dataset: ``len``, ``[number]``, and ``__getitems__``, by which a DataLoader
    fetches a batch in one call.

    It is listed once, where it is made. It connects where it is read, in each process for itself,
    by the configuration file *config* (None: the one that CRAQEN_CONFIG names): workers may be
    forked or spawned, but not forked from a process that has read from the store.
    """

    def __init__(self, config: str | os.PathLike[str] | None, decode: Decode | None) -> None:
        self._config = None if config is None else os.fspath(config)
        self._decode = decode

    def __len__(self) -> int:
        raise NotImplementedError

    def _fetch(self, store: Store, numbers: Sequence[int]) -> list[tuple[str, bytes]]:
        """Names and bytes of samples."""
        raise NotImplementedError

    def __getitem__(self, number: int) -> Any:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        count = len(self)
        for number in numbers:
            if not -count <= number < count:
                raise IndexError(f"sample {number} of {count}")
        rows = self._fetch(shared_store(self._config), [number % count for number in numbers])
        decode = self._decode
        return rows if decode is None else [decode(name, data) for name, data in rows]


class FileDataset(MapDataset):
    """Each file below a folder is a sample: ``(path, bytes)``, or what *decode* makes of the two.

    The files are those that were there when it was made, in the order of their paths; *suffixes*
    ((".jpg", ".png")) chooses among them. Symbolic links are left out. Raises OSError.
    """

    def __init__(
        self,
        folder: str,
        *,
        config: str | os.PathLike[str] | None = None,
        suffixes: tuple[str, ...] = (),
        decode: Decode | None = None,
    ) -> None:
        super().__init__(config, decode)
        with _listing_store(self._config) as store:
            found = sorted(
                (entry.path, entry.stat.st_ino)
                for entry in store.walk(folder)
                if entry.stat.is_file and (not suffixes or entry.name.endswith(suffixes))
            )
        self.paths = [path for path, _ in found]
        self._inode_ids = array("Q", (inode_id for _, inode_id in found))

    def __len__(self) -> int:
        return len(self.paths)

    def _fetch(self, store: Store, numbers: Sequence[int]) -> list[tuple[str, bytes]]:
        paths = [self.paths[number] for number in numbers]
        contents = store.read_files(paths, [self._inode_ids[number] for number in numbers])
        return list(zip(paths, contents, strict=True))


class RecordDataset(MapDataset):
    """Each record of record files (``RecordWriter``) is a sample: ``("path:number", bytes)``, or
    what *decode* makes of the two.

    *paths*: the files, in this order, or a folder: all files in it that have an index. Raises
    OSError, ValueError (an index that does not fit its file).
    """

    def __init__(
        self,
        paths: str | Sequence[str],
        *,
        config: str | os.PathLike[str] | None = None,
        decode: Decode | None = None,
    ) -> None:
        super().__init__(config, decode)
        with _listing_store(self._config) as store:
            if isinstance(paths, str):
                listed = [entry.path for entry in store.list(paths) if entry.stat.is_file]
                paths = [
                    path.removesuffix(INDEX_SUFFIX)
                    for path in listed
                    if path.endswith(INDEX_SUFFIX)
                ]
            self.paths = list(paths)
            self._ends = [read_ends(store, path) for path in self.paths]
        self._firsts = [0]
        for ends in self._ends:
            self._firsts.append(self._firsts[-1] + len(ends))
        self._files: dict[str, StoreFile] = {}
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}, "_process": 0}

    def __len__(self) -> int:
        return self._firsts[-1]

    def _file(self, store: Store, path: str) -> StoreFile:
        if self._process != os.getpid():
            self._files, self._process = {}, os.getpid()
        file = self._files.pop(path, None)
        if file is None:
            while len(self._files) >= FILES_OPEN_MAX:
                self._files.pop(next(iter(self._files))).close()
            file = store.open_raw(path)
        # Last in order, since it was used last: no file of the batch that is put together goes.
        self._files[path] = file
        return file

    def _fetch(self, store: Store, numbers: Sequence[int]) -> list[tuple[str, bytes]]:
        places, reads = [], []
        for number in numbers:
            at = bisect.bisect_right(self._firsts, number) - 1
            record, ends = number - self._firsts[at], self._ends[at]
            start = ends[record - 1] if record else 0
            frame = memoryview(bytearray(ends[record] - start))
            places.append((self.paths[at], record))
            reads.append((start, frame))
        rows = []
        for begin in range(0, len(reads), FILES_OPEN_MAX):
            some = slice(begin, begin + FILES_OPEN_MAX)
            store.read_batch(
                [
                    (self._file(store, path), start, frame)
                    for (path, _), (start, frame) in zip(places[some], reads[some], strict=True)
                ]
            )
        for (path, record), (_, frame) in zip(places, reads, strict=True):
            rows.append((f"{path}:{record}", content_of(frame, path, record)))
        return rows


@contextmanager
def _listing_store(config: str | None) -> Iterator[Store]:
    """The process's connection if it has one; else one that ends with the listing, so that workers
    may be forked afterwards."""
    store = known_store(config)
    if store is not None:
        yield store
        return
    with connect(config) as own:
        yield own
