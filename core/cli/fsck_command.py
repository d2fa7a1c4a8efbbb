"""``craqen fsck``: does the metadata fit the chunks, and the other way round?"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import uvloop

from ..client.connect import connect
from ..clock import SystemClock
from ..errors import CraqenError
from ..fsck.findings import Finding, Findings, Progress, Silence
from ..fsck.run import Choice, run_check
from ..fsck.scan import Check
from ..meta.context import MetaContext
from ..options import Config

CLEAN, PROBLEMS, NOT_FINISHED = 0, 1, 2
SHOWN_MAX = 200  # findings told in full to people; --json has all that were kept
PROGRESS_SECONDS = 2.0

EPILOG = """Works while the store is in use. Exit codes: 0 clean, or everything was repaired;
1 problems are left; 2 the check could not be finished."""


class FsckCommand:
    """Check the store, and repair what is safe."""

    name = "fsck"
    help = "check metadata against chunks both ways, and repair what is safe"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.epilog = EPILOG
        parser.add_argument(
            "--data", action="store_true", help="read and verify every byte of every replica"
        )
        parser.add_argument("--repair", action="store_true", help="repair what is safe")
        parser.add_argument(
            "--accept-loss",
            action="store_true",
            help="with --repair: also give up what may be traces of lost metadata",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.add_argument("--quiet", action="store_true", help="show no progress")

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        if arguments.accept_loss and not arguments.repair:
            print("craqen: --accept-loss needs --repair", file=sys.stderr)
            return NOT_FINISHED
        progress: Progress = Silence() if arguments.quiet else Lines()
        choice = Choice(arguments.repair, arguments.accept_loss)
        try:
            findings = uvloop.run(check_store(config, choice, progress, verify_data=arguments.data))
        except CraqenError as error:
            print(f"craqen: the check could not be made: {error}", file=sys.stderr)
            return NOT_FINISHED
        if arguments.json:
            print(json.dumps(document(findings), indent=2))
        else:
            show(findings, repair=arguments.repair)
        return exit_code(findings)


def exit_code(findings: Findings) -> int:
    """CLEAN, PROBLEMS or NOT_FINISHED."""
    if findings.incomplete:
        return NOT_FINISHED
    return PROBLEMS if findings.problems_left() else CLEAN


async def check_store(
    config: Config, choice: Choice, progress: Progress, *, verify_data: bool
) -> Findings:
    """Check the store of *config*, and repair what *choice* allows. Raises CraqenError if it cannot
    be begun; what fails later is noted in ``Findings.incomplete``."""
    client = await connect(config, "fsck")
    try:
        context = MetaContext(
            client.kv,
            SystemClock(),
            removal_grace_seconds=config.meta.removal_grace_seconds,
            feed_retention_seconds=config.meta.feed_retention_seconds,
            client_lease_seconds=config.meta.client_lease_seconds,
        )
        context.client_id = client.meta.client_id
        check = Check(
            client.kv,
            client.meta,
            context,
            client.routing,
            client.connections,
            Findings(),
            progress,
            verify_data,
        )
        return await run_check(check, choice)
    finally:
        await client.close()


class Lines:
    """``Progress`` as lines on standard error."""

    def __init__(self) -> None:
        self._stage = ""
        self._count = 0
        self._told = 0.0

    def stage(self, name: str) -> None:
        """Tell of the new stage."""
        self._stage, self._count, self._told = name, 0, time.monotonic()
        print(f"fsck: {name} …", file=sys.stderr, flush=True)

    def advance(self, count: int) -> None:
        """Tell the count now and then."""
        self._count += count
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            print(f"fsck: {self._stage}: {self._count:,}", file=sys.stderr, flush=True)


def document(findings: Findings) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "exit_code": exit_code(findings),
        "problems": findings.counts.total(),
        "problems_left": findings.problems_left(),
        "by_kind": dict(findings.counts),
        "findings": [
            {
                "kind": one.kind,
                "subject": one.subject,
                "text": one.text,
                "files": one.files,
                "repairable": one.repair is not None,
                "safety": str(one.safety),
                "settled": one.settled,
                "done": one.done,
                "advice": "" if one.settled else one.advice,
            }
            for one in findings.all
        ],
        "not_listed": findings.not_kept,
        "unsettled": findings.unsettled,
        "incomplete": findings.incomplete,
    }


def show(findings: Findings, *, repair: bool) -> None:
    """Everything, for people."""
    for one in findings.all[:SHOWN_MAX]:
        _show_one(one)
    hidden = len(findings.all) - SHOWN_MAX + findings.not_kept
    if hidden > 0:
        print(f"… and {hidden} more (--json lists {len(findings.all)})\n")
    if findings.counts:
        _show_table(findings)
    for text in findings.unsettled:
        print(f"note: {plain(text)}")
    for text in findings.incomplete:
        print(f"NOT FINISHED: {plain(text)}")
    left = findings.problems_left()
    if findings.incomplete:
        print(f"The check could not be finished. Problems so far: {left}.")
    elif left:
        remedy = "" if repair else " Run with --repair to repair what is safe."
        print(f"Problems left: {left}.{remedy}")
    elif findings.counts:
        print("All problems are repaired.")
    else:
        print("Clean: no problems were found.")


def _show_one(one: Finding) -> None:
    print(f"{one.kind}: {plain(one.subject)}: {plain(one.text)}")
    for file in one.files:
        print(f"    file: {plain(file)}")
    if one.settled:
        print(f"    done: {plain(one.done)}")
    else:
        print(f"    to do: {plain(one.advice)}")
    print()


def _show_table(findings: Findings) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("problem")
    for name in ("found", "settled", "left"):
        table.add_column(name, justify="right")
    for kind, count in sorted(findings.counts.items()):
        settled = sum(one.kind == kind and one.settled for one in findings.all)
        table.add_row(kind, str(count), str(settled), str(count - settled))
    Console(highlight=False, markup=False).print(table)


def plain(text: str) -> str:
    """*text* without characters that would move a terminal's cursor: names are their users'."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


command = FsckCommand()
