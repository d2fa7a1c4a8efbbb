"""DRIVER: carries a wanted placement out, step by step."""

from __future__ import annotations

from .primary import Primary


async def rebalance_tick(primary: Primary) -> None:
    """Nothing is wanted yet."""
