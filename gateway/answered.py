"""A request and what became of it: what logs of requests are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from .iam.trace import CallTrace
from .protocol import Incoming
from .routing import Route

if TYPE_CHECKING:
    from .exchange import Exchange

_NO_TLS = ("", "")


class Answered(NamedTuple):
    """A request and what became of it."""

    incoming: Incoming
    request_id: str
    began_ns: int
    """By the wall clock."""
    elapsed_ns: int
    status: int
    """0: it was not answered."""
    route: Route | None
    exchange: Exchange | None
    call: CallTrace | None
    error: tuple[str, str]
    """Code and message."""
    sent_bytes: int = 0
    """Of the answer's body."""


class Witness(Protocol):
    """Is told of each request."""

    def note(self, answered: Answered) -> None:
        """Keep what is of interest, at once. Never raises: an answer that is given is not taken
        back for the sake of its record."""
        ...


def address_of(incoming: Incoming) -> str:
    """Where a request came from; empty if that cannot be told."""
    transport = incoming.protocol.transport
    name = None if transport is None else transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""


def tls_of(incoming: Incoming) -> tuple[str, str]:
    """Version and cipher suite; empty without TLS."""
    transport = incoming.protocol.transport
    cipher = None if transport is None else transport.get_extra_info("cipher")
    return (cipher[1], cipher[0]) if cipher else _NO_TLS


def signing_of(target: str, authorization: str) -> tuple[str, str]:
    """How (``AuthHeader``, ``QueryString``) and by which version a request says that it is signed;
    empty: it is not."""
    if authorization:
        return "AuthHeader", "SigV4" if authorization.startswith("AWS4-") else "SigV2"
    query = target.partition("?")[2]
    if "X-Amz-Signature=" in query:
        return "QueryString", "SigV4"
    if "Signature=" in query:
        return "QueryString", "SigV2"
    return "", ""
