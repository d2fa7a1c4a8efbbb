"""Addresses, socket files, and who may listen where."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from craqen.core.errors import InvalidArgumentError, OperatorError, UnavailableError
from craqen.core.transport.port import Answer, IncomingRequest
from craqen.core.transport.registry import transport_for


async def echo(request: IncomingRequest) -> Answer:
    return Answer(request.header)


async def works(address: str) -> bool:
    connection = await transport_for(address).connect(address)
    try:
        return (await connection.call(1, b"hello")).header == b"hello"
    finally:
        await connection.close()


def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "socket"
        address = f"unix://{path}"
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
        with pytest.raises(UnavailableError, match="refused"):
            await transport_for(address).connect(address)
        server = await transport_for(address).serve(address, echo)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(OperatorError, match="another process"):
            await transport_for(address).serve(address, echo)
        assert await works(address)
        await server.close()
        assert not path.exists()

    asyncio.run(scenario())


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "socket"
        path.write_text("precious")
        with pytest.raises(OperatorError, match="no socket"):
            await transport_for("unix://").serve(f"unix://{path}", echo)
        assert path.read_text() == "precious"

    asyncio.run(scenario())


def test_a_closing_server_leaves_the_socket_file_of_its_successor(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "socket"
        address = f"unix://{path}"
        first = await transport_for(address).serve(address, echo)
        path.unlink()
        second = await transport_for(address).serve(address, echo)
        await first.close()
        assert await works(address)
        await second.close()

    asyncio.run(scenario())


def test_paths_that_no_socket_address_holds(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / ("f" * 200)
        folder.mkdir()
        address = f"unix://{folder}/socket"
        server = await transport_for(address).serve(address, echo)
        assert stat.S_IMODE((folder / "socket").stat().st_mode) == 0o600
        assert await works(address)
        await server.close()
        assert os.listdir(folder) == []
        with pytest.raises(OperatorError, match="too long"):
            await transport_for(address).serve(f"unix://{folder}/{'n' * 100}", echo)
        with pytest.raises(OperatorError, match="No such"):
            await transport_for(address).serve(f"unix://{folder}/missing/socket", echo)
        with pytest.raises(UnavailableError, match="No such"):
            await transport_for(address).connect(f"unix://{folder}/missing/socket")

    asyncio.run(scenario())


def test_tcp_addresses() -> None:
    async def scenario() -> None:
        server = await transport_for("tcp://").serve("tcp://localhost:0", echo)
        assert server.address.startswith("tcp://localhost:")
        assert not server.address.endswith(":0")
        assert await works(server.address)
        with pytest.raises(OperatorError, match="in use"):
            await transport_for("tcp://").serve(server.address, echo)
        await server.close()
        with pytest.raises(UnavailableError, match="refused"):
            await transport_for("tcp://").connect(server.address)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "address",
    [
        "unix://relative",
        "unix:/path",
        "unix:///a\0b",
        "tcp://host",
        "tcp://:80",
        "tcp://host:",
        "tcp://host:port",
        "tcp://host:65536",
        "tcp://::1:80",
        "tcp://[::1:80",
        "http://host:80",
        "nothing",
        "",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    async def scenario() -> None:
        with pytest.raises(InvalidArgumentError):
            await transport_for(address).connect(address)
        with pytest.raises(InvalidArgumentError):
            await transport_for(address).serve(address, echo)

    asyncio.run(scenario())


def test_names_of_one_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        address = f"inproc://{tmp_path}"
        with pytest.raises(UnavailableError, match="nobody"):
            await transport_for(address).connect(address)
        server = await transport_for(address).serve(address, echo)
        with pytest.raises(OperatorError, match="already"):
            await transport_for(address).serve(address, echo)
        assert await works(address)
        await server.close()

    asyncio.run(scenario())
