"""DRIVER: a whole check, and the repairs after it.

The order: chunks first (replicas, orphans, damage), then who needs them, then names; repairs last,
when it is known whether metadata was lost, since then nothing is freed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..errors import CraqenError, DataLossError
from .chains import ChainCheck
from .entries import EntryCheck
from .findings import Finding, Findings, Safety
from .holders import walk_holders
from .inodes import InodeCheck, check_extents
from .inventory import Inventories
from .leftovers import LeftoverCheck
from .links import WINDOW_IDS as LINK_WINDOW_IDS
from .links import LinkCheck, LinkCounter
from .names import name_files
from .needs import NeedCheck
from .orphans import Orphans
from .references import WINDOW_IDS as REFERENCE_WINDOW_IDS
from .references import Counter, ReferenceCheck
from .scan import Check
from .uploads import UploadCheck
from .usage import UsageCheck
from .versions import VersionCheck


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do about problems."""

    repair: bool = False
    accept_loss: bool = False
    """Also give up what may be traces of lost metadata."""


async def run_check(check: Check, choice: Choice) -> Findings:
    """Check everything, and repair what *choice* allows. What fails is noted, and the rest goes
    on; ``Findings.incomplete`` then is not empty."""
    whole = _Whole(check)
    for stage in (whole.chunks, whole.references, whole.names, whole.others):
        await _noted(check, stage)
    await _noted(check, whole.orphans_told)
    await _noted(check, lambda: name_files(check))
    if choice.repair:
        check.progress.stage("repairs")
        for finding in list(check.findings.all):
            await _repair(check, finding, choice)
    return check.findings


async def _noted(check: Check, stage: Callable[[], Awaitable[None]]) -> None:
    try:
        await stage()
    except CraqenError as error:
        check.findings.note_incomplete(f"{type(error).__name__}: {error}")


class _Whole:
    """The stages of one check."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._inventories = Inventories(check.routing, check.connections)
        self._orphans = Orphans(check, self._inventories)
        self._chains = ChainCheck(check, self._inventories, self._orphans)
        self._references = ReferenceCheck(check)
        self._references_known = False

    async def chunks(self) -> None:
        """Replicas against each other; candidates for orphans."""
        await self._chains.run()

    async def references(self) -> None:
        """Who holds segments: what they need, how often segments are counted, usage."""
        check = self._check
        needs = NeedCheck(check, self._inventories, self._chains.damage)
        usage = UsageCheck(check)
        next_id = await check.next_id()
        check.progress.stage("files and the chunks that they need")
        await usage.begin()
        for low in range(0, next_id, REFERENCE_WINDOW_IDS):
            if low:
                check.progress.stage(f"references to segments from {low:x} on")
            counter = Counter(low, min(low + REFERENCE_WINDOW_IDS, next_id))
            async for held in walk_holders(check.kv, check.findings):
                counter.take(held.extents)
                if low == 0:
                    check_extents(check, held)
                    await needs.take(held)
                    usage.take(held)
                check.progress.advance(1)
            if low == 0:
                await needs.flush()
                await usage.end()
            await self._references.compare(counter)
        await self._references.settle()
        self._references_known = True

    async def names(self) -> None:
        """Names, inodes, link counts."""
        check = self._check
        links = LinkCheck(check)
        entries = EntryCheck(check)
        next_id = await check.next_id()
        for low in range(0, next_id, LINK_WINDOW_IDS):
            counter = LinkCounter(low, min(low + LINK_WINDOW_IDS, next_id))
            if low == 0:
                await entries.run(counter.take)
                await VersionCheck(check).run(counter.take_version)
            else:
                await links.count(counter)
            await links.compare(counter)
        await links.settle()
        await InodeCheck(check, entries.misplaced).run()

    async def others(self) -> None:
        """Uploads, and what belongs to something that is gone."""
        await UploadCheck(self._check).run()
        await LeftoverCheck(self._check).run()

    async def orphans_told(self) -> None:
        """Orphans, if it is known what files refer to."""
        if self._references_known:
            await self._orphans.tell(self._references.uncounted)
        else:
            self._check.findings.note_incomplete(
                "orphans are not told of: what files refer to could not be read"
            )


async def _repair(check: Check, finding: Finding, choice: Choice) -> None:
    """Repair one finding, if it can be and may be."""
    if finding.repair is None:
        return
    if finding.safety is Safety.GIVES_UP and not choice.accept_loss:
        return
    careful = check.findings.lost_metadata and not choice.accept_loss
    if finding.safety is Safety.FREES and careful:
        finding.advice = (
            "there are signs that metadata was lost, and these bytes may be what is left of it: "
            "settle the other findings first, or run with --repair --accept-loss to free them"
        )
        return
    try:
        done = await finding.repair()
    except DataLossError as error:
        finding.advice = f"restore the named files, or remove them: {error}"
        return
    except CraqenError as error:
        check.findings.note_incomplete(f"{finding.subject}: could not be repaired: {error}")
        return
    finding.settled = True
    finding.done = done or "nothing: it was gone when it was looked at again"
    check.progress.advance(1)
