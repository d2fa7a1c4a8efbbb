"""The metadata of a store, opened by a command that works straight on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ..errors import OperatorError
from ..kv.open import open_store
from ..kv.store import KeyValueStore
from ..options import Config

_EMBEDDED = "embedded:"


@asynccontextmanager
async def opened_kv(config: Config) -> AsyncIterator[KeyValueStore]:
    """The KV of the store of *config*, which may be running. Raises OperatorError."""
    if config.kv_url.startswith(_EMBEDDED):
        folder = Path(config.kv_url.removeprefix(_EMBEDDED))
        if not folder.exists():
            raise OperatorError(
                f"{folder}: there is no store; say where it is by --config or "
                f"CRAQEN_DATA_FOLDER, or make one by craqen up"
            )
    kv = open_store(config.kv_url, durability=config.kv.durability)
    try:
        yield kv
    finally:
        await kv.close()
