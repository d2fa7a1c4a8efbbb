"""Which transport serves which address scheme. Drivers are imported when first asked for."""

from __future__ import annotations

from ..errors import InvalidArgumentError
from .port import Transport

_made: dict[str, Transport] = {}


def transport_for(address: str) -> Transport:
    """The transport of *address*'s scheme. Raises InvalidArgumentError for an unknown one."""
    scheme, _, _ = address.partition("://")
    transport = _made.get(scheme)
    if transport is None:
        transport = _made[scheme] = _make(scheme, address)
    return transport


def _make(scheme: str, address: str) -> Transport:
    if scheme == "unix":
        from .stream import UnixTransport

        return UnixTransport()
    if scheme == "tcp":
        from .stream import TcpTransport

        return TcpTransport()
    if scheme == "inproc":
        from .inprocess import InprocessTransport

        return InprocessTransport()
    raise InvalidArgumentError(f"{address}: expected unix://, tcp:// or inproc://")
