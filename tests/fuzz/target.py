"""What a fuzz target is, and how it reads the bytes that it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class FindingError(Exception):
    """A target saw what must never be. Any exception that a target lets out counts as one."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser or door, and what to throw at it."""

    name: str
    run: Callable[[bytes], None]
    """Takes an input; returns if all that was promised held. Raises whatever shows that it did
    not."""
    seeds: tuple[bytes, ...]
    """Inputs that come far: the corpus grows from them."""
    words: tuple[bytes, ...] = ()
    """What the language is made of, to be put in by mutations."""
    input_bytes_max: int = 4096
    seconds_max: float = 5.0
    """What an input may take: far above what any takes on a busy machine."""


class Draw:
    """Takes decisions from the front of an input; an input that has ended decides for zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def number(self, most: int) -> int:
        """From 0 to *most*."""
        if not most:
            return 0
        count = (most.bit_length() + 7) // 8
        return int.from_bytes(self.take(count), "big") % (most + 1)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.number(len(choices) - 1)]

    def chance(self, one_in: int) -> bool:
        return self.number(255) % one_in == 1

    def take(self, count: int) -> bytes:
        """The next *count* bytes, or as many as there are."""
        start = self._position
        self._position = min(len(self._data), start + count)
        return self._data[start : self._position]

    def some(self, most: int) -> bytes:
        """A run of bytes whose length the input decides."""
        return self.take(self.number(most))

    def rest(self) -> bytes:
        return self.take(len(self._data))

    @property
    def is_empty(self) -> bool:
        return self._position >= len(self._data)


def split_randomly(data: bytes, draw: Draw) -> list[bytes]:
    """*data* in pieces, as a network might deliver it."""
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        size = 1 + draw.number(63)
        if draw.is_empty:
            size = len(data)
        pieces.append(data[position : position + size])
        position += size
    return pieces


def text_of(data: bytes) -> str:
    """Bytes as header values arrive in handlers: what is no UTF-8 as surrogates."""
    return data.decode("utf-8", "surrogateescape")


def expect(holds: bool, what: str) -> None:
    """Raise FindingError unless *holds*."""
    if not holds:
        raise FindingError(what)
