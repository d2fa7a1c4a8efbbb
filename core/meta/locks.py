"""Pure: may a version be removed, changed, or its lock be changed?

A version is locked while a legal hold is on, or its retention lasts. GOVERNANCE retention gives way
to who may bypass it; COMPLIANCE and legal holds to nobody.
"""

from __future__ import annotations

from ..errors import InvalidArgumentError, ObjectLockedError
from .records import Inode, Lock

GOVERNANCE = "GOVERNANCE"
COMPLIANCE = "COMPLIANCE"
ON = "ON"
OFF = "OFF"
NO_LOCK = Lock()


def lock_of(inode: Inode) -> Lock:
    """The lock of a version; NO_LOCK if it never had one."""
    attributes = inode.object
    return NO_LOCK if attributes is None or attributes.lock is None else attributes.lock


def is_locked(inode: Inode, now_ns: int, *, bypass_governance: bool = False) -> bool:
    """Whether the version must stay as it is."""
    attributes = inode.object
    if attributes is None or attributes.lock is None:
        return False
    lock = attributes.lock
    if lock.legal_hold == ON:
        return True
    if lock.retain_until_ns <= now_ns or not lock.mode:
        return False
    return not (bypass_governance and lock.mode == GOVERNANCE)


def check_unlocked(inode: Inode, now_ns: int, *, bypass_governance: bool = False) -> None:
    """Raise ObjectLockedError if the version must stay as it is."""
    if is_locked(inode, now_ns, bypass_governance=bypass_governance):
        raise ObjectLockedError(
            f"inode {inode.inode_id:x}: is protected by object lock (retention or a legal hold)"
        )


def check_new_lock(lock: Lock, now_ns: int) -> None:
    """Raise InvalidArgumentError if *lock* is not one that can be set."""
    if bool(lock.mode) != bool(lock.retain_until_ns):
        raise InvalidArgumentError("retention has a mode and a date, or neither")
    if lock.mode not in ("", GOVERNANCE, COMPLIANCE):
        raise InvalidArgumentError(f"retention mode {lock.mode!r}: GOVERNANCE or COMPLIANCE")
    if lock.mode and lock.retain_until_ns <= now_ns:
        raise InvalidArgumentError("The retain until date must be in the future!")
    if lock.legal_hold not in ("", ON, OFF):
        raise InvalidArgumentError(f"legal hold {lock.legal_hold!r}: ON or OFF")


def check_retention_change(old: Lock, new: Lock, now_ns: int, *, bypass_governance: bool) -> None:
    """Raise ObjectLockedError if retention that lasts would become weaker, by who may not do
    that."""
    if old.retain_until_ns <= now_ns or not old.mode:
        return
    if new.mode == old.mode and new.retain_until_ns >= old.retain_until_ns:
        return
    if old.mode == GOVERNANCE and bypass_governance:
        return
    raise ObjectLockedError("retention that lasts can be extended, and nothing else")
