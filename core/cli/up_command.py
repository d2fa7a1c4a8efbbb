"""``craqen up``: a whole store on this host with one command."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from ..config import ENVIRONMENT_PREFIX, load_config
from ..errors import ConfigError
from ..options import Config
from .first_start import (
    check_port,
    ensure_cluster_secret,
    ensure_credentials,
    ensure_encryption_key,
    greeting,
    lock_data_folder,
    make_mount_point,
    write_effective_config,
)
from .supervision import tell_ready
from .supervisor import ProcessSpec, Supervisor

NODES_MAX = 64  # on one host
GATEWAY = "gateway"
"""Name of the processes whose READY line is the endpoint."""


class UpCommand:
    """Start everything, say how to use it, and stop it cleanly on SIGINT or SIGTERM."""

    name = "up"
    help = "start a whole store on this host: manager, storage, gateway, and the mount if asked"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--data", metavar="FOLDER", help="data folder (option data_folder)")
        parser.add_argument("--port", type=int, help="S3 port (option gateway.port)")
        parser.add_argument("--workers", type=int, help="gateway workers (option gateway.workers)")
        parser.add_argument("--mount", metavar="DIR", help="mount the store here (mount.point)")
        parser.add_argument(
            "--nodes",
            type=int,
            metavar="N",
            help="storage nodes, each a process with a disk folder of its own (storage.disks)",
        )
        parser.add_argument(
            "--replicas", type=int, metavar="N", help="copies of all data (storage.replicas)"
        )

    def run(self, arguments: argparse.Namespace, config: Config) -> int:
        return asyncio.run(_run(_with_arguments(config, arguments)))


def _with_arguments(config: Config, arguments: argparse.Namespace) -> Config:
    """*config* with what the command line says; run through the loader's checks by way of the
    environment names."""
    if arguments.nodes is not None and not 1 <= arguments.nodes <= NODES_MAX:
        raise ConfigError(f"--nodes {arguments.nodes}: expected 1 to {NODES_MAX}")
    nodes = [f"disk{number}" for number in range(1, (arguments.nodes or 0) + 1)]
    overrides = {
        "CRAQEN_STORAGE_DISKS": nodes or None,
        "CRAQEN_STORAGE_REPLICAS": arguments.replicas,
        "CRAQEN_DATA_FOLDER": arguments.data,
        "CRAQEN_GATEWAY_PORT": arguments.port,
        "CRAQEN_GATEWAY_WORKERS": arguments.workers,
        "CRAQEN_MOUNT_POINT": os.path.abspath(arguments.mount) if arguments.mount else None,
    }
    given = {name: str(value) for name, value in overrides.items() if value is not None}
    if not given:
        return config
    return load_config(arguments.config, {**os.environ, **given})


def _processes(config: Config, config_file: str) -> list[list[ProcessSpec]]:
    """The processes in the order of their start; those of one inner list start side by side."""

    def spec(name: str, command: str, *words: str) -> ProcessSpec:
        return ProcessSpec(
            name, ("-m", "craqen.core.cli", command, "--config", config_file, *words)
        )

    workers = config.gateway.workers or os.cpu_count() or 1
    stages = [
        [spec("manager", "manager")],
        [
            spec(f"storage {number}", "storage", "--disk", str(number))
            for number in range(1, len(config.storage.disks) + 1)
        ],
        [
            spec(f"{GATEWAY} {number}", "gateway", "--worker", str(number))
            for number in range(1, workers + 1)
        ],
        [spec("keeper", "keeper")],
    ]
    if config.mount.point:
        words = [config.mount.point]
        if config.mount.path:
            words += ["--path", config.mount.path]
        if config.mount.read_only:
            words += ["--read-only"]
        stages.append([spec("mount", "mount", *words)])
    return stages


def _process_environment() -> dict[str, str]:
    """The environment of the processes. No option is in it: the effective configuration holds them
    all, and what the command line of ``up`` said must not be overridden."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)
    }


async def _run(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    lock = lock_data_folder(config)
    supervisor = Supervisor(_process_environment())
    try:
        check_port(config)
        new_keys = ensure_credentials(config)
        ensure_cluster_secret(config)
        ensure_encryption_key(config)
        config_file = write_effective_config(config)
        make_mount_point(config)
        endpoint = ""
        for stage in _processes(config, config_file):
            said = await _unless_stopped(supervisor.start(stage), stop)
            if said is None:
                return 130
            if stage[0].name.startswith(GATEWAY):
                endpoint = said[0]
        print(greeting(config, endpoint, new_keys), flush=True)
        tell_ready(endpoint)
        await stop.wait()
        print("Stopping …", file=sys.stderr, flush=True)
        return 0
    finally:
        await supervisor.stop()
        os.close(lock)


async def _unless_stopped(
    work: Coroutine[Any, Any, list[str]], stop: asyncio.Event
) -> list[str] | None:
    """Await *work*; None if *stop* was set first (then *work* is cancelled)."""
    task = asyncio.create_task(work)
    stopper = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopper}, return_when=asyncio.FIRST_COMPLETED)
    stopper.cancel()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None
    return task.result()


command = UpCommand()
