"""Checkpoints of torch.distributed in the store, by torch's own storage over fsspec."""

from __future__ import annotations

import pytest

from craqen.client import Store
from craqen.client.shared import share


@pytest.mark.filterwarnings("ignore")
def test_save_and_load(store: Store, config: str, folder: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

    share(store, config)
    path = f"craqen:/{folder}/step-1"
    state = {"weights": torch.arange(100_000, dtype=torch.float32), "step": 1}
    checkpoint.save(state, storage_writer=FsspecWriter(path, config=config))
    assert store.exists(f"{folder}/step-1/.metadata")
    back = {"weights": torch.zeros(100_000), "step": 0}
    checkpoint.load(back, storage_reader=FsspecReader(path, config=config))
    assert torch.equal(back["weights"], state["weights"])
    assert back["step"] == 1
