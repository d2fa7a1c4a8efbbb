"""The store as an fsspec file system: ``craqen://bucket/folder/file`` in pandas, pyarrow, DuckDB,
Zarr, Hugging Face datasets and whatever else takes fsspec's URLs. Protocol:
filesystem-spec.readthedocs.io."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fsspec.spec import AbstractFileSystem

from .records import DirectoryEntry, Stat
from .shared import shared_store
from .store import Store

PIECES_AT_ONCE = 256  # reads of ``cat_ranges`` in one batch


class CraqenFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Options: ``config``, the store's configuration file (else CRAQEN_CONFIG names it), or
    ``store``, one that is connected."""

    protocol = "craqen"
    root_marker = "/"
    sep = "/"

    def __init__(
        self, config: str | None = None, store: Store | None = None, **options: Any
    ) -> None:
        super().__init__(config=config, **options)
        self._config = config
        self._store = store

    @property
    def store(self) -> Store:
        """The connection, made when it is first needed. Raises OSError."""
        return self._store if self._store is not None else shared_store(self._config)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = os.fspath(path)
        if text.startswith("craqen://"):
            text = text[len("craqen://") :]
        return "/" + text.strip("/")

    @property
    def fsid(self) -> str:
        """Names the store."""
        return f"craqen:{self._config or ''}"

    # Listing

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """What is known of a path. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        return _info(path, self.store.stat(path))

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What is in a folder, or the file itself. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        found = self.store.stat(path)
        rows = [_info(path, found)]
        if found.is_directory:
            rows = [self._row(entry) for entry in self.store.list(path)]
        return rows if detail else [row["name"] for row in rows]

    def _row(self, entry: DirectoryEntry) -> dict[str, Any]:
        """A line of a listing; a symbolic link is shown as what it leads to, if that is there."""
        row = _info(entry.path, entry.stat)
        if row["type"] == "other":
            with contextlib.suppress(OSError):
                return {**_info(entry.path, self.store.stat(entry.path)), "islink": True}
        return row

    def exists(self, path: str, **options: Any) -> bool:
        """Whether a path leads to something."""
        return self.store.exists(self._strip_protocol(path))

    def created(self, path: str) -> datetime:
        """The time of the last change of attributes: the earliest that is kept."""
        return datetime.fromtimestamp(self.info(path)["ctime"], UTC)

    def modified(self, path: str) -> datetime:
        """The time of the last change of content."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def ukey(self, path: str) -> str:
        """Changes whenever the content does."""
        found = self.info(path)
        return f"{found['ino']:x}-{found['size']:x}-{found['mtime_ns']:x}"

    def checksum(self, path: str) -> int:
        """As ``ukey``, a number."""
        return hash(self.ukey(path))

    # Content

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        path = self._strip_protocol(path)
        if not autocommit:
            raise NotImplementedError("craqen has no transactions of several files")
        if "r" not in mode and self.auto_mkdir_of(options):
            self.makedirs(self._parent(path), exist_ok=True)
        return self.store.open(path, mode)

    @staticmethod
    def auto_mkdir_of(options: dict[str, Any]) -> bool:
        """Whether folders above a new file are made."""
        return bool(options.get("auto_mkdir", True))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        """Bytes of a file."""
        path = self._strip_protocol(path)
        if start is None and end is None:
            return self.store.read_bytes(path)
        with self.store.open_raw(path) as file:
            first, last = _range(start, end, file.size)
            return file.pread(last - first, first)

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **options: Any,
    ) -> list[Any]:
        """Many ranges of many files: together."""
        starts = [starts] * len(paths) if not isinstance(starts, list | tuple) else starts
        ends = [ends] * len(paths) if not isinstance(ends, list | tuple) else ends
        with contextlib.ExitStack() as stack:
            files: dict[str, Any] = {}
            for path in dict.fromkeys(map(self._strip_protocol, paths)):
                try:
                    files[path] = stack.enter_context(self.store.open_raw(path))
                except OSError as error:
                    if on_error == "raise":
                        raise
                    files[path] = error
            results: list[Any] = []
            reads = []
            for path, start, end in zip(paths, starts, ends, strict=True):
                file = files[self._strip_protocol(path)]
                if isinstance(file, OSError):
                    results.append(file)
                    continue
                first, last = _range(start, end, file.size)
                buffer = bytearray(last - first)
                results.append(buffer)
                reads.append((file, first, buffer))
            for begin in range(0, len(reads), PIECES_AT_ONCE):
                self.store.read_batch(reads[begin : begin + PIECES_AT_ONCE])
        return [bytes(found) if isinstance(found, bytearray) else found for found in results]

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **options: Any) -> None:
        """Make *value* all of a file."""
        path = self._strip_protocol(path)
        self.makedirs(self._parent(path), exist_ok=True)
        with self.store.open(path, "xb" if mode == "create" else "wb") as file:
            file.write(value)

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        """Make a file, or cut it; without *truncate* change its time alone."""
        path = self._strip_protocol(path)
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")
            return
        now = int(datetime.now(UTC).timestamp() * 1e9)
        self.store.set_attributes(path, mtime_ns=now)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copy a file, without moving its bytes where that can be."""
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        if self.store.stat(path1).is_directory:
            self.makedirs(path2, exist_ok=True)
            return
        self.makedirs(self._parent(path2), exist_ok=True)
        self.store.copy_file(path1, path2)

    # Names

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Make a folder. Raises FileExistsError."""
        self.store.make_directory(self._strip_protocol(path), parents=create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder and those above it. Raises FileExistsError."""
        path = self._strip_protocol(path)
        if path == "/":
            return
        self.store.make_directory(path, parents=True, exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        self.store.remove_directory(self._strip_protocol(path))

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        self.store.remove(self._strip_protocol(path))

    def _rm(self, path: str) -> None:
        self.rm_file(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and with *recursive* folders with all that is in them."""
        for one in self.expand_path(path, recursive=recursive, maxdepth=maxdepth)[::-1]:
            found = self.store.stat(one, follow=False)
            if found.is_directory:
                self.store.remove_directory(one)
            else:
                self.store.remove(one)

    def mv_file(self, path1: str, path2: str, **options: Any) -> None:
        """Rename a file."""
        self.store.rename(self._strip_protocol(path1), self._strip_protocol(path2))

    def mv(self, path1: Any, path2: Any, recursive: bool = False, **options: Any) -> None:
        """Rename: in one step, however much it is."""
        if isinstance(path1, str) and isinstance(path2, str) and "*" not in path1:
            source, target = self._strip_protocol(path1), self._strip_protocol(path2)
            if path2.endswith("/") or self.isdir(target):
                target = f"{target}/{os.path.basename(source)}"
            self.makedirs(self._parent(target), exist_ok=True)
            self.store.rename(source, target)
            return
        super().mv(path1, path2, recursive=recursive, **options)


def _info(path: str, found: Stat) -> dict[str, Any]:
    kind = "directory" if found.is_directory else "file" if found.is_file else "other"
    return {
        "name": path,
        "size": found.st_size if kind == "file" else 0,
        "type": kind,
        "mode": found.st_mode,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "ino": found.st_ino,
        "nlink": found.st_nlink,
        "mtime": found.st_mtime,
        "mtime_ns": found.st_mtime_ns,
        "ctime": found.st_ctime_ns / 1e9,
        "islink": False,
    }


def _range(start: int | None, end: int | None, size: int) -> tuple[int, int]:
    """Positions of a slice of *size* bytes."""
    first, last, _ = slice(start, end).indices(size)
    return first, max(first, last)
