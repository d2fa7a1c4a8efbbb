"""File permissions as the kernel checks them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from craqen.core.access.posix import READ, SEARCH, WRITE, Actor, Node

OWNER, MEMBER, STRANGER = Actor(10, 11), Actor(20, 21, (30, 40)), Actor(50, 51)


@pytest.mark.parametrize(
    ("actor", "mode", "wanted", "may"),
    [
        (OWNER, 0o700, READ | WRITE | SEARCH, True),
        (OWNER, 0o077, READ, False),  # the first class decides
        (MEMBER, 0o070, READ | WRITE, True),
        (MEMBER, 0o707, READ, False),
        (STRANGER, 0o704, READ, True),
        (STRANGER, 0o704, READ | SEARCH, False),
        (Actor(0, 0), 0o000, READ | WRITE, True),
        (Actor(50, 40), 0o040, READ, True),
    ],
)
def test_classes(actor: Actor, mode: int, wanted: int, may: bool) -> None:
    assert actor.may(Node(mode, 10, 40), wanted) == may


def test_the_sticky_bit() -> None:
    shared = Node(0o1777, 10, 11)
    theirs, mine = Node(0o644, 99, 99), Node(0o000, 50, 51)
    assert STRANGER.may_change_entry(shared, None)
    assert STRANGER.may_change_entry(shared, mine)
    assert not STRANGER.may_change_entry(shared, theirs)
    assert OWNER.may_change_entry(shared, theirs)
    assert Actor(0, 0).may_change_entry(shared, theirs)
    assert STRANGER.may_change_entry(Node(0o777, 10, 11), theirs)
    assert not STRANGER.may_change_entry(Node(0o775, 10, 11), None)
    assert not STRANGER.may_change_entry(Node(0o776, 10, 11), None)


def test_ways_and_owners() -> None:
    assert STRANGER.may_reach([Node(0o711, 10, 11), Node(0o001, 10, 11)])
    assert not STRANGER.may_reach([Node(0o711, 10, 11), Node(0o770, 10, 11)])
    assert OWNER.owns(Node(0, 10, 0))
    assert not MEMBER.owns(Node(0o777, 10, 30))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
@pytest.mark.parametrize("actor", [OWNER, MEMBER, STRANGER])
def test_the_kernel_says_the_same(actor: Actor) -> None:
    # Not in pytest's own folder, into which others cannot go.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "file"
        path.touch()
        os.chown(path, 10, 40)
        expected, found = [], []
        for mode in (0o000, 0o400, 0o040, 0o004, 0o642, 0o246, 0o777):
            path.chmod(mode)
            expected.append(actor.may(Node(mode, 10, 40), READ))
            found.append(_may_read(actor, str(path)))
        assert found == expected


def _may_read(actor: Actor, path: str) -> bool:
    """What the kernel says: by effective ids, which are put back."""
    groups = os.getgroups()
    os.setgroups(list(actor.groups))
    os.setegid(actor.gid)
    os.seteuid(actor.uid)
    try:
        return os.access(path, os.R_OK, effective_ids=True)
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
