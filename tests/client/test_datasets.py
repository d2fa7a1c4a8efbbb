"""Datasets over files, record files and tar archives, without PyTorch and with it."""

from __future__ import annotations

import contextlib
import io
import itertools
import multiprocessing
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
from typing import Any

import pytest

from craqen.client import Store
from craqen.client.datasets import (
    BlockStream,
    FileDataset,
    RecordDataset,
    RecordWriter,
    TarStream,
    maps,
)
from craqen.client.datasets.order import mixed, pieces_of
from craqen.client.shared import share
from craqen.core.checksum import crc32c

Sample = tuple[str, bytes]


@pytest.fixture(autouse=True)
def shared(store: Store, config: str) -> None:
    share(store, config)


def _files(store: Store, folder: str, count: int = 40) -> list[Sample]:
    """Small files, some empty, some in chunks."""
    rows = []
    for number in range(count):
        size = 0 if number % 11 == 0 else 100_000 if number % 7 == 0 else 1000 + number
        path = f"{folder}/sub-{number % 3}/{number:03}.bin"
        store.make_directory(os.path.dirname(path), exist_ok=True)
        store.write_bytes(path, data := random.Random(number).randbytes(size))
        rows.append((path, data))
    return sorted(rows)


def test_read_files(store: Store, folder: str) -> None:
    rows = _files(store, folder)
    paths = [path for path, _ in rows]
    assert store.read_files(paths) == [data for _, data in rows]
    ids = [store.stat(path).st_ino for path in paths]
    assert store.read_files(paths, ids) == [data for _, data in rows]
    store.remove(paths[1])
    with pytest.raises(FileNotFoundError, match=paths[1]):
        store.read_files(paths, ids)
    with pytest.raises(FileNotFoundError, match=paths[1]):
        store.read_files(paths)
    store.write_bytes(paths[1], b"another")
    assert store.read_files(paths[:3], ids[:3]) == [rows[0][1], b"another", rows[2][1]]
    store.rename(paths[2], f"{folder}/renamed")
    assert store.read_files(paths[2:3], ids[2:3]) == [rows[2][1]]
    with pytest.raises(ValueError, match="1 inode ids for 2 paths"):
        store.read_files(paths[:2], ids[:1])
    with pytest.raises(IsADirectoryError):
        store.read_files([folder])


def test_read_files_with_holes(store: Store, folder: str) -> None:
    for name, size in ("small", 20_000), ("large", 1_000_000):
        with store.open(f"{folder}/{name}", "wb") as file:
            file.write(b"begin")
            file.truncate(size)
    small, large = store.read_files([f"{folder}/small", f"{folder}/large"])
    assert small == b"begin".ljust(20_000, b"\0")
    assert large == b"begin".ljust(1_000_000, b"\0")


def test_files(store: Store, config: str, folder: str) -> None:
    rows = _files(store, folder)
    dataset = FileDataset(folder, config=config)
    assert len(dataset) == 40
    assert dataset[0] == rows[0]
    assert dataset[-1] == rows[-1]
    assert dataset.__getitems__([5, 3, 5]) == [rows[5], rows[3], rows[5]]
    with pytest.raises(IndexError, match="sample 40 of 40"):
        dataset[40]
    lengths = FileDataset(folder, config=config, suffixes=("1.bin",), decode=_length)
    assert [lengths[at] for at in range(len(lengths))] == [
        len(data) for path, data in rows if path.endswith("1.bin")
    ]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[7] == rows[7]
    with pytest.raises(FileNotFoundError):
        FileDataset(f"{folder}/missing", config=config)


def _length(name: str, data: bytes) -> int:
    return len(data)


def _records(store: Store, folder: str) -> list[Sample]:
    rows = []
    for part in "ab":
        path = f"{folder}/{part}.rec"
        with RecordWriter(store, path) as writer:
            for number in range(30):
                record = random.Random(f"{part}{number}").randbytes(number * 700)
                writer.write(record)
                rows.append((f"{path}:{number}", record))
    return rows


def test_records(store: Store, config: str, folder: str) -> None:
    rows = _records(store, folder)
    dataset = RecordDataset(folder, config=config)
    assert [dataset[number] for number in range(len(dataset))] == rows
    assert dataset.__getitems__([59, 0, 30]) == [rows[59], rows[0], rows[30]]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[31] == rows[31]
    only = RecordDataset([f"{folder}/b.rec"], config=config, decode=_length)
    assert only.__getitems__(range(30)) == [number * 700 for number in range(30)]


def test_more_record_files_than_may_be_open(
    store: Store, config: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [f"{folder}/{name}.rec" for name in "abc"]
    for path in paths:
        with RecordWriter(store, path) as writer:
            writer.write(path.encode())
    monkeypatch.setattr(maps, "FILES_OPEN_MAX", 2)
    dataset = RecordDataset(paths, config=config)
    for batch in [0, 1], [0, 2], [2, 1, 0]:
        found = [data.decode() for _, data in dataset.__getitems__(batch)]
        assert found == [paths[number] for number in batch]


def test_record_framing(store: Store, folder: str) -> None:
    """The first record as TFRecord describes it, computed here."""
    with RecordWriter(store, f"{folder}/one") as writer:
        writer.write(b"hello")

    def masked(data: bytes) -> bytes:
        crc = crc32c(data)
        rotated = (crc >> 15 | crc << 17) & 0xFFFF_FFFF
        return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFF_FFFF)

    length = struct.pack("<Q", 5)
    expected = length + masked(length) + b"hello" + masked(b"hello")
    assert store.read_bytes(f"{folder}/one") == expected


def test_damaged_records(store: Store, config: str, folder: str) -> None:
    _records(store, folder)
    path = f"{folder}/a.rec"
    data = bytearray(store.read_bytes(path))
    data[-30] ^= 1  # in the last record
    store.write_bytes(path, data)
    dataset = RecordDataset([path], config=config)
    assert dataset[0][1] == b""
    with pytest.raises(ValueError, match="record 29 is not what was written"):
        dataset[29]
    store.write_bytes(path, data[:-1])
    with pytest.raises(ValueError, match="does not fit"):
        RecordDataset([path], config=config)
    for bad in (b"", b"x" * 8, b"CRQNREC1" + bytes(7), b"CRQNREC1" + bytes(8)):
        store.write_bytes(f"{path}.index", bad)
        with pytest.raises(ValueError, match="index"):
            RecordDataset([path], config=config)


def test_unfinished_records_have_no_index(store: Store, folder: str) -> None:
    _records(store, folder)
    with (
        contextlib.suppress(ZeroDivisionError),
        RecordWriter(store, f"{folder}/a.rec") as writer,
    ):
        writer.write(b"first")
        raise ZeroDivisionError
    assert not store.exists(f"{folder}/a.rec.index")


def _shards(store: Store, folder: str) -> tuple[list[str], list[str]]:
    paths, keys = [], []
    for shard in range(6):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz" if shard == 5 else "w") as archive:
            archive.addfile(_directory("cats"))
            for number in range(10):
                key = f"cats/{shard}-{number}"
                keys.append(key)
                for suffix, data in ("seg.png", key.encode() * 999), ("cls", b"%d" % number):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        paths.append(f"{folder}/{shard}.tar")
        store.write_bytes(paths[-1], buffer.getvalue())
    return paths, keys


def _directory(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    return member


def test_tar_shards(store: Store, config: str, folder: str) -> None:
    paths, keys = _shards(store, folder)
    samples = list(TarStream(paths, config=config, shuffle=False))
    assert [sample["__key__"] for sample in samples] == keys
    assert samples[13] == {"__key__": "cats/1-3", "seg.png": b"cats/1-3" * 999, "cls": b"3"}
    decoded = TarStream(paths[:1], config=config, shuffle=False, decode=_class_of)
    assert list(decoded) == list(range(10))
    mixed_up = [_key_of(sample) for sample in TarStream(paths, config=config)]
    assert mixed_up != keys
    assert sorted(mixed_up) == sorted(keys)
    store.write_bytes(paths[0], b"no archive" * 100)
    with pytest.raises(ValueError, match=r"0\.tar: cannot be read as a tar archive"):
        list(TarStream(paths[:1], config=config))


def _class_of(sample: dict[str, bytes]) -> int:
    return int(sample["cls"])


def _key_of(sample: dict[str, str]) -> str:
    return sample["__key__"]


def test_blocks_over_ranks_and_epochs(store: Store, config: str, folder: str) -> None:
    rows = _files(store, folder)
    dataset = FileDataset(folder, config=config)
    streams = [
        BlockStream(dataset, block_samples=3, buffer_samples=8, rank=rank, world_size=3, seed=5)
        for rank in range(3)
    ]
    epochs = []
    for _ in range(2):
        parts = [list(stream) for stream in streams]
        assert sorted(itertools.chain(*parts)) == rows
        epochs.append(parts)
    assert epochs[0] != epochs[1]
    streams[1].set_epoch(0)
    assert list(streams[1]) == epochs[0][1]
    plain = BlockStream(dataset, block_samples=7, shuffle=False)
    assert list(plain) == rows
    with pytest.raises(ValueError, match="rank 2 of 2"):
        BlockStream(dataset, rank=2, world_size=2)


def test_order() -> None:
    dealt = [pieces_of(10, seed=1, epoch=2, reader=reader, readers=4) for reader in range(4)]
    assert sorted(itertools.chain(*dealt)) == list(range(10))
    assert pieces_of(5, seed=None, epoch=9, reader=1, readers=2) == [1, 3]
    order = list(mixed(range(100), 10, random.Random(1)))
    assert sorted(order) == list(range(100))
    # A sample comes before its turn only by what the buffer holds.
    assert all(value - at <= 10 for at, value in enumerate(order))
    assert sorted(mixed(range(3), 10, random.Random(1))) == [0, 1, 2]


def test_torch_is_not_needed() -> None:
    """Nor is it imported by the client."""
    program = (
        "import sys; sys.modules['torch'] = None; import craqen.client.datasets as it; "
        "print(it.TarStream([]).__class__.__mro__[-2].__name__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "SampleStream\n"


def _child(dataset: FileDataset, rows: list[Sample], answers: multiprocessing.Queue[bool]) -> None:
    answers.put(dataset.__getitems__(range(len(rows))) == rows)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_in_another_process(store: Store, config: str, folder: str, method: str) -> None:
    rows = _files(store, folder, 8)
    context: Any = multiprocessing.get_context(method)
    answers = context.Queue()
    dataset = FileDataset(folder, config=config)
    process = context.Process(target=_child, args=(dataset, rows, answers))
    process.start()
    assert answers.get(timeout=60)
    process.join(60)
    assert process.exitcode == 0


FORKING = """
import sys
from torch.utils.data import DataLoader
from craqen.client.datasets import BlockStream, FileDataset, RecordDataset

config, folder = sys.argv[1:]
files = FileDataset(folder + "/files", config=config)
records = RecordDataset(folder + "/records", config=config)
for dataset in files, records:
    loader = DataLoader(dataset, batch_size=7, shuffle=True, num_workers=2, collate_fn=list)
    for _ in range(2):
        print(sum(len(data) for batch in loader for _, data in batch))
    stream = BlockStream(dataset, block_samples=4)
    loader = DataLoader(stream, batch_size=7, num_workers=2, collate_fn=list)
    print(sum(len(data) for batch in loader for _, data in batch))
for name, data in DataLoader(files, batch_size=None):
    assert name in files.paths
"""


@pytest.mark.filterwarnings("ignore")
def test_data_loader_with_forked_workers(store: Store, config: str, folder: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    store.make_directory(f"{folder}/files")
    store.make_directory(f"{folder}/records")
    files = sum(len(data) for _, data in _files(store, f"{folder}/files"))
    records = sum(len(data) for _, data in _records(store, f"{folder}/records"))
    result = subprocess.run(
        [sys.executable, "-c", FORKING, config, folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(files)] * 3 + [str(records)] * 3
