"""DRIVER: does the duties whose leases it holds, and takes part in the elections for the others.

Keepers share the duties: one that has more than its part, by the number of keepers alive, gives one
up between two runs; one that has its part takes another only if nobody else did for a whole lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ..clock import Clock
from ..errors import CraqenError
from ..kv.store import KeyValueStore
from ..metrics import Metric, Sample
from .duty import Duty
from .lease import RENEWALS_PER_LEASE, DutyLease

FAILURE_SECONDS = 1.0
"""Rest after a run that failed, doubled with each further one in a row …"""
FAILURE_SECONDS_MAX = 60.0
REST_LEASES = 2.0
"""For how long a keeper that gave a duty up leaves it to the others."""

_log = logging.getLogger("craqen.keeper")


@dataclass(slots=True)
class _Tally:
    """What became of one duty in this process."""

    runs: int = 0
    failures: int = 0
    failures_in_row: int = 0
    is_held: bool = False


class Keeper:
    """All duties of one process. ``run`` is its only task."""

    def __init__(
        self,
        kv: KeyValueStore,
        duties: Sequence[Duty],
        clock: Clock,
        lease_seconds: float,
        count_keepers: Callable[[], Awaitable[int]],
    ) -> None:
        """*count_keepers*: how many are alive, this one included."""
        self._kv = kv
        self._duties = duties
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._count_keepers = count_keepers
        self._keepers = 1
        self._holder = secrets.token_hex(16)
        self._tallies = {duty.name: _Tally() for duty in duties}
        assert len(self._tallies) == len(duties), "two duties of one name"

    async def run(self) -> None:
        """Work until cancelled; gives its leases up then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_count())
            for duty in self._duties:
                group.create_task(self._serve(duty))

    def measures(self) -> list[Metric]:
        """For Prometheus: the keeper's, and those of its duties."""

        def samples(value: Callable[[_Tally], float]) -> list[Sample]:
            return [({"duty": name}, value(one)) for name, one in self._tallies.items()]

        found = [
            Metric(
                "craqen_keeper_duty_held",
                "gauge",
                "Whether this keeper does the duty (0, 1).",
                samples(lambda one: one.is_held),
            ),
            Metric(
                "craqen_keeper_runs_total",
                "counter",
                "Runs of the duty, also those that failed.",
                samples(lambda one: one.runs),
            ),
            Metric(
                "craqen_keeper_failures_total",
                "counter",
                "Runs of the duty that failed.",
                samples(lambda one: one.failures),
            ),
        ]
        for duty in self._duties:
            found += duty.measures()
        return found

    async def _keep_count(self) -> None:
        while True:
            try:
                self._keepers = max(1, await self._count_keepers())
            except CraqenError as error:
                _log.warning("the other keepers are not counted for now: %s", error)
            await asyncio.sleep(self._lease_seconds)

    def _part(self) -> int:
        """How many duties are this keeper's part."""
        return -(-len(self._duties) // self._keepers)

    def _held(self) -> int:
        return sum(one.is_held for one in self._tallies.values())

    async def _serve(self, duty: Duty) -> None:
        tally = self._tallies[duty.name]
        lease = DutyLease(
            self._kv,
            duty.name,
            self._holder,
            self._lease_seconds,
            self._clock.monotonic_seconds,
        )
        while True:
            try:
                taken = await lease.try_to_take(patient=self._held() >= self._part())
            except CraqenError as error:
                _log.warning("%s: its lease cannot be had for now: %s", duty.name, error)
                taken = False
            if not taken:
                await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)
                continue
            _log.info("%s is done here from now on", duty.name)
            tally.is_held = True
            try:
                await self._hold(duty, lease, tally)
            finally:
                tally.is_held = False
                with contextlib.suppress(CraqenError):  # then it runs out by itself
                    await lease.give_up()
            _log.info("%s is left to others", duty.name)
            await asyncio.sleep(self._lease_seconds * REST_LEASES)

    async def _hold(self, duty: Duty, lease: DutyLease, tally: _Tally) -> None:
        """Do the duty until its lease is lost, or given to another keeper."""
        working = asyncio.create_task(self._work(duty, tally))
        renewing = asyncio.create_task(self._renew_until_lost(duty, lease))
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)

    async def _renew_until_lost(self, duty: Duty, lease: DutyLease) -> None:
        while lease.holds():
            await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)
            try:
                if not await lease.renew():
                    return
            except CraqenError as error:
                _log.warning("%s: its lease was not renewed: %s", duty.name, error)

    async def _work(self, duty: Duty, tally: _Tally) -> None:
        while self._held() <= self._part():
            due_seconds = await self._run_once(duty, tally)
            await asyncio.sleep(max(0.0, due_seconds))

    async def _run_once(self, duty: Duty, tally: _Tally) -> float:
        tally.runs += 1
        try:
            due_seconds = await duty.run_once(self._clock.wall_ns())
        except Exception as error:
            # Also what is a mistake in the program: the other duties go on.
            known = isinstance(error, CraqenError)
            _log.error("%s: %s", duty.name, error, exc_info=None if known else error)
            tally.failures += 1
            doubled = FAILURE_SECONDS * 2.0 ** min(tally.failures_in_row, 16)
            tally.failures_in_row += 1
            return min(doubled, FAILURE_SECONDS_MAX)
        tally.failures_in_row = 0
        return due_seconds
