"""MACHINE: who is alive, and what follows for the chains. Fed with heartbeats and time by the
primary manager's driver; proposes the next table, and is told when a table was stored.

RULES
1. A node is dead when ``lease_seconds`` have passed since its last heartbeat came, and since this
   manager listens. A manager that did not tick for half a lease did not listen: it begins anew.
2. A target is offline when its node is dead, stopped or to be stopped, or when its node says so. A
   target that its node has not named yet, or names no more, is left as it is for one lease: a
   newborn chain, a new manager, a process that just began. Then it is offline.
3. UP_TO_DATE counts only if it was said under the chain's present version; else it is ONLINE.
4. What changes at one time is one proposal, so that targets lost together count together. And no
   serving target is taken out of a chain while all that would go on serving have been silent for
   half a lease: those have stopped serving by themselves, so nothing is acknowledged meanwhile.
   Soon they are heard again, or all of them were lost together.
5. Of a node id only the newest process counts. One that was replaced is refused for good.
6. Proposals repeat until a table is stored that makes them needless.
7. Of targets that serve one after the other on nodes that do not reach each other, one counts as
   offline, and so does who would be filled over such a line (``partings``).
8. A target that serves leaves its chain only when its node cannot serve it any more: the node is
   dead, said that it ends or that the target is lost, or its lease was not renewed for
   FENCE_LEASES. Else it would answer reads by the old table while the others commit by the new
   one: what was acknowledged would not be seen. That a node does not name a target (rule 2) is no
   word: it may be about to serve it.

The cost of a heartbeat depends on its own targets alone, and that of a tick on what changed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from .messages import HeartbeatRequest, TargetReport
from .node_life import ACCEPTED, NodeLife, Verdict, record_of, verdict_on
from .partings import Pair, Partings
from .records import (
    ChainRecord,
    LocalState,
    NodeRecord,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from .transition import settled_chain, would_serve

SILENT_LEASES: Final = 0.5
FENCE_LEASES: Final = 0.6  # a node serves for half a lease, by its clock
"""A node that could not renew its lease for this part of it serves no more."""
STALLED_LEASES: Final = 0.5
"""Time between two ticks after which this manager counts as one that just began."""
CANDIDATES_MAX: Final = 1024  # unknown nodes that are remembered, so that strangers cannot fill us

_OFFLINE = LocalState.OFFLINE
_AS_IT_IS = {
    PublicState.SERVING: LocalState.ONLINE,
    PublicState.SYNCING: LocalState.ONLINE,
    PublicState.WAITING: LocalState.UP_TO_DATE,
    PublicState.LAST_SERVER: LocalState.OFFLINE,
    PublicState.OFFLINE: LocalState.OFFLINE,
}
"""What leaves a target in its state (see the table of ``transition``)."""


class Membership:
    """The primary manager's view. Times are those of one monotonic clock; call ``tick`` several
    times per half lease."""

    def __init__(self, table: RoutingTable, lease_seconds: float, now_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self._now = now_seconds
        self._ticked = now_seconds
        self._listening_since = now_seconds
        self._table = RoutingTable(0, table.cluster_id)
        self._nodes: dict[int, NodeLife] = {}
        self._targets: dict[int, TargetRecord] = {}
        self._chains: dict[int, ChainRecord] = {}
        self._chain_of: dict[int, int] = {}
        self._said: dict[int, TargetReport] = {}
        self._unnamed: dict[int, float] = {}
        """Targets that are left as they are until then, since their nodes do not name them."""
        self._expiry: list[tuple[float, bool, int]] = []
        """(when, whether a node, its or the target's id), soonest first; checked when due."""
        self._dirty: set[int] = set()
        """Chains that may have to change."""
        self._moved: set[int] = set()
        """Nodes whose records may have to change."""
        self._made: set[int] = set()
        """Targets that their nodes have made, though their records do not say so."""
        self._candidates: dict[int, tuple[float, HeartbeatRequest]] = {}
        self._partings = Partings(lease_seconds)
        self._fenced: set[int] = set()
        """Nodes whose leases are not renewed, as some of their targets are about to leave."""
        self._moving: dict[int, float] = {}
        """The same for operators' moves, until when."""
        self.written(table)

    # What is known

    @property
    def table(self) -> RoutingTable:
        """The table as it was last stored."""
        return self._table

    def alive(self, node_id: int) -> bool:
        """Whether the node was heard within a lease, and has not said that it ends."""
        node = self._nodes.get(node_id)
        if node is None or node.last is None:
            return False
        return not (node.dead or node.last.stopping)

    def last_heartbeat(self, node_id: int) -> tuple[float, HeartbeatRequest] | None:
        """When the node was last heard, and what it said; None: not by this manager."""
        node = self._nodes.get(node_id)
        if node is None or node.last is None:
            return None
        return node.since_seconds, node.last

    def heard_lately(self, now_seconds: float) -> int:
        """How many nodes may serve, since they were heard, or this manager listens, for less than
        they would go on serving unheard."""
        silent_seconds = self.lease_seconds * SILENT_LEASES
        return sum(
            now_seconds - max(node.since_seconds, self._listening_since) < silent_seconds
            for node in self._nodes.values()
        )

    def candidates(self) -> list[HeartbeatRequest]:
        """The last heartbeats of nodes that are not in the table."""
        return [request for _, request in self._candidates.values()]

    def partings(self, now_seconds: float) -> list[tuple[Pair, float]]:
        """Pairs of nodes that take part and do not reach each other, with 0, or have only just done
        so again, with the seconds for which that does not count yet."""
        return [
            (pair, left)
            for pair, left in self._partings.pairs(now_seconds)
            if all(self._takes_part(node_id) for node_id in pair)
        ]

    def local_states(self) -> dict[int, LocalState]:
        """What counts for every target of a chain now (rules 1 to 3, and 7)."""
        states: dict[int, LocalState] = {}
        for chain in self._chains.values():
            states.update(self._local(chain))
        return states

    # Heartbeats

    def heartbeat(self, request: HeartbeatRequest, now_seconds: float) -> Verdict:
        """Take what a node says of itself. A node that is refused stops serving; if it was
        replaced, it has to start again as a new process."""
        self._now = now_seconds
        if request.cluster_id != self._table.cluster_id:
            return Verdict(
                False,
                f"node {request.node_id} belongs to cluster {request.cluster_id!r}; "
                f"this is {self._table.cluster_id!r}: point it at its own managers",
            )
        node = self._nodes.get(request.node_id)
        if node is None:
            return self._candidate(request)
        verdict = verdict_on(node, request)
        if not verdict.accepted:
            return verdict
        if node.hear(request, now_seconds):
            self._watch(node)
            self._touch(node.target_ids)
        if record_of(node.record, request) is not node.record:
            self._moved.add(request.node_id)
        self._take_reports(node, request.targets)
        self._take_unreached(request)
        node_id = request.node_id
        if node_id in self._fenced or self._moving.get(node_id, now_seconds) > now_seconds:
            return Verdict(True, renews=False)
        node.renewed_seconds = now_seconds
        return ACCEPTED

    def _candidate(self, request: HeartbeatRequest) -> Verdict:
        node_id = request.node_id
        if node_id in self._candidates or len(self._candidates) < CANDIDATES_MAX:
            self._candidates[node_id] = (self._now, request)
        return Verdict(False, f"node {node_id} is not in the table: add it", is_candidate=True)

    def _take_reports(self, node: NodeLife, reports: Iterable[TargetReport]) -> None:
        said = self._said
        missing = set(node.target_ids)
        for report in reports:
            target_id = report.target_id
            if target_id not in node.target_ids:
                continue  # of a table to come, or one that is no more
            missing.discard(target_id)
            before = said.get(target_id)
            said[target_id] = report
            if (
                before is not None
                and before.state is report.state
                and before.chain_version == report.chain_version
            ):
                continue
            self._unnamed.pop(target_id, None)
            self._touch((target_id,))
            if report.state is not _OFFLINE and not self._targets[target_id].made:
                self._made.add(target_id)
        for target_id in missing:
            if said.pop(target_id, None) is not None:
                self._leave_until(target_id, self._now + self.lease_seconds)

    def _take_unreached(self, request: HeartbeatRequest) -> None:
        known = [one for one in request.unreached if one in self._nodes]
        for node_id in self._partings.say(request.node_id, known, self._now):
            self._touch_node(node_id)

    def _touch_node(self, node_id: int) -> None:
        node = self._nodes.get(node_id)
        if node is not None:
            self._touch(node.target_ids)

    def _touch(self, target_ids: Iterable[int]) -> None:
        """The chains of these targets may have to change."""
        for target_id in target_ids:
            chain_id = self._chain_of.get(target_id)
            if chain_id is not None:
                self._dirty.add(chain_id)

    # Time

    def tick(self, now_seconds: float) -> RoutingTable | None:
        """The table as it should be now, to be stored under the next version (this one keeps the
        present one's); None: it is as it should be."""
        if now_seconds - self._ticked > self.lease_seconds * STALLED_LEASES:
            self._listening_since = now_seconds
        self._now = self._ticked = now_seconds
        self._expire()
        for node_id in self._partings.tick(now_seconds):
            self._touch_node(node_id)
        chains: dict[int, ChainRecord] = {}
        self._fenced = set()
        for chain_id in list(self._dirty):
            chain = self._chains[chain_id]
            following = settled_chain(chain, self._local(chain))
            if following is chain:
                self._dirty.discard(chain_id)
            elif self._is_certain(chain, following):
                serving = self._nodes_that_serve(chain, following)
                self._fenced |= serving
                if self._have_stopped(serving):
                    chains[chain_id] = following
        return self._proposal(chains)

    def may_leave(self, wanted: RoutingTable, now_seconds: float) -> bool:
        """Whether an operator's change of the table to *wanted* may be stored now. If not, ask
        again: the nodes that would go on serving what leaves a chain are not renewed any more, and
        stop within FENCE_LEASES."""
        self._now = now_seconds
        serving: set[int] = set()
        for following in wanted.chains:
            chain = self._chains.get(following.chain_id)
            if chain is not None and following is not chain:
                serving |= self._nodes_that_serve(chain, following)
        for node_id in serving:
            self._moving[node_id] = now_seconds + self.lease_seconds
        return self._have_stopped(serving)

    def _nodes_that_serve(self, chain: ChainRecord, following: ChainRecord) -> set[int]:
        """Rule 8: nodes that may serve a target by *chain* that does not serve in *following*."""
        found: set[int] = set()
        for target_id in _serving(chain) - _serving(following):
            record, report = self._targets.get(target_id), self._said.get(target_id)
            node = None if record is None else self._nodes.get(record.node_id)
            if node is None or node.dead or (node.last is not None and node.last.stopping):
                continue
            # What a node does not name it may serve from any moment on: the answer that renewed its
            # lease may have brought it the table, and its next word be under way.
            if report is None or report.state is not _OFFLINE:
                found.add(node.record.node_id)
        return found

    def _have_stopped(self, node_ids: Iterable[int]) -> bool:
        """Whether the leases of these nodes, which are not renewed, are over."""
        over = self._now - self.lease_seconds * FENCE_LEASES
        return all(self._nodes[node_id].renewed_seconds <= over for node_id in node_ids)

    def _expire(self) -> None:
        """Find out who is dead, and who has not been named for too long."""
        while self._expiry and self._expiry[0][0] <= self._now:
            due, is_node, number = heapq.heappop(self._expiry)
            if is_node:
                self._expire_node(number)
            elif self._unnamed.get(number) == due:
                self._expire_unnamed(number)
        if self._candidates:
            oldest = self._now - self.lease_seconds
            self._candidates = {
                node_id: heard for node_id, heard in self._candidates.items() if heard[0] > oldest
            }

    def _expire_node(self, node_id: int) -> None:
        node = self._nodes.get(node_id)
        if node is None:
            return
        node.queued = False
        if self._due(node) > self._now:
            self._watch(node)
            return
        node.dead = True
        self._touch(node.target_ids)

    def _expire_unnamed(self, target_id: int) -> None:
        due = self._listening_since + self.lease_seconds
        if due > self._now:
            self._leave_until(target_id, due)
        else:
            del self._unnamed[target_id]
            self._touch((target_id,))

    def _due(self, node: NodeLife) -> float:
        """When the node is dead if it is not heard before."""
        return max(node.since_seconds, self._listening_since) + self.lease_seconds

    def _watch(self, node: NodeLife) -> None:
        if not node.queued:
            node.queued = True
            heapq.heappush(self._expiry, (self._due(node), True, node.record.node_id))

    def _leave_until(self, target_id: int, due: float) -> None:
        """Rule 2, of targets that are not named."""
        self._unnamed[target_id] = due
        heapq.heappush(self._expiry, (due, False, target_id))
        self._touch((target_id,))

    # Chains

    def _local(self, chain: ChainRecord) -> dict[int, LocalState]:
        """Rules 1 to 3, and 7, for one chain."""
        local: dict[int, LocalState] = {}
        for target in chain.targets:
            target_id = target.target_id
            record = self._targets.get(target_id)
            node = None if record is None else self._nodes.get(record.node_id)
            report = self._said.get(target_id)
            if node is None or not node.takes_part:
                local[target_id] = _OFFLINE
            elif report is None:
                left = target_id in self._unnamed
                local[target_id] = _AS_IT_IS[target.state] if left else _OFFLINE
            elif report.state is LocalState.UP_TO_DATE and report.chain_version != chain.version:
                local[target_id] = LocalState.ONLINE
            else:
                local[target_id] = report.state
        if self._partings:
            self._part(chain, local)
        return local

    def _part(self, chain: ChainRecord, local: dict[int, LocalState]) -> None:
        """Rule 7 for one chain whose targets' states are *local*."""
        members = [
            (target_id, self._targets[target_id].node_id) for target_id in would_serve(chain, local)
        ]
        staying = self._partings.staying(members, self._takes_part)
        for target_id, _ in set(members).difference(staying):
            local[target_id] = _OFFLINE
        if not staying:
            return
        last = staying[-1][1]
        serving = {target_id for target_id, _ in staying}
        for target_id in local.keys() - serving:
            record = self._targets.get(target_id)
            if record is not None and not self._partings.may_fill(last, record.node_id):
                local[target_id] = _OFFLINE

    def _takes_part(self, node_id: int) -> bool:
        node = self._nodes.get(node_id)
        return node is not None and node.takes_part

    def _is_certain(self, chain: ChainRecord, following: ChainRecord) -> bool:
        """Rule 4: whether a step that takes serving targets out need not wait for others."""
        serving = _serving(following)
        if not serving or _serving(chain) <= serving:
            return True
        return any(self._is_fresh(target_id) for target_id in serving)

    def _is_fresh(self, target_id: int) -> bool:
        node = self._nodes[self._targets[target_id].node_id]
        silence = self._now - node.since_seconds
        return target_id in self._said and silence < self.lease_seconds * SILENT_LEASES

    # Tables

    def _proposal(self, chains: dict[int, ChainRecord]) -> RoutingTable | None:
        nodes = self._moved_nodes()
        if not (chains or nodes or self._made):
            return None
        proposed = self._table
        if chains:
            records = (chains.get(chain.chain_id, chain) for chain in proposed.chains)
            proposed = replace(proposed, chains=tuple(records))
        if nodes:
            moved = (nodes.get(node.node_id, node) for node in proposed.nodes)
            proposed = replace(proposed, nodes=tuple(moved))
        if self._made:
            made = (
                replace(target, made=True) if target.target_id in self._made else target
                for target in proposed.targets
            )
            proposed = replace(proposed, targets=tuple(made))
        return proposed

    def _moved_nodes(self) -> dict[int, NodeRecord]:
        """The records that nodes want other than they are."""
        records: dict[int, NodeRecord] = {}
        for node_id in list(self._moved):
            node = self._nodes[node_id]
            record = node.record if node.last is None else record_of(node.record, node.last)
            if record is node.record:
                self._moved.discard(node_id)
            else:
                records[node_id] = record
        return records

    def written(self, table: RoutingTable) -> None:
        """*table* is the stored one now: our proposal, or anybody's change. An older one than is
        known is ignored."""
        known = self._table
        if table.version < known.version:
            return
        self._table = table
        if table.nodes is not known.nodes:
            self._take_nodes(table.nodes)
        if table.targets is not known.targets or table.nodes is not known.nodes:
            self._take_targets(table.targets)
        if table.chains is not known.chains:
            self._take_chains(table.chains)

    def _take_nodes(self, records: Iterable[NodeRecord]) -> None:
        gone = set(self._nodes)
        for record in records:
            node_id = record.node_id
            gone.discard(node_id)
            node = self._nodes.get(node_id) or self._new_node(record)
            if node.record.state is not record.state:
                self._touch(node.target_ids)
            node.record = record
            if node.last is not None:
                self._moved.add(node_id)
        for node_id in gone:
            self._touch(self._nodes.pop(node_id).target_ids)
            self._moved.discard(node_id)
            self._partings.forget(node_id, self._now)

    def _new_node(self, record: NodeRecord) -> NodeLife:
        self._candidates.pop(record.node_id, None)
        node = self._nodes[record.node_id] = NodeLife(record, self._now, self._now)
        self._watch(node)
        return node

    def _take_targets(self, records: Iterable[TargetRecord]) -> None:
        before, self._targets = self._targets, {one.target_id: one for one in records}
        for known in self._nodes.values():
            known.target_ids = set()
        for target_id, record in self._targets.items():
            node = self._nodes.get(record.node_id)
            if node is not None:
                node.target_ids.add(target_id)
            was = before.get(target_id)
            if was is None or was.node_id != record.node_id:
                self._said.pop(target_id, None)
                self._leave_until(target_id, self._now + self.lease_seconds)
            if record.made:
                self._made.discard(target_id)
        for target_id in before.keys() - self._targets.keys():
            self._said.pop(target_id, None)
            self._unnamed.pop(target_id, None)
            self._made.discard(target_id)
            self._touch((target_id,))

    def _take_chains(self, records: Iterable[ChainRecord]) -> None:
        before, self._chains = self._chains, {one.chain_id: one for one in records}
        self._chain_of = {
            target.target_id: chain.chain_id
            for chain in self._chains.values()
            for target in chain.targets
        }
        self._dirty &= self._chains.keys()
        for chain_id, chain in self._chains.items():
            known = before.get(chain_id)
            if known is not chain and known != chain:
                self._dirty.add(chain_id)


def _serving(chain: ChainRecord) -> set[int]:
    return {one.target_id for one in chain.targets if one.state is PublicState.SERVING}
