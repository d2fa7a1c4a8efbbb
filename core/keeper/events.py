"""The duty ``events``: tells destinations what happened in buckets, at least once.

Destinations do not wait for each other. Events of one object are told in the order of what
happened; those of several are told beside each other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from ..errors import CraqenError
from ..events.message import message_of
from ..events.outbox import Event, Queue
from ..events.sender import RefusedMessageError, Sender
from ..events.senders import Senders
from ..kv.store import KeyValueStore
from ..metrics import Metric
from ..options import EventOptions
from .outbox import Outbox, Standing, Waiting

RUN_SECONDS = 60.0
"""How long one run goes on: between runs another keeper may take the duty over."""
LOOK_SECONDS = 10.0
"""How often queues are looked at if nobody says that something came."""
RETRY_SECONDS, RETRY_SECONDS_MAX = 1.0, 60.0
"""Rest of a destination after a failure, doubled with each further one in a row."""
IN_FLIGHT_MAX = 16
"""Messages that one destination is given at a time."""
REFUSALS_MAX = 3
"""A message that a destination refuses so often is lost, so that it does not hold up the others."""

_log = logging.getLogger("craqen.events")


@dataclass(slots=True)
class _Course:
    """How it goes with one destination."""

    delivered: int = 0
    failures: int = 0
    failures_in_row: int = 0
    due_seconds: float = 0.0
    """By the monotonic clock."""
    refusals: dict[str, int] = field(default_factory=dict)
    """By message: of events that wait still, no more than a page of each queue."""


class EventDuty:
    """``Duty``."""

    name = "events"

    def __init__(self, kv: KeyValueStore, options: EventOptions, region: str) -> None:
        """*region*: what events say of buckets that were made in a mount. Raises ConfigError."""
        self._outbox = Outbox(kv)
        self._senders = Senders(options)
        self._region = region
        self._courses: defaultdict[str, _Course] = defaultdict(_Course)
        self._standings: list[Standing] = []
        self._unknown: set[str] = set()

    async def run_once(self, now_ns: int) -> float:
        """Deliver what comes, for a while."""
        ends_seconds = time.monotonic() + RUN_SECONDS
        busy: dict[str, asyncio.Task[None]] = {}
        try:
            while time.monotonic() < ends_seconds:
                self._standings, changed = await self._outbox.watch()
                try:
                    wait_seconds = self._start(busy, ends_seconds)
                    await asyncio.wait(
                        {changed, *busy.values()},
                        timeout=min(wait_seconds, max(0.0, ends_seconds - time.monotonic())),
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                finally:
                    changed.cancel()
                for name in [name for name, task in busy.items() if task.done()]:
                    busy.pop(name).result()
            await asyncio.gather(*busy.values())
        finally:
            for task in busy.values():
                task.cancel()
            await asyncio.gather(*busy.values(), return_exceptions=True)
            await self._senders.close()
        return 0.0

    def _start(self, busy: dict[str, asyncio.Task[None]], ends_seconds: float) -> float:
        """Begin with what waits and is due; return in how many seconds more is due."""
        queues: defaultdict[str, list[Queue]] = defaultdict(list)
        for one in self._standings:
            if one.waiting:
                queues[one.queue.destination].append(one.queue)
        wait_seconds = LOOK_SECONDS
        for name, own in queues.items():
            sender = self._senders.of(name)
            if sender is None:
                self._complain(name)
            elif name not in busy:
                rest = self._courses[name].due_seconds - time.monotonic()
                if rest > 0:
                    wait_seconds = min(wait_seconds, rest)
                else:
                    work = self._serve(name, sender, own, ends_seconds)
                    busy[name] = asyncio.create_task(work)
        return wait_seconds

    def _complain(self, name: str) -> None:
        if name not in self._unknown:
            self._unknown.add(name)
            _log.error(
                "events wait for %s, which events.destinations does not have: add it and start the "
                "keeper again",
                name,
            )

    async def _serve(
        self, name: str, sender: Sender, queues: Sequence[Queue], ends_seconds: float
    ) -> None:
        """Give one destination what waits for it, until there is no more or it fails."""
        course = self._courses[name]
        for queue in queues:
            while time.monotonic() < ends_seconds:
                page = await self._outbox.page(queue)
                if not page:
                    break
                try:
                    await self._deliver(course, sender, queue, page)
                except CraqenError as error:
                    course.failures += 1
                    rest = RETRY_SECONDS * 2.0 ** min(course.failures_in_row, 16)
                    course.due_seconds = time.monotonic() + min(rest, RETRY_SECONDS_MAX)
                    if course.failures_in_row == 0:
                        _log.warning("%s; its events wait", error)
                    course.failures_in_row += 1
                    return
                if course.failures_in_row:
                    _log.info("destination %s takes events again", name)
                    course.failures_in_row = 0

    async def _deliver(
        self, course: _Course, sender: Sender, queue: Queue, page: Sequence[Waiting]
    ) -> None:
        """Tell of a page and forget what was told. Raises what the destination raises."""
        first = page[0]
        if first.event is not None and first.event.folder_id:
            events, after = await self._outbox.walk(queue, first)
            batch = _Batch(course, sender, self._region)
            await batch.run([(event, first) for event in events])
            batch.raise_failure()
            if batch.lost:
                await self._outbox.count_lost(queue, len(batch.lost))
            if after is None:
                await self._outbox.finish(queue, [first])
            else:
                await self._outbox.walked(first, after)
            return
        batch = _Batch(course, sender, self._region)
        unreadable = [one for one in page if one.event is None]
        await batch.run([(one.event, one) for one in page if one.event is not None])
        lost = unreadable + batch.lost
        if lost:
            _log.error("%d events for %s are lost", len(lost), queue.destination)
        if batch.done or lost:
            await self._outbox.finish(queue, batch.done + lost, lost=len(lost))
        batch.raise_failure()

    def measures(self) -> Sequence[Metric]:
        """What this process did since it began, and what waited when it looked."""
        waiting = dict.fromkeys(self._senders.destinations, 0)
        lost = dict(waiting)
        for one in self._standings:
            name = one.queue.destination
            waiting[name] = waiting.get(name, 0) + one.waiting
            lost[name] = lost.get(name, 0) + one.lost
        courses = self._courses.items()
        kinds = (
            ("delivered_total", "counter", "Events told.", {n: c.delivered for n, c in courses}),
            (
                "failures_total",
                "counter",
                "Times that a destination could not be told.",
                {n: c.failures for n, c in courses},
            ),
            ("waiting", "gauge", "Events that wait for a destination.", waiting),
            ("lost", "gauge", "Events that a destination was not told, in all.", lost),
        )
        return [
            Metric(
                f"craqen_events_{name}",
                kind,
                text,
                [({"destination": one}, value) for one, value in sorted(values.items())],
            )
            for name, kind, text, values in kinds
        ]


class _Batch:
    """Some messages to one destination; use ``run`` once."""

    def __init__(self, course: _Course, sender: Sender, region: str) -> None:
        self.done: list[Waiting] = []
        self.lost: list[Waiting] = []
        self._course = course
        self._sender = sender
        self._region = region
        self._failure: CraqenError | None = None
        self._free = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def run(self, events: Sequence[tuple[Event, Waiting]]) -> None:
        """Send all, those of one object one after the other; none after one that failed."""
        by_key: defaultdict[bytes, list[tuple[Event, Waiting]]] = defaultdict(list)
        for event, one in events:
            by_key[event.key].append((event, one))
        async with asyncio.TaskGroup() as group:
            for own in by_key.values():
                group.create_task(self._send_in_order(own))

    def raise_failure(self) -> None:
        """Raise what was raised by the first message that could not be sent."""
        if self._failure is not None:
            raise self._failure

    async def _send_in_order(self, events: Sequence[tuple[Event, Waiting]]) -> None:
        async with self._free:
            for event, one in events:
                if self._failure is not None or not await self._send(event, one):
                    return

    async def _send(self, event: Event, one: Waiting) -> bool:
        """Returns whether that is done with."""
        course, sequencer = self._course, one.sequencer
        if not event.region:
            event = msgspec.structs.replace(event, region=self._region)
        message = message_of([(event, sequencer)])
        message_id = message_id_of(event, sequencer)
        try:
            await self._sender.send(message, message_id)
        except RefusedMessageError as error:
            times = course.refusals.pop(message_id, 0) + 1
            if times >= REFUSALS_MAX:
                self.lost.append(one)
                return True
            course.refusals[message_id] = times
            self._failure = self._failure or error
            return False
        except CraqenError as error:
            self._failure = self._failure or error
            return False
        course.refusals.pop(message_id, None)
        course.delivered += 1
        self.done.append(one)
        return True


def message_id_of(event: Event, sequencer: str) -> str:
    """The same for one event however often it is told, and no other's. All events of a folder that
    was renamed have one sequencer."""
    digest = blake2b(event.name.encode() + b"\0" + event.key, digest_size=8).hexdigest()
    return f"{sequencer}-{digest}"
