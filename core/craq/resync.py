"""MACHINE: how a predecessor brings its syncing successor to hold what it holds itself.

It compares both inventories page by page, in chunk order. Of each page the own one is looked at
first: what changes here after that goes through the successor, and is seen by ``SyncChunk`` in the
chunk's turn. So a chunk is copied only if it differs, and never lost between two looks.

| here             | there                     | done                                            |
|------------------|---------------------------|-------------------------------------------------|
| committed        | absent                    | copied                                          |
| absent           | anything                  | removed                                         |
| committed        | the same version, length, checksum and token | nothing                      |
| committed        | anything else, older or newer | copied: the serving replica counts          |
| pending, or busy | anything                  | settled here, which sends it; then as above     |
| damaged record   | anything                  | copied once repaired; a loss if nobody can      |
| anything         | pending, busy, or damaged | copied or removed, whatever it is               |

The token tells apart versions of the same number that were made under different versions of the
chain, so chain versions need not be compared.

After the chunks come the remembered outcomes of updates: the successor may become head. Then the
successor is told that it holds everything. A change of the chain's version ends a resync for good;
the next one begins anew, and finds little to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..chunks.store import ChunkRecord
from ..errors import CraqenError, DataLossError
from ..ids import ChunkId
from .seen import ABSENT, Seen, SyncMark, seen_of

WINDOW_CHUNKS = 256  # copies under way: so many small ones share a flush of the successor's
WINDOW_BYTES = 32 << 20  # of their contents: half of what one process holds of copies
PAGE_CHUNKS = 512  # compared at a time
PAUSES_MAX = 3  # damaged chunks are given so many chances to be repaired before they are copied

FIRST = ChunkId(0, 0)
_INDEX_MAX = (1 << 32) - 2


class Listed(NamedTuple):
    """One chunk of an inventory. Not ``sure``: something is pending or under way, or the record is
    damaged; then ``seen`` is what is committed as far as it is known."""

    chunk_id: ChunkId
    seen: Seen
    sure: bool


class Page(NamedTuple):
    """A part of an inventory, in chunk order: complete up to its last entry if there is ``more``,
    else to the end."""

    entries: Sequence[Listed]
    more: bool


def page_of(
    records: Sequence[ChunkRecord], unsure: Collection[ChunkId], begin: ChunkId, limit: int
) -> Page:
    """The page from *begin* on, of up to *limit* entries: *records* are the first ``limit + 1`` of
    the index, *unsure* all chunks that are damaged or have operations under way."""
    entries = {
        record.chunk_id: Listed(
            record.chunk_id,
            seen_of(record.committed),
            not record.lost
            and record.pending is None
            and record.pending_remove is None
            and record.chunk_id not in unsure,
        )
        for record in records
    }
    more = len(records) > limit
    last = records[-1].chunk_id if more else None
    for chunk_id in unsure:
        if chunk_id >= begin and chunk_id not in entries and (last is None or chunk_id < last):
            entries[chunk_id] = Listed(chunk_id, ABSENT, False)
    ordered = [entries[chunk_id] for chunk_id in sorted(entries)]
    return Page(ordered[:limit], more or len(ordered) > limit)


class Difference(NamedTuple):
    """A chunk that the successor does not hold as it is here, or perhaps not (``SyncChunk``)."""

    chunk_id: ChunkId
    held: Seen | None
    local_version: int
    length_bytes: int
    as_it_is: bool = False


class Comparison(NamedTuple):
    """What two pages from the same position show."""

    differences: list[Difference]
    compared: int
    """Chunks looked at."""
    position: ChunkId | None
    """Where the next page begins; None: there is none."""


def compare(here: Page, there: Page) -> Comparison:
    """Hold two pages that begin at the same position against each other (the table above)."""
    ends = [page.entries[-1].chunk_id for page in (here, there) if page.more and page.entries]
    end = min(ends) if ends else None
    mine = _up_to(here, end)
    theirs = _up_to(there, end)
    differences: list[Difference] = []
    every = sorted({*mine, *theirs})
    for chunk_id in every:
        own = mine.get(chunk_id, Listed(chunk_id, ABSENT, True))
        other = theirs.get(chunk_id, Listed(chunk_id, ABSENT, True))
        if own.sure and other.sure and own.seen == other.seen:
            continue
        held = other.seen if other.sure else None
        differences.append(Difference(chunk_id, held, own.seen.version, own.seen.length_bytes))
    return Comparison(differences, len(every), None if end is None else following(end))


def _up_to(page: Page, end: ChunkId | None) -> dict[ChunkId, Listed]:
    return {one.chunk_id: one for one in page.entries if end is None or one.chunk_id <= end}


def following(chunk_id: ChunkId) -> ChunkId:
    """The id after *chunk_id*."""
    if chunk_id.index >= _INDEX_MAX:
        return ChunkId(chunk_id.segment_id + 1, 0)
    return ChunkId(chunk_id.segment_id, chunk_id.index + 1)


@dataclass(slots=True)
class Progress:
    """How far a resync is."""

    compared: int = 0
    to_send: int = 0
    """Chunks found to differ so far, and their bytes here."""
    bytes_to_send: int = 0
    done: int = 0
    """Of those, how many are dealt with, and their bytes here (sent, or found not to be needed)."""
    bytes_done: int = 0
    sent: int = 0
    bytes_sent: int = 0
    damaged: int = 0
    """Chunks that were found damaged here."""
    outcomes: int = 0
    all_compared: bool = False


# Events


@dataclass(frozen=True, slots=True)
class Compared:
    """Both pages from the position of ``ComparePages``."""

    here: Page
    there: Page


@dataclass(frozen=True, slots=True)
class Copied:
    """``SyncChunk`` ended well; ``sent``: bytes, or a removal, were sent."""

    slot: int
    sent: bool
    length_bytes: int


@dataclass(frozen=True, slots=True)
class CopyFailed:
    """``SyncChunk`` failed. DataLossError: the chunk is damaged here, and is put off; anything else
    ends the resync."""

    slot: int
    error: CraqenError


@dataclass(frozen=True, slots=True)
class Resumed:
    """The pause is over: damaged chunks may have been repaired."""


@dataclass(frozen=True, slots=True)
class OutcomesPut:
    """A page of ``count`` outcomes is with the successor; ``begin``: where the next one begins."""

    count: int
    begin: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Finished:
    """The successor knows that it holds everything."""


ResyncEvent = Compared | Copied | CopyFailed | Resumed | OutcomesPut | Finished

# Effects


@dataclass(frozen=True, slots=True)
class ComparePages:
    """Look at the own inventory from *position* on, then ask for the successor's; then
    ``Compared``."""

    position: ChunkId


@dataclass(frozen=True, slots=True)
class Copy:
    """Give the replica a ``SyncChunk``; then ``Copied`` or ``CopyFailed``."""

    difference: Difference
    mark: SyncMark


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing can be done but wait for repairs; then ``Resumed``."""


@dataclass(frozen=True, slots=True)
class PutOutcomes:
    """Send a page of remembered outcomes from (client, channel) *begin* on; then
    ``OutcomesPut``."""

    begin: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Finish:
    """Tell the successor that it holds everything; then ``Finished``."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The resync is over; ``error``: without success. What is under way comes to nothing."""

    error: CraqenError | None = None


ResyncEffect = ComparePages | Copy | Pause | PutOutcomes | Finish | Ended


class Resync:
    """One resync: one session, one version of the chain. At most one page, WINDOW_CHUNKS copies and
    about WINDOW_BYTES of them are under way."""

    def __init__(self, session: int, position: ChunkId = FIRST) -> None:
        self.session = session
        self.position = position
        """Everything before it was compared."""
        self.progress = Progress()
        self._comparing = False
        self._waiting: deque[Difference] = deque()
        self._under_way: dict[int, Difference] = {}
        self._bytes_under_way = 0
        self._free = list(range(WINDOW_CHUNKS - 1, -1, -1))
        self._sequences = [0] * WINDOW_CHUNKS
        self._damaged: list[Difference] = []
        self._pauses = 0
        self._ending = False
        self._ended = False

    def start(self) -> list[ResyncEffect]:
        """Begin."""
        return self._go_on()

    def step(self, event: ResyncEvent) -> list[ResyncEffect]:
        """Take one event; return what is to be done."""
        if self._ended:
            return []
        if isinstance(event, Compared):
            self._compared(event)
        elif isinstance(event, Copied):
            self._copied(event)
        elif isinstance(event, CopyFailed):
            if not self._is_put_off(event):
                self._ended = True
                return [Ended(event.error)]
        elif isinstance(event, Resumed):
            self._waiting.extend(self._damaged)
            self._damaged.clear()
        elif isinstance(event, OutcomesPut):
            self.progress.outcomes += event.count
            return [Finish() if event.begin is None else PutOutcomes(event.begin)]
        else:
            self._ended = True
            return [Ended()]
        return self._go_on()

    def _compared(self, event: Compared) -> None:
        self._comparing = False
        found = compare(event.here, event.there)
        self.progress.compared += found.compared
        self.progress.to_send += len(found.differences)
        self.progress.bytes_to_send += sum(one.length_bytes for one in found.differences)
        self._waiting.extend(found.differences)
        if found.position is None:
            self.progress.all_compared = True
        else:
            self.position = found.position

    def _leave(self, slot: int) -> Difference:
        difference = self._under_way.pop(slot)
        self._bytes_under_way -= difference.length_bytes
        self._free.append(slot)
        return difference

    def _copied(self, event: Copied) -> None:
        difference = self._leave(event.slot)
        self.progress.done += 1
        self.progress.bytes_done += difference.length_bytes
        if event.sent:
            self.progress.sent += 1
            self.progress.bytes_sent += event.length_bytes

    def _is_put_off(self, event: CopyFailed) -> bool:
        """A chunk that is damaged here is tried again when all others are done, perhaps repaired
        by then; in the end it is copied as it is, so that it is known to be damaged there as well.
        If not even that can be done (its index record is lost), the resync cannot succeed."""
        difference = self._leave(event.slot)
        if difference.as_it_is or not isinstance(event.error, DataLossError):
            return False
        if not self._pauses:
            self.progress.damaged += 1
        self._damaged.append(difference._replace(as_it_is=self._pauses >= PAUSES_MAX))
        return True

    def _go_on(self) -> list[ResyncEffect]:
        effects: list[ResyncEffect] = []
        while self._waiting and self._free and self._has_room(self._waiting[0]):
            difference = self._waiting.popleft()
            slot = self._free.pop()
            self._sequences[slot] += 1
            self._under_way[slot] = difference
            self._bytes_under_way += difference.length_bytes
            mark = SyncMark(self.session, slot, self._sequences[slot])
            effects.append(Copy(difference, mark))
        if not (self._comparing or self.progress.all_compared or self._waiting):
            self._comparing = True
            effects.append(ComparePages(self.position))
        idle = not (self._waiting or self._under_way or self._comparing)
        if idle and not self._ending:
            if self._damaged:
                self._pauses += 1
                effects.append(Pause())
            else:
                self._ending = True
                effects.append(PutOutcomes((0, 0)))
        return effects

    def _has_room(self, difference: Difference) -> bool:
        """One that is larger than the whole window goes alone."""
        if not self._under_way:
            return True
        return self._bytes_under_way + difference.length_bytes <= WINDOW_BYTES


def outcomes_after(keys: Iterable[tuple[int, int]], limit: int) -> tuple[int, int] | None:
    """Where the page after one with *keys* begins; None: that was the last one."""
    every = list(keys)
    if len(every) < limit:
        return None
    client_id, channel = every[-1]
    return client_id, channel + 1
