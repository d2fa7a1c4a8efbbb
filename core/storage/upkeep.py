"""DRIVER: what a storage process does for its targets by itself: fills syncing successors, repairs,
scrubs. One object, so that the process has one thing to start, tell and close."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..clock import Clock
from ..cluster.messages import ResyncReport
from ..options import StorageOptions
from .peer_calls import PeerCalls
from .repair import Repairer
from .resync import Resyncs
from .scrubber import Scrubber
from .target import Target
from .throttle import Throttle


class Upkeep:
    """Made before the first table change is heard of, closed before the targets are."""

    def __init__(
        self,
        options: StorageOptions,
        targets: Callable[[], Collection[Target]],
        peers: PeerCalls,
        clock: Clock,
    ) -> None:
        self._targets = targets
        self.resync_throttle = Throttle(options.resync_mebibytes_per_second)
        self.scrub_throttle = Throttle(options.scrub_mebibytes_per_second)
        """Their ``mebibytes_per_second`` may be set while running."""
        self.repairer = Repairer()
        self.resyncs = Resyncs(targets, peers, self.resync_throttle)
        self.scrubber = Scrubber(targets, self.scrub_throttle, clock)

    def start(self) -> None:
        """Begin, once all targets are open and their pending versions are being settled."""
        for target in self._targets():
            self.target_opened(target)
        self.resyncs.look()
        self.scrubber.start()

    def target_opened(self, target: Target) -> None:
        """A target that is opened later as well."""
        target.damage = self.repairer
        for chunk_id in target.store.damaged():
            target.found_damaged(chunk_id, 0)

    def chains_changed(self) -> None:
        """The targets know of their chains' new versions."""
        self.resyncs.look()

    def resync(self, target_id: int) -> ResyncReport | None:
        """How far the successor of a target is filled from here, while it is."""
        return self.resyncs.report(target_id)

    def damaged_chunks(self, target_id: int) -> int:
        """Chunks of a target that are known to be damaged now."""
        return self.repairer.damaged(target_id)

    def repaired_chunks(self, target_id: int) -> int:
        """Chunks of a target that were repaired in this life of the process."""
        return self.repairer.counts(target_id).repaired

    def scrubbed_wall_seconds(self, target_id: int) -> float:
        """When the last whole pass of the scrubber over a target ended; 0: never."""
        return self.scrubber.counts(target_id).last_pass_ended_wall_seconds

    async def close(self) -> None:
        """End all of it."""
        await self.resyncs.close()
        await self.repairer.close()
        await self.scrubber.close()
