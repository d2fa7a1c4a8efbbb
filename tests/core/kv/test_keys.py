"""Tuple keys: order, round trip, the published encoding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from craqen.core.kv.keys import Element, Subspace, pack, prefix_end, unpack

integers = st.integers(-(2**80), 2**80)
elements = st.one_of(st.binary(max_size=20), st.text(max_size=20), integers)
tuples = st.lists(elements, max_size=5).map(tuple)
alike = st.one_of(
    st.lists(st.lists(integers, max_size=3).map(tuple), min_size=2, max_size=2),
    st.lists(st.lists(st.binary(max_size=6), max_size=3).map(tuple), min_size=2, max_size=2),
    st.lists(st.lists(st.text(max_size=6), max_size=3).map(tuple), min_size=2, max_size=2),
)


@settings(derandomize=True)
@given(tuples)
def test_round_trip(items: tuple[Element, ...]) -> None:
    assert unpack(pack(items)) == items


@settings(derandomize=True)
@given(alike)
def test_order_is_kept(pair: list[tuple[Element, ...]]) -> None:
    left, right = pair
    assert (pack(left) < pack(right)) == (left < right)


@settings(derandomize=True)
@given(tuples)
def test_encoding_is_the_published_one(items: tuple[Element, ...]) -> None:
    published = pytest.importorskip("fdb.tuple", reason="needs the foundationdb package")
    assert pack(items) == published.pack(items)


@pytest.mark.parametrize(
    "value",
    [
        0,
        1,
        -1,
        255,
        256,
        -255,
        -256,
        2**63,
        -(2**63),
        2**64 - 1,
        2**64,
        -(2**64),
        2**2039,
        -(2**2039),
    ],
)
def test_integers_at_the_edges(value: int) -> None:
    assert unpack(pack((value,))) == (value,)
    assert pack((value - 1,)) < pack((value,)) < pack((value + 1,))


def test_names_that_are_not_utf8_come_back() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert unpack(pack((name,))) == (name,)


def test_what_cannot_be_packed() -> None:
    with pytest.raises(OverflowError):
        pack((2**2040,))
    with pytest.raises(KeyError):
        pack((1.5,))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [b"\x01abc", b"\x15", b"\x1d", b"\x1d\x09\x01", b"\xff", b"\x00"])
def test_damaged_keys_are_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="packed key"):
        unpack(key)


def test_subspaces() -> None:
    inodes = Subspace(("inode",), prefix=b"P")
    key = inodes.pack(7, b"name")
    assert key == b"P" + pack(("inode", 7, b"name"))
    assert inodes.unpack(key) == (7, b"name")
    assert inodes.contains(key)
    assert inodes.subspace(7).unpack(key) == (b"name",)
    begin, end = inodes.range(7)
    assert begin < inodes.pack(7, b"") <= key < end < inodes.pack(8)
    assert inodes.pack(7) < begin
    with pytest.raises(ValueError, match="subspace"):
        inodes.unpack(b"Q")


def test_prefix_end() -> None:
    assert prefix_end(b"a") == b"b"
    assert prefix_end(b"a\xff\xff") == b"b"
    for prefix in (b"", b"\xff"):
        with pytest.raises(ValueError, match="no key"):
            prefix_end(prefix)
