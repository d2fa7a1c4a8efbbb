"""MACHINE: how one chain goes on, given what its targets' nodes report. The only place where a
target's public state changes by itself; operators' moves are in ``moves``.

RULES
1. What is written in the chain's present version counts: acknowledged updates are on every target
   that serves in it, and no others need hold them.
2. A serving target stays serving until it is lost. If all are lost in one step, all of them become
   last servers: each holds everything acknowledged.
3. The first last server to return serves (several, if they return in one step). From then on
   updates may be acknowledged without the others, so those become offline, and come back by a
   resync.
4. A returning target waits, then syncs behind a serving one; one target of a chain at a time. It
   serves once it is up to date.
5. Order: serving, last servers, syncing, waiting, offline; within a state the order is kept, since
   a target holds every pending update that its successors hold. Who goes offline goes to the end.

| local      | public now                  | some target serves after this step | next public |
|------------|-----------------------------|------------------------------------|-------------|
| up to date | serving, syncing, last      | (it does)                          | serving     |
| up to date | waiting, offline            | any                                | waiting     |
| online     | serving, last               | (it does)                          | serving     |
| online     | syncing, waiting            | yes, and no other syncs            | syncing     |
| online     | syncing, waiting            | no, or another syncs               | waiting     |
| online     | offline                     | any                                | waiting     |
| offline    | serving, last               | no                                 | last        |
| offline    | serving, last               | yes                                | offline     |
| offline    | syncing, waiting, offline   | any                                | offline     |
"""

from __future__ import annotations

from collections.abc import Mapping

from .records import ChainRecord, ChainTarget, LocalState, PublicState

_SERVING = PublicState.SERVING
_SYNCING = PublicState.SYNCING
_WAITING = PublicState.WAITING
_LAST_SERVER = PublicState.LAST_SERVER
_OFFLINE = PublicState.OFFLINE

_RANK = {_SERVING: 0, _LAST_SERVER: 1, _SYNCING: 2, _WAITING: 3, _OFFLINE: 4}


def next_chain(chain: ChainRecord, local: Mapping[int, LocalState]) -> ChainRecord:
    """The chain's next record: of the next version, or *chain* itself if nothing changes.

    A target that *local* does not name is offline. UP_TO_DATE of a syncing target must have been
    reported under this very version of the chain: it makes the target serve.
    """
    states = _next_states(chain, local)
    targets = ordered(chain.targets, states)
    if targets == chain.targets:
        return chain
    return ChainRecord(chain.chain_id, chain.version + 1, targets, chain.preferred)


def settled_chain(chain: ChainRecord, local: Mapping[int, LocalState]) -> ChainRecord:
    """Where ``next_chain`` comes to rest, as one change: the version rises by one, or not at all.

    It spares clients the versions between, such as of a target that waits for no one. Safe, since a
    target that an earlier step made syncing is at most ONLINE: no step promotes what a step before
    brought in.
    """
    settled = next_chain(chain, local)
    if settled is chain:
        return chain
    while (following := next_chain(settled, local)) is not settled:
        settled = following
    return ChainRecord(chain.chain_id, chain.version + 1, settled.targets, chain.preferred)


def has_server(chain: ChainRecord) -> bool:
    """Whether any target of the chain serves."""
    return any(target.state is _SERVING for target in chain.targets)


def ordered(
    targets: tuple[ChainTarget, ...], states: Mapping[int, PublicState]
) -> tuple[ChainTarget, ...]:
    """*targets* in their next *states*, in the order of rule 5."""
    moved = [
        target
        if target.state is states[target.target_id]
        else ChainTarget(target.target_id, states[target.target_id])
        for target in targets
    ]
    was_offline = {target.target_id for target in targets if target.state is _OFFLINE}
    moved.sort(
        key=lambda target: (
            _RANK[target.state],
            target.state is _OFFLINE and target.target_id not in was_offline,
        )
    )
    return tuple(moved)


def would_serve(chain: ChainRecord, local: Mapping[int, LocalState]) -> list[int]:
    """The targets that serve after the next step, in the chain's order."""
    return [
        target_id
        for target_id, state in _present(chain).items()
        if _serves(state, local.get(target_id))
    ]


def _present(chain: ChainRecord) -> dict[int, PublicState]:
    # A last server beside a serving one has missed updates: it is as good as offline (rule 3).
    missed = _LAST_SERVER if has_server(chain) else None
    return {
        target.target_id: _OFFLINE if target.state is missed else target.state
        for target in chain.targets
    }


def _next_states(chain: ChainRecord, local: Mapping[int, LocalState]) -> dict[int, PublicState]:
    """Each target's next state."""
    present = _present(chain)
    serving = set(would_serve(chain, local))
    states: dict[int, PublicState] = {}
    syncing = False
    # Who syncs already has the turn before those who wait for it.
    for target_id in sorted(present, key=lambda one: present[one] is not _SYNCING):
        state, reported = present[target_id], local.get(target_id, LocalState.OFFLINE)
        if target_id in serving:
            states[target_id] = _SERVING
        elif reported is LocalState.OFFLINE:
            last = state in (_SERVING, _LAST_SERVER) and not serving
            states[target_id] = _LAST_SERVER if last else _OFFLINE
        elif (
            serving
            and not syncing
            and state in (_SYNCING, _WAITING)
            and reported is LocalState.ONLINE
        ):
            states[target_id] = _SYNCING
            syncing = True
        else:
            states[target_id] = _WAITING
    return states


def _serves(state: PublicState, reported: LocalState | None) -> bool:
    if reported is None or reported is LocalState.OFFLINE:
        return False
    if state is _SYNCING:
        return reported is LocalState.UP_TO_DATE
    return state in (_SERVING, _LAST_SERVER)
