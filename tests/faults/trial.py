"""A store under load while a test makes faults, and what clients saw of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from craqen.tests.faults.conditions import require
from craqen.tests.faults.hosts import LEASE_SECONDS, PATIENCE_SECONDS, Hosts
from craqen.tests.faults.load import BUCKET, Load, MountLoad, Record, S3Load, check_all

WRITERS = 2
QUIET_SECONDS = 4.0
LONGEST_SECONDS = 4 * LEASE_SECONDS
"""For one request, with all that it waits for: twice what the design promises, since the whole
store shares a machine with the load and other tests."""


class Trial:
    """A built store and the load on it."""

    def __init__(self, hosts: Hosts, *, mounted: bool) -> None:
        self.record = Record()
        self._hosts = hosts
        hosts.client().create_bucket(Bucket=BUCKET)
        self._loads: list[Load] = [
            S3Load(self.record, hosts.client(), number) for number in range(WRITERS)
        ]
        if mounted:
            self._loads.append(MountLoad(self.record, hosts.client(), hosts.start_mount()))

    def start(self) -> None:
        for load in self._loads:
            load.start()

    def allow(self, *codes: str) -> None:
        """S3 errors that are no failures from now on."""
        for load in self._loads:
            load.allowed = codes

    def go_on(self, rounds: int = 10) -> None:
        """Until every load has done that many more rounds."""
        for load in self._loads:
            load.wait(rounds)

    def go_on_for(self, seconds: float) -> None:
        """Until that much time has passed, with every load at work."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.go_on(1)

    def go_on_until_taken(self) -> None:
        """Until nothing has been refused for a while."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        refused = -1
        while refused != len(self.record.refused):
            assert time.monotonic() < deadline, self.record.refused[-1]
            refused = len(self.record.refused)
            self.go_on_for(QUIET_SECONDS)

    def stop(self) -> None:
        for load in self._loads:
            load.stop()

    def read_all(self) -> None:
        """Everything that was acknowledged can be read."""
        check_all(self.record, self._hosts.client())

    def check(self) -> None:
        """No client heard of anything, and everything that was acknowledged is there."""
        self.read_all()
        for load in self._loads:
            load.check()
        assert not self.record.failures, self.record.failures[:5]


@contextmanager
def under_load(
    hosts: Hosts, *, mounted: bool = False, longest_seconds: float | None = LONGEST_SECONDS
) -> Iterator[Trial]:
    """Load while the block runs. Afterwards: all is well within bounded time, nothing acknowledged
    was lost, every read was right, and no request failed or took longer than *longest_seconds*."""
    if mounted:
        require(["mount"])
    trial = Trial(hosts, mounted=mounted)
    try:
        trial.start()
        trial.go_on()
        yield trial
        trial.allow()
        trial.go_on()
        recovery_seconds = hosts.wait_until_well()
    finally:
        hosts.network.heal()  # a test that failed meanwhile: requests under way shall end
        trial.stop()
    trial.check()
    record = trial.record
    print(
        f"\n{record.requests} requests, {record.retries} retries by clients, "
        f"{len(record.refused)} refused as allowed, longest {record.longest_seconds:.1f} s "
        f"({record.longest}); "
        f"well {recovery_seconds:.1f} s after the fault"
    )
    if longest_seconds is not None:
        assert record.longest_seconds < longest_seconds
