"""DRIVER: calls to the primary among the managers, over one connection that is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from ..errors import UnavailableError
from ..transport.greeting import SecretSource, greet
from ..transport.port import Connection
from ..transport.registry import transport_for
from ..wire.codec import decode
from ..wire.messages import Message, Method, encode

CONNECT_TIMEOUT_SECONDS = 2.0

R = TypeVar("R", bound=Message)


class ManagerLink:
    """Finds the primary by asking: others answer UnavailableError. Used by one event loop."""

    def __init__(self, addresses: Sequence[str], secret: SecretSource) -> None:
        """*addresses*: at least one."""
        self._secret = secret
        self._addresses = tuple(addresses)
        self._next = 0
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def call(
        self, method: Method, request: Message, reply_kind: type[R], *, timeout_seconds: float
    ) -> R:
        """One call to one manager; after a failure the next call tries the next one.

        Raises UnavailableError, and what the primary raised.
        """
        connection = await self._connected()
        try:
            reply = await connection.call(method, encode(request), timeout_seconds=timeout_seconds)
        except UnavailableError:
            await self._leave(connection)
            raise
        return decode(reply_kind, reply.header)

    async def reach(self) -> None:
        """See that the next manager answers, primary or not. Raises UnavailableError."""
        await self._connected()

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None:
                address = self._addresses[self._next % len(self._addresses)]
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                        self._connection = await self._connect(address)
                except (UnavailableError, TimeoutError) as error:
                    self._next += 1
                    raise UnavailableError(f"manager at {address}: {error}") from error
            return self._connection

    async def _connect(self, address: str) -> Connection:
        connection = await transport_for(address).connect(address)
        try:
            await greet(connection, "", 0, self._secret, timeout_seconds=CONNECT_TIMEOUT_SECONDS)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _leave(self, connection: Connection) -> None:
        """Go on to the next manager, unless another call has done so."""
        if self._connection is connection:
            self._connection = None
            self._next += 1
            await connection.close()

    async def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
