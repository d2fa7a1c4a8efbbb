"""DRIVER: do the counters of buckets, folders with quotas and users say what files add up to?

A difference must show twice, in two walks: the store is in use meanwhile (core/meta/recount.py).
"""

from __future__ import annotations

from ..meta.accounts import Account, Kind
from ..meta.recount import Comparison, Difference, mend
from .findings import Finding
from .holders import Held
from .scan import Check

_NAMES = {Kind.BUCKET: "bucket {:x}", Kind.DIRECTORY: "folder {:x}", Kind.USER: "user {}"}


class UsageCheck:
    """Compares counters with sums. ``begin``, have it take what holds bytes, ``end``."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._comparison = Comparison(check.kv)

    async def begin(self) -> None:
        """Read the counters."""
        await self._comparison.begin()

    def take(self, held: Held) -> None:
        """Count an inode or a part."""
        if held.inode is not None:
            self._comparison.sums.take(held.inode)
        elif held.part is not None:
            self._comparison.take_part(held.holder.key, held.part.size)

    async def end(self) -> None:
        """Compare; what differs is walked again."""
        differences = await self._comparison.end()
        if not differences:
            return
        self._check.progress.stage("usage of buckets, folders and users, again")
        await self._comparison.begin()
        await self._comparison.walk(self._check.progress.advance)
        again = await self._comparison.end()
        for account, difference in differences.items():
            if again.get(account) == difference:
                self._tell(account, difference)

    def _tell(self, account: Account, difference: Difference) -> None:
        check = self._check

        async def repair() -> str | None:
            if not await mend(check.kv, account, difference):
                return None
            return "the difference is added: what is written meanwhile is counted beside it"

        size, objects, parts = difference
        in_parts = f" and {-parts} bytes of parts" if parts else ""
        check.findings.add(
            Finding(
                "usage",
                _NAMES[account.kind].format(account.number),
                f"its counters are off by {-size} bytes{in_parts} and {-objects} objects",
                "run with --repair",
                repair,
            )
        )
