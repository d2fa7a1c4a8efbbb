"""Checkpoints of torch.distributed in the store, by its own storage and by torch's over fsspec."""

from __future__ import annotations

from typing import Any

import pytest

from craqen.client import Store
from craqen.client.shared import share

torch: Any = pytest.importorskip("torch", reason="torch is not installed: pip install torch")

pytestmark = pytest.mark.filterwarnings("ignore")


def state() -> dict[str, Any]:
    return {
        "weights": torch.arange(100_000, dtype=torch.float32),
        "more": {"bias": torch.ones(3, 5), "empty": torch.zeros(0)},
        "step": 1,
    }


def blank() -> dict[str, Any]:
    return {
        "weights": torch.zeros(100_000),
        "more": {"bias": torch.zeros(3, 5), "empty": torch.zeros(0)},
        "step": 0,
    }


def check(back: dict[str, Any]) -> None:
    assert torch.equal(back["weights"], state()["weights"])
    assert torch.equal(back["more"]["bias"], torch.ones(3, 5))
    assert back["step"] == 1


@pytest.mark.parametrize("options", [{}, {"thread_count": 4, "single_file_per_rank": False}])
def test_save_and_load(store: Store, config: str, folder: str, options: dict[str, Any]) -> None:
    from torch.distributed import checkpoint

    from craqen.client.checkpoints import CraqenReader, CraqenWriter

    share(store, config)
    path = f"{folder}/step-1"
    checkpoint.save(state(), storage_writer=CraqenWriter(path, config=config, **options))
    assert store.exists(f"{path}/.metadata")
    back = blank()
    checkpoint.load(back, storage_reader=CraqenReader(path, config=config))
    check(back)
    checkpoint.save(state(), storage_writer=CraqenWriter(path, config=config))  # over the first one
    back = blank()
    checkpoint.load(back, storage_reader=CraqenReader(path, config=config))
    check(back)


def test_what_is_not_whole_is_an_error(store: Store, config: str, folder: str) -> None:
    from torch.distributed import checkpoint

    from craqen.client.checkpoints import CraqenReader, CraqenWriter

    share(store, config)
    path = f"{folder}/cut"
    checkpoint.save(state(), storage_writer=CraqenWriter(path, config=config))
    [data] = [entry.path for entry in store.list(path) if entry.name.endswith(".distcp")]
    with store.open_raw(data, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(checkpoint.CheckpointException):
        checkpoint.load(blank(), storage_reader=CraqenReader(path, config=config))
    store.remove(f"{path}/.metadata")
    with pytest.raises(checkpoint.CheckpointException):
        checkpoint.load(blank(), storage_reader=CraqenReader(path, config=config))


def test_over_fsspec(store: Store, config: str, folder: str) -> None:
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.fsspec_filesystem import FsspecReader, FsspecWriter

    share(store, config)
    path = f"craqen:/{folder}/step-1"
    checkpoint.save(state(), storage_writer=FsspecWriter(path, config=config))
    back = blank()
    checkpoint.load(back, storage_reader=FsspecReader(path, config=config))
    check(back)
