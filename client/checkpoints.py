"""Storage of ``torch.distributed.checkpoint`` in the store: needs torch.

A rank's tensors are read by one call each, without a buffer in between, and files are durable when
they are closed: nothing is flushed besides. ``.metadata`` takes its name last, by a rename: a
checkpoint without it is not complete.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from torch.distributed.checkpoint.filesystem import (
    FileSystemBase,
    FileSystemReader,
    FileSystemWriter,
)

from .files import StoreFile
from .shared import shared_store

PathText = str | os.PathLike[str]


class _Files(FileSystemBase):  # type: ignore[misc]  # checks run without torch
    """What torch's storage asks of a file system. Paths are ``/bucket/folder``."""

    def __init__(self, config: PathText | None) -> None:
        self._config = config

    @contextmanager
    def create_stream(self, path: PathText, mode: str) -> Iterator[io.IOBase]:
        store = shared_store(self._config)
        try:
            # Who reads does so in large pieces, at positions.
            opened: Any = store.open_raw(path, mode) if "r" in mode else store.open(path, mode)
            with opened as stream:
                yield stream
        except BaseException:
            if "w" in mode and store.exists(path):
                store.remove(path)
            raise

    def concat_path(self, path: PathText, suffix: str) -> str:
        return f"{os.fspath(path).rstrip('/')}/{suffix}"

    def rename(self, path: PathText, new_path: PathText) -> None:
        shared_store(self._config).rename(path, new_path)

    def init_path(self, path: PathText) -> str:
        return os.fspath(path)

    def mkdir(self, path: PathText) -> None:
        shared_store(self._config).make_directory(path, parents=True, exist_ok=True)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: PathText) -> bool:
        return os.fspath(checkpoint_id).startswith("/")

    def exists(self, path: PathText) -> bool:
        return shared_store(self._config).exists(path)

    def rm_file(self, path: PathText) -> None:
        shared_store(self._config).remove(path)

    def ls(self, path: PathText) -> list[str]:
        return [entry.path for entry in shared_store(self._config).list(path)]


class CraqenWriter(FileSystemWriter):  # type: ignore[misc]
    """``storage_writer`` of ``checkpoint.save`` and ``async_save``.

    *path*: ``/bucket/folder``, made if it is not there. *config*: the store's configuration file
    (None: the one that CRAQEN_CONFIG names). *options* are those of torch's FileSystemWriter, such
    as ``thread_count`` and ``overwrite``.
    """

    def __init__(self, path: PathText, *, config: PathText | None = None, **options: Any) -> None:
        # What is closed is durable. Torch would have the whole host write its disks out instead.
        options.setdefault("sync_files", False)
        super().__init__(path, **options)
        self.fs = _Files(config)
        self.path = self.fs.init_path(path)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: PathText) -> bool:
        """Whether it can be a path of the store."""
        return _Files.validate_checkpoint_id(checkpoint_id)


class CraqenReader(FileSystemReader):  # type: ignore[misc]
    """``storage_reader`` of ``checkpoint.load``; *path* and *config* as of ``CraqenWriter``."""

    def __init__(self, path: PathText, *, config: PathText | None = None) -> None:
        super().__init__(path)
        self.fs = _Files(config)
        self.path = self.fs.init_path(path)

    def _slice_file(self, file: Any, sinfo: Any) -> IO[bytes]:
        assert isinstance(file, StoreFile)
        data = bytearray(sinfo.length)
        if file.pread_into(data, sinfo.offset) < sinfo.length:
            raise EOFError(f"{file.path}: ends within a tensor: the checkpoint is not whole")
        return cast(IO[bytes], io.BytesIO(data))

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: PathText) -> bool:
        """Whether it can be a path of the store."""
        return _Files.validate_checkpoint_id(checkpoint_id)
