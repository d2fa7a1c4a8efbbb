"""A whole store as a user starts it, with the credentials that the tests sign with, and what lies
behind its S3 door: blocks, block files, logs, processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import yaml
from botocore.config import Config as BotoConfig

from craqen.core.bench.store import LocalStore
from craqen.core.client.connections import NodeConnections
from craqen.core.cluster.host import host_identity
from craqen.core.cluster.store import KvRouting
from craqen.core.config import load_config
from craqen.core.kv.open import open_store
from craqen.core.wire.messages import Method, TargetStatusReply, TargetStatusRequest
from craqen.tests.gateway.unit.signing_client import ACCESS_KEY, REGION, SECRET_KEY

OBSERVER_ID = 0x7E57  # the client id that these tests greet storage nodes with


class Blocks(NamedTuple):
    """Blocks of all targets."""

    used: int
    reserved: int


class WholeStore:
    """``craqen up`` and its folder."""

    def __init__(self, local: LocalStore) -> None:
        self.local = local
        self.folder = Path(local.folder)

    @property
    def port(self) -> int:
        """The port of the S3 door."""
        return self.local.port

    @property
    def host(self) -> str:
        """As it stands in the Host header."""
        return f"127.0.0.1:{self.port}"

    def client(self, **options: Any) -> Any:
        """A boto3 client; *options* go to its configuration."""
        options.setdefault("retries", {"max_attempts": 0})
        options.setdefault("s3", {"addressing_style": "path"})
        certificate = self.folder / "tls" / "certificate.pem"
        return boto3.client(
            "s3",
            endpoint_url=self.local.endpoint,
            aws_access_key_id=self.local.access_key,
            aws_secret_access_key=self.local.secret_key,
            region_name=REGION,
            verify=str(certificate) if self.local.endpoint.startswith("https") else None,
            config=BotoConfig(**options),
        )

    def blocks(self) -> Blocks:
        """How many blocks hold chunks, and how many are reserved for some."""
        return asyncio.run(self._blocks())

    async def _blocks(self) -> Blocks:
        kv = open_store(load_config(str(self.folder / "run" / "effective.yaml"), {}).kv_url)
        routing = KvRouting(kv)
        await routing.start()
        connections = NodeConnections(
            client_id=OBSERVER_ID,
            cluster_id=routing.routing.table.cluster_id,
            host=host_identity(),
            secret=lambda: None,
        )
        used = reserved = 0
        try:
            for node in routing.routing.nodes():
                connection = await connections.get(node)
                reply = await connection.call(
                    Method.TARGET_STATUS, TargetStatusRequest(), TargetStatusReply
                )
                used += sum(target.blocks_used for target in reply.targets)
                reserved += sum(target.blocks_reserved for target in reply.targets)
        finally:
            await connections.close()
            await routing.close()
            await kv.close()
        return Blocks(used, reserved)

    def log(self) -> str:
        """What all processes have logged so far."""
        return (self.folder / "up.log").read_text()

    def flip_byte(self, needle: bytes) -> None:
        """Damage the one place on disk where *needle* lies."""
        for path in self.folder.glob("disk*/*/blocks/*"):
            with path.open("r+b") as file:
                at = file.read().find(needle)
                if at >= 0:
                    file.seek(at)
                    file.write(bytes([needle[0] ^ 1]))
                    return
        raise AssertionError("these bytes lie in no block file")

    def kill_all(self) -> None:
        """As a power cut does it to processes: none of them gets to do one thing more."""
        supervisor = self.local.process_id
        os.kill(supervisor, signal.SIGSTOP)  # it must not start others meanwhile
        for child in _children(supervisor):
            os.kill(child, signal.SIGKILL)
        self.local.kill()


def _children(process_id: int) -> list[int]:
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(word) for word in text.split()]


@contextmanager
def whole_store(folder: Path, *, options: Sequence[str] = ()) -> Iterator[WholeStore]:
    """A store in *folder*, which is not removed afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "credentials.yaml"
    path.touch(0o600)
    path.write_text(
        yaml.safe_dump(
            {"credentials": [{"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "name": "root"}]}
        )
    )
    settings = [f"CRAQEN_GATEWAY_REGION={REGION}", "CRAQEN_META_REMOVAL_GRACE_SECONDS=3600"]
    with LocalStore(folder=str(folder), workers=1, options=[*settings, *options]) as local:
        yield WholeStore(local)
