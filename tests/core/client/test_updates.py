"""Updates that nobody waits for to the end."""

from __future__ import annotations

import asyncio
from typing import Any

from craqen.core.client.updates import ChunkUpdate, Updater
from craqen.core.errors import NoSpaceError
from craqen.core.ids import ChunkId
from craqen.core.meta.records import Layout
from craqen.core.wire.messages import UpdateKind

LAYOUT = Layout(1 << 20, 1, 0)


class SlowRoutes:
    """The head can be found when ``found`` is set; then it refuses everything."""

    def __init__(self) -> None:
        self.found = asyncio.Event()
        self.asked = 0

    async def head_connection(self, layout: Layout, index: int) -> Any:
        self.asked += 1
        await self.found.wait()
        raise NoSpaceError("the disk is full")


def test_who_aborts_does_not_wait_for_a_full_disk() -> None:
    async def play() -> None:
        routes = SlowRoutes()
        updater = Updater(routes, 7)  # type: ignore[arg-type]
        removal = ChunkUpdate(ChunkId(5, 0), LAYOUT, UpdateKind.REMOVE)
        await updater.make_for([removal], 0.01)
        assert routes.asked == 1
        (going_on,) = updater._unheard
        routes.found.set()
        (result,) = await going_on
        assert isinstance(result, NoSpaceError)
        await asyncio.sleep(0)
        assert not updater._unheard

    asyncio.run(play())
