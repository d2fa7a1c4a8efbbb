"""One call to the IAM or STS API, and the table of what there is to be called."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from ...core.errors import NotFoundError
from ...core.identity.names import holder_arn
from ...core.identity.records import Identity, Principal
from ...core.identity.schema import Kind
from ...core.identity.store import IdentityStore
from ..times import iso_seconds
from .issuers import Issuers
from .query import IAM, Answer, Parameters, QueryError, invalid
from .rights import ControlRights

ITEMS_DEFAULT = 100
ITEMS_MAX = 1000
DOCUMENT_CHARACTERS_MAX = 131_072  # AWS's bound on the parameter; policies have tighter ones

_DOCUMENT = re.compile(r"[\t\n\r\x20-\xff]+")


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler needs."""

    store: IdentityStore
    rights: ControlRights
    issuers: Issuers
    identity: Identity
    parameters: Parameters
    now_seconds: float

    @property
    def account_id(self) -> str:
        """The account that the caller acts in."""
        return self.identity.account_id

    @property
    def after(self) -> bytes:
        """The ``Marker`` of a listing. Raises QueryError."""
        text = self.parameters.get("Marker")
        try:
            return base64.urlsafe_b64decode(text.encode()) if text else b""
        except (ValueError, binascii.Error) as error:
            raise invalid("Invalid Marker.") from error

    @property
    def limit(self) -> int:
        """``MaxItems``. Raises QueryError."""
        return self.parameters.number("MaxItems", ITEMS_DEFAULT, 1, ITEMS_MAX)

    def user_name(self, name: str = "UserName") -> str:
        """The user that the call is about: the caller, if none is named; empty for an account.

        Raises QueryError for a role that names none.
        """
        given = self.parameters.get(name)
        if given:
            return given
        if self.identity.principal is Principal.ROLE:
            raise invalid("Must specify userName when calling with non-User credentials")
        return self.identity.user_name

    def document(self, name: str = "PolicyDocument") -> str:
        """A policy among the parameters; its size alone is looked at. Raises QueryError."""
        text = self.parameters.need(name)
        if len(text) > DOCUMENT_CHARACTERS_MAX or _DOCUMENT.fullmatch(text) is None:
            raise QueryError(
                "MalformedPolicyDocument",
                "The policy is too large, or holds characters that policies cannot have.",
            )
        return text


Handler = Callable[[Call], Awaitable[Answer | None]]
Resource = Callable[[Call], Awaitable[str]]


class Operation(NamedTuple):
    """One action of an API."""

    handler: Handler
    resource: Resource | None
    """The ARN that the caller must be allowed to use it on; None: the handler checks, or anybody
    who has proven who he is may."""
    service: str = IAM
    unsigned: bool = False
    """Whether it needs no signature."""


def page_answer(name: str, members: list[Answer], last: bytes) -> Answer:
    """A page of a listing; *last* empty: there are no more."""
    marker = base64.urlsafe_b64encode(last).decode() if last else None
    return {name: members, "IsTruncated": bool(last), "Marker": marker}


def tag_members(tags: dict[str, str]) -> list[Answer]:
    """Tags as documents list them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def iam_time(time_ns: int) -> str:
    """A time as documents have it."""
    return iso_seconds(time_ns / 1e9)


def on_holder(kind: Kind, parameter: str) -> Resource:
    """The resource of actions on the user, group or role that *parameter* names."""

    async def resource(call: Call) -> str:
        if kind is Kind.USER:
            name = call.user_name(parameter)
            if not name:
                return call.identity.arn
        else:
            name = call.parameters.need(parameter)
        return await arn_of(call, kind, name)

    return resource


async def arn_of(call: Call, kind: Kind, name: str) -> str:
    """The ARN of a holder; if there is none, that which it would have with the path given."""
    path = call.parameters.get("Path", "/")
    try:
        holder = await call.store.get_holder(kind, call.account_id, name)
    except NotFoundError:
        return holder_arn(kind, call.account_id, path, name)
    return holder_arn(kind, call.account_id, holder.path, holder.name)


def on_path(word: str) -> Resource:
    """The resource of listings of one kind."""

    async def resource(call: Call) -> str:
        return f"arn:aws:iam::{call.account_id}:{word}{call.parameters.get('PathPrefix', '/')}"

    return resource


def on_arn(parameter: str) -> Resource:
    """The resource of actions on what *parameter* names by its ARN."""

    async def resource(call: Call) -> str:
        return call.parameters.need(parameter)

    return resource


async def on_everything(call: Call) -> str:
    """The resource of actions that have none of their own."""
    return "*"
