"""What happens to a replica, and what it wants done. Frozen; nothing in here does anything."""

from __future__ import annotations

from dataclasses import dataclass

from ..chunks.store import ChunkVersion, IndexChange
from ..cluster.records import ChainRecord
from ..errors import CraqenError
from ..ids import ChunkId, UpdateToken
from ..wire.messages import UpdateKind

# Events


@dataclass(frozen=True, slots=True)
class UpdateAsked:
    """A client (``version`` 0) or the predecessor asks for an update. ``request_id`` is the
    driver's, unique."""

    request_id: int
    chunk_id: ChunkId
    chain_version: int
    kind: UpdateKind
    token: UpdateToken
    version: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """The new content's bytes are in their block (``content`` None for a removal)."""

    request_id: int
    content: ChunkVersion | None


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    """The new content could not be made; nothing was changed."""

    request_id: int
    error: CraqenError


@dataclass(frozen=True, slots=True)
class Persisted:
    """The changes of the request's last ``Persist`` are as durable as it asked."""

    request_id: int


@dataclass(frozen=True, slots=True)
class PersistFailed:
    """They are not: the disk failed."""

    request_id: int
    error: CraqenError


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The successor has committed the update."""

    request_id: int
    version: int
    length_bytes: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class ForwardFailed:
    """The successor did not take it (now): try again when told to, or when the chain changes.

    ConflictError: it lacks the version that the update builds on, and wants the whole content.
    """

    request_id: int
    attempt: int
    error: CraqenError


@dataclass(frozen=True, slots=True)
class RetryForward:
    """Time to try a failed forward again."""

    request_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The request's time is over: its asker is told so. An update that other replicas may have
    heard of goes on all the same."""

    request_id: int


@dataclass(frozen=True, slots=True)
class PendingFound:
    """At start: the index holds a pending version that no request is working on."""

    request_id: int
    chunk_id: ChunkId


@dataclass(frozen=True, slots=True)
class ChainChanged:
    """The routing table has another version of this replica's chain."""

    chain: ChainRecord


Event = (
    UpdateAsked
    | Prepared
    | PrepareFailed
    | Persisted
    | PersistFailed
    | Acknowledged
    | ForwardFailed
    | RetryForward
    | GiveUp
    | PendingFound
    | ChainChanged
)

# Effects, carried out in the order given: persist, then send, then answer


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the bytes of version *version* from the committed one; then ``Prepared``."""

    request_id: int
    base: ChunkVersion | None
    version: int
    chain_version: int


@dataclass(frozen=True, slots=True)
class Persist:
    """Apply *changes* to the index; then ``Persisted``."""

    request_id: int
    changes: tuple[IndexChange, ...]
    durable: bool


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the update to *target_id*; then ``Acknowledged`` or ``ForwardFailed``, and some time
    after that ``RetryForward``, with the number of this attempt (from 1).

    ``whole``: send the pending version's whole content as a REPLACE (or the removal), not the
    update as it came.
    """

    request_id: int
    attempt: int
    target_id: int
    chunk_id: ChunkId
    version: int
    chain_version: int
    content: ChunkVersion | None
    whole: bool
    syncing: bool
    token: UpdateToken


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request: an error, or the outcome."""

    request_id: int
    error: CraqenError | None = None
    version: int = 0
    length_bytes: int = 0
    crc32c: int = 0


Effect = Prepare | Persist | Forward | Reply
