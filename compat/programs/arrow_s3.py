"""pyarrow's S3 file system and its datasets."""

import os
import sys
from urllib.parse import urlsplit

import pyarrow
import pyarrow.compute as compute
import pyarrow.dataset as dataset
import pyarrow.parquet as parquet
from pyarrow import fs

if os.environ.get("AWS_CA_BUNDLE"):
    fs.initialize_s3(fs.S3LogLevel.Off)
parts = urlsplit(sys.argv[1])
options = {"tls_ca_file_path": os.environ["AWS_CA_BUNDLE"]} if parts.scheme == "https" else {}
store = fs.S3FileSystem(
    endpoint_override=parts.netloc,
    scheme=parts.scheme,
    region="us-east-1",
    allow_bucket_creation=True,
    allow_bucket_deletion=True,
    **options,
)
store.create_dir("arrowcase/empty/deep", recursive=True)
assert store.get_file_info("arrowcase/empty").type == fs.FileType.Directory
assert store.get_file_info("arrowcase/empty/deep").type == fs.FileType.Directory
assert store.get_file_info("arrowcase/none").type == fs.FileType.NotFound
data = os.urandom(25_000_000)
with store.open_output_stream("arrowcase/big ü+", metadata={"Content-Type": "text/x"}) as out:
    out.write(data)
with store.open_input_file("arrowcase/big ü+") as file:
    assert file.metadata()["Content-Type"] == b"text/x"
    assert file.size() == len(data)
    assert file.read_at(1000, 9_999_999) == data[9_999_999:10_000_999]
    assert file.read() == data
store.copy_file("arrowcase/big ü+", "arrowcase/copy")
store.move("arrowcase/copy", "arrowcase/moved")
assert store.get_file_info("arrowcase/copy").type == fs.FileType.NotFound
with store.open_input_stream("arrowcase/moved") as stream:
    assert stream.read() == data
table = pyarrow.table({"day": [n % 5 for n in range(10_000)], "n": list(range(10_000))})
partitioning = dataset.partitioning(pyarrow.schema([("day", pyarrow.int64())]), flavor="hive")
dataset.write_dataset(
    table, "arrowcase/set", filesystem=store, format="parquet", partitioning=partitioning
)
read = dataset.dataset("arrowcase/set", filesystem=store, partitioning=partitioning)
assert len(read.files) == 5, read.files
picked = read.to_table(filter=compute.field("day") == 3)
assert sorted(picked["n"].to_pylist()) == list(range(3, 10_000, 5))
dataset.write_dataset(
    table.slice(0, 10),
    "arrowcase/set",
    filesystem=store,
    format="parquet",
    partitioning=partitioning,
    existing_data_behavior="delete_matching",
)
assert dataset.dataset("arrowcase/set", filesystem=store).count_rows() == 10
parquet.write_table(table, "arrowcase/one.parquet", filesystem=store)
assert parquet.read_table("arrowcase/one.parquet", filesystem=store).equals(table)
selector = fs.FileSelector("arrowcase", recursive=True)
assert any(info.path == "arrowcase/empty/deep" for info in store.get_file_info(selector))
store.delete_dir_contents("arrowcase/set")
assert store.get_file_info(fs.FileSelector("arrowcase/set")) == []
store.delete_dir("arrowcase")
print("pyarrow", pyarrow.__version__)
