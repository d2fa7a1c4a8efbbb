"""DRIVER: an operator's commands to the primary manager."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from ..cluster.messages import AdminReply, AdminRequest
from ..errors import UnavailableError
from ..options import Config
from ..wire.messages import Method
from .link import ManagerLink

COMMAND_TIMEOUT_SECONDS = 60.0  # a placement for thousands of disks takes seconds
PRIMARY_LEASES = 3.0  # a new primary is there within two leases
PAUSE_SECONDS = 0.2


class ManagerClient:
    """Talks to the managers that the configuration names."""

    def __init__(self, config: Config) -> None:
        self._link = ManagerLink(config.manager_addresses, config.cluster_secret)
        self._patience_seconds = PRIMARY_LEASES * config.cluster.lease_seconds
        self._addresses = config.manager_addresses
        self._secret = config.cluster_secret

    async def admin(self, command: str, **arguments: object) -> Any:
        """Have the primary carry out *command*; returns its result.

        Waits a bounded time for a primary to be there, and asks again only what was not begun.
        Raises UnavailableError, and what the command raised.
        """
        request = AdminRequest(command, msgspec.json.encode(arguments))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_seconds
        while True:
            try:
                reply = await self._link.call(
                    Method.ADMIN, request, AdminReply, timeout_seconds=COMMAND_TIMEOUT_SECONDS
                )
                return msgspec.json.decode(reply.result)
            except UnavailableError as error:
                if loop.time() > deadline:
                    raise UnavailableError(
                        f"no primary manager answers at {', '.join(self._addresses)}: {error}; "
                        f"is the store running?"
                    ) from error
            await asyncio.sleep(PAUSE_SECONDS)

    async def silent(self) -> list[str]:
        """Which managers do not answer, and why."""
        told = await asyncio.gather(*map(self._silence_of, self._addresses))
        return [one for one in told if one]

    async def _silence_of(self, address: str) -> str:
        link = ManagerLink([address], self._secret)
        try:
            await link.reach()
        except UnavailableError as error:
            return str(error)
        finally:
            await link.close()
        return ""

    async def close(self) -> None:
        """End the connection."""
        await self._link.close()
