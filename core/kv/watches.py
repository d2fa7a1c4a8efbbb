"""Watches of the embedded backend: futures that are done when a key has another value.

Changes may come from any process, so the store is polled, only while watches exist: one look at
the number of the last transaction, and at the watched keys when it moved. Writers pay nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..errors import CraqenError, LimitExceededError
from . import lmdb_rows
from .checks import WATCHES_MAX

if TYPE_CHECKING:
    import lmdb

    Watch = tuple[bytes, bytes | None, asyncio.Future[None]]

WATCH_POLL_SECONDS: Final = 0.02
"""Delay of a watch at most; 50 looks a second cost about 0.1 % of a core."""


class WatchTable:
    """The armed watches of one store."""

    def __init__(self, begin: Callable[[], lmdb.Transaction[bytes]]) -> None:
        """*begin* opens a snapshot of the present."""
        self._begin = begin
        self._watches: list[Watch] = []
        self._checked_version: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, watches: list[Watch]) -> None:
        """Take *watches* over. Raises LimitExceededError, having cancelled them."""
        if len(self._watches) + len(watches) > WATCHES_MAX:
            for _, _, future in watches:
                future.cancel()
            raise LimitExceededError(f"more than {WATCHES_MAX} watches: cancel those not needed")
        self._watches += watches
        # What changed between the transaction's snapshot and now is found by the next look.
        self._checked_version = None
        if self._timer is None:
            self._schedule()

    def close(self) -> None:
        """Cancel everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, _, future in self._watches:
            future.cancel()
        self._watches.clear()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WATCH_POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        self._timer = None
        self._watches = [watch for watch in self._watches if not watch[2].done()]
        try:
            if self._watches:
                self._look()
        except CraqenError as error:
            for _, _, future in self._watches:
                future.set_exception(error)
            self._watches = []
        if self._watches:
            self._schedule()

    def _look(self) -> None:
        txn = self._begin()
        try:
            version = txn.id()
            if version == self._checked_version:
                return
            self._checked_version = version
            remaining = []
            for watch in self._watches:
                key, seen, future = watch
                if lmdb_rows.get(txn, key) == seen:
                    remaining.append(watch)
                else:
                    future.set_result(None)
            self._watches = remaining
        finally:
            txn.abort()
