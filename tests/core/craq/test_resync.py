"""The comparison of two inventories, row by row, and the resync machine's windows and order."""

from __future__ import annotations

import pytest

from craqen.core.chunks.store import Block, ChunkRecord, ChunkVersion
from craqen.core.craq.resync import (
    PAUSES_MAX,
    WINDOW_BYTES,
    WINDOW_CHUNKS,
    Compared,
    ComparePages,
    Copied,
    Copy,
    CopyFailed,
    Difference,
    Ended,
    Finish,
    Finished,
    Listed,
    OutcomesPut,
    Page,
    Pause,
    PutOutcomes,
    Resumed,
    Resync,
    ResyncEffect,
    compare,
    following,
    outcomes_after,
    page_of,
)
from craqen.core.craq.seen import ABSENT, Seen
from craqen.core.errors import ConflictError, DataLossError
from craqen.core.ids import ChunkId, UpdateToken

A, B, C, D = (ChunkId(1, index) for index in range(4))
TOKEN = UpdateToken(5, 1, 1)
OLD = Seen(3, 100, 0xAAAA, TOKEN)
NEW = Seen(4, 120, 0xBBBB, UpdateToken(5, 1, 2))


def sure(seen: Seen) -> Listed:
    return Listed(A, seen, True)


def unsure(seen: Seen) -> Listed:
    return Listed(A, seen, False)


def copied(held: Seen | None, seen: Seen) -> Difference:
    return Difference(A, held, seen.version, seen.length_bytes)


@pytest.mark.parametrize(
    ("here", "there", "difference"),
    [
        (sure(OLD), None, copied(ABSENT, OLD)),
        (None, sure(OLD), copied(OLD, ABSENT)),
        (None, unsure(ABSENT), copied(None, ABSENT)),
        (sure(OLD), sure(OLD), None),
        (sure(NEW), sure(OLD), copied(OLD, NEW)),
        (sure(OLD), sure(NEW), copied(NEW, OLD)),
        (sure(OLD), sure(OLD._replace(crc32c=1)), copied(OLD._replace(crc32c=1), OLD)),
        (sure(OLD), sure(OLD._replace(length_bytes=1)), copied(OLD._replace(length_bytes=1), OLD)),
        (
            sure(OLD),
            sure(OLD._replace(token=UpdateToken(9, 9, 9))),
            copied(OLD._replace(token=UpdateToken(9, 9, 9)), OLD),
        ),
        (unsure(OLD), sure(OLD), copied(OLD, OLD)),
        (unsure(ABSENT), None, copied(ABSENT, ABSENT)),
        (sure(OLD), unsure(OLD), copied(None, OLD)),
        (unsure(OLD), unsure(OLD), copied(None, OLD)),
    ],
    ids=[
        "only here",
        "only there",
        "only there, pending or damaged",
        "the same",
        "newer here",
        "newer there",
        "another checksum",
        "another length",
        "another update",
        "pending here",
        "busy here, absent as yet",
        "pending or damaged there",
        "pending at both",
    ],
)
def test_compare(here: Listed | None, there: Listed | None, difference: Difference | None) -> None:
    pages = [Page([] if one is None else [one], False) for one in (here, there)]
    found = compare(*pages)
    assert found.differences == ([] if difference is None else [difference])
    assert found.position is None
    assert found.compared == 1


def test_pages_are_compared_as_far_as_both_go() -> None:
    mine = Page([Listed(one, OLD, True) for one in (A, B)], True)
    theirs = Page([Listed(one, OLD, True) for one in (A, C, D)], False)
    found = compare(mine, theirs)
    assert [one.chunk_id for one in found.differences] == [B]
    assert (found.compared, found.position) == (2, following(B))
    found = compare(theirs, mine)
    assert [one.chunk_id for one in found.differences] == [B]
    assert found.position == following(B)
    found = compare(Page(mine.entries, False), theirs)
    assert [one.chunk_id for one in found.differences] == [B, C, D]
    assert found.position is None


def test_following_stays_within_what_a_key_holds() -> None:
    assert following(ChunkId(1, 5)) == ChunkId(1, 6)
    assert following(ChunkId(1, (1 << 32) - 2)) == ChunkId(2, 0)


def record(chunk_id: ChunkId, *, pending: bool = False, removal: bool = False) -> ChunkRecord:
    version = ChunkVersion(3, 1, 100, 0xAAAA, b"", Block(0, 0, 65536), TOKEN)
    return ChunkRecord(chunk_id, version, version if pending else None, TOKEN if removal else None)


def test_a_page_tells_what_is_sure() -> None:
    records = [record(A), record(B, pending=True), record(C, removal=True)]
    page = page_of(records, {D}, A, 10)
    assert page == Page(
        [
            Listed(A, OLD, True),
            Listed(B, OLD, False),
            Listed(C, OLD, False),
            Listed(D, ABSENT, False),
        ],
        False,
    )
    assert page_of([record(A), record(B)], {A}, A, 10).entries[0] == Listed(A, OLD, False)
    # What is left out of the page is left to the next one.
    assert page_of(records, {D}, A, 2) == Page(page.entries[:2], True)
    assert page_of([record(A)], {B, C, D}, A, 2) == Page(
        [Listed(A, OLD, True), Listed(B, ABSENT, False)], True
    )
    assert page_of([record(C)], {A, D}, B, 5).entries == [
        Listed(C, OLD, True),
        Listed(D, ABSENT, False),
    ]


def pages(count: int, length_bytes: int = 100) -> Compared:
    """*count* chunks that are only here."""
    seen = OLD._replace(length_bytes=length_bytes)
    entries = [Listed(ChunkId(1, index), seen, True) for index in range(count)]
    return Compared(Page(entries, False), Page([], False))


def copies_of(effects: list[ResyncEffect]) -> list[Copy]:
    return [one for one in effects if isinstance(one, Copy)]


def test_a_whole_run() -> None:
    machine = Resync(9)
    assert machine.start() == [ComparePages(ChunkId(0, 0))]
    more = Page([Listed(A, OLD, True)], True)
    (again,) = machine.step(Compared(more, more))
    assert again == ComparePages(following(A))
    assert machine.position == following(A)
    (copy,) = machine.step(Compared(Page([Listed(C, OLD, True)], False), Page([], False)))
    assert isinstance(copy, Copy)
    assert copy.difference.chunk_id == C
    assert copy.mark == (9, copy.mark.slot, 1)
    assert machine.step(Copied(copy.mark.slot, True, 100)) == [PutOutcomes((0, 0))]
    assert machine.step(OutcomesPut(10, (5, 3))) == [PutOutcomes((5, 3))]
    assert machine.step(OutcomesPut(2, None)) == [Finish()]
    assert machine.step(Finished()) == [Ended()]
    progress = machine.progress
    assert (progress.compared, progress.to_send, progress.sent) == (2, 1, 1)
    assert (progress.bytes_sent, progress.outcomes) == (100, 12)
    assert machine.step(Finished()) == []


def test_windows_are_bounded_and_slots_count_on() -> None:
    machine = Resync(9)
    machine.start()
    begun = copies_of(machine.step(pages(WINDOW_CHUNKS + 3)))
    assert len(begun) == WINDOW_CHUNKS
    assert len({one.mark.slot for one in begun}) == WINDOW_CHUNKS
    slot = begun[3].mark.slot
    (following_one,) = copies_of(machine.step(Copied(slot, True, 100)))
    assert following_one.mark == (9, slot, 2)
    large = Resync(9)
    large.start()
    begun = copies_of(large.step(pages(5, WINDOW_BYTES // 2)))
    assert len(begun) == 2
    huge = Resync(9)
    huge.start()
    (only,) = copies_of(huge.step(pages(3, WINDOW_BYTES + 1)))
    assert len(copies_of(huge.step(Copied(only.mark.slot, True, 1)))) == 1


def test_the_next_page_waits_for_the_last_ones_copies() -> None:
    machine = Resync(9)
    machine.start()
    entries = [Listed(ChunkId(1, index), OLD, True) for index in range(WINDOW_CHUNKS + 1)]
    effects = machine.step(Compared(Page(entries, True), Page([], False)))
    assert len(copies_of(effects)) == len(effects) == WINDOW_CHUNKS
    effects = machine.step(Copied(0, False, 0))
    assert [type(one) for one in effects] == [Copy, ComparePages]


def test_damaged_chunks_are_put_off_and_in_the_end_copied_as_they_are() -> None:
    machine = Resync(9)
    machine.start()
    lost = DataLossError("damaged")
    (copy,) = copies_of(machine.step(pages(1)))
    for _ in range(PAUSES_MAX):
        assert not copy.difference.as_it_is
        assert machine.step(CopyFailed(copy.mark.slot, lost)) == [Pause()]
        (copy,) = copies_of(machine.step(Resumed()))
    assert machine.step(CopyFailed(copy.mark.slot, lost)) == [Pause()]
    (copy,) = copies_of(machine.step(Resumed()))
    assert copy.difference.as_it_is
    assert machine.progress.damaged == 1
    assert machine.step(CopyFailed(copy.mark.slot, lost)) == [Ended(lost)]


def test_any_other_failure_ends_it() -> None:
    machine = Resync(9)
    machine.start()
    begun = copies_of(machine.step(pages(2)))
    error = ConflictError("another session")
    assert machine.step(CopyFailed(begun[0].mark.slot, error)) == [Ended(error)]
    assert machine.step(Copied(begun[1].mark.slot, True, 1)) == []


def test_pages_of_outcomes() -> None:
    assert outcomes_after([(1, 2), (1, 7)], 2) == (1, 8)
    assert outcomes_after([(1, 2)], 2) is None
    assert outcomes_after([], 2) is None
