"""Polars: its own reader and writer of object stores."""

import sys

import polars

options = {"aws_endpoint_url": sys.argv[1], "aws_region": "us-east-1"}
if sys.argv[1].startswith("http:"):
    options["aws_allow_http"] = "true"
frame = polars.DataFrame(
    {"n": range(200_000), "day": [n % 4 for n in range(200_000)]}
).with_columns(polars.format("ü{}", "n").alias("text"))
base = "s3://polarscase"
frame.write_parquet(f"{base}/one.parquet", storage_options=options)
assert polars.read_parquet(f"{base}/one.parquet", storage_options=options).equals(frame)
scan = polars.scan_parquet(f"{base}/one.parquet", storage_options=options)
picked = scan.filter(polars.col("n") >= 199_990).select("text").collect()
assert picked["text"].to_list() == [f"ü{n}" for n in range(199_990, 200_000)]
scan.sink_parquet(f"{base}/sink ü+.parquet", storage_options=options)
sunk = polars.scan_parquet(f"{base}/sink ü+.parquet", storage_options=options, glob=False)
assert sunk.collect().equals(frame)
for day in range(4):
    part = frame.filter(polars.col("day") == day)
    part.write_parquet(f"{base}/set/day={day}/part.parquet", storage_options=options)
whole = polars.scan_parquet(f"{base}/set/**/*.parquet", storage_options=options)
assert whole.select(polars.len()).collect().item() == 200_000
frame.lazy().sink_csv(f"{base}/one.csv", storage_options=options)
assert polars.scan_csv(f"{base}/one.csv", storage_options=options).collect().equals(frame)
print("Polars", polars.__version__)
