"""The supervisor with small processes of its own (child_process.py)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from craqen.core.cli.supervisor import ProcessSpec, Supervisor
from craqen.core.errors import OperatorError

CHILD = str(Path(__file__).with_name("child_process.py"))
PATIENCE_SECONDS = 20.0


class Setting:
    """A supervisor and the journal that its processes write."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal"
        os.mkfifo(self.path)
        self.journal = asyncio.StreamReader()
        self.supervisor = self.make_supervisor()

    @staticmethod
    def make_supervisor(
        *, ready_seconds: float = PATIENCE_SECONDS, stop_seconds: float = PATIENCE_SECONDS
    ) -> Supervisor:
        """A supervisor that starts processes again at once."""
        return Supervisor(
            {**os.environ, "PLACE": "home"},
            ready_timeout_seconds=ready_seconds,
            stop_timeout_seconds=stop_seconds,
            restart_delays_seconds=(0.0, 0.001),
        )

    def spec(self, name: str, behaviour: str = "serve") -> ProcessSpec:
        """A process that writes this journal."""
        return ProcessSpec(name, (CHILD, str(self.path), name, behaviour))

    async def line(self) -> list[str]:
        """The words of the journal's next line."""
        line = await asyncio.wait_for(self.journal.readline(), PATIENCE_SECONDS)
        return line.decode().split()

    async def started(self, name: str) -> int:
        """Expect the start of a process; return its id."""
        words = await self.line()
        assert words[:2] == ["start", name]
        return int(words[2])

    async def run(self, work: Callable[[Setting], Awaitable[None]]) -> None:
        """Run *work* with the journal open, and stop everything afterwards."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as pipe:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(self.journal), pipe
            )
            try:
                await work(self)
            finally:
                await self.supervisor.stop()
                transport.close()


def play(folder: Path, work: Callable[[Setting], Awaitable[None]]) -> None:
    """Run *work* on a fresh setting."""

    async def main() -> None:
        await Setting(folder).run(work)

    asyncio.run(main())


def is_running(process_id: int) -> bool:
    """Whether there is such a process (one that ended was reaped by the supervisor)."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_processes_say_when_ready_comes_back_in_their_order(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        said = await setting.supervisor.start([setting.spec("one"), setting.spec("two")])
        assert said == ["one is at home", "two is at home"]

    play(tmp_path, work)


def test_a_process_that_fails_to_start_is_named_with_its_exit_code(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        with pytest.raises(OperatorError, match=r"^broken did not start: exit code 7;"):
            await setting.supervisor.start([setting.spec("broken", "fail")])

    play(tmp_path, work)


def test_of_a_stage_that_fails_the_others_are_stopped(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        with pytest.raises(OperatorError, match="broken"):
            await setting.supervisor.start([setting.spec("good"), setting.spec("broken", "fail")])
        starts = [await setting.line() for _ in range(2)]
        good = next(int(words[2]) for words in starts if words[1] == "good")
        assert is_running(good)
        await setting.supervisor.stop()
        assert await setting.line() == ["stop", "good"]
        assert not is_running(good)

    play(tmp_path, work)


def test_a_process_that_is_never_ready_is_named_and_stopped(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        supervisor = setting.make_supervisor(ready_seconds=2.0)
        with pytest.raises(OperatorError, match=r"^slow did not start: it was not ready within"):
            await supervisor.start([setting.spec("slow", "hang")])
        await setting.started("slow")
        assert await setting.line() == ["stop", "slow"]

    play(tmp_path, work)


def test_a_process_that_closes_its_ready_pipe_and_lives_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craqen.core.cli.supervisor.EXIT_TIMEOUT_SECONDS", 0.05)

    async def work(setting: Setting) -> None:
        with pytest.raises(OperatorError, match="never said that it was ready"):
            await setting.supervisor.start([setting.spec("mute", "silent")])
        await setting.started("mute")
        assert await setting.line() == ["stop", "mute"]

    play(tmp_path, work)


def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        await setting.supervisor.start([setting.spec("one")])
        first = await setting.started("one")
        os.kill(first, signal.SIGKILL)
        second = await setting.started("one")
        assert second != first
        os.kill(second, signal.SIGKILL)
        assert await setting.started("one") not in (first, second)

    play(tmp_path, work)


def test_starting_again_is_tried_until_it_succeeds(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        await setting.supervisor.start([setting.spec("one", "fail-once-restarted")])
        os.kill(await setting.started("one"), signal.SIGKILL)
        failed = [await setting.started("one") for _ in range(2)]
        running = await setting.started("one")
        assert is_running(running)
        assert running not in failed

    play(tmp_path, work)


def test_those_started_last_are_stopped_first_even_after_a_restart(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        for name in ("one", "two", "three"):
            await setting.supervisor.start([setting.spec(name)])
        os.kill(await setting.started("one"), signal.SIGKILL)
        starts = {(await setting.line())[1] for _ in range(3)}
        assert starts == {"one", "two", "three"}
        await setting.supervisor.stop()
        stops = [await setting.line() for _ in range(3)]
        assert stops == [["stop", "three"], ["stop", "two"], ["stop", "one"]]

    play(tmp_path, work)


def test_nothing_is_started_again_while_stopping(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        await setting.supervisor.start([setting.spec("one")])
        process_id = await setting.started("one")
        await setting.supervisor.stop()
        assert await setting.line() == ["stop", "one"]
        assert not is_running(process_id)
        await setting.supervisor.start([setting.spec("marker")])
        await setting.started("marker")  # and no start of "one" before it

    play(tmp_path, work)


def test_a_process_that_is_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        supervisor = setting.make_supervisor(stop_seconds=0.3)
        await supervisor.start([setting.spec("deaf", "deaf")])
        process_id = await setting.started("deaf")
        await supervisor.stop()
        assert await setting.line() == ["stop", "deaf"]  # it did get SIGTERM first
        assert not is_running(process_id)

    play(tmp_path, work)


def test_a_start_that_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    async def work(setting: Setting) -> None:
        start = asyncio.create_task(setting.supervisor.start([setting.spec("slow", "hang")]))
        process_id = await setting.started("slow")
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        await setting.supervisor.stop()
        assert await setting.line() == ["stop", "slow"]
        assert not is_running(process_id)

    play(tmp_path, work)
