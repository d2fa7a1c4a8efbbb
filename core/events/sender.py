"""PORT: gives messages to a destination."""

from __future__ import annotations

from typing import Protocol

from ..errors import CallerError


class RefusedMessageError(CallerError):
    """The destination does not take this message, and would not take it later either."""


class Sender(Protocol):
    """One destination. It may be sent the same message again: what it sends along as the message's
    id tells the destination so."""

    async def send(self, message: bytes, message_id: str) -> None:
        """Return once the destination has taken *message*: it is not lost when it crashes then, as
        far as the destination promises that.

        Raises UnavailableError (try again later), RefusedMessageError, ConfigError.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
