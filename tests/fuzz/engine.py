"""Random inputs without coverage: mutations of the corpus, by a seed. Serves the short slice that
every test run plays, and `make fuzz` where atheris is not installed."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from .target import Target

CORPUS = Path(__file__).parent / "corpus"
MEMORY_GROWTH_BYTES_MAX = 512 << 20  # of the process while a target runs
_EDITS_MAX = 6
_NUMBERS = (b"0", b"-1", b"9" * 20, b"9" * 5000, b"4294967296", b"18446744073709551616", b"\0")


class Failure(NamedTuple):
    """An input that did harm."""

    data: bytes
    error: BaseException


class Played(NamedTuple):
    executions: int
    failure: Failure | None


def corpus_of(target: Target) -> list[bytes]:
    """The kept inputs of a target, its seeds first."""
    folder = CORPUS / target.name
    kept = [path.read_bytes() for path in sorted(folder.glob("*"))] if folder.is_dir() else []
    return [*target.seeds, *kept]


def mutations(target: Target, corpus: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Inputs without end; the same for the same seed and corpus."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.randint(1, _EDITS_MAX)):
            _edit(data, target, corpus, chance)
        yield bytes(data[: target.input_bytes_max])


def _edit(data: bytearray, target: Target, corpus: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.choice((1, 2, 4, 8, 32)))
    match chance.randint(0, 7):
        case 0:
            data[at:end] = b""
        case 1:
            data[at:at] = chance.randbytes(chance.randint(1, 8))
        case 2 if at < len(data):
            data[at] ^= 1 << chance.randint(0, 7)
        case 3 if target.words:
            data[at:at] = chance.choice(target.words)
        case 4 if target.words:
            data[at:end] = chance.choice(target.words)
        case 5:
            data[at:at] = data[at:end] * chance.choice((1, 2, 16, 200))
        case 6:
            other = chance.choice(corpus)
            start = chance.randint(0, len(other))
            data[at:end] = other[start : start + chance.randint(1, 64)]
        case _:
            data[at:end] = chance.choice(_NUMBERS)


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Interrupts what takes longer. In the main thread only."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the input took more than {seconds} s")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def replay(target: Target, inputs: Sequence[bytes]) -> None:
    """Run *inputs*. Raises what the target does; AssertionError for one that takes too long."""
    for data in inputs:
        began = time.process_time()  # a busy machine is no finding
        try:
            target.run(data)
        except Exception as error:
            error.add_note(f"target {target.name}, input {data!r}")
            raise
        took = time.process_time() - began
        assert took < target.seconds_max, f"{target.name}: {took:.1f} s for {data!r}"


def play(target: Target, seconds: float, seed: int) -> Played:
    """Run random inputs for *seconds*, or until one fails. Bounds the time of each, and what all
    add to the memory of the process."""
    corpus = corpus_of(target)
    end = time.monotonic() + seconds
    executions = 0
    target.run(corpus[0])
    limit = _peak_bytes() + MEMORY_GROWTH_BYTES_MAX
    for data in mutations(target, corpus, seed):
        try:
            with _bounded(target.seconds_max):
                target.run(data)
            if _peak_bytes() > limit:
                raise MemoryError(f"the process grew by {MEMORY_GROWTH_BYTES_MAX} bytes")
        except Exception as error:
            return Played(executions, Failure(data, error))
        executions += 1
        if time.monotonic() > end:
            break
    return Played(executions, None)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
