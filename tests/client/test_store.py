"""The native client does what ``open`` and ``os`` do."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import pickle
import random
import subprocess
import sys
import threading
from typing import Any

import boto3
import pytest

from craqen import client
from craqen.client import Read, Store, Write
from craqen.core.bench.store import LocalStore


def s3_client(running: LocalStore) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=running.endpoint,
        aws_access_key_id=running.access_key,
        aws_secret_access_key=running.secret_key,
        region_name="us-east-1",
    )


def test_a_file_is_written_and_read(store: Store, folder: str) -> None:
    path = f"{folder}/notes.txt"
    with store.open(path, "w", encoding="utf-8") as file:
        file.write("first\nsecond\n")
    with store.open(path) as file:
        assert file.readlines() == ["first\n", "second\n"]
    with store.open(path, "a") as file:
        file.write("third\n")
    assert store.read_bytes(path) == b"first\nsecond\nthird\n"
    with store.open(path, "r+b") as file:
        file.seek(6)
        file.write(b"SECOND")
    assert store.read_bytes(path) == b"first\nSECOND\nthird\n"
    assert store.stat(path).st_size == 19


def test_large_content_is_the_same_through_the_other_door(
    store: Store, folder: str, running: LocalStore
) -> None:
    data = random.Random(1).randbytes((20 << 20) + 17)
    store.write_bytes(f"{folder}/by-file", data)
    s3 = s3_client(running)
    bucket = folder.strip("/")
    assert s3.get_object(Bucket=bucket, Key="by-file")["Body"].read() == data
    s3.put_object(Bucket=bucket, Key="by-s3", Body=data)
    assert store.read_bytes(f"{folder}/by-s3") == data
    with store.open(f"{folder}/by-s3", "rb") as file:
        file.seek(-100, os.SEEK_END)
        assert file.read() == data[-100:]


def test_what_another_changes_is_seen_by_who_opens_it(
    store: Store, folder: str, running: LocalStore
) -> None:
    path = f"{folder}/shared"
    store.write_bytes(path, b"one")
    file = store.open_raw(path)
    assert file.pread(10, 0) == b"one"
    s3 = s3_client(running)
    s3.put_object(Bucket=folder.strip("/"), Key="shared", Body=b"another")
    assert store.read_bytes(path) == b"another"
    assert file.pread(10, 0) == b"one", "an open file is the one that was opened"
    file.close()


def test_names(store: Store, folder: str) -> None:
    store.make_directory(f"{folder}/a/b/c", parents=True)
    store.make_directory(f"{folder}/a/b/c", parents=True, exist_ok=True)
    store.write_bytes(f"{folder}/a/b/c/file", b"x")
    store.symlink("b/c", f"{folder}/a/link")
    store.symlink(f"{folder}/a", f"{folder}/absolute")
    assert store.read_bytes(f"{folder}/a/link/file") == b"x"
    assert store.read_bytes(f"{folder}/absolute/link/../c/file") == b"x"
    assert store.read_link(f"{folder}/a/link") == "b/c"
    store.link(f"{folder}/a/b/c/file", f"{folder}/second")
    assert store.stat(f"{folder}/second").st_nlink == 2
    store.rename(f"{folder}/a/b", f"{folder}/a/moved")
    names = sorted(entry.path.removeprefix(folder) for entry in store.walk(folder))
    assert names == ["/a", "/a/link", "/a/moved", "/a/moved/c", "/a/moved/c/file", "/absolute",
                     "/second"]  # fmt: skip
    store.remove(f"{folder}/second")
    store.set_attributes(f"{folder}/a/moved/c/file", mode=0o600, mtime_ns=5)
    found = store.stat(f"{folder}/a/moved/c/file")
    assert (found.st_mode & 0o777, found.st_mtime_ns, found.st_nlink) == (0o600, 5, 1)
    assert not store.exists(f"{folder}/second")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda s, f: s.open(f"{f}/none"), FileNotFoundError),
        (lambda s, f: s.open(f"{f}/file/below"), NotADirectoryError),
        (lambda s, f: s.open(f, "rb"), IsADirectoryError),
        (lambda s, f: s.open(f"{f}/file", "x"), FileExistsError),
        (lambda s, f: s.make_directory(f"{f}/file"), FileExistsError),
        (lambda s, f: s.remove(f), IsADirectoryError),
        (lambda s, f: s.list(f"{f}/file"), NotADirectoryError),
        (lambda s, f: s.open(f"{f}/loop"), OSError),
        (lambda s, f: s.rename(f"{f}/file", f"{f}/other", no_replace=True), FileExistsError),
        (lambda s, f: s.open_raw(f"{f}/file").write(b"x"), io.UnsupportedOperation),
        (lambda s, f: s.open(f"{f}/file", "rw"), ValueError),
        (lambda s, f: s.open(f"{f}/{'n' * 300}", "w"), OSError),
    ],
)
def test_errors_are_those_of_python(
    store: Store, folder: str, call: object, expected: type[Exception]
) -> None:
    store.write_bytes(f"{folder}/file", b"x")
    store.write_bytes(f"{folder}/other", b"y")
    store.symlink("loop", f"{folder}/loop")
    with pytest.raises(expected):
        call(store, folder)  # type: ignore[operator]
    assert store.read_bytes(f"{folder}/file") == b"x"


def test_removing_a_full_folder(store: Store, folder: str) -> None:
    store.write_bytes(f"{folder}/file", b"x")
    with pytest.raises(OSError) as caught:
        store.remove_directory(folder)
    assert caught.value.errno == errno.ENOTEMPTY
    assert caught.value.filename == folder


def test_batches(store: Store, folder: str) -> None:
    chance = random.Random(2)
    contents = {
        "small": chance.randbytes(1000),
        "medium": chance.randbytes(300_000),
        "large": chance.randbytes(18 << 20),
    }
    files = {name: store.open_raw(f"{folder}/{name}", "w+b") for name in contents}
    store.write_batch(
        Write(files[name], start, memoryview(data)[start : start + (1 << 20)])
        for name, data in contents.items()
        for start in range(0, len(data), 1 << 20)
    )
    with store.open(f"{folder}/large", "rb") as other:
        assert other.read() == contents["large"]
    for _ in range(3):
        reads, expected = [], []
        for _ in range(200):
            name = chance.choice(list(contents))
            data = contents[name]
            offset = chance.randrange(len(data) + 10)
            buffer = bytearray(chance.choice((1, 4096, 70_000)))
            reads.append(Read(files[name], offset, buffer))
            expected.append(data[offset : offset + len(buffer)])
        lengths = store.read_batch(reads)
        for read, length, wanted in zip(reads, lengths, expected, strict=True):
            assert length == len(wanted)
            assert bytes(read.buffer[:length]) == wanted
    for file in files.values():
        file.close()
    with pytest.raises(ValueError, match="closed"):
        store.read_batch([(files["small"], 0, bytearray(1))])


def test_a_batch_sees_what_was_written_and_not_stored(store: Store, folder: str) -> None:
    file = store.open_raw(f"{folder}/file", "w+b")
    file.pwrite(b"abcdef", 0)
    buffer = bytearray(8)
    assert store.read_batch([(file, 2, buffer)]) == [4]
    assert bytes(buffer[:4]) == b"cdef"
    file.flush()
    file.pwrite(b"X", 3)
    assert file.pread(10, 0) == b"abcXef"
    file.truncate(2)
    assert file.pread(10, 0) == b"ab"
    file.close()
    assert store.read_bytes(f"{folder}/file") == b"ab"


def test_any_thread_may_call(store: Store, folder: str) -> None:
    data = random.Random(3).randbytes(1 << 20)
    store.write_bytes(f"{folder}/file", data)
    file = store.open_raw(f"{folder}/file")
    wrong: list[int] = []

    def read(number: int) -> None:
        chance = random.Random(number)
        for _ in range(200):
            offset = chance.randrange(len(data))
            if file.pread(5000, offset) != data[offset : offset + 5000]:
                wrong.append(offset)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    assert not wrong


def test_a_forked_child_is_told_what_to_do(store: Store, folder: str) -> None:
    store.write_bytes(f"{folder}/file", b"x")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store.read_bytes(f"{folder}/file")
        except OSError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert b"by spawn" in os.read(reader, 1000)
    os.close(reader)
    assert store.read_bytes(f"{folder}/file") == b"x"


def test_a_pickled_store_connects_where_it_arrives(store: Store, folder: str) -> None:
    store.write_bytes(f"{folder}/file", b"content")
    program = (
        "import pickle, sys\n"
        "store, path = pickle.load(sys.stdin.buffer)\n"
        "with store:\n"
        "    sys.stdout.buffer.write(store.read_bytes(path))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps((store, f"{folder}/file")),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert ended.stdout == b"content"


def test_a_store_is_open_once_in_a_process(config: str, store: Store) -> None:
    with pytest.raises(OSError, match="share that one"):
        client.connect(config)


def test_on_an_event_loop(store: Store, folder: str) -> None:
    async def work() -> bytes:
        asynchronous = store.asynchronous
        async with await asynchronous.open(f"{folder}/file", "w+b") as file:
            await file.write(b"hello ")
            await file.write(b"world")
            await file.flush()
            assert (await file.stat()).st_size == 11
            found = await asyncio.gather(*(file.read(1, number) for number in range(11)))
        assert [entry.name async for entry in asynchronous.scan(folder)] == ["file"]
        return b"".join(found)

    assert store.run(work()) == b"hello world"
