"""Memory that is used again only when nobody refers to it any more."""

from __future__ import annotations

import ctypes
import errno
import os

import pytest

from craqen.core.limits import KIB, MIB
from craqen.core.storage.buffers import LENDABLE_BYTES_MIN, POOLED_BYTES_MIN, BufferPool
from craqen.core.transport.lending import LendableMemory, lender_of


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def test_memory_is_used_again_and_begins_on_a_page() -> None:
    pool = BufferPool()
    first = pool.take(MIB - 5)
    assert len(first.view) == MIB - 5
    place = address(first.view)
    assert place % 4096 == 0
    first.give_back()
    assert pool.idle_bytes == MIB
    second = pool.take(MIB)
    assert address(second.view) == place
    assert pool.idle_bytes == 0
    other = pool.take(MIB)
    assert address(other.view) != place


def test_what_somebody_refers_to_is_left_to_him() -> None:
    pool = BufferPool()
    buffer = pool.take(MIB)
    buffer.view[:3] = b"old"
    kept = buffer.view[:10]
    buffer.give_back()
    assert pool.idle_bytes == 0
    again = pool.take(MIB)
    again.view[:3] = b"new"
    assert bytes(kept[:3]) == b"old"


def test_idle_memory_is_bounded() -> None:
    pool = BufferPool(2 * MIB)
    out = [pool.take(MIB) for _ in range(4)]
    for one in out:
        one.give_back()
    assert pool.idle_bytes == 2 * MIB
    big = pool.take(8 * MIB)
    big.give_back()
    assert pool.idle_bytes == 2 * MIB


def test_small_ones_are_not_pooled() -> None:
    pool = BufferPool()
    for length in (0, 1, 64 * KIB, POOLED_BYTES_MIN - 1):
        buffer = pool.take(length)
        assert len(buffer.view) == length
        buffer.give_back()
    assert pool.idle_bytes == 0


def test_what_is_lent_is_not_used_again() -> None:
    pool = BufferPool()
    buffer = pool.take(LENDABLE_BYTES_MIN)
    memory = buffer.view.obj
    assert isinstance(memory, LendableMemory)
    memory.lent += 1
    del memory
    buffer.give_back()
    assert pool.idle_bytes == 0


def test_without_descriptors_there_is_memory_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, flags: int) -> int:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "memfd_create", refuse)
    buffer = BufferPool().take(8 * MIB)
    assert lender_of(buffer.view) is None
    buffer.view[-1:] = b"x"
    buffer.give_back()
