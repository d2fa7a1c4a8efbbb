"""DRIVER: carries a wanted placement out, step by step.

What is wanted is kept in the settings, and how far it got is seen from the routing table alone: a
new primary goes on where the last one stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType

import msgspec

from ..cluster.moves import add_target, prefer_order, remove_target, restore_order
from ..cluster.records import RoutingTable
from ..errors import ConflictError, DataLossError, InvalidArgumentError
from ..placement.incremental import Reassignment, reassign
from ..placement.inventory import Disk, inventory
from ..placement.rebalance import (
    CHAINS_AT_ONCE,
    AddTarget,
    NextSteps,
    Outcome,
    RemoveTarget,
    Step,
    next_steps,
)
from ..placement.tables import present_assignment
from .overview import Plan
from .primary import Primary

WANTED = "rebalance.wanted"
"""The setting that holds what is wanted; absent: nothing is."""

AT_ONCE = "rebalance.chains_at_once"
"""The setting that says how many chains may be filled at one time."""

AUTHOR = "rebalance"

STEPS_MAX = 64
"""Carried out in one change of the table, so that the manager is not held up for long."""

Wanted = Mapping[int, Sequence[Disk]]
"""The disks wanted of each chain, head first."""


class _Stored(msgspec.Struct):
    """``WANTED`` as JSON: each disk is named once."""

    disks: list[tuple[int, str]]
    chains: dict[str, list[int]]
    """By chain id: places in ``disks``."""


def encode_wanted(wanted: Wanted) -> str:
    """*wanted* as it is stored."""
    places: dict[Disk, int] = {}
    chains = {
        str(chain_id): [places.setdefault(disk, len(places)) for disk in disks]
        for chain_id, disks in wanted.items()
    }
    disks = [(disk.node_id, disk.folder) for disk in places]
    return msgspec.json.encode(_Stored(disks, chains)).decode()


@lru_cache(maxsize=2)
def decode_wanted(text: str) -> Wanted:
    """What was stored. Raises DataLossError."""
    try:
        stored = msgspec.json.decode(text, type=_Stored)
        disks = [Disk(node_id, folder) for node_id, folder in stored.disks]
        return MappingProxyType(
            {
                int(chain_id): tuple(disks[place] for place in places)
                for chain_id, places in stored.chains.items()
            }
        )
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        raise DataLossError(
            f"setting {WANTED} cannot be understood ({error}): plan anew with "
            f"`craqen admin rebalance`"
        ) from error


def plan(table: RoutingTable, replicas: int, without: Iterable[Disk] = ()) -> Reassignment:
    """Where the chains of *table* are wanted: spread evenly over all disks but those of draining
    nodes and *without*. Takes seconds for thousands of disks. Raises ConfigError."""
    return reassign(
        inventory(table.nodes, without=frozenset(without)), present_assignment(table), replicas
    )


def progress(primary: Primary) -> Plan | None:
    """How far the rebalance is; None: none is wanted."""
    _, settings = primary.settings.get()
    text = settings.get(WANTED)
    if text is None:
        return None
    try:
        return Plan(_next(primary.table, decode_wanted(text), _at_once(settings)))
    except (InvalidArgumentError, DataLossError) as error:
        return Plan(None, str(error))


async def rebalance_tick(primary: Primary) -> None:
    """Carry out what is safe to do now towards what is wanted; called every second.

    A plan that no longer fits the table is left alone: the status tells of it. Raises
    UnavailableError if this manager is not the primary any more, ConflictError if others keep
    changing the table.
    """
    told = progress(primary)
    if told is None or told.next is None or told.next.outcome is Outcome.WAIT:
        return
    _, settings = primary.settings.get()
    wanted, at_once = decode_wanted(settings[WANTED]), _at_once(settings)
    if told.next.outcome is Outcome.ACT:
        await primary.change(partial(carry_out, wanted=wanted, at_once=at_once))
        return
    before = primary.table
    if await primary.change(partial(put_in_order, wanted=wanted, at_once=at_once)) is before:
        await primary.settings.set(WANTED, None, AUTHOR)


def carry_out(table: RoutingTable, wanted: Wanted, at_once: int) -> RoutingTable:
    """*table* after the first of the steps that are safe in it. A step that the table refuses after
    all (its node is being drained or stopped) is left for the next time."""
    for step in _next(table, wanted, at_once).steps[:STEPS_MAX]:
        try:
            table = _after(table, step, len(wanted[step.chain_id]))
        except (ConflictError, InvalidArgumentError):
            continue
    return table


def _after(table: RoutingTable, step: Step, replicas: int) -> RoutingTable:
    if isinstance(step, AddTarget):
        # Beside one on the same node while it moves from disk to disk.
        return add_target(table, step.chain_id, step.node_id, step.disk, same_node=True)
    if isinstance(step, RemoveTarget):
        return remove_target(table, step.target_id, replicas)
    return prefer_order(table, step.chain_id, step.target_ids)


def put_in_order(table: RoutingTable, wanted: Iterable[int], at_once: int) -> RoutingTable:
    """*table* after one step towards the preferred order of up to *at_once* of the *wanted* chains;
    itself if all are in order, or cannot be now."""
    moved = 0
    for chain_id in wanted:
        try:
            following = restore_order(table, chain_id)
        except ConflictError:
            continue
        if following is not table:
            table, moved = following, moved + 1
            if moved == at_once:
                break
    return table


def _next(table: RoutingTable, wanted: Wanted, at_once: int) -> NextSteps:
    return next_steps(table, wanted, chains_at_once=at_once)


def _at_once(settings: Mapping[str, str]) -> int:
    return int(settings.get(AT_ONCE, CHAINS_AT_ONCE))
