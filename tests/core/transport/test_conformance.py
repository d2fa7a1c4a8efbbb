"""One suite for every transport: what a caller may rely on."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from craqen.core.errors import (
    ChecksumMismatchError,
    DataLossError,
    DeadlineExceededError,
    InvalidArgumentError,
    NoSpaceError,
    PreconditionFailedError,
    StaleChainVersionError,
    UnavailableError,
)
from craqen.core.limits import FRAME_HEADER_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, MIB
from craqen.core.transport.flow import CALLS_IN_FLIGHT_MAX
from craqen.core.transport.lending import LENT_BYTES_MIN, LendableMemory
from craqen.core.transport.port import Connection, Server
from craqen.core.transport.registry import transport_for
from craqen.core.wire.messages import BATCH_BUFFERS_MAX
from craqen.tests.core.transport.service import (
    CRASH,
    ECHO,
    FAIL,
    FETCH,
    FILES,
    FROM_FILE,
    HANG,
    PULL_AND_WAIT,
    PUSH_FOREVER,
    STORE,
    Service,
    open_descriptors,
    pattern,
)


class Stage:
    """A server, and a connection to it."""

    def __init__(self, service: Service, server: Server, connection: Connection) -> None:
        self.service = service
        self.server = server
        self.connection = connection


Scenario = Callable[[Stage], Awaitable[None]]
Run = Callable[[Scenario], None]

KINDS = ["inproc", "unix", "long-unix", "tcp", "tcp-uvloop", "unix-uvloop"]


def address_of(kind: str, folder: Path) -> str:
    if kind == "long-unix":
        (folder / ("long" * 30)).mkdir()
        return f"unix://{folder}/{'long' * 30}/socket"
    return {
        "inproc": f"inproc://{folder}",
        "unix": f"unix://{folder}/socket",
        "tcp": "tcp://127.0.0.1:0",
    }[kind.removesuffix("-uvloop")]


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """A function that plays a scenario on a fresh stage. No descriptor may be left over."""

    async def play(scenario: Scenario) -> None:
        service = Service(tmp_path)
        address = address_of(request.param, tmp_path)
        transport = transport_for(address)
        server = await transport.serve(address, service, peer_gone=service.on_gone)
        connection = await transport.connect(server.address)
        try:
            await asyncio.wait_for(scenario(Stage(service, server, connection)), 20)
        finally:
            service.release.set()
            await connection.close()
            await server.close()
            service.close()

    def runner(scenario: Scenario) -> None:
        start = uvloop.run if request.param.endswith("-uvloop") else asyncio.run
        start(asyncio.sleep(0))  # uvloop opens a few descriptors once for the process
        before = open_descriptors()
        start(play(scenario))
        assert open_descriptors() == before

    return runner


def test_headers_come_back(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        for header in (b"", b"x", os.urandom(100_000), os.urandom(FRAME_HEADER_BYTES_MAX)):
            assert (await stage.connection.call(ECHO, header)).header == header

    run(scenario)


def test_many_calls_at_once(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        headers = [str(number).encode() * 20 for number in range(3 * CALLS_IN_FLIGHT_MAX)]
        replies = await asyncio.gather(*(stage.connection.call(ECHO, header) for header in headers))
        assert [reply.header for reply in replies] == headers

    run(scenario)


def test_headers_beyond_what_may_be_in_flight_wait_their_turn(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        headers = [bytes([number]) * (3 * MIB) for number in range(20)]
        replies = await asyncio.gather(*(stage.connection.call(ECHO, header) for header in headers))
        assert [reply.header for reply in replies] == headers

    run(scenario)


def test_memory_that_can_be_lent_is_offered_like_any_other(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        memory = LendableMemory(8 * MIB)
        whole = memoryview(memory)
        whole[:] = pattern(3, 8 * MIB)
        for view in (whole, whole[4096:], whole[5 : 5 * MIB], whole[-LENT_BYTES_MIN:], whole[:9]):
            await stage.connection.call(STORE, b"", send=[view, whole[:MIB]])
            assert stage.service.stored == [whole[:MIB], view]
            stage.service.stored.clear()
            assert memory.lent == 0
        del view, whole

    run(scenario)


@pytest.mark.parametrize("size", [0, 1, 32_769, 65_535, 65_536, 65_537, 8 * MIB])
def test_buffers_both_ways(run: Run, size: int) -> None:
    async def scenario(stage: Stage) -> None:
        sizes = [size, 10, size, 0]
        data = [pattern(number + 50, length) for number, length in enumerate(sizes)]
        await stage.connection.call(STORE, b"", send=[memoryview(item) for item in data])
        assert stage.service.stored == data[::-1]
        buffers = [bytearray(length + 1) for length in sizes]
        views = [memoryview(buffer)[:-1] for buffer in buffers]
        await stage.connection.call(FETCH, b"", receive=views)
        for number, buffer in enumerate(buffers):
            assert buffer == pattern(number, sizes[number]) + b"\0"

    run(scenario)


def test_as_many_buffers_as_a_call_may_have(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        data = [pattern(number, 300) for number in range(BATCH_BUFFERS_MAX)]
        await stage.connection.call(STORE, b"", send=[memoryview(item) for item in data])
        assert stage.service.stored == data[::-1]
        buffers = [bytearray(300) for _ in data]
        views = [memoryview(buffer) for buffer in buffers]
        await stage.connection.call(FETCH, b"", receive=views)
        assert buffers == data

    run(scenario)


def test_large_transfers_at_once(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        buffers = [bytearray(1_000_000) for _ in range(20)]
        data = memoryview(pattern(3, 2_700_000))
        await asyncio.gather(
            *(stage.connection.call(FETCH, b"", receive=[memoryview(one)]) for one in buffers),
            *(stage.connection.call(STORE, b"", send=[data]) for _ in range(20)),
        )
        assert all(buffer == pattern(0, 1_000_000) for buffer in buffers)
        assert stage.service.stored == [bytes(data)] * 20

    run(scenario)


def test_small_calls_are_answered_while_a_large_buffer_waits_to_be_pulled(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        data = memoryview(pattern(3, 8 * MIB))
        waiting = asyncio.create_task(stage.connection.call(HANG, b"", send=[data]))
        await stage.service.hanging.wait()
        assert (await stage.connection.call(ECHO, b"meanwhile")).header == b"meanwhile"
        stage.service.release.set()
        await waiting

    run(scenario)


@pytest.mark.parametrize("cached", [True, False])
def test_push_from_a_file(run: Run, cached: bool) -> None:
    async def scenario(stage: Stage) -> None:
        content = pattern(7, 3_000_000)
        stage.service.source.write_bytes(content)
        if not cached:
            with stage.service.source.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffers = [bytearray(2_500_000), bytearray(0), bytearray(5)]
        views = [memoryview(buffer) for buffer in buffers]
        await stage.connection.call(FROM_FILE, b"", receive=views)
        assert buffers == [content[1000 : 1000 + len(buffer)] for buffer in buffers]

    run(scenario)


def test_a_file_that_is_too_short_is_data_loss(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        stage.service.source.write_bytes(bytes(100_000))
        buffer = memoryview(bytearray(99_001))
        with pytest.raises(DataLossError):
            await stage.connection.call(FROM_FILE, b"", receive=[buffer])
        assert (await stage.connection.call(ECHO, b"on")).header == b"on"

    run(scenario)


def test_descriptors(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        if not stage.connection.shares_files:
            with pytest.raises(UnavailableError):
                await stage.connection.call(FILES, b"")
            return
        await stage.connection.call(ECHO, b"accepted by now")
        before = open_descriptors()
        replies = await asyncio.gather(
            *(stage.connection.call(FILES, b"content") for _ in range(100))
        )
        for reply in replies:
            assert reply.header == b"take it"
            first, second = reply.descriptors
            assert first != second
            assert os.pread(first, 100, 0) == b"content"
            assert os.path.samefile(f"/proc/self/fd/{second}", stage.service.folder / "shared")
            assert fcntl.fcntl(first, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
            os.close(first)
            os.close(second)
        assert open_descriptors() == before

    run(scenario)


def test_descriptors_of_an_answer_that_nobody_waits_for_are_closed(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        if not stage.connection.shares_files:
            return
        await stage.connection.call(ECHO, b"accepted by now")
        before = open_descriptors()
        for turns in range(8):  # cancelled before, while and after the answer comes
            task = asyncio.create_task(stage.connection.call(FILES, b"content"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                for descriptor in task.result().descriptors:
                    os.close(descriptor)
            await stage.connection.call(ECHO, b"on")
        assert open_descriptors() == before

    run(scenario)


def test_errors_arrive_as_what_they_are(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        for error in (
            NoSpaceError("disk full"),
            DataLossError("page 3"),
            ChecksumMismatchError("no"),
            PreconditionFailedError("no", condition="If-Match"),
            StaleChainVersionError("old", chain_id=4, current_version=9),
        ):
            stage.service.error = error
            with pytest.raises(type(error)) as caught:
                await stage.connection.call(FAIL, b"")
            assert str(caught.value) == str(error)
            assert caught.value.__class__ is type(error)
            for name, value in vars(error).items():
                assert getattr(caught.value, name) == value

    run(scenario)


def test_an_error_leaves_what_was_offered_aside(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        stage.service.error = NoSpaceError("disk full")
        offered = bytearray(4_000_000)
        with pytest.raises(NoSpaceError):
            await stage.connection.call(FAIL, b"", send=[memoryview(offered)])
        with pytest.raises(NoSpaceError):
            await stage.connection.call(FAIL, b"", send=[memoryview(offered)[:4000]])
        await stage.connection.call(STORE, b"", send=[memoryview(offered)])
        assert stage.service.stored == [offered]

    run(scenario)


def test_what_no_call_may_hold_is_refused_here(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        too_long = memoryview(bytearray(FRAME_PAYLOAD_BYTES_MAX + 1))
        call = stage.connection.call
        for refused in (
            call(ECHO, bytes(FRAME_HEADER_BYTES_MAX + 1)),
            call(ECHO, b"", send=[too_long]),
            call(ECHO, b"", receive=[too_long]),
            call(ECHO, b"", receive=[too_long[:0]] * (BATCH_BUFFERS_MAX + 1)),
        ):
            with pytest.raises(InvalidArgumentError, match="limit"):
                await refused
        assert (await call(ECHO, b"on")).header == b"on"

    run(scenario)


def test_a_crashing_handler_costs_only_its_call(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(UnavailableError, match="internal"):
            await stage.connection.call(CRASH, b"")
        assert "ZeroDivisionError" in caplog.text
        assert (await stage.connection.call(ECHO, b"on")).header == b"on"

    run(scenario)


def test_a_deadline(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        slow = asyncio.create_task(stage.connection.call(HANG, b"slow", timeout_seconds=15))
        buffer = bytearray(100_000)
        with pytest.raises(DeadlineExceededError):
            await stage.connection.call(
                HANG, b"", receive=[memoryview(buffer)], timeout_seconds=0.02
            )
        assert (await stage.connection.call(ECHO, b"on", timeout_seconds=15)).header == b"on"
        stage.service.release.set()
        assert (await slow).header == b"slow"
        assert (await stage.connection.call(ECHO, b"both handlers have ended")).header
        assert buffer == bytes(100_000)

    run(scenario)


def test_calls_beyond_the_limit_wait_and_keep_their_deadlines(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        hanging = [
            asyncio.create_task(stage.connection.call(HANG, b""))
            for _ in range(CALLS_IN_FLIGHT_MAX)
        ]
        await stage.service.hanging.wait()
        if hasattr(stage.connection, "outbox"):  # a stream: there the limit is kept
            with pytest.raises(DeadlineExceededError):
                await stage.connection.call(ECHO, b"", timeout_seconds=0.01)
        impatient = asyncio.create_task(stage.connection.call(ECHO, b"never mind"))
        patient = asyncio.create_task(stage.connection.call(ECHO, b"patient"))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.wait([impatient])
        stage.service.release.set()
        assert (await patient).header == b"patient"
        await asyncio.gather(*hanging)

    run(scenario)


def test_after_a_cancellation_nothing_is_received_into_the_buffers(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        buffer = bytearray(b"\xee" * 4_000_000)
        task = asyncio.create_task(stage.connection.call(HANG, b"", receive=[memoryview(buffer)]))
        await stage.service.hanging.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await stage.connection.call(ECHO, b"the server knows by now")
        stage.service.release.set()
        assert "given up" in await stage.service.outcome
        assert (await stage.connection.call(ECHO, b"on")).header == b"on"
        assert buffer == b"\xee" * 4_000_000

    run(scenario)


def test_a_cancellation_in_the_middle_of_a_push(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        buffer = bytearray(b"\xee" * (16 * MIB))
        task = asyncio.create_task(
            stage.connection.call(PUSH_FOREVER, b"", receive=[memoryview(buffer)])
        )
        while buffer[0] == 0xEE:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        buffer[:] = b"\xee" * len(buffer)
        assert "given up" in await stage.service.outcome
        assert (await stage.connection.call(ECHO, b"on")).header == b"on"
        assert buffer == b"\xee" * len(buffer)

    run(scenario)


def test_a_cancellation_in_the_middle_of_a_pull(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        for turns in range(1, 12):
            offered = bytearray(pattern(1, 6_000_000))
            task = asyncio.create_task(
                stage.connection.call(STORE, b"", send=[memoryview(offered)])
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            offered[:] = bytes(len(offered))
            assert (await stage.connection.call(ECHO, b"on")).header == b"on"
        assert all(stored == pattern(1, 6_000_000) for stored in stage.service.stored)

    run(scenario)


def test_a_server_that_gives_up_pulling(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        stage.service.pull_timeout_seconds = 0.0
        for _ in range(5):
            offered = bytearray(6_000_000)
            try:
                await stage.connection.call(PULL_AND_WAIT, b"", send=[memoryview(offered)])
            except UnavailableError as error:
                assert "gave up" in str(error)  # noqa: PT017 - inproc pulls in no time
            assert (await stage.connection.call(ECHO, b"on")).header == b"on"

    run(scenario)


def test_the_server_hears_once_that_a_peer_is_gone(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.connection.call(ECHO, b"hello")
        await stage.connection.close()
        await stage.service.peer_gone.wait()
        await stage.connection.close()
        assert len(stage.service.gone) == 1
        with pytest.raises(UnavailableError):
            await stage.connection.call(ECHO, b"")

    run(scenario)


def test_a_peer_that_vanishes_in_mid_call_is_gone_when_its_handler_has_ended(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        buffer = bytearray(1_000_000)
        hanging = asyncio.create_task(
            stage.connection.call(HANG, b"", receive=[memoryview(buffer)])
        )
        await stage.service.hanging.wait()
        await stage.connection.close()
        with pytest.raises(UnavailableError):
            await hanging
        other = await transport_for(stage.server.address).connect(stage.server.address)
        await other.call(ECHO, b"the end of the first one is known by now")
        assert stage.service.gone == []
        stage.service.release.set()
        await stage.service.peer_gone.wait()
        assert "UnavailableError" in await stage.service.outcome
        assert len(stage.service.gone) == 1
        await other.close()

    run(scenario)


def test_a_peer_that_vanishes_while_it_is_pulled_from(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        offered = bytearray(30_000_000)
        task = asyncio.create_task(
            stage.connection.call(PULL_AND_WAIT, b"", send=[memoryview(offered)])
        )
        await stage.service.hanging.wait()
        await stage.connection.close()
        await asyncio.wait([task])
        await stage.service.peer_gone.wait()
        assert len(stage.service.gone) == 1

    run(scenario)


def test_a_server_closes_with_handlers_running(run: Run) -> None:
    async def scenario(stage: Stage) -> None:
        task = asyncio.create_task(stage.connection.call(HANG, b"", receive=[]))
        await stage.service.hanging.wait()
        closing = asyncio.create_task(stage.server.close())
        with pytest.raises(UnavailableError):
            await task
        assert not closing.done()
        stage.service.release.set()
        await closing
        assert len(stage.service.gone) == 1
        with pytest.raises(UnavailableError):
            await stage.connection.call(ECHO, b"")
        with pytest.raises(UnavailableError):
            await transport_for(stage.server.address).connect(stage.server.address)

    run(scenario)


def test_a_closing_server_does_not_wait_for_ever(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("inprocess", "stream_server"):
        monkeypatch.setattr(f"craqen.core.transport.{module}.CLOSE_TIMEOUT_SECONDS", 0.01)

    async def scenario(stage: Stage) -> None:
        task = asyncio.create_task(stage.connection.call(HANG, b""))
        await stage.service.hanging.wait()
        await stage.server.close()
        await asyncio.wait([task])
        assert len(stage.service.gone) == 1

    run(scenario)
