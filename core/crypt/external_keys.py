"""``KeyKeeper`` over a key service. Data keys are not wrapped by the service itself, at a call per
object, but under keys that it makes: each wraps many data keys for a while, and is kept in memory
no longer. (AWS calls the like bucket keys.)

A wrapped key is the length of the service's own, that, and the data key under it. Versions are the
service's business: ``key_version`` is EXTERNAL, which tells them from keys of the store itself.
"""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar, cast

from ..clock import Clock
from ..errors import DataLossError
from .envelope import unwrap, wrap
from .key_service import KeyService, ServiceKey
from .port import WrappedKey

EXTERNAL = 0
"""The version of keys that a service keeps; those of the store's own begin with 1."""
USES_MAX = 10_000
"""Data keys that one key of the service wraps: far from where random nonces might meet."""
KEYS_MAX = 1024
"""Unwrapped keys of the service in memory; past it the one used longest ago is forgotten."""
_LENGTH = struct.Struct(">H")

T = TypeVar("T")


class _Making(NamedTuple):
    """A key that wraps new data keys, and until when."""

    key: ServiceKey
    until_seconds: float


class ExternalKeys:
    """Keys of *service*. What it unwrapped is kept for *cache_seconds*: as long a key that was
    disabled there may still be used here, and readers do without an answer of the service. 0: every
    object is a call."""

    def __init__(self, service: KeyService, clock: Clock, *, cache_seconds: float) -> None:
        self._service = service
        self._clock = clock
        self._cache_seconds = cache_seconds
        self._making: dict[str, _Making] = {}
        self._uses: dict[str, int] = {}
        self._opened: OrderedDict[tuple[str, bytes], tuple[bytes, float]] = OrderedDict()
        self._under_way: dict[tuple[str, bytes], asyncio.Task[Any]] = {}

    async def wrap(self, key_id: str, data_key: bytes, bound_to: bytes) -> WrappedKey:
        """See the port. *key_id* is not empty."""
        made = self._making.get(key_id)
        uses = self._uses.get(key_id, 0)
        if made is None or self._now() >= made.until_seconds or uses >= USES_MAX:
            made = await self._once((key_id, b""), lambda: self._make(key_id))
            uses = self._uses.get(key_id, 0)
        self._uses[key_id] = uses + 1
        key = made.key
        own = _LENGTH.pack(len(key.wrapped)) + key.wrapped
        return WrappedKey(key.key_id, EXTERNAL, own + wrap(key.plaintext, data_key, bound_to))

    async def unwrap(self, wrapped: WrappedKey, bound_to: bytes) -> bytes:
        """See the port."""
        if len(wrapped.wrapped) < _LENGTH.size:
            raise DataLossError(f"encryption key {wrapped.key_id}: a wrapped key is cut short")
        end = _LENGTH.size + _LENGTH.unpack_from(wrapped.wrapped)[0]
        name = wrapped.key_id, wrapped.wrapped[_LENGTH.size : end]
        found = self._opened.get(name)
        if found is None or self._now() >= found[1]:
            plaintext = await self._once(name, lambda: self._open(*name))
        else:
            plaintext = found[0]
            self._opened.move_to_end(name)
        return unwrap(plaintext, wrapped.wrapped[end:], bound_to)

    def is_current(self, wrapped: WrappedKey) -> bool:
        """Whether wrapping anew under the same key would change nothing: the service keeps count of
        its versions by itself."""
        return True

    async def close(self) -> None:
        """Forget all keys, and end what is under way."""
        for task in self._under_way.values():
            task.cancel()
        self._making.clear()
        self._opened.clear()
        await self._service.close()

    async def _make(self, key_id: str) -> _Making:
        key = await self._service.make(key_id)
        made = _Making(key, self._now() + self._cache_seconds)
        if self._cache_seconds > 0:
            self._making[key_id] = made
            self._keep((key.key_id, key.wrapped), key.plaintext)
        self._uses[key_id] = 0
        return made

    async def _open(self, key_id: str, wrapped: bytes) -> bytes:
        plaintext = await self._service.unwrap(key_id, wrapped)
        self._keep((key_id, wrapped), plaintext)
        return plaintext

    def _keep(self, name: tuple[str, bytes], plaintext: bytes) -> None:
        if self._cache_seconds <= 0:
            return
        self._opened[name] = plaintext, self._now() + self._cache_seconds
        self._opened.move_to_end(name)
        if len(self._opened) > KEYS_MAX:
            self._opened.popitem(last=False)

    async def _once(self, name: tuple[str, bytes], work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of *work*; those who ask for the same at the same time share one call."""
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._ended(name, done))
        # Who gives up must not take the answer from the others.
        return cast(T, await asyncio.shield(task))

    def _ended(self, name: tuple[str, bytes], task: asyncio.Task[Any]) -> None:
        self._under_way.pop(name, None)
        if not task.cancelled():
            task.exception()  # all who asked may have given up

    def _now(self) -> float:
        return self._clock.monotonic_seconds()
