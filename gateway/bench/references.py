"""The references: a bare aiohttp handler on uvloop, a gateway that hashes nothing, nginx with
sendfile."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ...core.bench.store import free_port
from ...core.errors import UnavailableError
from .client import Server

START_TIMEOUT_SECONDS = 20.0

_HANDLER = """
import asyncio, itertools, os, sys
import uvloop
from aiohttp import web

body = b"x" * 1024
folder = sys.argv[2]
numbers = itertools.count()

async def handle(request):
    if request.method == "PUT":
        if request.content_length > 65536:
            # A gateway with no hashing: the body goes to a new file and is made durable.
            path = os.path.join(folder, str(next(numbers)))
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            loop = asyncio.get_running_loop()
            try:
                while True:
                    piece = await request.content.readany()
                    if not piece:
                        break
                    os.write(descriptor, piece)
                await loop.run_in_executor(None, os.fdatasync, descriptor)
            finally:
                os.close(descriptor)
        else:
            await request.read()
        return web.Response()
    return web.Response(body=body, content_type="binary/octet-stream")

async def main():
    server = web.Server(handle, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), reuse_port=True).start()
    await asyncio.Event().wait()

uvloop.run(main())
"""

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {folder}/www; }}
}}
"""


def wait_for_port(port: int) -> None:
    """Return once somebody listens on the loopback *port*. Raises UnavailableError."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UnavailableError(f"nobody listens on port {port}") from error
            time.sleep(0.02)


@contextlib.contextmanager
def _running(words: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextlib.contextmanager
def bare_handler(folder: Path) -> Iterator[tuple[Server, list[int]]]:
    """An aiohttp handler that returns 1 KiB, takes small PUTs, and writes large ones to files in
    *folder*."""
    port = free_port()
    with _running([sys.executable, "-c", _HANDLER, str(port), str(folder)], port) as process:
        yield Server("127.0.0.1", port), [process.pid]


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[tuple[Server, list[int]] | None]:
    """nginx with one worker and sendfile, serving *folder*/www; None where it is not installed."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    (folder / "www").mkdir(parents=True, exist_ok=True)
    (folder / "www").chmod(0o755)
    settings = folder / "nginx.conf"
    settings.write_text(_NGINX.format(folder=folder, port=port))
    with _running([program, "-c", str(settings), "-p", str(folder)], port) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Server("127.0.0.1", port), [process.pid, *(int(word) for word in children)]
