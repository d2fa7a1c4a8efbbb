"""Planted bugs: each takes one rule out of the production machines (or of the drivers that run them
here), and must be caught within SEEDS_MAX seeds. So we know that the simulation would see it.

``python -m craqen.tests.sim.mutations`` plays them all (``make sim-mutations``).
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import msgspec

from craqen.core.chunks import changes
from craqen.core.chunks.allocator import Allocator
from craqen.core.chunks.store import ChunkRecord, ChunkVersion, IndexChange
from craqen.core.cluster import membership, transition
from craqen.core.cluster.membership import Membership
from craqen.core.cluster.messages import HeartbeatReply
from craqen.core.cluster.records import (
    ChainRecord,
    LocalState,
    PublicState,
    RoutingTable,
)
from craqen.core.craq import copies, resync
from craqen.core.craq import replica as replica_module
from craqen.core.craq.chain_view import ChainView
from craqen.core.craq.copies import Copies
from craqen.core.craq.events import Effect, Persist, SyncFinished, UpdateAsked
from craqen.core.craq.operations import Operation, Operations, Standing
from craqen.core.craq.queues import ChunkQueues
from craqen.core.craq.reads import Lookup, visible
from craqen.core.craq.replica import Replica
from craqen.core.craq.resync import Page, Resync
from craqen.core.craq.seen import Seen, seen_of
from craqen.core.craq.updates import Updates
from craqen.core.ids import ChunkId

from . import disk, target
from .manager import KeyValues
from .node import SimulatedNode
from .run import run_seed
from .scenarios import SCENARIOS
from .target import SimulatedTarget

SEEDS_MAX = 2000
NAME_LETTERS = 27
SEEN_LETTERS_MAX = 90
_FAULTY = (
    "crashes-3",
    "detector-3",
    "rotation",
    "everything",
    "resync-under-writes",
    "partitions",
    "stalls",
)

_SLOW = ("slow-disks",)
"""Where much waits, and a crash comes between."""

Change = tuple[object, str, object]
"""(where, name, what stands there instead)."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One planted bug."""

    name: str
    what: str
    plant: Callable[[], Sequence[Change]]
    scenarios: tuple[str, ...] = _FAULTY
    seen: bool = True
    """Whether the simulation is known to catch it. What it does not is played only when it is
    named: nobody knows yet whether the rule that it takes away is needed here at all."""


@contextlib.contextmanager
def planted(mutation: Mutation) -> Iterator[None]:
    """With the bug in place."""
    with contextlib.ExitStack() as stack:
        for where, name, instead in mutation.plant():
            stack.enter_context(patch.object(where, name, instead))
        yield


def catch(mutation: Mutation, seeds: int = SEEDS_MAX) -> tuple[int, str]:
    """How many seeds it took until a promise was seen broken, and which; (0, "") if none was.

    Raises RuntimeError if the mutation does not even run.
    """
    with planted(mutation):
        for seed in range(seeds):
            scenario = SCENARIOS[mutation.scenarios[seed % len(mutation.scenarios)]]
            outcome = run_seed(seed, scenario)
            if outcome.crashed:
                raise RuntimeError(f"{mutation.name}: {outcome.error}")
            if outcome.error:
                return seed + 1, outcome.error
    return 0, ""


# Replication


def _no_recheck() -> Sequence[Change]:
    original = Updates._begin_update

    def begin(self: Updates, operation: Operation) -> list[Effect]:
        if operation.answers and operation.chain_version != self.chain.version:
            operation.chain_version = self.chain.version
            if not operation.forwarded:
                record = self._record(operation)
                committed = None if record is None else record.committed
                operation.version = 1 + (0 if committed is None else committed.version)
                operation.forwarded = True
        return original(self, operation)

    return [(Updates, "_begin_update", begin)]


def _no_version_check() -> Sequence[Change]:
    def check(self: ChunkQueues, chain_version: int) -> None:
        return

    return [(ChunkQueues, "check_version", check)]


def _commit_before_acknowledged() -> Sequence[Change]:
    original = Updates._carry_on

    def carry_on(self: Updates, operation: Operation) -> list[Effect]:
        effects = original(self, operation)
        if operation.standing is Standing.FORWARDING:
            effects += self._commit(operation)
        return effects

    return [(Updates, "_carry_on", carry_on)]


def _forget_on_promotion() -> Sequence[Change]:
    original = Replica._chain_changed

    def changed(self: Replica, chain: ChainRecord) -> list[Effect]:
        was_head = self.view.is_head
        effects = original(self, chain)
        if self.view.is_head and not was_head:
            self._outcome = lambda client, channel: None
        return effects

    return [(Replica, "_chain_changed", changed)]


def _no_memory() -> Sequence[Change]:
    original = ChunkQueues.__init__

    def init(self: ChunkQueues, target_id: int, chain: ChainRecord, lookup: Any, _: Any) -> None:
        original(self, target_id, chain, lookup, lambda client, channel: None)

    return [(ChunkQueues, "__init__", init)]


def _visible(
    change: Callable[[ChainView, Operations, Lookup, ChunkId], tuple[ChunkVersion | None, bool]],
) -> Sequence[Change]:
    return [(replica_module, "visible", change)]


def _dirty_read_old() -> Sequence[Change]:
    def see(
        view: ChainView, operations: Operations, lookup: Lookup, chunk_id: ChunkId
    ) -> tuple[ChunkVersion | None, bool]:
        return visible(view, operations, lookup, chunk_id)[0], True

    return _visible(see)


def _dirty_read_new() -> Sequence[Change]:
    def see(
        view: ChainView, operations: Operations, lookup: Lookup, chunk_id: ChunkId
    ) -> tuple[ChunkVersion | None, bool]:
        content, certain = visible(view, operations, lookup, chunk_id)
        record = lookup(chunk_id)
        if certain or record is None:
            return content, True
        return record.pending, True

    return _visible(see)


def _volatile_read() -> Sequence[Change]:
    def see(
        view: ChainView, operations: Operations, lookup: Lookup, chunk_id: ChunkId
    ) -> tuple[ChunkVersion | None, bool]:
        running = operations.first(chunk_id)
        if running is not None:
            running.hidden = False
        return visible(view, operations, lookup, chunk_id)

    return _visible(see)


def _tail_guesses() -> Sequence[Change]:
    def see(
        view: ChainView, operations: Operations, lookup: Lookup, chunk_id: ChunkId
    ) -> tuple[ChunkVersion | None, bool]:
        record = lookup(chunk_id)
        if view.is_serving_tail and view.successor is not None and record is not None:
            return record.pending or record.committed, True
        return visible(view, operations, lookup, chunk_id)

    return _visible(see)


def _never_durable(standings: Sequence[Standing]) -> Sequence[Change]:
    original = ChunkQueues._persist

    def persist(
        self: ChunkQueues, operation: Operation, standing: Standing, change: IndexChange
    ) -> list[Effect]:
        effects = original(self, operation, standing, change)
        return [
            Persist(one.request_id, one.changes, False)
            if isinstance(one, Persist) and standing in standings
            else one
            for one in effects
        ]

    return [(ChunkQueues, "_persist", persist)]


def _staged_over() -> Sequence[Change]:
    original = Updates._begin_update

    def begin(self: Updates, operation: Operation) -> list[Effect]:
        if not operation.answers:  # it settles what is pending
            return original(self, operation)
        lookup = self._lookup

        def settled(chunk_id: ChunkId) -> ChunkRecord | None:
            record = lookup(chunk_id)
            if record is None or record.committed is None:
                return None
            return ChunkRecord(chunk_id, record.committed, None)

        self._lookup = settled  # type: ignore[method-assign]
        try:
            return original(self, operation)
        finally:
            self._lookup = lookup  # type: ignore[method-assign]

    return [(Updates, "_begin_update", begin)]


def _settles_while_filled() -> Sequence[Change]:
    original = Updates._carry_on

    def carry_on(self: Updates, operation: Operation) -> list[Effect]:
        if self.view.is_syncing:
            return self._commit(operation)
        return original(self, operation)

    return [(Updates, "_carry_on", carry_on)]


# Blocks


def _early_reuse() -> Sequence[Change]:
    original = Allocator.__init__

    def init(self: Allocator, quarantine_seconds: float) -> None:
        original(self, 0.0)

    return [(Allocator, "__init__", init)]


def _leaked_block() -> Sequence[Change]:
    original = SimulatedTarget._reply

    def reply(self: SimulatedTarget, effect: Any) -> None:
        work = self._work.get(effect.request_id)
        if work is not None:
            work.fresh_block = None
        original(self, effect)

    return [(SimulatedTarget, "_reply", reply)]


def _older_outcome() -> Sequence[Change]:
    def outdated(outcome: object, outcome_of: object) -> bool:
        return False

    return [(changes, "is_outdated", outdated), (disk, "is_outdated", outdated)]


# Resync


def _pending_skipped() -> Sequence[Change]:
    original = resync.page_of

    def page_of(*arguments: Any) -> Page:
        page = original(*arguments)
        return Page([one._replace(sure=True) for one in page.entries], page.more)

    return [(target, "page_of", page_of)]


def _by_number() -> Sequence[Change]:
    def number(content: ChunkVersion | None) -> Seen:
        return seen_of(content)._replace(length_bytes=0, crc32c=0, token=None)

    return [(resync, "seen_of", number), (copies, "seen_of", number)]


def _outcomes_not_sent() -> Sequence[Change]:
    def scan(self: disk.SimulatedStore, begin: object, limit: int) -> list[object]:
        return []

    return [(disk.SimulatedStore, "scan_outcomes", scan)]


def _only_absent() -> Sequence[Change]:
    original = resync.compare

    def compare(here: Page, there: Page) -> resync.Comparison:
        found = original(here, there)
        kept = [one for one in found.differences if one.local_version]
        return found._replace(differences=kept)

    return [(resync, "compare", compare)]


def _late_copies() -> Sequence[Change]:
    original = Copies._copy_asked

    def asked(self: Copies, event: UpdateAsked) -> list[Effect]:
        self._slots.clear()
        return original(self, event)

    return [(Copies, "_copy_asked", asked)]


def _old_sessions() -> Sequence[Change]:
    def check(self: Copies, session: int) -> None:
        return

    def check_syncing(self: Copies, chain_version: int) -> None:
        return

    return [(Copies, "_check_session", check), (Copies, "_check_syncing", check_syncing)]


def _done_at_once() -> Sequence[Change]:
    original = Resync._compared

    def compared(self: Resync, event: resync.Compared) -> None:
        original(self, event)
        self.progress.all_compared = True

    return [(Resync, "_compared", compared)]


# Membership


def _next_states(
    change: Callable[
        [ChainRecord, Mapping[int, LocalState], dict[int, PublicState]], dict[int, PublicState]
    ],
) -> Sequence[Change]:
    original = transition._next_states

    def states(chain: ChainRecord, local: Mapping[int, LocalState]) -> dict[int, PublicState]:
        return change(chain, local, original(chain, local))

    return [(transition, "_next_states", states)]


def _serves_unfilled() -> Sequence[Change]:
    def serves(state: PublicState, reported: LocalState | None) -> bool:
        up = reported in (LocalState.ONLINE, LocalState.UP_TO_DATE)
        return up and state in (
            PublicState.SERVING,
            PublicState.LAST_SERVER,
            PublicState.SYNCING,
        )

    return [(transition, "_serves", serves)]


def _last_servers_stay() -> Sequence[Change]:
    def change(
        chain: ChainRecord, local: Mapping[int, LocalState], states: dict[int, PublicState]
    ) -> dict[int, PublicState]:
        for one in chain.targets:
            if one.state is not PublicState.LAST_SERVER:
                continue
            up = local.get(one.target_id, LocalState.OFFLINE) is not LocalState.OFFLINE
            states[one.target_id] = PublicState.SERVING if up else PublicState.LAST_SERVER
        return states

    return _next_states(change)


def _waiting_serves_alone() -> Sequence[Change]:
    def change(
        chain: ChainRecord, local: Mapping[int, LocalState], states: dict[int, PublicState]
    ) -> dict[int, PublicState]:
        if PublicState.SERVING not in states.values():
            for target_id, state in states.items():
                if state is PublicState.WAITING:
                    states[target_id] = PublicState.SERVING
                    break
        return states

    return _next_states(change)


def _old_word_counts() -> Sequence[Change]:
    original = Membership._local

    def local(self: Membership, chain: ChainRecord) -> dict[int, LocalState]:
        states = original(self, chain)
        for target_id, state in states.items():
            report = self._said.get(target_id)
            if state is LocalState.ONLINE and report is not None:
                states[target_id] = report.state
        return states

    return [(Membership, "_local", local)]


def _unnamed_leaves() -> Sequence[Change]:
    original = Membership._nodes_that_serve

    def serving(self: Membership, chain: ChainRecord, following: ChainRecord) -> set[int]:
        leaving = {one.target_id for one in chain.targets if one.state is PublicState.SERVING}
        named = {
            self._targets[target_id].node_id
            for target_id in leaving
            if target_id in self._said or target_id in self._unnamed
        }
        return original(self, chain, following) & named

    return [(Membership, "_nodes_that_serve", serving)]


def _no_grace() -> Sequence[Change]:
    original = Membership.__init__

    def init(self: Membership, table: RoutingTable, lease_seconds: float, now: float) -> None:
        original(self, table, lease_seconds, now - lease_seconds)
        self._ticked = now

    return [(Membership, "__init__", init)]


def _dead_too_soon() -> Sequence[Change]:
    original = Membership.__init__

    def init(self: Membership, table: RoutingTable, lease_seconds: float, now: float) -> None:
        original(self, table, lease_seconds * 0.3, now)

    return [(Membership, "__init__", init)]


def _lost_one_by_one() -> Sequence[Change]:
    def certain(self: Membership, chain: ChainRecord, following: ChainRecord) -> bool:
        return True

    return [(membership.Membership, "_is_certain", certain)]


def _lease_by_answer() -> Sequence[Change]:
    original = SimulatedNode._take

    def take(
        self: SimulatedNode, reply: HeartbeatReply, table: RoutingTable | None, sent: float
    ) -> None:
        original(self, reply, table, self.process.clock())

    return [(SimulatedNode, "_take", take)]


def _no_fencing() -> Sequence[Change]:
    def holds(self: SimulatedNode) -> bool:
        return True

    return [(SimulatedNode, "_holds_lease", holds)]


def _leaves_while_serving() -> Sequence[Change]:
    def have_stopped(self: Membership, node_ids: Iterable[int]) -> bool:
        return True

    return [(Membership, "_have_stopped", have_stopped)]


def _serves_unrenewed() -> Sequence[Change]:
    original = SimulatedNode._take

    def take(
        self: SimulatedNode, reply: HeartbeatReply, table: RoutingTable | None, sent: float
    ) -> None:
        original(self, msgspec.structs.replace(reply, renews=True), table, sent)

    return [(SimulatedNode, "_take", take)]


def _no_fence() -> Sequence[Change]:
    def may_write(self: KeyValues, owner: str, epoch: int, table: RoutingTable) -> bool:
        return True

    return [(KeyValues, "may_write", may_write)]


def _failed_disk_reads() -> Sequence[Change]:
    def check(self: SimulatedTarget) -> None:
        return

    return [(SimulatedTarget, "check_open", check)]


def _remembers_being_filled() -> Sequence[Change]:
    original = Copies._sync_finished

    def finished(self: Copies, event: SyncFinished) -> list[Effect]:
        effects = original(self, event)
        if self.synced_chain_version:
            self.synced_chain_version = 1 << 60
        return effects

    return [(Copies, "_sync_finished", finished)]


_STAGED = (Standing.STAGING,)
_INSTALLED = (Standing.INSTALLING,)

MUTATIONS = (
    Mutation(
        "no-check-at-turn",
        "An update that waited is not checked again when its turn comes.",
        _no_recheck,
        _SLOW,
    ),
    Mutation("no-version-check", "Requests of any chain version are taken.", _no_version_check),
    Mutation(
        "commit-before-acknowledged",
        "A replica commits and answers once it has forwarded, without waiting for the answer.",
        _commit_before_acknowledged,
    ),
    Mutation(
        "forget-on-promotion",
        "A replica that becomes head forgets the outcomes of updates before.",
        _forget_on_promotion,
    ),
    Mutation("no-memory", "Outcomes are not remembered: a retry is applied again.", _no_memory),
    Mutation(
        "dirty-read-old",
        "A replica with a pending version answers its committed one without asking the tail.",
        _dirty_read_old,
    ),
    Mutation(
        "dirty-read-new",
        "A replica with a pending version answers that without asking the tail.",
        _dirty_read_new,
    ),
    Mutation(
        "volatile-read",
        "A version is shown to readers before it is durable.",
        _volatile_read,
        _SLOW,
    ),
    Mutation(
        "tail-guesses",
        "The tail tells its pending version while its successor may serve already without it.",
        _tail_guesses,
        seen=False,
    ),
    Mutation(
        "stage-not-durable",
        "A version is forwarded before it is durable here.",
        lambda: _never_durable(_STAGED),
    ),
    Mutation(
        "tail-not-durable",
        "The tail acknowledges before its version is durable.",
        lambda: _never_durable(_INSTALLED),
    ),
    Mutation(
        "staged-over",
        "An update is made of the committed version without settling the pending one before.",
        _staged_over,
        seen=False,
    ),
    Mutation(
        "settles-while-filled",
        "A replica that is being filled commits what it had staged when it served.",
        _settles_while_filled,
    ),
    Mutation(
        "early-reuse", "A freed block is given out at once, under its readers' eyes.", _early_reuse
    ),
    Mutation(
        "leaked-block", "The block of an update that fails is not given back.", _leaked_block, _SLOW
    ),
    Mutation(
        "older-outcome",
        "The outcome of an older update takes the place of a newer one of its channel.",
        _older_outcome,
        seen=False,
    ),
    Mutation(
        "pending-skipped",
        "A resync takes chunks with something pending for settled ones.",
        _pending_skipped,
    ),
    Mutation(
        "compared-by-number",
        "A resync takes chunks of the same version number for equal.",
        _by_number,
    ),
    Mutation(
        "outcomes-not-sent",
        "A resync does not bring the remembered outcomes.",
        _outcomes_not_sent,
        seen=False,
    ),
    Mutation(
        "removals-not-sent",
        "A resync does not remove what is only at the successor.",
        _only_absent,
    ),
    Mutation("late-copies", "A late copy of a resync is taken again.", _late_copies, seen=False),
    Mutation("old-sessions", "Copies of resync sessions that are over are taken.", _old_sessions),
    Mutation("first-page-only", "A resync compares the first page only.", _done_at_once),
    Mutation(
        "serves-unfilled",
        "A syncing target is taken for a serving one before its resync is done.",
        _serves_unfilled,
    ),
    Mutation(
        "stale-last-server",
        "Of several last servers the first returns and serves; the others serve as they return.",
        _last_servers_stay,
        ("all-lost", "crashes-3", "everything"),
    ),
    Mutation(
        "waiting-serves",
        "When no target serves, one that waits is made to.",
        _waiting_serves_alone,
    ),
    Mutation(
        "old-word-counts",
        "UP_TO_DATE is believed also if it was said under an older version of the chain.",
        _old_word_counts,
    ),
    Mutation(
        "filled-for-ever",
        "A target that was filled once calls itself up to date under later versions of the chain.",
        _remembers_being_filled,
    ),
    Mutation(
        "no-grace",
        "A manager that has just taken over counts the silence before it.",
        _no_grace,
        ("manager-failover", "self-fencing", "everything"),
        seen=False,
    ),
    Mutation(
        "dead-too-soon", "Nodes are declared dead before they stop by themselves.", _dead_too_soon
    ),
    Mutation(
        "lost-one-by-one",
        "Serving targets are taken out though those that stay are silent as well.",
        _lost_one_by_one,
        ("all-lost", "manager-failover", "self-fencing"),
        seen=False,
    ),
    Mutation(
        "lease-by-answer",
        "A node counts its lease from the manager's answer, not from its own heartbeat.",
        _lease_by_answer,
        ("self-fencing", "stalls", "partitions"),
        seen=False,
    ),
    Mutation(
        "no-fencing",
        "A node that has lost its manager goes on serving.",
        _no_fencing,
        ("self-fencing", "detector-3", "partitions"),
    ),
    Mutation(
        "unnamed-leaves",
        "A target that its node does not name for a lease leaves, though the node may serve it.",
        _unnamed_leaves,
        ("full-disks",),
    ),
    Mutation(
        "leaves-while-serving",
        "A live node's target is taken out of its chain while the node may go on serving it.",
        _leaves_while_serving,
        ("links", "shutdown", "everything"),
    ),
    Mutation(
        "serves-unrenewed",
        "A node takes an answer that does not renew its lease for one that does.",
        _serves_unrenewed,
        ("links", "shutdown", "everything"),
    ),
    Mutation(
        "no-fence",
        "A manager writes the table without looking whether it is still the primary.",
        _no_fence,
        ("manager-failover", "everything"),
    ),
    Mutation(
        "failed-disk-reads",
        "A target goes on answering reads after its node has called it offline.",
        _failed_disk_reads,
        ("disks",),
    ),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mutation."""

    name: str
    seeds: int
    """How many it took; 0: it was not caught."""
    error: str
    seconds: float

    def line(self) -> str:
        """One row of the table."""
        found = f"{self.seeds:5} seeds" if self.seeds else "NOT CAUGHT"
        lines = self.error.strip().splitlines() or [""]
        seen = lines[-1 if "Traceback" in self.error else 0][:SEEN_LETTERS_MAX]
        return f"{self.name:<{NAME_LETTERS}} {found:>11} {self.seconds:7.1f} s  {seen}".rstrip()


def caught(name: str) -> Result:
    """Play one mutation, by its name, until it is caught."""
    mutation = next(one for one in MUTATIONS if one.name == name)
    began = time.monotonic()
    try:
        seeds, error = catch(mutation)
    except RuntimeError as failure:
        seeds, error = 0, str(failure)
    return Result(name, seeds, error, time.monotonic() - began)


def main(arguments: Sequence[str]) -> int:
    """Play all mutations, or those named; 0 if each was caught."""
    known = [mutation.name for mutation in MUTATIONS]
    parser = argparse.ArgumentParser(prog="mutations")
    parser.add_argument("names", nargs="*", metavar="name", help="these alone")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    strange = set(options.names).difference(known)
    if strange:
        parser.error(f"no mutation is called {', '.join(sorted(strange))}; there are {known}")
    names = options.names or [mutation.name for mutation in MUTATIONS if mutation.seen]
    results: dict[str, Result] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        # Each is told as it ends: the last ones may take minutes.
        for future in as_completed([pool.submit(caught, name) for name in names]):
            result = future.result()
            results[result.name] = result
            print(f"[{len(results):2}/{len(names)}] {result.line()}", flush=True)
    return _tell([results[name] for name in names])


def _tell(results: Sequence[Result]) -> int:
    """The table, in the order of the list; 1 if a mutation was not caught."""
    missed = [result.name for result in results if not result.seeds]
    print()
    for result in results:
        print(result.line())
    print(f"{len(results)} mutations, {len(missed)} not caught within {SEEDS_MAX} seeds", *missed)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
