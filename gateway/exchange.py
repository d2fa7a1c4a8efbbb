"""One request and what its handler needs: the parsed request, who sent it, the services below."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from aiohttp.web import BaseRequest

from ..core.client.port import DataStore
from ..core.clock import Clock
from ..core.meta.records import Inode, InodeType, Owner
from ..core.meta.store import MetaStore
from .auth.authenticator import Authenticator
from .auth.request import Authentication
from .errors import S3Error
from .listings import Person
from .reply import ServerHead
from .routing import Route, Router

_id_prefix = secrets.token_hex(4).upper()
_id_counter = 0


def new_request_id() -> str:
    """Sixteen characters, unique among the processes of a host for all practical purposes."""
    global _id_counter
    _id_counter += 1
    return f"{_id_prefix}{_id_counter & 0xFFFFFFFF:08X}"


@dataclass(frozen=True, slots=True)
class Services:
    """What all requests of a worker share."""

    meta: MetaStore
    data: DataStore
    executor: Executor
    clock: Clock
    router: Router
    authenticator: Authenticator
    region: str
    owner: Owner
    person: Person
    removal_grace_seconds: float
    head: ServerHead


class Exchange:
    """One request, signature checked."""

    __slots__ = ("authentication", "continued", "headers", "id", "request", "route", "services")

    def __init__(
        self,
        services: Services,
        request: BaseRequest,
        headers: dict[str, str],
        route: Route,
        authentication: Authentication,
        request_id: str,
    ) -> None:
        self.services = services
        self.request = request
        self.headers = headers
        self.route = route
        self.authentication = authentication
        self.id = request_id
        self.continued = False

    @property
    def bucket(self) -> str:
        """The bucket named by the request."""
        return self.route.bucket

    @property
    def key(self) -> bytes:
        """The key named by the request."""
        return self.route.key

    @property
    def query(self) -> Mapping[str, str]:
        """Query parameters, decoded."""
        return self.route.query

    def send_continue(self) -> None:
        """Tell a client that waits for it to send its body: everything that can be refused was
        looked at."""
        if self.continued or self.headers.get("expect", "").lower() != "100-continue":
            return
        self.continued = True
        transport = self.request.transport
        if transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def refuse_version(self) -> None:
        """Raise S3Error for a version id other than that of an unversioned object."""
        version = self.query.get("versionId", "null")
        if version not in ("null", ""):
            raise S3Error("NoSuchVersion", fields={"VersionId": version})


def is_folder(inode: Inode) -> bool:
    """Whether an object is a folder made without content (mkdir)."""
    return inode.type == InodeType.DIRECTORY


def content_size(inode: Inode) -> int:
    """The size that S3 shows."""
    return 0 if is_folder(inode) else inode.size
