"""fsspec's s3fs, and pandas on it."""

import os
import sys

import pandas
import s3fs

store = s3fs.S3FileSystem(endpoint_url=sys.argv[1])
store.mkdir("s3fscase")
assert store.ls("s3fscase") == []
data = os.urandom(20_000_000)
with store.open("s3fscase/a/big", "wb", block_size=5 << 20) as file:
    file.write(data)
with store.open("s3fscase/a/big", "rb", cache_type="readahead") as file:
    file.seek(7_654_321)
    assert file.read(100_000) == data[7_654_321:7_754_321]
assert store.cat("s3fscase/a/big") == data
assert store.cat_ranges(["s3fscase/a/big"] * 2, [0, 5], [3, 9]) == [data[:3], data[5:9]]
store.invalidate_cache()
assert store.isdir("s3fscase/a")
assert store.isfile("s3fscase/a/big")
assert not store.exists("s3fscase/a/none")
assert not store.exists("s3fscase/none/")
store.pipe({f"s3fscase/many/{n} ü+": str(n).encode() for n in range(30)})
assert len(store.find("s3fscase/many")) == 30
assert len(store.glob("s3fscase/many/1*")) == 11
store.copy("s3fscase/a/big", "s3fscase/copy")
store.mv("s3fscase/copy", "s3fscase/moved")
assert store.checksum("s3fscase/moved") is not None
assert store.cat("s3fscase/moved") == data
store.setxattr("s3fscase/moved", flag="yes")
assert store.getxattr("s3fscase/moved", "flag") == "yes"
store.touch("s3fscase/empty")
assert store.size("s3fscase/empty") == 0
store.pipe("s3fscase/slash//key", b"double")
assert store.cat("s3fscase/slash//key") == b"double"
storage = {"endpoint_url": sys.argv[1]}
table = pandas.DataFrame({"n": range(1000), "text": [f"ü{n}" for n in range(1000)]})
for ending, write, read in (
    ("csv", lambda url: table.to_csv(url, index=False, storage_options=storage), pandas.read_csv),
    ("parquet", lambda url: table.to_parquet(url, storage_options=storage), pandas.read_parquet),
):
    write(f"s3://s3fscase/table.{ending}")
    assert read(f"s3://s3fscase/table.{ending}", storage_options=storage).equals(table)
store.rm("s3fscase", recursive=True)
assert not store.exists("s3fscase")
print("s3fs", s3fs.__version__, "pandas", pandas.__version__)
