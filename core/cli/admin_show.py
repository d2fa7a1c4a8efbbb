"""What ``craqen admin`` prints for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from ..manager.status import size, span
from .fsck_command import plain

WIDTH = 4096
"""Tables are as wide as they are, so that each line is one thing; the terminal may wrap it."""

VALUE_SHOWN = 40
"""Characters of an option's value in the history; --json has more."""

_MARKS = {1: "*", 2: "!"}


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their columns' names; those that end in ``#`` are numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column.removesuffix("#"),
            justify="right" if column.endswith("#") else "left",
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*("-" if one is None or one == "" else plain(str(one)) for one in row))
    Console(highlight=False, markup=False, width=WIDTH).print(table)


def show_done(result: dict[str, Any]) -> None:
    """The sentence of a change, then its figures."""
    print(plain(str(result["done"])))
    for name, value in result.items():
        if name != "done":
            print(f"  {name.replace('_', ' ')}: {value}")


def show_status(told: dict[str, Any]) -> None:
    """One screen: first whether all is well, then what is wrong, then the figures."""
    print(told["state"])
    for one in told["troubles"]:
        print(f"\n{_MARKS[one['level']]} {plain(one['what'])}")
        print(f"    to do: {plain(one['remedy'])}")
    if told.get("troubles_not_listed"):
        print(f"\n… and {told['troubles_not_listed']} more: `craqen admin targets`, `chains`")
    if "nodes" not in told:
        return
    nodes, targets, chains = told["nodes"], told["targets"], told["chains"]
    space, chunks = told["space"], told["chunks"]
    states = ", ".join(
        f"{count} {name}" for name, count in targets.items() if count and name != "all"
    )
    print(
        f"\nmanager   primary of epoch {told['epoch']}; routing table {told['table_version']}\n"
        f"nodes     {nodes['up']} of {nodes['all']} up{_refused(told.get('refused', 0))}\n"
        f"targets   {targets['all']}: {states or 'none'}\n"
        f"chains    {chains['whole']} of {chains['all']} whole ({told['replicas']} replicas), "
        f"{chains['reduced']} reduced, {chains['without_server']} without a server\n"
        f"space     {size(space['free_bytes'])} of {size(space['capacity_bytes'])} free\n"
        f"chunks    {chunks['copies']:,} copies, {chunks['damaged']} damaged now, "
        f"{chunks['repaired']} repaired since the nodes started\n"
        f"scrub     {_scrub(chunks)}"
    )
    for one in told["resyncs"]:
        left = one["seconds_left"]
        rest = "" if left < 0 else f", about {span(left)} left"
        print(
            f"resync    target {one['target_id']}: {size(one['bytes_sent'])} of "
            f"{size(max(one['bytes_sent'], one['bytes_to_send']))} sent at "
            f"{size(one['bytes_per_second'])}/s{rest}"
        )
    if told["rebalance"] is not None:
        print(f"rebalance {_rebalance(told['rebalance'])}")


def _refused(count: int) -> str:
    return f"; {count:,} frames and calls refused since they started (see `nodes`)" if count else ""


def _scrub(chunks: dict[str, Any]) -> str:
    never = chunks["never_scrubbed"]
    oldest = chunks["oldest_scrub_wall_seconds"]
    if never:
        return f"{never} targets have not been read through since their nodes started"
    if not oldest:
        return "nothing to read"
    return f"every target was read through within {span(max(0.0, time.time() - oldest))}"


def _rebalance(told: dict[str, Any]) -> str:
    if "problem" in told:
        return f"cannot go on: {plain(told['problem'])}"
    return (
        f"{told['copies_left']} targets to fill, {told['removals_left']} to remove, "
        f"{told['on_their_way']} chains at it"
    )


def show_rebalance(told: dict[str, Any]) -> None:
    """How far it is."""
    if not told["wanted"]:
        print("no rebalance is under way")
        return
    print(_rebalance(told))
    for sentence in told.get("stuck", []):
        print(f"stuck: {plain(sentence)}")


def show_nodes(rows: list[dict[str, Any]]) -> None:
    """One line each."""
    print_table(
        (
            "node#",
            "state",
            "heard",
            "targets#",
            "serving#",
            "refused#",
            "domain",
            "disks",
            "addresses",
        ),
        [
            (
                row["node"],
                row["state"],
                _ago(row["heard_seconds_ago"]),
                row["targets"],
                row["serving"],
                row["refused"],
                row["domain"],
                " ".join(row["disks"]),
                " ".join(row["addresses"]),
            )
            for row in rows
        ],
    )


def _ago(seconds: float | None) -> str:
    return "" if seconds is None else f"{span(seconds)} ago"


def show_targets(rows: list[dict[str, Any]]) -> None:
    """One line each."""
    print_table(
        ("target#", "chain#", "state", "node#", "disk", "chunks#", "used#", "disk free#",
         "damaged#", "remark"),
        [
            (
                row["target"],
                row["chain"],
                row["state"],
                row["node"],
                row["disk"],
                row["chunks"],
                _size(row["used_bytes"]),
                _size(row["free_bytes"]),
                row["damaged_chunks"],
                row["error"] or _resync(row["resync"]),
            )
            for row in rows
        ],
    )  # fmt: skip


def _size(count: int | None) -> str:
    return "" if count is None else size(count)


def _resync(told: dict[str, Any] | None) -> str:
    if told is None:
        return ""
    return f"filled: {size(told['bytes_sent'])} sent"


def show_chains(rows: list[dict[str, Any]]) -> None:
    """One line each, head first."""
    print_table(
        ("chain#", "version#", "serving#", "targets, head first", "order"),
        [
            (
                row["chain"],
                row["version"],
                f"{row['serving']} of {row['wanted']}",
                ", ".join(
                    f"{one['target']}@node{one['node']}"
                    + ("" if one["state"] == "serving" else f" ({one['state']})")
                    for one in row["targets"]
                ),
                "" if row["in_order"] else "preferred: " + ", ".join(map(str, row["preferred"])),
            )
            for row in rows
        ],
    )


def show_tables(rows: list[dict[str, Any]]) -> None:
    """One line each."""
    print_table(
        ("table#", "version#", "chains#", "whole#", "without server#"),
        [
            (row["table"], row["version"], row["chains"], row["whole"], row["without_server"])
            for row in rows
        ],
    )


def show_options(told: dict[str, Any]) -> None:
    """One line each."""
    print_table(
        ("option", "value", "meaning"),
        [(one["name"], one["value"] or "(default)", one["help"]) for one in told["options"]],
    )


def show_history(rows: list[dict[str, Any]]) -> None:
    """Newest first."""
    print_table(
        ("version#", "when", "who", "option", "before", "value"),
        [
            (
                row["version"],
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["wall_seconds"])),
                row["author"],
                row["name"],
                _shortened(row["before"]),
                _shortened(row["value"]),
            )
            for row in rows
        ],
    )


def _shortened(value: str | None) -> str | None:
    """A placement fills no screen."""
    return value if value is None or len(value) <= VALUE_SHOWN else f"{value[:VALUE_SHOWN]}…"


def show_chunks(told: dict[str, Any]) -> None:
    """A line for each copy."""
    if not told["chunks_in_all"]:
        print("it has no chunks: it is empty, or small enough to be kept with the metadata")
        return
    print_table(
        ("chunk", "chain#", "target#", "node#", "state", "version#", "pending#", "bytes#",
         "crc32c", "remark"),
        [
            (
                chunk["chunk"],
                chunk["chain"],
                one["target"],
                one.get("node"),
                one["state"],
                one.get("committed_version"),
                one.get("pending_version") or None,
                one.get("length_bytes"),
                one.get("crc32c"),
                one["problem"],
            )
            for chunk in told["chunks"]
            for one in chunk["targets"]
        ],
    )  # fmt: skip
    hidden = told["chunks_in_all"] - len(told["chunks"])
    if hidden:
        print(f"… and {hidden} more chunks (--limit)")


def show_orphans(told: dict[str, Any]) -> None:
    """A line for each segment."""
    for one in told["orphans"]:
        print(f"{plain(one['segment'])}: {plain(one['text'])}")
    for text in told["incomplete"]:
        print(f"NOT FINISHED: {plain(text)}")
    if told["orphans"]:
        print("`craqen fsck --repair` frees them")
    elif not told["incomplete"]:
        print("no orphans")
