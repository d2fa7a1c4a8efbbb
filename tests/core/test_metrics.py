"""What Prometheus is told, and how."""

from __future__ import annotations

import asyncio

import pytest

from craqen.core.errors import ConfigError, OperatorError
from craqen.core.metrics import Metric, MetricsServer, listening_place, render


def test_the_text_format() -> None:
    text = render(
        [
            Metric("a_total", "counter", "How many.", [({"node": 3, "disk": 'x"\\\n'}, 2.0)]),
            Metric("b", "gauge", "How much.", [({}, 0.25), ({"n": 1}, 1e20)]),
        ]
    )
    assert text == (
        "# HELP a_total How many.\n"
        "# TYPE a_total counter\n"
        'a_total{node="3",disk="x\\"\\\\\\n"} 2\n'
        "# HELP b How much.\n"
        "# TYPE b gauge\n"
        "b 0.25\n"
        'b{n="1"} 100000000000000000000\n'
    )


def test_each_process_has_its_own_port() -> None:
    assert listening_place("127.0.0.1:9100", 0) == ("127.0.0.1", 9100)
    assert listening_place("[::1]:9100", 3) == ("::1", 9103)
    for wrong in ("9100", "host:", "host:x", "host:65535"):
        with pytest.raises(ConfigError, match=r"metrics\.listen"):
            listening_place(wrong, 1)


async def _ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_it_is_served() -> None:
    async def scene() -> None:
        server = MetricsServer(lambda: [Metric("x", "gauge", "X.", [({}, 7)])])
        await server.start("127.0.0.1", 0)
        try:
            answer = await _ask(server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\n# HELP x X.\n# TYPE x gauge\nx 7\n")
            other = await _ask(server.port, b"GET / HTTP/1.1\r\n\r\n")
            assert other.startswith(b"HTTP/1.1 404 ")
            assert await _ask(server.port, b"x" * 9000 + b"\r\n\r\n") == b""
            with pytest.raises(OperatorError, match="cannot be listened on"):
                await MetricsServer(list).start("127.0.0.1", server.port)
        finally:
            await server.close()

    asyncio.run(scene())
