"""The program ``craqen bench manager``: what a large cluster costs its primary manager.

A simulated cluster sends heartbeats by a virtual clock; decoding, membership, deltas and encoding
are the manager's own. The reference is decoding and encoding the same messages and nothing else.
Sockets are not in it: a call's transport costs what ``craqen bench rpc`` shows.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from ..cluster.delta import RoutingDelta, delta_between
from ..cluster.membership import Membership
from ..cluster.messages import HeartbeatReply, HeartbeatRequest, TargetReport
from ..cluster.records import (
    ChainRecord,
    ChainTable,
    ChainTarget,
    LocalState,
    NodeRecord,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from ..wire.codec import decode
from ..wire.messages import encode
from .measure import Report, Sample, add_runs, measure, median

NODES: Final = 1_000
TARGETS_PER_NODE: Final = 10
REPLICAS: Final = 4  # divides the targets evenly
HEARTBEATS_PER_SECOND: Final = 1_000
TICKS_PER_SECOND: Final = 4
LEASE_SECONDS: Final = 4.0
SECONDS: Final = 20
"""Simulated in each run."""
SHARE_MAX: Final = 0.3
"""Of one core."""

ONLINE = LocalState.ONLINE


def cluster() -> RoutingTable:
    """All nodes and targets, each chain's targets on nodes of their own, all serving."""
    targets = [
        TargetRecord(
            number + 1, number % NODES + 1, f"/d{number // NODES}/target-{number + 1}", True
        )
        for number in range(NODES * TARGETS_PER_NODE)
    ]
    chains: list[ChainRecord] = []
    for first in range(0, len(targets), REPLICAS):
        ids = tuple(range(first + 1, first + REPLICAS + 1))
        members = tuple(ChainTarget(one, PublicState.SERVING) for one in ids)
        chains.append(ChainRecord(len(chains) + 1, 1, members, ids))
    return RoutingTable(
        1,
        "bench",
        tuple(
            NodeRecord(number, (f"tcp://n{number}:1",), f"h{number}")
            for number in range(1, NODES + 1)
        ),
        tuple(targets),
        tuple(chains),
        (ChainTable(1, 1, tuple(chain.chain_id for chain in chains)),),
    )


class Cluster:
    """The nodes' heartbeats, made ahead, and the manager that takes them."""

    def __init__(self, seconds: int) -> None:
        self.table = cluster()
        self.now = 0.0
        self.membership = Membership(self.table, LEASE_SECONDS, self.now)
        self.changes = 0
        self.longest_tick_seconds = 0.0
        self._delta: RoutingDelta | None = None
        self._known = [0] * (NODES + 1)
        """The version that each node has."""
        targets: dict[int, list[TargetReport]] = {}
        for target in self.table.targets:
            report = TargetReport(
                target.target_id, ONLINE, 1, "", 10**13, 4 * 10**12, 6 * 10**12, 10**6
            )
            targets.setdefault(target.node_id, []).append(report)
        self.rounds = [
            [
                encode(
                    HeartbeatRequest(
                        "bench",
                        node_id,
                        1,
                        number,
                        1,
                        (f"tcp://n{node_id}:1",),
                        f"h{node_id}",
                        targets=tuple(targets[node_id]),
                    )
                )
                for node_id in range(1, NODES + 1)
            ]
            for number in range(1, seconds + 1)
        ]
        """One heartbeat of each node for each second."""

    def run(self, lost_per_second: int = 0) -> int:
        """Let the manager take all rounds; how many heartbeats came. In each second
        *lost_per_second* nodes begin to be silent for a lease and a second: from then on as many
        die, and as many return, in each."""
        taken = 0
        silence = int(LEASE_SECONDS) + 1
        for second, messages in enumerate(self.rounds):
            first = max(0, second - silence + 1) * lost_per_second
            silent = range(first, (second + 1) * lost_per_second)
            for quarter in range(TICKS_PER_SECOND):
                for place in range(quarter, NODES, TICKS_PER_SECOND):
                    if place not in silent:
                        self._heartbeat(messages[place])
                        taken += 1
                self.now += 1 / TICKS_PER_SECOND
                self._tick()
        return taken

    def lose(self, nodes: int) -> float:
        """Seconds of the longest tick after the last *nodes* fall silent together."""
        self.longest_tick_seconds = 0.0
        for second in range(int(LEASE_SECONDS) + 1):
            for message in self.rounds[second][: NODES - nodes]:
                self._heartbeat(message)
            for _ in range(TICKS_PER_SECOND):
                self.now += 1 / TICKS_PER_SECOND
                self._tick()
        return self.longest_tick_seconds

    def _heartbeat(self, message: bytes) -> None:
        request = decode(HeartbeatRequest, message)
        verdict = self.membership.heartbeat(request, self.now)
        assert verdict.accepted, verdict.reason
        version = self.table.version
        fresh = self._known[request.node_id] == version
        self._known[request.node_id] = version
        encode(HeartbeatReply(1, LEASE_SECONDS, None if fresh else self._delta))

    def _tick(self) -> None:
        started = time.perf_counter()
        proposed = self.membership.tick(self.now)
        if proposed is not None:
            changed = replace(proposed, version=self.table.version + 1)
            self._delta = delta_between(self.table, changed)
            self.membership.written(changed)
            self.table = changed
            self.changes += 1
        self.longest_tick_seconds = max(self.longest_tick_seconds, time.perf_counter() - started)


def codec_alone(rounds: Sequence[Sequence[bytes]]) -> int:
    """The reference: the same messages decoded, their replies encoded, nothing done."""
    for messages in rounds:
        for message in messages:
            decode(HeartbeatRequest, message)
            encode(HeartbeatReply(1, LEASE_SECONDS))
    return sum(map(len, rounds))


class Bench:
    """One run of the program."""

    def __init__(self, runs: int, seconds: int) -> None:
        self.runs = runs
        self.seconds = seconds
        self.process = [os.getpid()]
        self.report = Report(
            "Manager (`craqen bench manager`)",
            [
                f"median of {runs} runs of {seconds} simulated seconds: {NODES:,} nodes with "
                f"{TARGETS_PER_NODE} targets each, {HEARTBEATS_PER_SECOND:,} heartbeats a second, "
                f"{TICKS_PER_SECOND} ticks a second, a lease of {LEASE_SECONDS:g} s",
                "the ratio is CPU time by simulated time: the share of one core",
            ],
        )

    def share(self, work: str, lost_per_second: int) -> None:
        """The share of one core, with so many nodes lost and returned in each second."""
        mine: list[Sample] = []
        theirs: list[Sample] = []
        changes = 0
        for _ in range(self.runs):
            cluster = Cluster(self.seconds)
            mine.append(measure(lambda one=cluster: one.run(lost_per_second), self.process))  # type: ignore[misc]
            changes = cluster.changes
            rounds = cluster.rounds
            theirs.append(measure(lambda all=rounds: codec_alone(all), self.process))  # type: ignore[misc]
        self.report.add(
            f"{work}; {changes} changes of the table",
            f"{median(mine, _cost):.1f} us CPU each heartbeat",
            f"decode and encode: {median(theirs, _cost):.1f} us CPU",
            ratio=median(mine, lambda sample: sample.cpu_seconds) / self.seconds,
            at_most=SHARE_MAX,
        )

    def loss(self, nodes: int) -> None:
        """The longest tick when many nodes are lost at once."""
        cluster = Cluster(int(LEASE_SECONDS) + 1)
        longest = cluster.lose(nodes)
        self.report.add(
            f"{nodes} nodes lost together: the longest tick, {cluster.changes} change of the table",
            f"{longest * 1e3:.1f} ms",
            "",
        )


def _cost(sample: Sample) -> float:
    return sample.microseconds


def main(arguments: Sequence[str]) -> int:
    """Run the work list and print the table; 1 if a bound is not met."""
    parser = argparse.ArgumentParser(prog="craqen bench manager")
    add_runs(parser)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="simulated in each run")
    options = parser.parse_args(arguments)
    bench = Bench(options.runs, options.seconds)
    bench.share("all well", 0)
    bench.share("each second one node is lost and one returns", 1)
    bench.loss(NODES // 4)
    print(bench.report.text())
    return int(any(row.reached is False for row in bench.report.rows))
