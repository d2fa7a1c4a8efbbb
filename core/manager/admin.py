"""DRIVER: operators' commands, carried out by the primary."""

from __future__ import annotations

from ..errors import InvalidArgumentError
from .primary import Primary


async def answer(primary: Primary, command: str, arguments: dict[str, object]) -> object:
    """The result of *command*, to be told as JSON. Raises InvalidArgumentError, and what the
    command
    raises."""
    raise InvalidArgumentError(f"admin {command}: no such command")
