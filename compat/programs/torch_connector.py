"""s3torchconnector: checkpoints and a dataset, through the CRT."""

import sys

import s3torchconnector
import torch
from s3torchconnector import S3Checkpoint, S3ClientConfig, S3IterableDataset, S3MapDataset

words = {"region": "us-east-1", "endpoint": sys.argv[1]}
words["s3client_config"] = S3ClientConfig(force_path_style=True, part_size=8 << 20)
checkpoint = S3Checkpoint(**words)
state = {"weights": torch.rand(3_000_000), "step": 7}
with checkpoint.writer("s3://torchcase/checkpoints/7.pt") as writer:
    torch.save(state, writer)
with checkpoint.reader("s3://torchcase/checkpoints/7.pt") as reader:
    loaded = torch.load(reader)
assert loaded["step"] == 7
assert torch.equal(loaded["weights"], state["weights"])
for number in range(20):
    with checkpoint.writer(f"s3://torchcase/set/{number:02}") as writer:
        writer.write(bytes([number]) * number)
mapped = S3MapDataset.from_prefix("s3://torchcase/set/", **words)
assert [len(item.read()) for item in mapped] == list(range(20))
streamed = S3IterableDataset.from_prefix("s3://torchcase/set/", **words)
assert {item.key: item.read() for item in streamed} == {
    f"set/{number:02}": bytes([number]) * number for number in range(20)
}
print("s3torchconnector", s3torchconnector.__version__, "torch", torch.__version__)
