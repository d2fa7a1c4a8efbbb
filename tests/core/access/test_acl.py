"""Access control lists: their form, what a chmod and a new file make of them, who may what."""

from __future__ import annotations

import pytest

from craqen.core.access.acl import (
    ENTRIES_MAX,
    GROUP,
    GROUP_OBJ,
    MASK,
    OTHER,
    USER,
    USER_OBJ,
    Entry,
    encode,
    inherited,
    is_mode_alone,
    mode_of,
    parse,
    permits,
    with_mode,
)
from craqen.core.access.posix import READ, WRITE, Actor, Node
from craqen.core.errors import InvalidArgumentError, NoSpaceError

OWNER, NAMED, MEMBER, NAMED_MEMBER, STRANGER = 10, 20, 30, 40, 50
THEIR_GROUP, NAMED_GROUP = 11, 41
LIST = (
    Entry(USER_OBJ, 6),
    Entry(USER, 7, NAMED),
    Entry(GROUP_OBJ, 4),
    Entry(GROUP, 6, NAMED_GROUP),
    Entry(MASK, 6),
    Entry(OTHER, 0),
)
PLAIN = (Entry(USER_OBJ, 6), Entry(GROUP_OBJ, 4), Entry(OTHER, 4))


def test_a_list_is_kept_as_it_came() -> None:
    assert parse(encode(LIST)) == LIST
    assert encode(LIST)[:12].hex() == "020000000100060" + "0ffffffff"
    assert parse(b"\x02\0\0\0") == ()
    assert encode(()) == b""


@pytest.mark.parametrize(
    "entries",
    [
        LIST[1:],
        (*LIST[:2], *LIST[3:]),
        LIST[:-1],
        (*LIST[:4], LIST[5]),
        (LIST[1], LIST[0], *LIST[2:]),
        (LIST[0], *LIST),
        (*LIST, LIST[5]),
        (*PLAIN[:2], Entry(MASK, 7), Entry(MASK, 7), PLAIN[2]),
        (*PLAIN[:2], Entry(OTHER, 8)),
        (*PLAIN, Entry(0x40, 7)),
    ],
    ids=[
        "no owner",
        "no group",
        "no others",
        "named without a mask",
        "out of order",
        "two owners",
        "two others",
        "two masks",
        "unknown permission",
        "unknown tag",
    ],
)
def test_what_is_no_list_is_refused(entries: tuple[Entry, ...]) -> None:
    with pytest.raises(InvalidArgumentError):
        parse(encode(entries))


@pytest.mark.parametrize("value", [b"", b"\x01\0\0\0", encode(PLAIN)[:-1], b"\x02\0\0\0\x01"])
def test_what_has_no_such_form_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        parse(value)


def test_a_list_has_a_limit() -> None:
    many = [Entry(USER, 7, number) for number in range(ENTRIES_MAX)]
    with pytest.raises(NoSpaceError):
        parse(encode([LIST[0], *many, *LIST[2:]]))


def test_the_mode_shows_the_mask() -> None:
    assert mode_of(LIST, 0o2777) == 0o2660
    assert mode_of(PLAIN, 0) == 0o644
    assert is_mode_alone(PLAIN)
    assert not is_mode_alone(LIST)


def test_chmod_changes_the_mask() -> None:
    changed = parse(with_mode(encode(LIST), 0o741))
    assert changed == (Entry(USER_OBJ, 7), *LIST[1:4], Entry(MASK, 4), Entry(OTHER, 1))
    unmasked = (*PLAIN[:2], PLAIN[2])
    assert parse(with_mode(encode(unmasked), 0o700))[1] == Entry(GROUP_OBJ, 0)


def test_a_new_file_has_no_more_than_both_give() -> None:
    acl, mode = inherited(encode(LIST), 0o640)
    assert mode == 0o640
    assert parse(acl) == (*LIST[:4], Entry(MASK, 4), Entry(OTHER, 0))
    assert inherited(encode(PLAIN), 0o666) == (b"", 0o644)


@pytest.mark.parametrize(
    ("uid", "gids", "wanted", "may"),
    [
        (OWNER, {NAMED_GROUP}, READ | WRITE, True),
        (OWNER, set(), 1, False),
        (NAMED, {THEIR_GROUP}, READ | WRITE, True),
        (NAMED, set(), 1, False),  # the mask takes it away
        (MEMBER, {THEIR_GROUP}, READ, True),
        (MEMBER, {THEIR_GROUP}, WRITE, False),
        (MEMBER, {THEIR_GROUP, NAMED_GROUP}, WRITE, True),
        (NAMED_MEMBER, {NAMED_GROUP}, READ | WRITE, True),
        (STRANGER, {99}, READ, False),
    ],
)
def test_who_may_what(uid: int, gids: set[int], wanted: int, may: bool) -> None:
    assert permits(encode(LIST), OWNER, THEIR_GROUP, uid, gids, wanted) == may
    node = Node(mode_of(LIST, 0), OWNER, THEIR_GROUP, encode(LIST))
    first, *others = sorted(gids) or [0]
    assert Actor(uid, first, others).may(node, wanted) == may


def test_root_may_all() -> None:
    assert Actor(0, 0).may(Node(0, OWNER, THEIR_GROUP, encode(LIST)), 7)
