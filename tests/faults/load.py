"""Load through both doors, and the checker of what it sees.

Each name has one writer. Its content tells its version and can be made again from name and version,
so that any reader can say whether what it read is whole, not older than what was acknowledged when
the read began, and not newer than what was begun when it ended.
"""

from __future__ import annotations

import os
import random
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

BUCKET = "bucket"
SIZES = (100, 70_000, 300_000, 2_500_000)
KEYS_PER_WRITER = 8
PAUSE_SECONDS = 0.02
ROUND_SECONDS = 90.0
PAGE_BYTES = 4096
PLACE_BYTES = 64 * PAGE_BYTES
_HEAD = struct.Struct("<QQ")


def content(name: str, version: int) -> bytes:
    """The bytes of a version: its number, its length, and noise."""
    noise = random.Random(f"{name}/{version}")
    length = noise.choice(SIZES)
    return _HEAD.pack(version, length) + noise.randbytes(length - _HEAD.size)


@dataclass
class Life:
    """What is known of one name."""

    begun: int = 0
    acknowledged: int = 0


@dataclass
class Record:
    """What clients saw, over all loads of a test."""

    lives: dict[str, Life] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Refusals that the test allows for a time."""
    longest_seconds: float = 0.0
    longest: str = ""
    """What took that long."""
    requests: int = 0
    retries: int = 0

    def check(self, name: str, data: bytes, least: int, most: int) -> None:
        """Note a failure unless *data* is a version of *name* from *least* to *most*."""
        version = _HEAD.unpack_from(data)[0] if len(data) >= _HEAD.size else -1
        if not least <= version <= most:
            self.failures.append(f"{name}: read version {version}, expected {least} to {most}")
        elif data != content(name, version):
            self.failures.append(f"{name}: version {version} has other bytes than were written")


class Load:
    """Repeats ``round`` in a thread until told to stop."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.rounds = 0
        self.allowed: Sequence[str] = ()
        """Codes of S3 errors that are no failures for now."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def round(self) -> None:
        raise NotImplementedError

    def check(self) -> None:
        """Look at what only this load knows of."""

    def timed(self, what: str, work: Callable[[], Any]) -> Any:
        """What *work* returns; None, and a failure noted, if it fails."""
        began = time.monotonic()
        try:
            return work()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            (self.record.refused if code in self.allowed else self.record.failures).append(
                f"{what}: {error}"
            )
        except Exception as error:
            self.record.failures.append(f"{what}: {type(error).__name__}: {error}")
        finally:
            took = time.monotonic() - began
            if took > self.record.longest_seconds:
                self.record.longest_seconds, self.record.longest = took, what
            self.record.requests += 1
        return None

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            self.round()
            self.rounds += 1

    def wait(self, rounds: int) -> None:
        """Until that many more rounds were done."""
        goal, deadline = self.rounds + rounds, time.monotonic() + ROUND_SECONDS
        while self.rounds < goal:
            assert time.monotonic() < deadline, f"no answers any more: {self.record.failures[:3]}"
            self._stop.wait(0.02)

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()


class S3Load(Load):
    """Puts objects, and reads its own and others'."""

    def __init__(self, record: Record, client: Any, number: int) -> None:
        super().__init__(record)
        self._client = client
        self._chooser = random.Random(number)
        self._names = [f"s3-{number}/{key}" for key in range(KEYS_PER_WRITER)]

    def round(self) -> None:
        name = self._chooser.choice(self._names)
        self.put(name)
        self.get(name)
        known = [one for one, life in list(self.record.lives.items()) if life.acknowledged]
        if known:
            self.get(self._chooser.choice(known))

    def put(self, name: str) -> None:
        """Write the next version."""
        life = self.record.lives.setdefault(name, Life())
        life.begun += 1
        version = life.begun
        data = content(name, version)
        done = self.timed(
            f"PUT {name}", lambda: self._client.put_object(Bucket=BUCKET, Key=name, Body=data)
        )
        if done is not None:
            life.acknowledged = version
            self.record.retries += done["ResponseMetadata"]["RetryAttempts"]

    def get(self, name: str) -> None:
        """Read, and check what came."""
        life = self.record.lives[name]
        least = life.acknowledged
        if not least:
            return
        data = self.timed(
            f"GET {name}",
            lambda: self._client.get_object(Bucket=BUCKET, Key=name)["Body"].read(),
        )
        if data is not None:
            self.record.check(name, data, least, life.begun)


class MountLoad(S3Load):
    """Writes files through a mount, whole ones and pages in place, and reads through both doors."""

    def __init__(self, record: Record, client: Any, folder: Path) -> None:
        super().__init__(record, client, 1000)
        self._folder = folder / BUCKET
        self._place = bytearray(PLACE_BYTES)
        self._place_known = False

    def round(self) -> None:
        self._replace(f"mount-file-{self._chooser.randrange(KEYS_PER_WRITER)}")
        self._write_page()
        name = f"mount-s3-{self._chooser.randrange(KEYS_PER_WRITER)}"
        self.put(name)
        self._read(name)

    def _replace(self, name: str) -> None:
        """As an editor saves a file: durable before the old one is gone."""
        life = self.record.lives.setdefault(name, Life())
        life.begun += 1
        version = life.begun

        def write() -> bool:
            draft = self._folder / f"{name}.new"
            with draft.open("wb") as file:
                file.write(content(name, version))
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self._folder / name)
            return True

        if self.timed(f"write {name}", write):
            life.acknowledged = version
            self.get(name)
            self._read(name)

    def _read(self, name: str) -> None:
        life = self.record.lives[name]
        least = life.acknowledged
        data = self.timed(f"read {name}", (self._folder / name).read_bytes) if least else None
        if data is not None:
            self.record.check(name, data, least, life.begun)

    def _write_page(self) -> None:
        """Overwrite one page in place, make it durable, read the whole by S3."""
        path = self._folder / "place"
        page = self._chooser.randrange(PLACE_BYTES // PAGE_BYTES) * PAGE_BYTES
        data = self._chooser.randbytes(PAGE_BYTES)

        def write() -> bool:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if not self._place_known:
                    os.pwrite(descriptor, self._place, 0)
                os.pwrite(descriptor, data, page)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            return True

        if not self.timed("write in place", write):
            return
        self._place_known = True
        self._place[page : page + PAGE_BYTES] = data
        self.check()

    def check(self) -> None:
        """The file that is written in place is as this load made it."""
        if not self._place_known:
            return
        found = self.timed(
            "GET place",
            lambda: self._client.get_object(Bucket=BUCKET, Key="place")["Body"].read(),
        )
        if found is not None and found != self._place:
            self.record.failures.append("place: a page is not as it was made durable")


def check_all(record: Record, client: Any) -> None:
    """Read everything that was acknowledged."""
    for name, life in list(record.lives.items()):
        least = life.acknowledged
        if least:
            data = client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
            record.check(name, data, least, life.begun)
