"""The program ``craqen bench rpc``: the transport beside bare sockets, client and server in two
processes.

Small calls stand beside a bare echo: uvloop protocols that match answers to requests by number,
over the same kind of socket, with as many in flight. Bulk stands beside blocking sockets that copy
the same bytes (``sendall`` or ``sendfile``, ``recv_into``). CPU time is that of both processes.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Final, Protocol, cast

import uvloop

from ..errors import UnavailableError
from ..limits import KIB, MIB
from ..transport.port import Answer, Connection, IncomingRequest
from ..transport.registry import transport_for
from .measure import Report, Sample, add_runs, measure, median

ECHO_BYTES: Final = 100
ECHOES_BY_IN_FLIGHT: Final = {1: 4_000, 64: 30_000}
READ_BYTES: Final = MIB
READS: Final = 600
READS_IN_FLIGHT: Final = 4
ECHO_RATIO_AT_MOST: Final = 2.0
SERVER_ANSWER_SECONDS: Final = 30.0

ECHO, PUSH, PUSH_FILE, PULL = range(1, 5)
_LENGTH_AND_NUMBER: Final = struct.Struct(">II")


class Caller(Protocol):
    """One request of the load."""

    def __call__(self) -> Awaitable[object]: ...


class BareEcho(asyncio.Protocol):
    """Both ends of the reference: length, number, body. The client keeps a future per number."""

    def __init__(self, *, server: bool) -> None:
        self._server = server
        self._pending = b""
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._last = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._pending + data if self._pending else data
        start = 0
        while len(data) - start >= _LENGTH_AND_NUMBER.size:
            length, number = _LENGTH_AND_NUMBER.unpack_from(data, start)
            stop = start + _LENGTH_AND_NUMBER.size + length
            if stop > len(data):
                break
            if self._server:
                self.transport.write(data[start:stop])
            else:
                answer = self._answers.pop(number)
                answer.set_result(data[start + _LENGTH_AND_NUMBER.size : stop])
            start = stop
        self._pending = data[start:]

    async def call(self, body: bytes) -> bytes:
        """Send *body* and wait for it to come back."""
        self._last += 1
        answer = self._answers[self._last] = asyncio.get_running_loop().create_future()
        self.transport.write(_LENGTH_AND_NUMBER.pack(len(body), self._last) + body)
        body = await answer
        return body


class Handler:
    """The transport's server: echoes, and moves READ_BYTES."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._source = memoryview(bytearray(READ_BYTES))

    async def __call__(self, request: IncomingRequest) -> Answer:
        if request.method == PUSH:
            await request.push(0, self._source)
        elif request.method == PUSH_FILE:
            await request.push_file(0, self._descriptor, 0, READ_BYTES)
        elif request.method == PULL:
            await request.pull(0, self._source)
        return Answer(request.header)


def _blocking_server(listener: socket.socket, descriptor: int) -> None:
    """Answer each byte by READ_BYTES from memory (``m``) or the file (``f``), or take them in
    (``t``)."""
    source = memoryview(bytearray(READ_BYTES))
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # closed: the end
        with sock:
            while order := sock.recv(1):
                if order == b"m":
                    sock.sendall(source)
                elif order == b"f":
                    done = 0
                    while done < READ_BYTES:
                        done += os.sendfile(sock.fileno(), descriptor, done, READ_BYTES - done)
                else:
                    _receive(sock, source)
                    sock.sendall(order)


def _receive(sock: socket.socket, into: memoryview) -> None:
    done = 0
    while done < into.nbytes:
        count = sock.recv_into(into[done:])
        if count == 0:
            raise UnavailableError("the other process ended")
        done += count


def _serve(folder: str, pipe: Pipe) -> None:
    """The serving process: all servers, until the pipe says so."""
    path = Path(folder)
    descriptor = os.open(path / "source", os.O_RDONLY)
    listeners = [socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0))]
    listeners[0].bind(str(path / "blocking"))
    listeners[0].listen()
    for listener in listeners:
        threading.Thread(target=_blocking_server, args=(listener, descriptor), daemon=True).start()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        handler = Handler(descriptor)
        servers = [
            await transport_for(address).serve(address, handler)
            for address in (f"unix://{folder}/craqen", "tcp://127.0.0.1:0")
        ]
        bare_unix = await loop.create_unix_server(lambda: BareEcho(server=True), str(path / "bare"))
        bare_tcp = await loop.create_server(lambda: BareEcho(server=True), "127.0.0.1", 0)
        pipe.send(
            {
                "unix": (servers[0].address, str(path / "bare"), str(path / "blocking")),
                "tcp": (
                    servers[1].address,
                    bare_tcp.sockets[0].getsockname(),
                    listeners[1].getsockname(),
                ),
            }
        )
        await loop.run_in_executor(None, pipe.recv)
        for bare in (bare_unix, bare_tcp):
            bare.close()
        for server in servers:
            await server.close()

    uvloop.run(main())
    for listener in listeners:
        listener.close()


async def load(call: Caller, count: int, in_flight: int) -> int:
    """Make *count* calls, *in_flight* at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return count


def echo(connection: Connection) -> Caller:
    """A small call by the transport."""
    header = bytes(ECHO_BYTES)
    return lambda: connection.call(ECHO, header, timeout_seconds=30.0)


def bulk(connection: Connection, method: int) -> Caller:
    """A call that moves READ_BYTES, into buffers that are used in turn."""
    buffers = [memoryview(bytearray(READ_BYTES)) for _ in range(READS_IN_FLIGHT)]

    async def one() -> None:
        buffer = buffers.pop()
        if method == PULL:
            await connection.call(method, b"", send=[buffer])
        else:
            await connection.call(method, b"", receive=[buffer])
        buffers.append(buffer)

    return one


def blocking_bulk(kind: str, place: object, order: bytes) -> int:
    """The same bytes over blocking sockets."""
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    into = memoryview(bytearray(READ_BYTES))
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.connect(place)  # type: ignore[arg-type]
        for _ in range(READS):
            sock.sendall(order)
            if order == b"t":
                sock.sendall(into)
                _receive(sock, into[:1])
            else:
                _receive(sock, into)
    return READS


class Bench:
    """One run of the program."""

    def __init__(self, runs: int, server_id: int, places: dict[str, tuple[str, object, object]]):
        self._runs = runs
        self._processes = [os.getpid(), server_id]
        self._places = places
        self.report = Report(
            "craqen bench rpc",
            [
                f"median of {runs} runs; client and server in two processes, uvloop",
                "CPU time is that of both processes together",
            ],
        )

    def run(self, runner: asyncio.Runner) -> None:
        """All rows."""
        for kind in self._places:
            self._echoes(runner, kind)
        for kind in self._places:
            for work, method, order, name in (
                ("push of 1 MiB", PUSH, b"m", "blocking sendall"),
                ("push_file of 1 MiB, cached", PUSH_FILE, b"f", "blocking sendfile"),
                ("pull of 1 MiB", PULL, b"t", "blocking sendall"),
            ):
                self._bulk(runner, kind, work, method, order, name)

    def _echoes(self, runner: asyncio.Runner, kind: str) -> None:
        address, bare_place, _ = self._places[kind]
        connection = runner.run(transport_for(address).connect(address))
        bare = runner.run(_connect_bare(kind, bare_place))
        body = bytes(ECHO_BYTES)
        for in_flight, count in ECHOES_BY_IN_FLIGHT.items():
            mine, theirs = self._alternate(
                lambda count=count, in_flight=in_flight: runner.run(  # type: ignore[misc]
                    load(echo(connection), count, in_flight)
                ),
                lambda count=count, in_flight=in_flight: runner.run(  # type: ignore[misc]
                    load(lambda: bare.call(body), count, in_flight)
                ),
            )
            self._add(
                f"{kind}: {ECHO_BYTES} B echo, {in_flight} in flight",
                "bare uvloop echo",
                mine,
                theirs,
                at_most=ECHO_RATIO_AT_MOST if in_flight > 1 else None,
            )
        runner.run(connection.close())
        bare.transport.close()

    def _bulk(
        self, runner: asyncio.Runner, kind: str, work: str, method: int, order: bytes, name: str
    ) -> None:
        address, _, place = self._places[kind]
        connection = runner.run(transport_for(address).connect(address))
        mine, theirs = self._alternate(
            lambda: runner.run(load(bulk(connection, method), READS, READS_IN_FLIGHT)),
            lambda: blocking_bulk(kind, place, order),
        )
        runner.run(connection.close())
        self._add(f"{kind}: {work}", name, mine, theirs)

    def _alternate(
        self, ours: Callable[[], int], reference: Callable[[], int]
    ) -> tuple[list[Sample], list[Sample]]:
        """Measure both in turn, so that noise meets both."""
        mine: list[Sample] = []
        theirs: list[Sample] = []
        for _ in range(self._runs):
            mine.append(measure(ours, self._processes))
            theirs.append(measure(reference, self._processes))
        return mine, theirs

    def _add(
        self,
        work: str,
        name: str,
        mine: Sequence[Sample],
        theirs: Sequence[Sample],
        *,
        at_most: float | None = None,
    ) -> None:
        cost, other = median(mine, _cost), median(theirs, _cost)
        self.report.add(
            work,
            f"{cost:.1f} us CPU, {median(mine, _rate):,.0f}/s",
            f"{name}: {other:.1f} us CPU, {median(theirs, _rate):,.0f}/s",
            ratio=cost / other,
            at_most=at_most,
        )


async def _connect_bare(kind: str, place: object) -> BareEcho:
    loop = asyncio.get_running_loop()
    if kind == "unix":
        _, protocol = await loop.create_unix_connection(lambda: BareEcho(server=False), str(place))
    else:
        host, port = cast(tuple[str, int], place)
        _, protocol = await loop.create_connection(lambda: BareEcho(server=False), host, port)
    return protocol


def _cost(sample: Sample) -> float:
    return sample.microseconds


def _rate(sample: Sample) -> float:
    return sample.rate


def main(arguments: Sequence[str]) -> int:
    """Run the work list and print the table; return 0. Raises UnavailableError if the serving
    process does not come up."""
    parser = argparse.ArgumentParser(prog="craqen bench rpc")
    add_runs(parser)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="craqen-bench-") as folder, ExitStack() as stack:
        (Path(folder) / "source").write_bytes(os.urandom(64 * KIB) * (READ_BYTES // (64 * KIB)))
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(folder, theirs), daemon=True)
        process.start()
        theirs.close()
        stack.callback(process.join, SERVER_ANSWER_SECONDS)
        if not ours.poll(SERVER_ANSWER_SECONDS):
            process.kill()
            raise UnavailableError("the serving process of the benchmark does not come up")
        bench = Bench(options.runs, process.pid or 0, ours.recv())
        stack.callback(ours.send, None)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            bench.run(runner)
    print(bench.report.text())
    return 0
