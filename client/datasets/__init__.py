"""Datasets for PyTorch's DataLoader, and for plain iteration without PyTorch: see
docs/datasets.md."""

from __future__ import annotations

from .maps import FileDataset, MapDataset, RecordDataset
from .records import RecordWriter
from .streams import BlockStream, SampleStream, TarStream

__all__ = [
    "BlockStream",
    "FileDataset",
    "MapDataset",
    "RecordDataset",
    "RecordWriter",
    "SampleStream",
    "TarStream",
]
