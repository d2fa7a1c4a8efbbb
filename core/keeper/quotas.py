"""DUTY: folders whose quota was set or removed, and whose command did not get to the end; now and
then, whether all counters are right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ..errors import DataLossError, StaleHandleError
from ..kv.keys import pack, unpack
from ..kv.store import KeyValueStore, Transaction
from ..meta.accounts import Kind, Standing
from ..meta.quota_store import QuotaStore
from ..meta.recount import find_differences, mend
from ..metrics import Metric
from ..options import QuotaOptions

PREFIX = b"C/quotas/"
CHECKED_KEY = PREFIX + b"checked"
POLL_SECONDS = 60.0
"""How long a walk that was interrupted waits, and limits below the folder count too little."""

MEASURED_MAX = 1000
"""Limited accounts in the metrics."""

_GAUGES: tuple[tuple[str, str, Callable[[Standing], int]], ...] = (
    ("held_bytes", "What an account with limits holds.", lambda one: one.usage.held_bytes),
    ("held_files", "Files of an account with limits.", lambda one: one.usage.objects),
    ("limit_bytes", "What it may hold; 0: any number.", lambda one: one.limits.size_bytes),
    ("limit_files", "Files that it may hold; 0: any number.", lambda one: one.limits.files),
)

_log = logging.getLogger("craqen.keeper")


class QuotaDuty:
    """See the module."""

    name = "quotas"

    def __init__(self, kv: KeyValueStore, store: QuotaStore, options: QuotaOptions) -> None:
        self._kv = kv
        self._store = store
        self._interval_ns = int(options.recount_hours * 3600 * 1e9)
        self._settled = 0
        self._mended = 0
        self._recounts = 0
        self._standings: list[tuple[dict[str, str], Standing]] = []

    async def run_once(self, now_ns: int) -> float:
        """Settle what is unsettled; recount if that is due."""
        for directory_id in await self._store.unsettled_quotas():
            changed = await self._store.settle_quota(directory_id)
            self._settled += 1
            _log.info("folder %x: %d files changed what they count for", directory_id, changed)
        await self._look()
        if self._interval_ns and await self._is_due(now_ns):
            await self._recount(now_ns)
        return POLL_SECONDS

    async def _look(self) -> None:
        """What limited accounts hold now, for the metrics."""
        rows: list[tuple[dict[str, str], Standing]] = []
        for one in (await self._store.quotas())[:MEASURED_MAX]:
            try:
                is_user = one.account.kind is Kind.USER
                number = one.account.number
                name = str(number) if is_user else await self._store.path_of(number)
            except StaleHandleError:
                continue  # it was removed just now
            rows.append(({"kind": one.account.kind.name.lower(), "name": name}, one))
        self._standings = rows

    async def _is_due(self, now_ns: int) -> bool:
        value = await self._kv.read(lambda tx: tx.get(CHECKED_KEY))
        if value is None:
            await self._note(now_ns)  # a new store has nothing to be recounted
            return False
        last_ns = unpack(value)[0]
        return not isinstance(last_ns, int) or not 0 <= now_ns - last_ns < self._interval_ns

    async def _recount(self, now_ns: int) -> None:
        try:
            differences, _ = await find_differences(self._kv, lambda rows: None)
        except DataLossError as error:
            _log.error("counters of quotas: cannot be compared: %s", error)
            differences = {}
        for account, difference in differences.items():
            if await mend(self._kv, account, difference):
                self._mended += 1
                _log.warning(
                    "the counters of %s %d were wrong, and are mended: %s",
                    account.kind.name.lower(),
                    account.number,
                    difference,
                )
        self._recounts += 1
        await self._note(now_ns)

    async def _note(self, now_ns: int) -> None:
        async def write(tx: Transaction) -> None:
            tx.set(CHECKED_KEY, pack((now_ns,)))

        await self._kv.transact(write)

    def measures(self) -> Sequence[Metric]:
        """What this process did since it began, and what limited accounts held when it looked."""
        gauges = [
            Metric(
                f"craqen_quota_{name}",
                "gauge",
                text,
                [(labels, read(one)) for labels, one in self._standings],
            )
            for name, text, read in _GAUGES
        ]
        return gauges + [
            Metric(f"craqen_quota_{name}_total", "counter", text, [({}, value)])
            for name, text, value in (
                ("settled", "Folders that were walked after their quota changed.", self._settled),
                ("recounts", "Times that all counters were compared with files.", self._recounts),
                ("mended", "Counters that were wrong.", self._mended),
            )
        ]
