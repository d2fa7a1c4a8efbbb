"""Datasets to iterate over: pieces of many samples are read one after another, so that the disk and
the network see few large reads, however the samples are mixed."""

from __future__ import annotations

import os
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...core.limits import MIB
from ..shared import shared_store
from .maps import MapDataset
from .order import mixed, pieces_of
from .torch_base import StreamBase, worker

SAMPLE_BYTES_MAX = 1 << 30  # of a member of an archive
TAR_BUFFER_BYTES = 4 * MIB


class SampleStream(StreamBase):
    """An iterable dataset. Its pieces are dealt out to the ranks, and among the workers of a
    DataLoader on each: every sample comes once in an epoch, somewhere.

    With *shuffle* the pieces come in an order of their own in each epoch, and the samples of
    neighbouring pieces are mixed by a buffer of *buffer_samples*. The order follows from *seed*,
    the epoch, rank and worker alone. Each iteration is one epoch further than the last;
    ``set_epoch`` says where to go on (also before each epoch of a DataLoader whose workers do not
    persist: those begin with what the parent has).

    There should be several pieces for each worker of each rank. Ranks may get numbers of samples
    that differ by some pieces.
    """

    def __init__(
        self,
        *,
        shuffle: bool,
        buffer_samples: int,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}: from 0 to {world_size - 1}")
        if buffer_samples < 1:
            raise ValueError(f"buffer_samples {buffer_samples}: at least 1")
        self._shuffle = shuffle
        self._buffer_samples = buffer_samples
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is that of *epoch*."""
        self._epoch = epoch

    def _piece_count(self) -> int:
        raise NotImplementedError

    def _read_piece(self, number: int) -> Iterator[Any]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        epoch, self._epoch = self._epoch, self._epoch + 1
        number, workers = worker()
        reader = self._rank * workers + number
        pieces = pieces_of(
            self._piece_count(),
            seed=self._seed if self._shuffle else None,
            epoch=epoch,
            reader=reader,
            readers=self._world_size * workers,
        )
        samples = (sample for piece in pieces for sample in self._read_piece(piece))
        if not self._shuffle:
            return samples
        chance = random.Random(f"samples {self._seed} {epoch} {reader}")
        return mixed(samples, self._buffer_samples, chance)


class BlockStream(SampleStream):
    """The samples of a map-style dataset in blocks of *block_samples* neighbours, each block read
    in one call."""

    def __init__(
        self,
        dataset: MapDataset,
        *,
        block_samples: int = 256,
        shuffle: bool = True,
        buffer_samples: int = 4096,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Raises ValueError."""
        super().__init__(
            shuffle=shuffle,
            buffer_samples=buffer_samples,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        if block_samples < 1:
            raise ValueError(f"block_samples {block_samples}: at least 1")
        self._dataset = dataset
        self._block_samples = block_samples

    def _piece_count(self) -> int:
        return -(-len(self._dataset) // self._block_samples)

    def _read_piece(self, number: int) -> Iterator[Any]:
        start = number * self._block_samples
        stop = min(start + self._block_samples, len(self._dataset))
        yield from self._dataset.__getitems__(range(start, stop))


class TarStream(SampleStream):
    """The samples of tar archives (shards; compressed ones too), each archive read from its
    beginning to its end.

    Members that follow each other and have the same name up to the first dot of its last part are
    one sample: ``{"__key__": "folder/0001", "jpg": bytes, "cls": bytes}``, or what *decode* makes
    of that. Reading raises OSError, and ValueError for what is no archive, or for a member above
    SAMPLE_BYTES_MAX.
    """

    def __init__(
        self,
        shards: Sequence[str],
        *,
        config: str | os.PathLike[str] | None = None,
        decode: Callable[[dict[str, Any]], Any] | None = None,
        shuffle: bool = True,
        buffer_samples: int = 4096,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Raises ValueError."""
        super().__init__(
            shuffle=shuffle,
            buffer_samples=buffer_samples,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self.shards = list(shards)
        self._config = None if config is None else os.fspath(config)
        self._decode = decode

    def _piece_count(self) -> int:
        return len(self.shards)

    def _read_piece(self, number: int) -> Iterator[Any]:
        path = self.shards[number]
        with shared_store(self._config).open(path, "rb", TAR_BUFFER_BYTES) as file:
            try:
                for sample in _samples_of(file, path):
                    yield sample if self._decode is None else self._decode(sample)
            except tarfile.TarError as error:
                raise ValueError(f"{path}: cannot be read as a tar archive: {error}") from error


def _samples_of(file: Any, path: str) -> Iterator[dict[str, Any]]:
    sample: dict[str, Any] = {}
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            if not member.isfile():
                continue
            if member.size > SAMPLE_BYTES_MAX:
                raise ValueError(
                    f"{path}: {member.name} has {member.size} bytes; limit {SAMPLE_BYTES_MAX}"
                )
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if sample and sample["__key__"] != key:
                yield sample
                sample = {}
            content = archive.extractfile(member)
            assert content is not None, "of a file"
            sample["__key__"] = key
            sample[suffix] = content.read()
    if sample:
        yield sample
