"""Pure: whether a routing table holds together, and whether one that was uploaded may take the
place of the present one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ConflictError, InvalidArgumentError
from .records import ChainRecord, PublicState, RoutingTable, TargetRecord

_ORDER = (
    PublicState.SERVING,
    PublicState.LAST_SERVER,
    PublicState.SYNCING,
    PublicState.WAITING,
    PublicState.OFFLINE,
)


def disk_of(target: TargetRecord) -> str:
    """The disk that a target is on, as a folder of its node."""
    return target.folder.rpartition("/")[0]


def check_table(table: RoutingTable) -> None:
    """Raise InvalidArgumentError, which names the first contradiction, if there is one."""
    _check_ids("node", [node.node_id for node in table.nodes])
    _check_ids("target", [target.target_id for target in table.targets])
    _check_ids("chain", [chain.chain_id for chain in table.chains])
    _check_ids("chain table", [one.table_id for one in table.tables])
    _check_targets(table)
    targets = {target.target_id: target for target in table.targets}
    chain_of: dict[int, int] = {}
    for chain in table.chains:
        _check_chain(chain)
        disks: dict[tuple[int, str], int] = {}
        for member in chain.targets:
            target = targets.get(member.target_id)
            if target is None:
                raise _wrong(chain, f"names target {member.target_id}, which is not in the table")
            other = chain_of.setdefault(member.target_id, chain.chain_id)
            if other != chain.chain_id:
                raise _wrong(chain, f"has target {member.target_id}, as chain {other} has")
            twin = disks.setdefault((target.node_id, disk_of(target)), target.target_id)
            if twin != target.target_id:
                raise _wrong(
                    chain, f"has targets {twin} and {target.target_id} on one disk: both would fail"
                )
    for one in table.tables:
        if not one.chain_ids:
            raise InvalidArgumentError(f"chain table {one.table_id} is empty: give it chains")
        _check_once(f"chain table {one.table_id}", "chain", one.chain_ids)
        unknown = set(one.chain_ids) - {chain.chain_id for chain in table.chains}
        if unknown:
            raise InvalidArgumentError(
                f"chain table {one.table_id} names chain {min(unknown)}, which is not in the table"
            )


def check_new(
    known: RoutingTable,
    targets: Iterable[TargetRecord],
    chains: Iterable[ChainRecord],
    whole: RoutingTable,
) -> None:
    """Check what *whole* has beyond *known*: new *targets* and *chains*.

    Raises InvalidArgumentError: a target that is said to have data, or with the id of one that is
    gone; a chain whose targets do not all serve, or with two of them on one node.
    """
    last = max([known.last_target_id, *(target.target_id for target in known.targets)])
    for target in targets:
        if target.made:
            raise InvalidArgumentError(
                f"target {target.target_id} is new, but said to be made already"
            )
        if target.target_id <= last:
            raise InvalidArgumentError(
                f"target id {target.target_id} may have been given before: number new targets from "
                f"{last + 1} on"
            )
    node_of = {target.target_id: target.node_id for target in whole.targets}
    for chain in chains:
        seen: dict[int, int] = {}
        for member in chain.targets:
            if member.state is not PublicState.SERVING:
                raise _wrong(
                    chain, f"is new: target {member.target_id} is to serve from the beginning"
                )
            node_id = node_of[member.target_id]
            twin = seen.setdefault(node_id, member.target_id)
            if twin != member.target_id:
                raise _wrong(
                    chain,
                    f"has targets {twin} and {member.target_id} on node {node_id}: "
                    f"both would fail with it",
                )


def check_upload(present: RoutingTable, uploaded: RoutingTable) -> None:
    """Whether *uploaded*, made from *present*, may take its place.

    Raises ConflictError if it was made from another version, InvalidArgumentError if it belongs to
    another cluster, contradicts itself, loses or moves anything that has data, or turns a version
    back.
    """
    if uploaded.cluster_id != present.cluster_id:
        raise InvalidArgumentError(
            f"the table is of cluster {uploaded.cluster_id!r}; this is {present.cluster_id!r}"
        )
    if uploaded.version != present.version:
        raise ConflictError(
            f"the table was made from version {uploaded.version}; version {present.version} is the "
            f"present one: make it anew from that"
        )
    check_table(uploaded)
    targets = _check_known_targets(present, uploaded)
    chains = _check_known_chains(present, uploaded)
    tables = {one.table_id: one for one in uploaded.tables}
    for one in present.tables:
        found = tables.get(one.table_id)
        if found is None or found.chain_ids != one.chain_ids:
            raise InvalidArgumentError(
                f"chain table {one.table_id} has to stay as it is: data is found by its places. "
                f"Add another table instead"
            )
        if found.version < one.version:
            raise _back(f"chain table {one.table_id}", found.version, one.version)
    check_new(present, targets, chains, uploaded)


def _check_known_targets(present: RoutingTable, uploaded: RoutingTable) -> list[TargetRecord]:
    """The new targets, if the known ones are where they were."""
    fresh = {target.target_id: target for target in uploaded.targets}
    for target in present.targets:
        found = fresh.pop(target.target_id, None)
        if found != target:
            what = "is missing" if found is None else "differs"
            raise InvalidArgumentError(
                f"target {target.target_id} {what}: leave it as it is (node {target.node_id}, "
                f"folder {target.folder}), and remove or replace it by the command for that"
            )
    return list(fresh.values())


def _check_known_chains(present: RoutingTable, uploaded: RoutingTable) -> list[ChainRecord]:
    """The new chains, if the known ones have what they had."""
    fresh = {chain.chain_id: chain for chain in uploaded.chains}
    for chain in present.chains:
        found = fresh.pop(chain.chain_id, None)
        if found is None:
            raise InvalidArgumentError(f"chain {chain.chain_id} is missing: it has data")
        if found.version < chain.version:
            raise _back(f"chain {chain.chain_id}", found.version, chain.version)
        if found.targets != chain.targets:
            raise _wrong(
                chain,
                "has other targets, or in other states or order: leave them as they are, and add "
                "or remove targets by the commands for that",
            )
    return list(fresh.values())


def _check_targets(table: RoutingTable) -> None:
    nodes = {node.node_id for node in table.nodes}
    folders: dict[tuple[int, str], int] = {}
    for target in table.targets:
        name = f"target {target.target_id}"
        if target.node_id not in nodes:
            raise InvalidArgumentError(
                f"{name} is on node {target.node_id}, which is not in the table: add the node"
            )
        if not disk_of(target).startswith("/"):
            raise InvalidArgumentError(
                f"{name}: its folder is {target.folder!r}; give the whole path of a folder on a "
                f"disk"
            )
        twin = folders.setdefault((target.node_id, target.folder), target.target_id)
        if twin != target.target_id:
            raise InvalidArgumentError(
                f"{name} has the folder {target.folder} of node {target.node_id}, as target {twin} "
                f"has: give each its own"
            )


def _check_chain(chain: ChainRecord) -> None:
    """What can be seen in the record alone."""
    if chain.version < 1:
        raise _wrong(chain, f"has version {chain.version}: versions begin at 1")
    if not chain.targets:
        raise _wrong(chain, "is empty: give it targets")
    members = [target.target_id for target in chain.targets]
    _check_once(f"chain {chain.chain_id}", "target", members)
    _check_once(f"chain {chain.chain_id}, preferred order", "target", chain.preferred)
    strangers = set(chain.preferred) - set(members)
    if strangers:
        raise _wrong(chain, f"prefers target {min(strangers)}, which it does not have")
    states = [target.state for target in chain.targets]
    if states != sorted(states, key=_ORDER.index):
        raise _wrong(
            chain, "is out of order: serving targets first, then last servers, syncing, waiting"
        )
    serves = PublicState.SERVING in states
    if serves == (PublicState.LAST_SERVER in states):
        what = "both serving targets and" if serves else "neither a serving target nor"
        raise _wrong(chain, f"has {what} last servers: nobody can tell who has its data")
    if states.count(PublicState.SYNCING) > (1 if serves else 0):
        raise _wrong(chain, "has more syncing targets than a serving one can fill at once")


def _check_ids(kind: str, ids: Sequence[int]) -> None:
    for number in ids:
        if number < 1:
            raise InvalidArgumentError(f"{kind} {number}: ids begin at 1")
    _check_once("the table", kind, ids)


def _check_once(where: str, kind: str, ids: Sequence[int]) -> None:
    seen: set[int] = set()
    for number in ids:
        if number in seen:
            raise InvalidArgumentError(f"{where} names {kind} {number} twice")
        seen.add(number)


def _wrong(chain: ChainRecord, what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"chain {chain.chain_id} {what}")


def _back(name: str, version: int, present: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{name}: version {version} would go back; the present one is {present}"
    )
