"""Pure: in which order samples come, and who reads which of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def pieces_of(count: int, *, seed: int | None, epoch: int, reader: int, readers: int) -> list[int]:
    """Which of *count* pieces the *reader* of so many has to read, in order. All readers together
    have each piece once; with a *seed* their order is another one in each epoch."""
    pieces = list(range(count))
    if seed is not None:
        random.Random(f"pieces {seed} {epoch}").shuffle(pieces)
    return pieces[reader::readers]


def mixed(samples: Iterable[T], buffer_samples: int, chance: random.Random) -> Iterator[T]:
    """*samples* in another order: each leaves a buffer of so many at random."""
    buffer: list[T] = []
    for sample in samples:
        if len(buffer) < buffer_samples:
            buffer.append(sample)
            continue
        at = chance.randrange(buffer_samples)
        buffer[at], sample = sample, buffer[at]
        yield sample
    chance.shuffle(buffer)
    yield from buffer
