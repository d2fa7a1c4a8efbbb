"""The programs of examples/ run as their first lines say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _run(name: str, config: str) -> list[str]:
    words = [sys.executable, str(EXAMPLES / name), config]
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert result.returncode == 0, result.stderr
    assert "Exception ignored" not in result.stderr, result.stderr  # at the interpreter's end
    return result.stdout.splitlines()


def test_kv_cache(config: str) -> None:
    assert _run("kv_cache.py", config) == [
        "0 blocks were there, 12 were computed",
        "12 blocks were there, 0 were computed",
        "6 blocks were there, 6 were computed",
    ]


def test_fsspec_files(config: str) -> None:
    lines = _run("fsspec_files.py", config)
    assert lines[0].startswith("/fsspec-example/tables/cats.csv ")
    assert lines[1] == "4.05 kg on average"


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_data_loader(config: str) -> None:
    assert _run("data_loader.py", config) == [
        "files: 2000 samples of 16 classes in 32 batches, epoch 0",
        "files: 2000 samples of 16 classes in 32 batches, epoch 1",
        "records: 2000 samples of 16 classes in 32 batches, epoch 0",
        "records: 2000 samples of 16 classes in 32 batches, epoch 1",
    ]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_checkpoint(config: str) -> None:
    assert _run("checkpoint.py", config) == [
        "loss at step 60: the same as without the interruption"
    ]
