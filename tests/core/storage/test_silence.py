"""Which nodes count as silent, and which are probed."""

from __future__ import annotations

from craqen.core.storage.silence import PROBE_LEASES, SILENT_LEASES, SUSPECT_LEASES, Silence

LEASE = 4.0
TICK = 0.25


class Watched:
    """A machine that is ticked, on a clock that only goes by ``wait``."""

    def __init__(self) -> None:
        self.now = 50.0
        self.machine = Silence(self.now)
        self.probes: list[tuple[float, int]] = []

    def wait(self, seconds: float, heard: int = 0) -> None:
        """*heard*: a node that answers every probe."""
        end = self.now + seconds
        while self.now < end:
            self.now += TICK
            for node_id in self.machine.tick(LEASE, self.now):
                self.probes.append((self.now, node_id))
                if node_id == heard:
                    self.machine.heard(node_id, self.now)

    def silent(self) -> list[int]:
        return list(self.machine.silent)

    def ask(self, node_id: int) -> None:
        self.machine.asked(node_id, self.now)


def test_nobody_is_silent_who_is_not_asked() -> None:
    watched = Watched()
    watched.wait(10 * LEASE)
    assert watched.silent() == []
    assert not watched.probes


def test_who_does_not_answer_for_a_lease_is_silent() -> None:
    watched = Watched()
    watched.ask(2)
    watched.wait(LEASE * SILENT_LEASES - TICK)
    assert not watched.machine.is_silent(2)
    watched.wait(TICK)
    assert watched.silent() == [2]
    first = watched.probes[0][0]
    assert first == 50.0 + LEASE * SUSPECT_LEASES
    assert watched.probes[1][0] == first + LEASE * PROBE_LEASES


def test_calls_that_fail_are_no_answers() -> None:
    watched = Watched()
    for _ in range(int(LEASE / TICK)):
        watched.ask(2)
        watched.machine.failed(2)
        watched.wait(TICK)
    assert watched.silent() == [2]


def test_any_answer_counts() -> None:
    watched = Watched()
    watched.ask(2)  # waits for ever
    for _ in range(20):
        watched.ask(2)
        watched.wait(LEASE / 2)
        watched.machine.answered(2, watched.now)
    assert watched.silent() == []


def test_a_long_call_to_a_node_that_answers_probes() -> None:
    watched = Watched()
    watched.ask(2)
    watched.wait(5 * LEASE, heard=2)
    assert watched.silent() == []
    assert watched.probes
    watched.machine.answered(2, watched.now)
    watched.probes.clear()
    watched.wait(5 * LEASE)
    assert not watched.probes


def test_a_silent_node_is_probed_until_it_answers() -> None:
    watched = Watched()
    watched.ask(2)
    watched.wait(LEASE)
    watched.machine.failed(2)
    watched.wait(10 * LEASE)
    assert watched.silent() == [2]
    watched.wait(LEASE, heard=2)
    assert watched.silent() == []
    watched.probes.clear()
    watched.wait(LEASE)
    assert not watched.probes


def test_who_slept_accuses_nobody() -> None:
    watched = Watched()
    watched.ask(2)
    watched.wait(LEASE / 2)
    watched.now += 3 * LEASE
    watched.wait(LEASE)
    assert watched.silent() == []
    watched.wait(TICK)
    assert watched.silent() == [2]


def test_a_node_that_is_no_more_is_forgotten() -> None:
    watched = Watched()
    watched.ask(2)
    watched.ask(3)
    watched.wait(LEASE)
    assert watched.silent() == [2, 3]
    watched.machine.keep({1, 3})
    assert watched.silent() == [3]
    watched.machine.failed(2)
    watched.wait(LEASE)
    assert watched.silent() == [3]
