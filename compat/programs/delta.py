"""delta-rs: commits by If-None-Match; several writers at once lose none."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import deltalake
import pyarrow
from deltalake import DeltaTable, write_deltalake

WRITERS, COMMITS = 2, 6
TABLE = "s3://deltacase/tables/one"
options = {
    "AWS_ENDPOINT_URL": sys.argv[1],
    "AWS_REGION": "us-east-1",
    "aws_conditional_put": "etag",
}
if sys.argv[1].startswith("http:"):
    options["AWS_ALLOW_HTTP"] = "true"


def write(writer: int) -> None:
    """Append COMMITS times."""
    for commit in range(COMMITS):
        rows = pyarrow.table({"writer": [writer] * 10, "commit": [commit] * 10})
        write_deltalake(TABLE, rows, mode="append", storage_options=options)


if __name__ == "__main__":
    first = pyarrow.table({"writer": [-1], "commit": [-1]})
    write_deltalake(TABLE, first, storage_options=options)
    # Started anew: the library's threads do not survive a fork.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WRITERS, mp_context=fresh) as pool:
        for done in [pool.submit(write, writer) for writer in range(WRITERS)]:
            done.result()
    table = DeltaTable(TABLE, storage_options=options)
    assert table.version() == WRITERS * COMMITS, table.version()
    rows = table.to_pyarrow_table()
    assert rows.num_rows == 1 + WRITERS * COMMITS * 10, rows.num_rows
    pairs = set(zip(rows["writer"].to_pylist(), rows["commit"].to_pylist(), strict=True))
    assert len(pairs) == 1 + WRITERS * COMMITS
    early = DeltaTable(TABLE, version=0, storage_options=options)
    assert early.to_pyarrow_table().num_rows == 1
    table.delete("writer = 0")
    table.optimize.compact()
    table.create_checkpoint()
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    again = DeltaTable(TABLE, storage_options=options).to_pyarrow_table()
    assert again.num_rows == 1 + (WRITERS - 1) * COMMITS * 10, again.num_rows
    print("deltalake", deltalake.__version__)
