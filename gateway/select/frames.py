"""What a gateway worker and the process that runs a query say to each other. Pure.

To the process: the job's length and the job, then the object's bytes to their end. From it: frames
of a kind and a length.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from .job import SelectJob

FRAME = struct.Struct(">BI")
LENGTH = struct.Struct(">I")
FRAME_BYTES_MAX = 1 << 20


class Frame(IntEnum):
    RECORDS = 1
    PROGRESS = 2
    ERROR = 3
    DONE = 4


class Counts(msgspec.Struct, frozen=True, array_like=True):
    """Bytes so far."""

    scanned: int
    processed: int
    returned: int


class Failure(msgspec.Struct, frozen=True, array_like=True):
    code: str
    message: str


_encode = msgspec.msgpack.encode


def job_bytes(job: SelectJob) -> bytes:
    """How a job goes to the process."""
    body = _encode(job)
    return LENGTH.pack(len(body)) + body


def job_of(body: bytes) -> SelectJob:
    """The job that ``job_bytes`` sent, without its length."""
    return msgspec.msgpack.decode(body, type=SelectJob)


def frame(kind: Frame, payload: bytes | Counts | Failure) -> bytes:
    """One frame."""
    body = payload if isinstance(payload, bytes) else _encode(payload)
    return FRAME.pack(kind, len(body)) + body


def counts_of(body: bytes) -> Counts:
    return msgspec.msgpack.decode(body, type=Counts)


def failure_of(body: bytes) -> Failure:
    return msgspec.msgpack.decode(body, type=Failure)
