"""One whole test against the installed wheel: a store is started, used by boto3 and stopped.

Run by .ci/wheel-test in an environment that holds the wheel and nothing of the checkout.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import boto3

import craqen
from craqen.core.bench.store import LocalStore


def test_store_of_the_wheel() -> None:
    with LocalStore(workers=1) as store:
        client = boto3.client(
            "s3",
            endpoint_url=store.endpoint,
            region_name="us-east-1",
            aws_access_key_id=store.access_key,
            aws_secret_access_key=store.secret_key,
        )
        client.create_bucket(Bucket="wheel")
        for size in (0, 100, 3_000_000):
            body = bytes(range(256)) * (size // 256 + 1)
            client.put_object(Bucket="wheel", Key=f"key/{size}", Body=body[:size])
            assert (
                client.get_object(Bucket="wheel", Key=f"key/{size}")["Body"].read() == body[:size]
            )
        store.stop()
        store.start()
        listed = client.list_objects_v2(Bucket="wheel")["Contents"]
        assert [entry["Size"] for entry in listed] == [0, 100, 3_000_000]


def test_no_module_of_a_bare_folder_name() -> None:
    places = Path(craqen.__file__).parent.parent
    for name in ("core", "gateway", "fuse", "tests", "compat"):
        assert not (places / name).exists()
        program = (
            f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
        )
        assert subprocess.run([sys.executable, "-I", "-c", program], check=False).returncode == 0


def test_the_command_is_installed() -> None:
    program = Path(sys.executable).parent / "craqen"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("craqen ")
    assert importlib.util.find_spec("craqen.gateway") is not None
