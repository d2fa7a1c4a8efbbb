"""PORT: calls from one storage node to the nodes of other targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from ..wire.messages import Message, Method

R = TypeVar("R", bound=Message)


class PeerCalls(Protocol):
    """Calls to the nodes of other targets."""

    async def call(
        self,
        target_id: int,
        method: Method,
        request: Message,
        reply_kind: type[R],
        *,
        send: Sequence[memoryview] = (),
        receive: Sequence[memoryview] = (),
    ) -> R:
        """Ask the node that has the target. Raises what it raised, UnavailableError."""
        ...
