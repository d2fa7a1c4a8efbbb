"""Calls between processes: messages are delayed, lost, doubled and overtaken; links are cut.

A call that is not answered fails at its caller by a timer of the caller's, or at once when the
called process is seen to be dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from craqen.core.errors import DeadlineExceededError, UnavailableError

from .world import Future, Process, World


@dataclass(frozen=True, slots=True)
class Weather:
    """How messages fare."""

    delay_seconds: float = 0.001
    """About what a message takes."""
    slow: float = 0.02
    """The share of messages that take up to 100 times as long."""
    lost: float = 0.0
    doubled: float = 0.0


CALM = Weather()


class Network:
    """All links. Links are cut by direction: ``cut`` holds (from, to) names."""

    def __init__(self, world: World, weather: Weather) -> None:
        self._world = world
        self.weather = weather
        self.cut: set[tuple[str, str]] = set()
        self.slowness: dict[str, float] = {}
        """By name: how many times longer messages to that process take."""
        self._waiting: dict[str, dict[Future[Any], tuple[Process, int]]] = {}
        """Unanswered calls by the process called."""

    def separate(self, one: str, other: str) -> None:
        """Cut both directions between two."""
        self.cut.add((one, other))
        self.cut.add((other, one))

    def join(self, one: str, other: str) -> None:
        """Undo ``separate``."""
        self.cut.discard((one, other))
        self.cut.discard((other, one))

    def call(
        self, source: Process, to: Process, method: str, payload: Any, timeout_seconds: float
    ) -> Future[Any]:
        """Ask *to*; fails with what it raises, or UnavailableError."""
        answer: Future[Any] = Future()
        source.after(timeout_seconds, self._timed_out, answer, to.name)
        waiting = self._waiting.setdefault(to.name, {})
        waiting[answer] = (source, source.life)
        answer.then(waiting.__delitem__)
        self._send(source, to, self._arrive, source, source.life, to, method, payload, answer)
        if self._world.random.random() < self.weather.doubled:
            self._send(source, to, self._arrive, source, source.life, to, method, payload, answer)
        return answer

    def died(self, process: Process) -> None:
        """Its connections break: most callers notice soon."""
        for answer, (source, life) in list(self._waiting.get(process.name, {}).items()):
            if self._world.random.random() < 0.8:
                error = UnavailableError(f"{process.name}: the connection broke")
                self._send(process, source, self._refused, source, life, answer, error)

    def _timed_out(self, answer: Future[Any], name: str) -> None:
        answer.fail(DeadlineExceededError(f"{name}: no answer in time"))

    def _refused(
        self, source: Process, source_life: int, answer: Future[Any], error: UnavailableError
    ) -> None:
        if source.life == source_life:
            answer.fail(error)

    def _send(self, source: Process, to: Process, action: Any, *arguments: Any) -> None:
        """Let *action* happen at *to* after a delay, unless the message is lost."""
        chance, weather = self._world.random, self.weather
        if (source.name, to.name) in self.cut or chance.random() < weather.lost:
            return
        delay = weather.delay_seconds * (0.2 + chance.random())
        if chance.random() < weather.slow:
            delay *= 100.0 * chance.random()
        if self.slowness:
            delay *= self.slowness.get(to.name, 1.0)
        self._world.at(self._world.now + delay, self._delivered, source, to, action, arguments)

    def _delivered(self, source: Process, to: Process, action: Any, arguments: Any) -> None:
        if (source.name, to.name) in self.cut:
            return
        if to.stalled_until > self._world.now:
            self._world.at(to.stalled_until, self._delivered, source, to, action, arguments)
            return
        action(*arguments)

    def _arrive(
        self,
        source: Process,
        source_life: int,
        to: Process,
        method: str,
        payload: Any,
        answer: Future[Any],
    ) -> None:
        handler = to.handlers.get(method)
        if handler is None:
            error = UnavailableError(f"{to.name}: refuses connections")
            self._send(to, source, self._refused, source, source_life, answer, error)
            return
        life = to.life
        handler(payload, source).then(
            lambda outcome: self._answer(to, life, source, source_life, outcome, answer)
        )

    def _answer(
        self,
        to: Process,
        life: int,
        source: Process,
        source_life: int,
        outcome: Future[Any],
        answer: Future[Any],
    ) -> None:
        if to.life == life and source.life == source_life and not answer.done:
            self._send(to, source, self._answered, source, source_life, outcome, answer)

    def _answered(
        self, source: Process, source_life: int, outcome: Future[Any], answer: Future[Any]
    ) -> None:
        if source.life != source_life:
            return
        if outcome.error is not None:
            answer.fail(outcome.error)
        else:
            answer.set(outcome.result())
