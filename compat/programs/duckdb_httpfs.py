"""DuckDB with its httpfs extension (from a package: nothing is downloaded while it runs)."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import duckdb_extension_httpfs

folder = Path(duckdb_extension_httpfs.__file__).parent
extension = next(folder.rglob("httpfs.duckdb_extension"))
parts = urlsplit(sys.argv[1])
database = duckdb.connect()
database.execute(f"LOAD '{extension}'")
if parts.scheme == "https":
    database.execute(f"SET ca_cert_file='{os.environ['AWS_CA_BUNDLE']}'")
    database.execute("SET enable_server_cert_verification=true")
database.execute(
    f"CREATE SECRET (TYPE s3, KEY_ID '{os.environ['AWS_ACCESS_KEY_ID']}', "
    f"SECRET '{os.environ['AWS_SECRET_ACCESS_KEY']}', REGION 'us-east-1', URL_STYLE 'path', "
    f"ENDPOINT '{parts.netloc}', USE_SSL {parts.scheme == 'https'})"
)
source = "SELECT n, n % 7 AS day, 'ü' || n AS text FROM range(300000) r(n)"
database.execute(f"COPY ({source}) TO 's3://duckcase/one.parquet'")
database.execute(f"COPY ({source}) TO 's3://duckcase/one ü+.csv' (HEADER)")
database.execute(f"COPY ({source}) TO 's3://duckcase/set' (FORMAT parquet, PARTITION_BY (day))")
expected = database.execute(f"SELECT count(*), sum(n), min(text) FROM ({source})").fetchone()
for name in ("one.parquet", "one ü+.csv", "set/day=*/*.parquet", "set/**"):
    reader = "read_csv" if name.endswith("csv") else "read_parquet"
    query = f"SELECT count(*), sum(n), min(text) FROM {reader}('s3://duckcase/{name}')"
    assert database.execute(query).fetchone() == expected, name
picked = "SELECT sum(n) FROM read_parquet('s3://duckcase/set/*/*.parquet', hive_partitioning=true)"
of_day = database.execute(f"{picked} WHERE day = 3").fetchone()
assert of_day == database.execute(f"SELECT sum(n) FROM ({source}) WHERE day = 3").fetchone()
files = database.execute("SELECT file FROM glob('s3://duckcase/set/day=3/*')").fetchall()
assert files
assert all("day=3/" in name for (name,) in files)
try:
    database.execute("SELECT * FROM read_parquet('s3://duckcase/none.parquet')")
    raise SystemExit("an object that does not exist was read")
except duckdb.Error:
    pass
print("DuckDB", duckdb.__version__)
