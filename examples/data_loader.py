"""Samples for training by PyTorch's DataLoader: python examples/data_loader.py CONFIG

CONFIG is the store's configuration; `make up` writes it to run/effective.yaml in its data folder.
"""

import random
import sys

import torch
from torch.utils.data import DataLoader

import craqen.client
from craqen.client.datasets import BlockStream, FileDataset, RecordDataset, RecordWriter

SAMPLES = 2000
SAMPLE_BYTES = 1024
CLASSES = 16
FOLDER = "/data-loader-example"


def write_samples(config: str) -> None:
    """The same samples as small files and as records of one file. The first byte is the class."""
    with craqen.client.connect(config) as store:
        store.make_directory(f"{FOLDER}/files", parents=True, exist_ok=True)
        with RecordWriter(store, f"{FOLDER}/samples.rec") as records:
            for number in range(SAMPLES):
                body = random.Random(number).randbytes(SAMPLE_BYTES - 1)
                sample = bytes([number % CLASSES]) + body
                store.write_bytes(f"{FOLDER}/files/{number:05}", sample)
                records.write(sample)


def tensor_of(name: str, data: bytes) -> tuple[int, torch.Tensor]:
    """Class and content of a sample."""
    return data[0], torch.frombuffer(bytearray(data[1:]), dtype=torch.uint8)


def train(name: str, loader: DataLoader, epoch: int) -> None:
    """An epoch."""
    samples, classes, batches = 0, set(), 0
    for labels, contents in loader:
        samples += len(contents)
        classes |= set(labels.tolist())
        batches += 1
    print(f"{name}: {samples} samples of {len(classes)} classes in {batches} batches,", end=" ")
    print(f"epoch {epoch}")


def main() -> None:
    """Files in any order by a sampler, then records in blocks, mixed."""
    config = sys.argv[1]
    write_samples(config)
    files = FileDataset(f"{FOLDER}/files", config=config, decode=tensor_of)
    for epoch in range(2):
        train("files", DataLoader(files, batch_size=64, shuffle=True, num_workers=2), epoch)
    records = RecordDataset(FOLDER, config=config, decode=tensor_of)
    stream = BlockStream(records, block_samples=100, buffer_samples=500)
    for epoch in range(2):
        stream.set_epoch(epoch)
        train("records", DataLoader(stream, batch_size=64), epoch)


if __name__ == "__main__":
    main()
