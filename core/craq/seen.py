"""MACHINE: what one replica has seen of another's chunk, and what marks the copies that go from one
to the other."""

from __future__ import annotations

from typing import NamedTuple

from ..chunks.store import ChunkVersion
from ..ids import UpdateToken


class Seen(NamedTuple):
    """What a replica has committed of a chunk, as far as it matters to others. Version 0:
    nothing."""

    version: int = 0
    length_bytes: int = 0
    crc32c: int = 0
    token: UpdateToken | None = None
    """The update that made it: two updates never make the same version by the same token."""


ABSENT = Seen()


def seen_of(content: ChunkVersion | None) -> Seen:
    """What *content* is to others."""
    if content is None:
        return ABSENT
    return Seen(content.version, content.length_bytes, content.crc32c, content.token)


class SyncMark(NamedTuple):
    """Tells one copy from a late copy of it: number ``sequence`` of slot ``slot`` of a resync
    session. A slot is used again, with a higher sequence, when its last copy was acknowledged."""

    session: int
    """From 1; drawn by the predecessor's driver, never the same twice."""
    slot: int
    sequence: int

    def token(self) -> UpdateToken:
        """What names the copy among operations. No client has a negative number."""
        return UpdateToken(-self.session, self.slot, self.sequence)


def repair_token(request_id: int) -> UpdateToken:
    """What names a repair among operations: no update, and no copy."""
    return UpdateToken(0, -1, request_id)
