"""PORT: work that goes on in the background, of which one keeper at a time does each piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..metrics import Metric


class Duty(Protocol):
    """One piece of work.

    A keeper that lost its lease without noticing, or whose last transaction is under way still,
    may be at the same work for a moment: what a duty writes either holds however often it is
    written, or is written in a transaction that reads again what it rests on. What is to outlast a
    crash (positions, when work is due) a duty keeps in the KV: another keeper goes on with it.
    """

    @property
    def name(self) -> str:
        """Of its lease, in logs and metrics: small letters and dashes, never changed."""
        ...

    async def run_once(self, now_ns: int) -> float:
        """Do what is due at the wall clock's *now_ns*; return in how many seconds to ask again.

        It may wait for work for a while (a watch of the KV), and take as long as it must. It is
        cancelled when the lease is lost or the process ends. What it raises is logged, and it is
        asked again after a while, which grows.
        """
        ...

    def measures(self) -> Sequence[Metric]:
        """What it counts, for the keeper's metrics."""
        ...
