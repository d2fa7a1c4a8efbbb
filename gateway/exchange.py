"""One request and what its handler needs: the parsed request, who sent it, the services below."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from ..core.client.port import DataStore
from ..core.clock import Clock
from ..core.crypt.port import KeyKeeper
from ..core.events.origin import Origin, origin
from ..core.identity.records import Identity
from ..core.identity.store import IdentityStore
from ..core.meta.records import Inode, InodeType, Owner
from ..core.meta.store import MetaStore
from .access.port import Authorizer
from .auth.authenticator import Authenticator
from .auth.request import Authentication
from .bucket_info import BucketCache, BucketInfo
from .buffers import BufferPool
from .errors import invalid_argument
from .iam.service import QueryService
from .listings import Person
from .protocol import BodyReceiver, Incoming
from .reply import Reply, ServerHead
from .routing import Route, Router

if TYPE_CHECKING:
    from .encryption import Sealing


@dataclass(frozen=True, slots=True)
class Services:
    """What all requests of a worker share."""

    meta: MetaStore
    data: DataStore
    executor: Executor
    buffers: BufferPool
    clock: Clock
    router: Router
    authenticator: Authenticator
    control: QueryService
    authorizer: Authorizer
    buckets: BucketCache
    keys: KeyKeeper
    accounts: IdentityStore
    region: str
    removal_grace_seconds: float
    head: ServerHead
    websites: Router | None = None
    """Knows the hosts that are web sites; None: there are none."""
    notification_targets: frozenset[str] = frozenset()
    """Names of those who can be told of events."""
    object_ownership: str = "BucketOwnerEnforced"
    """Of buckets that say nothing of it (gateway/settings/ownership.py)."""
    access_mode: str = "both"
    """The same (core/access/modes.py)."""


class Exchange:
    """One request, signature checked."""

    __slots__ = (
        "answer_headers",
        "answered_ns",
        "authentication",
        "bucket",
        "bucket_info",
        "continued",
        "deleted",
        "given_tags",
        "headers",
        "id",
        "identity",
        "key",
        "object_bytes",
        "query",
        "receiver",
        "request",
        "route",
        "sealing",
        "services",
    )

    def __init__(
        self,
        services: Services,
        request: Incoming,
        headers: dict[str, str],
        route: Route,
        authentication: Authentication,
        identity: Identity,
        request_id: str,
    ) -> None:
        self.services = services
        self.request = request
        self.headers = headers
        self.route = route
        _, self.bucket, self.key, self.query = route
        self.authentication = authentication
        self.identity = identity
        self.bucket_info: BucketInfo | None = None
        """The bucket as it was when the request was authorised; None for the service and for a
        bucket that is to be made."""
        self.id = request_id
        self.sealing: Sealing | None = None
        """How the body is encrypted that the request stores (gateway/encryption.py)."""
        self.given_tags: dict[str, str] | None = None
        """The tags in the body, of a request that sets them so."""
        self.continued = False
        """Whether a client that asked was told to send its body."""
        self.answer_headers: dict[str, str] = {}
        """What every answer to this request says besides, errors too."""
        self.receiver: BodyReceiver | None = None
        """What receives the body past aiohttp, from when it does."""

        self.answered_ns = 0
        """When the answer began, by the wall clock; 0: not yet."""
        self.object_bytes: int | None = None
        """The size of the object that the request is about, as far as the handler knows it."""
        self.deleted: Sequence[tuple[bytes, str, str]] = ()
        """Key, version id and error code of each object that a DeleteObjects names."""

    def head_of(self, reply: Reply) -> bytes:
        """Status line and headers of the answer, which begins now."""
        self.answered_ns = time.time_ns()
        if self.answer_headers:
            reply.headers = {**reply.headers, **self.answer_headers}
        return reply.head(self.services.head, self.id)

    @property
    def owner(self) -> Owner:
        """Whose files the request makes."""
        return Owner(self.identity.uid, self.identity.gid)

    @property
    def person(self) -> Person:
        """Who asks, as documents name an owner."""
        return Person(self.identity.canonical_id, self.identity.display_name)

    @property
    def settings(self) -> BucketInfo:
        """The bucket and its settings, for operations on one that exists."""
        assert self.bucket_info is not None
        return self.bucket_info

    @property
    def client_address(self) -> str:
        """The address that the request came from; empty if it cannot be told."""
        name = self.request.transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    def note_origin(self, created: str = "") -> None:
        """Say for events of the bucket who makes the changes that follow; *created*: what putting
        an object is called, if not by how it is put."""
        info = self.bucket_info
        if info is not None and info.record.notifies:
            origin.set(Origin(self.identity.user_id, self.client_address, self.id, created))

    def request_tags(self) -> dict[str, str]:
        """The tags that the request gives, in its body or headers. Nothing is checked."""
        if self.given_tags is not None:
            return self.given_tags
        return dict(parse_qsl(self.headers.get("x-amz-tagging", ""), keep_blank_values=True))

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits to be told to send its body."""
        return not self.continued and self.headers.get("expect", "").lower() == "100-continue"

    def send_continue(self) -> None:
        """Tell a client that waits for it to send its body: everything that can be refused was
        looked at."""
        if "expect" in self.headers and self.expects_continue:
            self.continued = True
            self.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    @property
    def version_id(self) -> str:
        """The version that the request names; empty: the current one. Raises S3Error
        InvalidArgument."""
        version = self.query.get("versionId")
        if version == "":
            raise invalid_argument(
                "Version id cannot be the empty string", name="versionId", value=""
            )
        return version or ""


def is_folder(inode: Inode) -> bool:
    """Whether an object is a folder made without content (mkdir)."""
    return inode.type == InodeType.DIRECTORY


def content_size(inode: Inode) -> int:
    """The size that S3 shows."""
    return 0 if is_folder(inode) else inode.size
