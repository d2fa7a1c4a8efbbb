"""What is played: how large a store, how many clients, which faults.

The first twelve are those of the specification of 3FS in P (its DataStorage model): one to three
clients, each with no failure, an unreliable failure detector, one crash and several crashes, on
short and long chains.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .cluster import Settings
from .faults import Plan
from .network import CALM, Weather

RAIN = Weather(lost=0.02, doubled=0.02, slow=0.05)
STORM = Weather(lost=0.08, doubled=0.05, slow=0.15)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name, a size and a plan of faults."""

    name: str
    plan: Plan
    clients: tuple[int, ...] = (1, 2, 3)
    """How many, by chance."""
    replicas: tuple[int, ...] = (2, 3, 4)
    managers: tuple[int, ...] = (1, 2)
    weathers: tuple[Weather, ...] = (CALM, RAIN, RAIN, STORM)
    chains: tuple[int, ...] = (1, 1, 2)
    disk_seconds: float = 0.003
    flush_seconds: tuple[float, ...] = (0.002, 0.004, 0.02)
    think_seconds: tuple[float, ...] = (0.1, 0.4, 0.8)

    def settings(self, chance: Random) -> Settings:
        """The size of one run."""
        replicas = chance.choice(self.replicas)
        return Settings(
            replicas=replicas,
            nodes=replicas,
            chains=chance.choice(self.chains),
            chunks=chance.choice((1, 2, 3, 5)),
            managers=chance.choice(self.managers),
            clients=chance.choice(self.clients),
            action_seconds=chance.choice((1.5, 6.0, 20.0)),
            think_seconds=chance.choice(self.think_seconds),
            flush_seconds=chance.choice(self.flush_seconds),
            disk_seconds=self.disk_seconds,
            weather=chance.choice(self.weathers),
        )


_SHORT_AND_LONG = (1, 2, 2, 5)


def _specified() -> list[Scenario]:
    found = []
    for count in (1, 2, 3):
        for name, plan in (
            ("quiet", Plan()),
            ("detector", Plan(unheard=3)),
            ("crash", Plan(crashes=1)),
            ("crashes", Plan(crashes=5)),
        ):
            found.append(Scenario(f"{name}-{count}", plan, (count,), _SHORT_AND_LONG))
    return found


_MORE = [
    Scenario("all-lost", Plan(all_lost=2, crashes=1)),
    Scenario(
        "manager-failover", Plan(manager_crashes=3, managers_unheard=2, crashes=2), managers=(2, 3)
    ),
    Scenario("self-fencing", Plan(unheard=4), managers=(1, 2, 3)),
    Scenario("partitions", Plan(partitions=5), managers=(1, 2, 3)),
    Scenario("links", Plan(links=4, crashes=1)),
    Scenario("stalls", Plan(stalls=5)),
    Scenario("slow-successor", Plan(slow=4)),
    Scenario("resync-under-writes", Plan(crashes=3, down_seconds=9.0, partitions=1)),
    Scenario("shutdown", Plan(shutdowns=2)),
    Scenario("rotation", Plan(crashes=2, rotations=True)),
    Scenario("disks", Plan(failed_disks=3)),
    Scenario("full-disks", Plan(full_disks=5, crashes=2)),
    Scenario(
        "slow-disks",
        Plan(crashes=5, down_seconds=3.0, unheard=2, rotations=True),
        clients=(3, 4),
        replicas=(1, 2, 3),
        disk_seconds=0.5,
        flush_seconds=(0.02, 0.1, 0.3),
        think_seconds=(0.02, 0.1),
    ),
    Scenario("repair", Plan(rot=8), chains=(1,)),
    Scenario("dying-clients", Plan(client_deaths=4, crashes=2)),
    Scenario(
        "everything",
        Plan(
            crashes=2,
            unheard=1,
            partitions=2,
            links=1,
            stalls=1,
            slow=1,
            failed_disks=1,
            manager_crashes=1,
            managers_unheard=1,
            client_deaths=1,
            shutdowns=1,
            rotations=True,
        ),
        managers=(2, 3),
    ),
]

SCENARIOS: dict[str, Scenario] = {one.name: one for one in [*_specified(), *_MORE]}


def scenario_of(seed: int) -> Scenario:
    """The scenario that a seed plays when none is named."""
    return list(SCENARIOS.values())[seed % len(SCENARIOS)]
