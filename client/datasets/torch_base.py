"""What of PyTorch the datasets use, if it is installed: nothing here needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class MapBase:
        """``torch.utils.data.Dataset``."""

    class StreamBase:
        """``torch.utils.data.IterableDataset``, by which a DataLoader tells streams apart."""
else:
    try:
        from torch.utils.data import Dataset as MapBase
        from torch.utils.data import IterableDataset as StreamBase
    except ImportError:
        MapBase = StreamBase = object


def worker() -> tuple[int, int]:
    """The number of this worker process of a DataLoader, and how many there are; (0, 1) outside of
    one."""
    try:
        from torch.utils.data import get_worker_info
    except ImportError:
        return 0, 1
    info: Any = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
