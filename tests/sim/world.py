"""Virtual time: one queue of events, one source of chance, processes that live and die.

Everything that a run does follows from its seed. A process sees time through its own clock, which
runs at its own rate; what it planned before it died never happens.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from craqen.core.errors import CraqenError

EVENTS_MAX = 400_000  # a run that needs more does not come to rest

T = TypeVar("T")


class Violation(AssertionError):
    """The system broke a promise."""


class Future(Generic[T]):
    """A value, or an error, that comes later."""

    __slots__ = ("_callbacks", "_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: T | None = None
        self._error: CraqenError | None = None
        self._callbacks: list[Callable[[Future[T]], None]] = []

    def set(self, value: T) -> None:
        """It is *value*; later words do not count."""
        if not self.done:
            self.done, self._value = True, value
            self._tell()

    def fail(self, error: CraqenError) -> None:
        """It will not come."""
        if not self.done:
            self.done, self._error = True, error
            self._tell()

    def _tell(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def then(self, callback: Callable[[Future[T]], None]) -> None:
        """Call *callback* once it is there: now, if it is."""
        if self.done:
            callback(self)
        else:
            self._callbacks.append(callback)

    @property
    def error(self) -> CraqenError | None:
        """Why there is no value."""
        return self._error

    def result(self) -> T:
        """The value. Raises the error."""
        if self._error is not None:
            # A fresh one: the same object may be raised at several places.
            raise self._error.with_traceback(None)
        return self._value  # type: ignore[return-value]

    def __await__(self) -> Generator[Future[T], None, T]:
        if not self.done:
            yield self
        return self.result()


class Task(Future[T]):
    """A coroutine of a process; it ends with the process."""

    __slots__ = ("_coroutine", "_life", "_process")

    def __init__(self, process: Process, coroutine: Coroutine[Future[Any], None, T]) -> None:
        super().__init__()
        self._process = process
        self._life = process.life
        self._coroutine = coroutine
        process.world.tasks.add(self)
        self._resume(None)

    def close(self) -> None:
        """End it, from without."""
        self._coroutine.close()

    def _resume(self, _: Future[Any] | None) -> None:
        if self._process.life != self._life:
            self._coroutine.close()
            return
        try:
            waited = self._coroutine.send(None)
        except StopIteration as stop:
            self._process.world.tasks.discard(self)
            self.set(stop.value)
        except CraqenError as error:
            self._process.world.tasks.discard(self)
            self.fail(error)
        else:
            waited.then(self._resume)


class Process:
    """Something that runs, with its own clock. ``life`` counts its starts and ends."""

    def __init__(self, world: World, name: str, rate: float) -> None:
        self.world = world
        self.name = name
        self.rate = rate
        self._offset = world.random.random() * 1000.0
        self.life = 0
        self.alive = False
        self.stalled_until = 0.0
        """Global time until which it does nothing (stopped, swapped out): what it should do is
        done then."""
        self.handlers: dict[str, Callable[[Any, Process], Future[Any]]] = {}

    def begin(self) -> None:
        """It runs from now on."""
        assert not self.alive
        self.alive = True
        self.life += 1

    def end(self) -> None:
        """It is dead: nothing that it planned will happen."""
        assert self.alive
        self.alive = False
        self.life += 1
        self.handlers = {}

    def clock(self) -> float:
        """Its monotonic clock."""
        return self._offset + self.world.now * self.rate

    def after(self, local_seconds: float, action: Callable[..., object], *arguments: Any) -> None:
        """Do it when the own clock says so, if still alive."""
        delay = local_seconds / self.rate
        self.world.at(self.world.now + delay, self._due, self.life, action, arguments)

    def _due(self, life: int, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if life != self.life:
            return
        if self.stalled_until > self.world.now:
            self.world.at(self.stalled_until, self._due, life, action, arguments)
            return
        action(*arguments)

    def sleep(self, local_seconds: float) -> Future[None]:
        """Comes true after so long by the own clock."""
        future: Future[None] = Future()
        self.after(local_seconds, future.set, None)
        return future

    def spawn(self, coroutine: Coroutine[Future[Any], None, T]) -> Task[T]:
        """Run a coroutine as long as the process lives."""
        return Task(self, coroutine)

    def say(self, text: str, *arguments: object) -> None:
        """A line of the trace."""
        if self.world.trace is not None:
            self.world.say(self.name, text % arguments if arguments else text)


class World:
    """Time, chance, and what is to happen."""

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.trace: list[str] | None = [] if tracing else None
        self.events = 0
        self.tasks: set[Task[Any]] = set()
        """Those that have not come to their end."""
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._numbers = itertools.count()

    def at(self, time: float, action: Callable[..., object], *arguments: Any) -> None:
        """Let *action* happen at *time*."""
        heapq.heappush(self._heap, (time, next(self._numbers), action, arguments))

    def run(self, until: float, finished: Callable[[], bool]) -> bool:
        """Let things happen until *finished* or the time has come; whether it was *finished*.

        Raises Violation if there is no end to it.
        """
        heap = self._heap
        while heap and heap[0][0] <= until:
            if finished():
                return True
            self.now, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
            self.events += 1
            if self.events > EVENTS_MAX:
                raise Violation(f"{EVENTS_MAX} events, and no rest")
        if finished():
            return True
        self.now = until
        return False

    def close(self) -> None:
        """End what is left, from the outermost coroutine inwards."""
        for task in self.tasks:
            task.close()

    def say(self, who: str, text: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:10.4f}  {who:<9} {text}")
