"""What happens to a replica, and what it wants done. Frozen; nothing in here does anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from ..chunks.store import ChunkVersion, IndexChange
from ..cluster.records import ChainRecord
from ..errors import CraqenError
from ..ids import ChunkId, UpdateToken
from ..wire.messages import UpdateKind
from .seen import Seen, SyncMark

# Events


@dataclass(frozen=True, slots=True)
class UpdateAsked:
    """A client (``version`` 0) or the predecessor asks for an update. ``request_id`` is the
    driver's, unique.

    A REPLACE from the predecessor states length and checksum of its content. ``mark``: it is a copy
    made by a resync (REPLACE, or REMOVE with version 0).
    """

    request_id: int
    chunk_id: ChunkId
    chain_version: int
    kind: UpdateKind
    token: UpdateToken
    version: int = 0
    length_bytes: int = 0
    crc32c: int = 0
    mark: SyncMark | None = None


@dataclass(frozen=True, slots=True)
class SyncStarted:
    """The predecessor begins a resync session with this replica, which must be syncing; what
    remains of an earlier session is refused from now on.

    ``Reply`` at once. Nothing begins if ``Replica.synced_chain_version`` is the present one.
    """

    request_id: int
    chain_version: int
    session: int


@dataclass(frozen=True, slots=True)
class SyncFinished:
    """The predecessor has compared and copied everything within the session. ``Reply`` at once:
    from then on ``Replica.synced_chain_version`` is the present chain version."""

    request_id: int
    chain_version: int
    session: int


@dataclass(frozen=True, slots=True)
class SyncChunk:
    """Make the syncing successor hold what is committed here of a chunk, in the chunk's turn.

    ``held``: what the successor was seen to have committed, with nothing pending; None: replace it
    whatever it is. ``local_version``: what was committed here then (0: nothing, or not known). What
    was seen here must have been looked at first. Nothing is sent if both are the same by now, or if
    what is committed here went through the successor since.
    ``as_it_is``: also if its bytes are damaged here.
    Then ``Reply``, with ``sent``; DataLossError if the chunk is damaged here.
    """

    request_id: int
    chunk_id: ChunkId
    chain_version: int
    mark: SyncMark
    held: Seen | None
    local_version: int
    as_it_is: bool = False


@dataclass(frozen=True, slots=True)
class RepairChunk:
    """A version's bytes were found damaged here, or (``version`` 0) the chunk's index record: fetch
    it from another replica, in the chunk's turn. Then ``Reply``, with ``sent`` unless something
    else had taken its place by then.

    ``wanted``: replicas differ, and this content of target ``source_id`` is to take the place of
    ``version`` (0: of none), if that is still what is here.
    """

    request_id: int
    chunk_id: ChunkId
    version: int
    wanted: Seen | None = None
    source_id: int = 0
    chain_version: int = 0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What ``Fetch`` asked for: its bytes are verified and in a block of their own. None: the chunk
    is absent there."""

    request_id: int
    content: ChunkVersion | None


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """No source could give it now; nothing was changed."""

    request_id: int
    error: CraqenError


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
    """The successor has committed what attempt ``attempt`` sent."""

    request_id: int
    attempt: int
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
    | SyncStarted
    | SyncFinished
    | SyncChunk
    | RepairChunk
    | Fetched
    | FetchFailed
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
    after the latter ``RetryForward``, all with the number of this attempt (from 1).

    ``whole``: send the version's whole content as a REPLACE (``content`` None: a REMOVE), not the
    update as it came. ``mark``: it is a copy of what is committed here, and goes with this mark.
    ``as_it_is``: its bytes are sent without regard to whether they are what its checksums say.
    ``lost``: that the content is lost is sent (a LOSE).

    ``ForwardFailed`` with DataLossError means that the bytes are damaged here, never there.
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
    mark: SyncMark | None = None
    as_it_is: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Some time from now ``RetryForward`` with the number of this attempt: it was answered, but
    with something else than what was sent."""

    request_id: int
    attempt: int


class Source(Enum):
    """What a source of ``Fetch`` may give."""

    VERSION = auto()
    """The very version, committed or pending."""
    SETTLED = auto()
    """What it has committed, when nothing of the chunk is pending or under way there."""
    NEWEST = auto()
    """What it has pending, durably, else what it has committed."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get a chunk from the first of *targets* that can give it (``Replica.copy_for``), into a new
    block; then ``Fetched`` or ``FetchFailed``.

    ``wanted``: with ``Source.VERSION``, its version, length and checksum are to be found.
    """

    request_id: int
    chunk_id: ChunkId
    chain_version: int
    targets: tuple[int, ...]
    source: Source
    wanted: ChunkVersion | None


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request: an error, or the outcome. ``sent``: whether ``SyncChunk`` sent anything
    (``length_bytes`` is then what), or ``RepairChunk`` fetched anything."""

    request_id: int
    error: CraqenError | None = None
    version: int = 0
    length_bytes: int = 0
    crc32c: int = 0
    sent: bool = False


Effect = Prepare | Persist | Forward | RetryLater | Fetch | Reply
