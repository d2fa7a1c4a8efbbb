"""DRIVER: operators' commands, carried out by the primary.

Each command names its arguments in a struct; what it answers is told as JSON.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import msgspec

from ..cluster import moves
from ..cluster.records import NodeRecord, PublicState, RoutingTable
from ..errors import ConflictError, InvalidArgumentError
from ..placement.balance import Balance
from ..placement.inventory import Disk, inventory
from ..placement.solver import sensible_targets_per_disk, solve
from ..placement.tables import new_chains, present_assignment
from .hot_options import HOT_OPTIONS, REPLICAS, check_option
from .overview import (
    Overview,
    chain_rows,
    node_rows,
    serving,
    table_rows,
    target_rows,
    wanted_replicas,
)
from .primary import Primary
from .rebalancing import WANTED, encode_wanted, plan, progress
from .status import named, rebalance_status, status
from .table_text import document, parse


class Arguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of what commands take."""


class Status(Arguments):
    silent_managers: list[str] = []
    """What the one who asks could not reach, and why."""


class Nodes(Arguments):
    node_ids: list[int]


class StopNodes(Nodes):
    accept_unavailable: bool = False


class AddNodes(Arguments):
    node_ids: list[int] = []
    every_candidate: bool = False
    addresses: list[str] = []
    """For a node that does not run yet; with ``disks`` and ``domain``."""
    disks: list[str] = []
    domain: str = ""


class AddTarget(Arguments):
    chain_id: int
    node_id: int
    disk: str
    same_node: bool = False


class RemoveTarget(Arguments):
    target_id: int
    forced: bool = False


class ReplaceTarget(Arguments):
    target_id: int
    node_id: int | None = None
    disk: str | None = None


class Rotate(Arguments):
    chain_id: int


class RotateLastServer(Arguments):
    chain_id: int
    target_id: int | None = None
    accept_loss: bool = False


class Upload(Arguments):
    table: dict[str, Any]


class Rebalance(Arguments):
    dry_run: bool = False
    replicas: int | None = None
    without: list[tuple[int, str]] = []
    """Disks (node, folder) to leave empty."""
    author: str = ""


class Init(Arguments):
    replicas: int
    targets_per_disk: int | None = None
    dry_run: bool = False
    author: str = ""


class SetOption(Arguments):
    name: str
    value: str | None
    author: str = ""


A = TypeVar("A", bound=Arguments)


async def answer(primary: Primary, command: str, arguments: dict[str, object]) -> object:
    """The result of *command*, to be told as JSON.

    Raises InvalidArgumentError (no such command, or arguments that it does not take) and what the
    command raises: of a change, what the move raises, and what ``Primary.change`` does.
    """
    function, taken = understood(command, arguments)
    return await function(primary, taken)


def understood(command: str, arguments: dict[str, object]) -> tuple[_Command, Arguments]:
    """What carries *command* out, and its arguments. Raises InvalidArgumentError: no such command,
    or arguments that it does not take."""
    found = _COMMANDS.get(command)
    if found is None:
        raise InvalidArgumentError(
            f"admin {command}: no such command; these are: {', '.join(sorted(_COMMANDS))}"
        )
    kind, function = found
    try:
        return function, msgspec.convert(arguments, kind)
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(f"admin {command}: {error}") from error


def overview(primary: Primary, wall_seconds: float) -> Overview:
    """What the primary knows now."""
    table, membership, now = primary.table, primary.membership, primary.now()
    heard = {}
    for node in table.nodes:
        last = membership.last_heartbeat(node.node_id)
        if last is not None:
            heard[node.node_id] = (max(0.0, now - last[0]), last[1])
    return Overview(
        table,
        _replicas(primary),
        primary.epoch,
        primary.lease_seconds,
        wall_seconds,
        frozenset(one for one in heard if membership.alive(one)),
        heard,
        sorted(membership.candidates(), key=lambda one: one.node_id),
        progress(primary),
        membership.partings(now),
    )


def _replicas(primary: Primary) -> int:
    _, settings = primary.settings.get()
    return wanted_replicas(primary.table, settings.get(REPLICAS))


def _shows(show: Callable[[Overview], object]) -> tuple[type[Arguments], _Command]:
    """A command that tells something of the cluster."""

    async def tell(primary: Primary, _: Arguments) -> object:
        return show(overview(primary, time.time()))

    return Arguments, tell


async def _status(primary: Primary, taken: Status) -> object:
    view = overview(primary, time.time())
    return status(replace(view, silent_managers=taken.silent_managers))


def _done(text: str, **more: object) -> dict[str, object]:
    """The result of a change: a sentence, and figures for programs."""
    return {"done": text, **more}


# Nodes


async def _add_nodes(primary: Primary, taken: AddNodes) -> object:
    known = {one.node_id: one for one in primary.membership.candidates()}
    ids = sorted(known) if taken.every_candidate else taken.node_ids
    if not ids:
        raise InvalidArgumentError("node add: no node waits to be added, and none is named")
    records = []
    for node_id in ids:
        one = known.get(node_id)
        if taken.addresses:
            host = "" if one is None else one.host
            records.append(
                NodeRecord(
                    node_id,
                    tuple(taken.addresses),
                    host,
                    taken.domain,
                    disks=tuple(taken.disks),
                )
            )
        elif one is not None:
            domain = taken.domain or one.domain
            records.append(NodeRecord(node_id, one.addresses, one.host, domain, disks=one.disks))
        else:
            raise InvalidArgumentError(
                f"node {node_id} was not heard of ({named('node', known)} waits to be added): "
                f"start its process first, or give its address and disks"
            )

    def add(table: RoutingTable) -> RoutingTable:
        for record in records:
            table = moves.add_node(table, record)
        return table

    table = await primary.change(add)
    following = "rebalance" if table.tables else "init"
    return _done(
        f"{named('node', ids)} added, without targets yet: `craqen admin {following}` "
        f"gives them some"
    )


async def _remove_nodes(primary: Primary, taken: Nodes) -> object:
    def remove(table: RoutingTable) -> RoutingTable:
        for node_id in taken.node_ids:
            table = moves.remove_node(table, node_id)
        return table

    await primary.change(remove)
    return _done(f"{named('node', taken.node_ids)} removed: end the processes, if they run")


async def _drain_nodes(primary: Primary, taken: Nodes) -> object:
    await primary.change(partial(moves.drain, node_ids=taken.node_ids))
    return _done(
        f"{named('node', taken.node_ids)} will get no new targets: `craqen admin rebalance` moves "
        f"those that are there"
    )


async def _start_nodes(primary: Primary, taken: Nodes) -> object:
    await primary.change(partial(moves.start, node_ids=taken.node_ids))
    return _done(f"{named('node', taken.node_ids)} may take part: see that the processes run")


async def _stop_nodes(primary: Primary, taken: StopNodes) -> object:
    def stop(table: RoutingTable) -> RoutingTable:
        stopped = moves.shut_down(table, taken.node_ids)
        before = {chain.chain_id: serving(chain) for chain in table.chains}
        lost = [one.chain_id for one in stopped.chains if before[one.chain_id] and not serving(one)]
        if lost and not taken.accept_unavailable:
            raise ConflictError(
                f"without {named('node', taken.node_ids)} no target of {named('chain', lost)} "
                f"would serve: wait until more do (`craqen admin status`), or accept that the data "
                f"is unavailable meanwhile (--accept-unavailable)"
            )
        return stopped

    await primary.change(stop)
    return _done(
        f"{named('node', taken.node_ids)} handed over: the processes may be ended now. Afterwards: "
        f"`craqen admin node start`"
    )


# Targets and chains


async def _add_target(primary: Primary, taken: AddTarget) -> object:
    table = await primary.change(
        partial(
            moves.add_target,
            chain_id=taken.chain_id,
            node_id=taken.node_id,
            disk=taken.disk,
            same_node=taken.same_node,
        )
    )
    number = table.last_target_id
    return _done(f"target {number} added to chain {taken.chain_id}; it is filled", target_id=number)


async def _remove_target(primary: Primary, taken: RemoveTarget) -> object:
    await primary.change(
        partial(
            moves.remove_target,
            target_id=taken.target_id,
            replicas=_replicas(primary),
            forced=taken.forced,
        )
    )
    return _done(f"target {taken.target_id} removed; its folder may be deleted")


async def _replace_target(primary: Primary, taken: ReplaceTarget) -> object:
    table = await primary.change(
        partial(
            moves.replace_target,
            target_id=taken.target_id,
            node_id=taken.node_id,
            disk=taken.disk,
        )
    )
    number = table.last_target_id
    return _done(
        f"target {number} is in the place of target {taken.target_id}; it is filled",
        target_id=number,
    )


async def _rotate(primary: Primary, taken: Rotate) -> object:
    before = primary.table
    table = await primary.change(partial(moves.restore_order, chain_id=taken.chain_id))
    if table is before:
        return _done(f"chain {taken.chain_id} is in its preferred order", in_order=True)
    chain = next(one for one in table.chains if one.chain_id == taken.chain_id)
    moving = next(one for one in chain.targets if one.state is PublicState.SYNCING)
    return _done(
        f"target {moving.target_id} goes to the end of chain {taken.chain_id} and syncs there: ask "
        f"again when it serves, until the order is as preferred",
        in_order=False,
    )


async def _rotate_last_server(primary: Primary, taken: RotateLastServer) -> object:
    table = await primary.change(
        partial(
            moves.rotate_last_server,
            chain_id=taken.chain_id,
            target_id=taken.target_id,
            accept_loss=taken.accept_loss,
        )
    )
    chain = next(one for one in table.chains if one.chain_id == taken.chain_id)
    return _done(
        f"target {chain.targets[0].target_id} serves what it has of chain {taken.chain_id} as soon "
        f"as it is up; then `craqen fsck` tells which files lost bytes"
    )


# Tables


async def _show_table(primary: Primary, _: Arguments) -> object:
    return document(primary.table)


async def _upload_table(primary: Primary, taken: Upload) -> object:
    uploaded = parse(taken.table)
    table = await primary.change(partial(moves.upload, uploaded=uploaded))
    return _done(f"the table is version {table.version} now", version=table.version)


async def _init(primary: Primary, taken: Init) -> object:
    table = primary.table
    _check_first(table)
    shape = inventory(table.nodes)
    per_disk = taken.targets_per_disk
    if per_disk is None:
        per_disk = sensible_targets_per_disk(shape, taken.replicas)
    # In a thread: the primary renews its lease and hears its nodes meanwhile.
    solution = await asyncio.to_thread(solve, shape, per_disk, taken.replicas)
    figures = {"targets_per_disk": per_disk, **_figures(solution.balance)}
    if taken.dry_run:
        return _done(f"would make {len(solution.chains)} chains", **figures)

    def begin(present: RoutingTable) -> RoutingTable:
        _check_first(present)
        return moves.add_chain_table(present, *new_chains(present, solution.chains))

    await primary.change(begin)
    await primary.settings.set(REPLICAS, str(taken.replicas), taken.author)
    return _done(f"made {len(solution.chains)} chains of {taken.replicas} targets", **figures)


def _check_first(table: RoutingTable) -> None:
    if table.tables:
        raise ConflictError(
            f"the store has chain table {table.tables[0].table_id} already: add nodes to it, and "
            f"`craqen admin rebalance`"
        )


def _figures(balance: Balance) -> dict[str, object]:
    return {
        "disks": balance.disks,
        "chains": balance.chains,
        "targets_per_disk_least_most": list(balance.targets_per_disk),
        "disk_loss_worst_ratio": round(balance.disk_loss.worst_ratio, 3),
        "disk_loss_least_ratio": round(balance.disk_loss.least_ratio, 3),
    }


# Rebalance


async def _rebalance(primary: Primary, taken: Rebalance) -> object:
    table = primary.table
    replicas = _replicas(primary) if taken.replicas is None else taken.replicas
    without = [Disk(node_id, folder) for node_id, folder in taken.without]
    known = {Disk(node.node_id, folder) for node in table.nodes for folder in node.disks}
    for disk in without:
        if disk not in known:
            raise InvalidArgumentError(f"node {disk.node_id} has no disk {disk.folder}")
    # In a thread: the primary renews its lease and hears its nodes meanwhile.
    wanted = await asyncio.to_thread(plan, table, replicas, without)
    present = present_assignment(table)
    moved = sum(set(wanted.chains[one]) != set(present[one]) for one in present)
    figures = {
        "copies": wanted.copies,
        "least_copies": wanted.least_copies,
        "chains_moved": moved,
        "replicas": replicas,
        **_figures(wanted.balance),
    }
    what = f"{wanted.copies} targets to fill on other disks, in {moved} of {len(present)} chains"
    if taken.dry_run:
        return _done(f"would have {what}", **figures)
    if taken.replicas is not None:
        await primary.settings.set(REPLICAS, str(replicas), taken.author)
    await primary.settings.set(WANTED, encode_wanted(wanted.chains), taken.author)
    return _done(f"began: {what}; `craqen admin rebalance --status` tells how far it is", **figures)


async def _stop_rebalance(primary: Primary, _: Arguments) -> object:
    if WANTED not in primary.settings.get()[1]:
        return _done("no rebalance is under way")
    await primary.settings.set(WANTED, None, "rebalance --stop")
    return _done("stopped: targets on their way are still filled, and no others begin")


# Options


async def _options(primary: Primary, _: Arguments) -> object:
    version, values = primary.settings.get()
    options = [
        {"name": name, "value": values.get(name), "help": option.help}
        for name, option in sorted(HOT_OPTIONS.items())
    ]
    return {"version": version, "options": options}


async def _set_option(primary: Primary, taken: SetOption) -> object:
    value = taken.value
    if value is None:
        if taken.name not in HOT_OPTIONS:
            check_option(taken.name, "")
    else:
        value = check_option(taken.name, value)
    version = await primary.settings.set(taken.name, value, taken.author)
    told = "what the configuration files say" if value is None else value
    return _done(f"{taken.name} is {told}, within one heartbeat everywhere", version=version)


async def _history(primary: Primary, _: Arguments) -> object:
    return [msgspec.structs.asdict(one) for one in await primary.settings.history()]


_Command = Callable[[Primary, Any], Awaitable[object]]

_COMMANDS: dict[str, tuple[type[Arguments], _Command]] = {
    "status": (Status, _status),
    "nodes": _shows(node_rows),
    "targets": _shows(target_rows),
    "chains": _shows(chain_rows),
    "tables": _shows(table_rows),
    "node-add": (AddNodes, _add_nodes),
    "node-remove": (Nodes, _remove_nodes),
    "node-drain": (Nodes, _drain_nodes),
    "node-start": (Nodes, _start_nodes),
    "node-stop": (StopNodes, _stop_nodes),
    "target-add": (AddTarget, _add_target),
    "target-remove": (RemoveTarget, _remove_target),
    "target-replace": (ReplaceTarget, _replace_target),
    "chain-rotate": (Rotate, _rotate),
    "chain-rotate-last-server": (RotateLastServer, _rotate_last_server),
    "table-show": (Arguments, _show_table),
    "table-upload": (Upload, _upload_table),
    "init": (Init, _init),
    "rebalance": (Rebalance, _rebalance),
    "rebalance-status": _shows(rebalance_status),
    "rebalance-stop": (Arguments, _stop_rebalance),
    "config-get": (Arguments, _options),
    "config-set": (SetOption, _set_option),
    "config-history": (Arguments, _history),
}
