"""POSIX access control lists: acl(5), and POSIX.1e draft 17, as Linux has them. Pure.

A list is kept in the form of the extended attributes ``system.posix_acl_access`` and
``system.posix_acl_default`` (linux/posix_acl_xattr.h): a version, then entries of tag, permissions
and id, all little-endian. It is checked whenever it is read: nothing is decided by half a list.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Final, NamedTuple

from ..errors import InvalidArgumentError, NoSpaceError

ACCESS_XATTR: Final = b"system.posix_acl_access"
DEFAULT_XATTR: Final = b"system.posix_acl_default"

ENTRIES_MAX: Final = 500
"""What fits in a block of 4 KiB, as other file systems have it."""

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_ORDER: Final = {USER_OBJ: 0, USER: 1, GROUP_OBJ: 2, GROUP: 3, MASK: 4, OTHER: 5}
_NAMED: Final = (USER, GROUP)
_ONCE: Final = (USER_OBJ, GROUP_OBJ, OTHER)
_VERSION: Final = struct.pack("<I", 2)
_ENTRY: Final = struct.Struct("<HHI")
_NO_ID: Final = 0xFFFF_FFFF


class Entry(NamedTuple):
    """One line of a list."""

    tag: int
    permissions: int
    """Bits: 4 read, 2 write, 1 execute or search."""
    number: int = _NO_ID
    """Of a user or group, where the tag names one."""


def parse(value: bytes) -> tuple[Entry, ...]:
    """The entries of an attribute's value, in the order in which they are stored; a value of no
    entries is no list: ().

    Raises InvalidArgumentError for what is no valid list (acl_valid(3)), NoSpaceError for one that
    is too long.
    """
    if value[:4] != _VERSION or (len(value) - 4) % _ENTRY.size:
        raise InvalidArgumentError("an access control list of an unknown form")
    if len(value) > 4 + ENTRIES_MAX * _ENTRY.size:
        raise NoSpaceError(f"an access control list of more than {ENTRIES_MAX} entries")
    entries = tuple([Entry(*fields) for fields in _ENTRY.iter_unpack(value[4:])])
    if not entries:
        return ()
    tags = [entry.tag for entry in entries]
    if any(tag not in _ORDER for tag in tags) or any(entry.permissions > 7 for entry in entries):
        raise InvalidArgumentError("an access control list with an unknown entry")
    order = [_ORDER[tag] for tag in tags]
    named = any(tag in _NAMED for tag in tags)
    if (
        order != sorted(order)
        or any(tags.count(tag) != 1 for tag in _ONCE)
        or tags.count(MASK) > 1
        or (named and MASK not in tags)
    ):
        raise InvalidArgumentError("an access control list that lacks an entry, or has one twice")
    return entries


def encode(entries: Collection[Entry]) -> bytes:
    """What ``parse`` takes; b"" for a list of no entries."""
    if not entries:
        return b""
    return _VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries)


def mode_of(entries: Collection[Entry], mode: int) -> int:
    """*mode* with the permission bits that stand for the list: those of the group class are the
    mask, where there is one."""
    bits = {entry.tag: entry.permissions for entry in entries}
    group = bits.get(MASK, bits[GROUP_OBJ])
    return mode & ~0o777 | bits[USER_OBJ] << 6 | group << 3 | bits[OTHER]


def is_mode_alone(entries: Collection[Entry]) -> bool:
    """Whether the list says no more than permission bits do."""
    return len(entries) == len(_ONCE)


def with_mode(value: bytes, mode: int) -> bytes:
    """The list after a chmod to *mode*."""
    entries = parse(value)
    bits = _classes(entries, mode)
    return encode(
        [entry._replace(permissions=bits.get(entry.tag, entry.permissions)) for entry in entries]
    )


def inherited(default: bytes, mode: int) -> tuple[bytes, int]:
    """The access list (b"": none is needed) and the mode of what is made with *mode* in a folder
    with that default list: no more than both give."""
    entries = parse(default)
    limits = _classes(entries, mode)
    entries = tuple(
        [
            entry._replace(permissions=entry.permissions & limits.get(entry.tag, 7))
            for entry in entries
        ]
    )
    mode = mode_of(entries, mode)
    return (b"" if is_mode_alone(entries) else encode(entries)), mode


def _classes(entries: Collection[Entry], mode: int) -> dict[int, int]:
    """The permission bits of *mode* by the tags of the entries that they stand for."""
    group_class = MASK if any(entry.tag == MASK for entry in entries) else GROUP_OBJ
    return {USER_OBJ: mode >> 6 & 7, group_class: mode >> 3 & 7, OTHER: mode & 7}


def permits(
    value: bytes,
    node_uid: int,
    node_gid: int,
    uid: int,
    gids: Collection[int],
    wanted: int,
) -> bool:
    """Whether somebody, who is not root, has all of *wanted*: the access check of acl(5)."""
    entries = parse(value)
    bits = {entry.tag: entry.permissions for entry in entries if entry.tag not in _NAMED}
    if uid == node_uid:
        return bits[USER_OBJ] & wanted == wanted
    mask = bits.get(MASK, 7)
    for entry in entries:
        if entry.tag == USER and entry.number == uid:
            return entry.permissions & mask & wanted == wanted
    groups = [bits[GROUP_OBJ]] if node_gid in gids else []
    groups += [
        entry.permissions for entry in entries if entry.tag == GROUP and entry.number in gids
    ]
    if groups:
        return any(granted & mask & wanted == wanted for granted in groups)
    return bits[OTHER] & wanted == wanted
