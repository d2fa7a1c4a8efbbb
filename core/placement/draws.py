"""Pure: a stream of numbers that is the same for the same seed on every host and release."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TypeVar

T = TypeVar("T")

_MULTIPLIER = 6364136223846793005
_INCREMENT = 1442695040888963407
_MASK = (1 << 64) - 1


class Draws:
    """Numbers from a seed (a linear congruence of 64 bits, of which the upper 31 are used)."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = (seed * 0x9E3779B97F4A7C15 + _INCREMENT) & _MASK
        for _ in range(4):  # seeds that are near each other part
            self.below(2)

    def below(self, count: int) -> int:
        """A number from 0 to *count* - 1."""
        self._state = state = (self._state * _MULTIPLIER + _INCREMENT) & _MASK
        return (state >> 33) % count

    def fraction(self) -> float:
        """A number from 0 to below 1."""
        return self.below(1 << 31) / (1 << 31)

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Put *items* in some order."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]
