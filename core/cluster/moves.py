"""Pure: what operators, and a rebalance for them, may do to the routing table.

Each move gives a new table (of the same version: the store numbers it) or raises, and leaves the
table as it was. ConflictError: not in the present state; the message says what to do first.
InvalidArgumentError: never as asked.

No move reorders serving targets in place. A target holds every pending update that its successors
hold, and what is durable at the tail counts as committed; both would be untrue of a new order. A
target changes its place by a resync at the end of the chain, during which it takes part in every
update.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec.structs import replace

from ..errors import ConflictError, InvalidArgumentError
from .records import (
    ChainRecord,
    ChainTable,
    ChainTarget,
    LocalState,
    NodeRecord,
    NodeState,
    PublicState,
    RoutingTable,
    TargetRecord,
)
from .table_check import check_new, check_table, check_upload, disk_of
from .transition import has_server, next_chain, ordered

_PRESENT = {
    PublicState.SERVING: LocalState.ONLINE,
    PublicState.SYNCING: LocalState.ONLINE,
    PublicState.WAITING: LocalState.ONLINE,
    PublicState.LAST_SERVER: LocalState.OFFLINE,
    PublicState.OFFLINE: LocalState.OFFLINE,
}
"""What the table itself says of who is up."""


# Nodes


def shut_down(table: RoutingTable, node_ids: Collection[int]) -> RoutingTable:
    """Take the nodes out as planned: they take no part until ``start``.

    Their targets step out where another serving target stays; where none would, they become last
    servers, and the chain's data cannot be reached until they are back. Name all nodes that go
    down together: then all of a chain's serving targets are last servers, and come back without a
    resync.
    """
    going = set(node_ids)
    changed = _with_node_state(table, going, NodeState.STOPPING)
    gone = {target.target_id for target in table.targets if target.node_id in going}

    def step_out(chain: ChainRecord) -> ChainRecord:
        if not any(target.target_id in gone for target in chain.targets):
            return chain
        local = {
            target.target_id: _PRESENT[target.state]
            for target in chain.targets
            if target.target_id not in gone
        }
        return next_chain(chain, local)

    return replace(changed, chains=tuple(step_out(chain) for chain in table.chains))


def start(table: RoutingTable, node_ids: Collection[int]) -> RoutingTable:
    """End a planned shutdown or a drain: the nodes take part again as soon as they are heard."""
    return _with_node_state(table, node_ids, NodeState.ACTIVE)


def drain(table: RoutingTable, node_ids: Collection[int]) -> RoutingTable:
    """Mark the nodes: they get no new targets, and a rebalance moves those that they have."""
    for node_id in node_ids:
        if _node(table, node_id).state is NodeState.STOPPING:
            raise ConflictError(
                f"node {node_id} is shut down, and moving its targets is quicker from a running "
                f"one: start it first"
            )
    return _with_node_state(table, node_ids, NodeState.DRAINING)


def add_node(table: RoutingTable, node: NodeRecord) -> RoutingTable:
    """Take a node in, without targets."""
    if any(known.node_id == node.node_id for known in table.nodes):
        raise InvalidArgumentError(
            f"node {node.node_id} is in the table already: give the new one another id"
        )
    changed = replace(table, nodes=(*table.nodes, node))
    check_table(changed)
    return changed


def remove_node(table: RoutingTable, node_id: int) -> RoutingTable:
    """Forget a node that has no targets any more."""
    _node(table, node_id)
    held = [target.target_id for target in table.targets if target.node_id == node_id]
    if held:
        raise ConflictError(
            f"node {node_id} still has {len(held)} targets, such as {held[0]}: drain it and "
            f"rebalance, or remove or replace them, first"
        )
    nodes = tuple(node for node in table.nodes if node.node_id != node_id)
    return replace(table, nodes=nodes)


# Targets


def add_target(
    table: RoutingTable, chain_id: int, node_id: int, disk: str, *, same_node: bool = False
) -> RoutingTable:
    """Add a new target on *disk* (a folder of the node) at the end of the chain, offline: it comes
    in by a resync once its node has made it. *same_node*: the chain may have one there already,
    such as while it moves from disk to disk."""
    chain, node = _chain(table, chain_id), _node(table, node_id)
    if node.state is not NodeState.ACTIVE:
        raise ConflictError(
            f"node {node_id} is {node.state.name.lower()}: start it first, or choose another"
        )
    if node.disks and disk not in node.disks:
        raise InvalidArgumentError(
            f"node {node_id} has no disk {disk}; it has {', '.join(node.disks)}"
        )
    members = {target.target_id for target in chain.targets}
    for target in table.targets:
        if target.target_id in members and target.node_id == node_id:
            if disk_of(target) == disk or not same_node:
                raise InvalidArgumentError(
                    f"chain {chain_id} has target {target.target_id} on node {node_id}, disk "
                    f"{disk_of(target)} already: choose another {'disk' if same_node else 'node'}"
                )
    target_id = 1 + last_target_id(table)
    record = TargetRecord(target_id, node_id, f"{disk}/target-{target_id}")
    added = ChainTarget(target_id, PublicState.OFFLINE)
    return replace(
        _with_chain(table, chain, (*chain.targets, added)),
        targets=(*table.targets, record),
        last_target_id=target_id,
    )


def remove_target(
    table: RoutingTable, target_id: int, replicas: int, *, forced: bool = False
) -> RoutingTable:
    """Take a target out of its chain and the table; its data may be deleted then.

    A serving one goes only if *replicas* others serve; *forced*: if any other serves. A last
    server, and the chain's only target, never go.
    """
    chain, state = _place(table, target_id)
    others = tuple(one for one in chain.targets if one.target_id != target_id)
    serving = sum(one.state is PublicState.SERVING for one in others)
    if not others:
        raise ConflictError(
            f"target {target_id} is all that chain {chain.chain_id} has: add another one first"
        )
    if state is PublicState.LAST_SERVER:
        raise ConflictError(
            f"target {target_id} is a last server of chain {chain.chain_id}: it has all of the "
            f"chain's data. Bring it back, or accept the loss by rotating the last server"
        )
    if state is PublicState.SERVING and serving < (1 if forced else replicas):
        raise ConflictError(
            f"target {target_id} serves, and only {serving} others of chain {chain.chain_id} do, "
            f"where {1 if forced else replicas} should: add one and let it resync first"
        )
    return _forget(_with_chain(table, chain, others), target_id)


def replace_target(
    table: RoutingTable, target_id: int, node_id: int | None = None, disk: str | None = None
) -> RoutingTable:
    """Put a new target in the place of one that is down, such as after its disk was replaced: on
    the same disk unless others are named."""
    chain, state = _place(table, target_id)
    if state not in (PublicState.OFFLINE, PublicState.WAITING):
        raise ConflictError(
            f"target {target_id} is {_words(state)} in chain {chain.chain_id}: only one that is "
            f"offline or waiting is replaced in one move; add a target, then remove this one"
        )
    if len(chain.targets) == 1:
        raise ConflictError(f"chain {chain.chain_id} has no other target to fill a new one from")
    old = next(target for target in table.targets if target.target_id == target_id)
    without = _forget(_with_chain(table, chain, _others(chain, target_id)), target_id)
    added = add_target(
        without,
        chain.chain_id,
        old.node_id if node_id is None else node_id,
        disk_of(old) if disk is None else disk,
    )
    new_id = added.last_target_id
    preferred = tuple(new_id if one == target_id else one for one in chain.preferred)
    record = _chain(added, chain.chain_id)
    return _put_chain(added, replace(record, version=chain.version + 1, preferred=preferred))


# Chains


def prefer_order(table: RoutingTable, chain_id: int, target_ids: Sequence[int]) -> RoutingTable:
    """Say in which order the chain's targets should be, head first. Moves nothing by itself."""
    chain = _chain(table, chain_id)
    have = {target.target_id for target in chain.targets}
    if set(target_ids) != have or len(target_ids) != len(have):
        raise InvalidArgumentError(
            f"chain {chain_id} has the targets {_list(have)}: name each of them once, not "
            f"{_list(target_ids)}"
        )
    return _put_chain(table, replace(chain, version=chain.version + 1, preferred=tuple(target_ids)))


def restore_order(table: RoutingTable, chain_id: int) -> RoutingTable:
    """One step towards the chain's preferred order: the first target that is too far in front goes
    to the end, where it syncs. It takes part in every update meanwhile and keeps what it has, so
    little is copied and no copy is given up; ask again when it serves. The table itself if the
    order is as preferred."""
    chain = _chain(table, chain_id)
    if any(target.state is not PublicState.SERVING for target in chain.targets):
        raise ConflictError(
            f"chain {chain_id} is not whole: the order is restored when all its targets serve"
        )
    mover = _misplaced(chain)
    if mover is None:
        return table
    syncing = ChainTarget(mover, PublicState.SYNCING)
    return _with_chain(table, chain, (*_others(chain, mover), syncing))


def rotate_last_server(
    table: RoutingTable, chain_id: int, *, target_id: int | None = None, accept_loss: bool = False
) -> RoutingTable:
    """Give up the last servers of a chain that will not come back: another target becomes the last
    server, and serves what it has as soon as it is up. That is *target_id*, or else one that waits,
    or the one that was lost last.

    Raises ConflictError also unless *accept_loss*: its message says what may be lost.
    """
    chain = _chain(table, chain_id)
    lost = [one.target_id for one in chain.targets if one.state is PublicState.LAST_SERVER]
    if not lost or has_server(chain):
        raise ConflictError(
            f"chain {chain_id} {'serves' if has_server(chain) else 'has no last server'}: there is "
            f"nothing to give up"
        )
    # Of those offline, the one at the end was lost last.
    waiting = [one.target_id for one in chain.targets if one.state is PublicState.WAITING]
    offline = [one.target_id for one in chain.targets if one.state is PublicState.OFFLINE]
    choices = waiting + offline[::-1]
    if not choices:
        raise ConflictError(
            f"chain {chain_id}: all its targets ({_list(lost)}) are last servers, each with all "
            f"data: bring one of them back"
        )
    chosen = choices[0] if target_id is None else target_id
    if chosen not in choices:
        raise InvalidArgumentError(
            f"target {chosen} cannot take over chain {chain_id}; these can: {_list(choices)}"
        )
    if not accept_loss:
        raise ConflictError(
            f"chain {chain_id}: its last servers ({_list(lost)}) alone have all acknowledged "
            f"writes. If target {chosen} takes over, writes, and removals, acknowledged since it "
            f"last served are lost for good, also if they return. Accept the loss to go on"
        )
    states: dict[int, PublicState] = {
        one.target_id: PublicState.OFFLINE if one.state is PublicState.LAST_SERVER else one.state
        for one in chain.targets
    }
    states[chosen] = PublicState.LAST_SERVER
    return _with_chain(table, chain, ordered(chain.targets, states))


def add_chain_table(
    table: RoutingTable,
    targets: Iterable[TargetRecord],
    chains: Iterable[ChainRecord],
    chain_table: ChainTable,
) -> RoutingTable:
    """Take in new chains, their targets, and a new chain table that names them or known ones."""
    added, born = tuple(targets), tuple(chains)
    changed = replace(
        table,
        targets=(*table.targets, *added),
        chains=(*table.chains, *born),
        tables=(*table.tables, chain_table),
    )
    check_table(changed)
    check_new(table, added, born, changed)
    return replace(changed, last_target_id=last_target_id(changed))


def upload(present: RoutingTable, uploaded: RoutingTable) -> RoutingTable:
    """*uploaded* in the place of *present*, from which it was made. It may bring nodes, targets,
    chains and tables, drop nodes that have no targets, and prefer other orders; all else takes the
    moves above. Raises as ``check_upload``."""
    check_upload(present, uploaded)
    known = {chain.chain_id: chain for chain in present.chains}

    def numbered(chain: ChainRecord) -> ChainRecord:
        before = known.get(chain.chain_id)
        if before is None or before.preferred == chain.preferred:
            return before or chain
        return replace(before, version=before.version + 1, preferred=chain.preferred)

    changed = replace(
        uploaded,
        chains=tuple(numbered(chain) for chain in uploaded.chains),
        last_target_id=max(last_target_id(present), last_target_id(uploaded)),
    )
    return (
        present if replace(changed, last_target_id=present.last_target_id) == present else changed
    )


def last_target_id(table: RoutingTable) -> int:
    """The highest target id that was ever given: no id is given twice, since a node may still have
    the data of the first."""
    return max([table.last_target_id, *(target.target_id for target in table.targets)])


def _node(table: RoutingTable, node_id: int) -> NodeRecord:
    for node in table.nodes:
        if node.node_id == node_id:
            return node
    known = _list(node.node_id for node in table.nodes)
    raise InvalidArgumentError(f"node {node_id} is not in the table; these are: {known}")


def _chain(table: RoutingTable, chain_id: int) -> ChainRecord:
    for chain in table.chains:
        if chain.chain_id == chain_id:
            return chain
    raise InvalidArgumentError(f"chain {chain_id} is not in the table: list the chains")


def _place(table: RoutingTable, target_id: int) -> tuple[ChainRecord, PublicState]:
    """The chain that a target is in, and its state there."""
    for chain in table.chains:
        for target in chain.targets:
            if target.target_id == target_id:
                return chain, target.state
    raise InvalidArgumentError(f"target {target_id} is in no chain of the table: list the targets")


def _others(chain: ChainRecord, target_id: int) -> tuple[ChainTarget, ...]:
    return tuple(one for one in chain.targets if one.target_id != target_id)


def _with_node_state(
    table: RoutingTable, node_ids: Collection[int], state: NodeState
) -> RoutingTable:
    for node_id in node_ids:
        _node(table, node_id)
    nodes = tuple(
        replace(node, state=state) if node.node_id in node_ids else node for node in table.nodes
    )
    return replace(table, nodes=nodes)


def _with_chain(
    table: RoutingTable, chain: ChainRecord, targets: tuple[ChainTarget, ...]
) -> RoutingTable:
    """The table with these targets in *chain*, as its next version."""
    left = {target.target_id for target in targets}
    preferred = tuple(target_id for target_id in chain.preferred if target_id in left)
    return _put_chain(table, ChainRecord(chain.chain_id, chain.version + 1, targets, preferred))


def _put_chain(table: RoutingTable, record: ChainRecord) -> RoutingTable:
    chains = tuple(record if chain.chain_id == record.chain_id else chain for chain in table.chains)
    return replace(table, chains=chains)


def _forget(table: RoutingTable, target_id: int) -> RoutingTable:
    """The table without the target's record; its id stays used."""
    targets = tuple(target for target in table.targets if target.target_id != target_id)
    return replace(table, targets=targets, last_target_id=last_target_id(table))


def _misplaced(chain: ChainRecord) -> int | None:
    """The target to move to the end. What is already in the preferred order one behind the other
    stays; the next in that order goes to the end, so each moves once at most."""
    present = [target.target_id for target in chain.targets]
    preferred = [one for one in chain.preferred if one in present]
    wanted = preferred + [one for one in present if one not in preferred]
    at = 0
    for target_id in present:
        if target_id == wanted[at]:
            at += 1
            if at == len(wanted):
                return None
    return wanted[at]


def _words(state: PublicState) -> str:
    return state.name.lower().replace("_", " ")


def _list(ids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ids)))
