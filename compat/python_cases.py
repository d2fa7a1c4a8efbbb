"""Clients in Python, each a program of compat/programs in a virtual environment of its own."""

from __future__ import annotations

import os
from pathlib import Path

from setting import Setting, Skipped, python_tool

PROGRAMS = Path(__file__).resolve().parent / "programs"
VIRTUAL_DOMAIN = "craqen.localhost"


def _run(setting: Setting, tool: str, packages: list[str], program: str, *words: str) -> str:
    """Run a program of compat/programs; returns what it says of its versions."""
    python = python_tool(tool, packages) / "python"
    said = setting.run(python, PROGRAMS / f"{program}.py", setting.endpoint, *words)
    return said.strip().splitlines()[-1]


def boto3_before_default_checksums(setting: Setting) -> str:
    """boto3 1.35: multipart, Content-MD5, encoded bodies, lifecycle document, many deleted at
    once"""
    return _run(setting, "boto3-135", ["boto3<1.36"], "boto3_old")


def boto3_crt(setting: Setting) -> str:
    """boto3 with the CRT's transfer manager: parallel parts up and ranges down"""
    return _run(setting, "boto3", ["boto3[crt]"], "boto3_crt")


def virtual_hosts(setting: Setting) -> str:
    """virtual-host style: boto3 with buckets as host names, presigned URLs, odd keys"""
    return _run(setting, "boto3", ["boto3[crt]"], "virtual_host", VIRTUAL_DOMAIN)


def fsspec_s3fs(setting: Setting) -> str:
    """fsspec s3fs: blocks, ranges, find, glob, mv, attributes, pandas csv and parquet"""
    return _run(setting, "s3fs", ["s3fs", "pandas", "pyarrow"], "fsspec_s3fs")


def arrow(setting: Setting) -> str:
    """pyarrow S3FileSystem: folders, streams, moves, partitioned parquet datasets"""
    return _run(setting, "s3fs", ["s3fs", "pandas", "pyarrow"], "arrow_s3")


def duckdb(setting: Setting) -> str:
    """DuckDB httpfs: COPY TO parquet, csv and partitions, read with globs"""
    setting.bucket("duckcase")
    return _run(setting, "duckdb", ["duckdb-extension-httpfs"], "duckdb_httpfs")


def polars(setting: Setting) -> str:
    """Polars: write, read, scan and sink parquet and csv"""
    setting.bucket("polarscase")
    return _run(setting, "polars", ["polars"], "polars_store")


def delta(setting: Setting) -> str:
    """deltalake (delta-rs): two writers at once with conditional commits, delete, compact,
    vacuum"""
    setting.bucket("deltacase")
    return _run(setting, "deltalake", ["deltalake", "pyarrow"], "delta")


def torch(setting: Setting) -> str:
    """s3torchconnector: checkpoints, map and iterable datasets"""
    setting.bucket("torchcase")
    return _run(setting, "s3torch", ["s3torchconnector", "torch"], "torch_connector")


def minio_py(setting: Setting) -> str:
    """minio-py: its own functional tests"""
    checkout = setting.checkouts.get("minio-py")
    if checkout is None:
        raise Skipped("give a checkout of minio/minio-py: --minio-py FOLDER")
    python = python_tool("minio", ["minio"]) / "python"
    data = setting.folder("minio-data")
    for name, size in (("datafile-1-MB", 1 << 20), ("datafile-11-MB", 11 << 20)):
        (data / name).write_bytes(os.urandom(size))
    environment = {
        "SERVER_ENDPOINT": setting.endpoint.partition("//")[2],
        "ACCESS_KEY": setting.store.access_key,
        "SECRET_KEY": setting.store.secret_key,
        "ENABLE_HTTPS": "1" if setting.certificate else "0",
        "DATA_DIR": str(data),
        "MINT_MODE": "full",
        "SERVER_REGION": "us-east-1",
    }
    # Its library is that of the checkout; the virtual environment has what it needs.
    environment["PYTHONPATH"] = str(checkout)
    words = [f"{name}={value}" for name, value in environment.items() if value]
    tests = checkout / "tests" / "functional" / "tests.py"
    said = setting.run("env", *words, python, tests, folder=data)
    counts = {word: said.count(f'"status": "{word}"') for word in ("PASS", "NA", "FAIL")}
    assert counts["PASS"], said[-1500:]
    assert not counts["FAIL"], said[-1500:]
    return f"{counts['PASS']} passed, {counts['NA']} not applicable"


CASES = [
    boto3_before_default_checksums,
    boto3_crt,
    virtual_hosts,
    fsspec_s3fs,
    arrow,
    duckdb,
    polars,
    delta,
    torch,
    minio_py,
]
