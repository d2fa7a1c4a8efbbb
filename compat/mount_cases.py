"""Programs on the mount: cp, rsync, tar, git, sqlite3, dd, fio."""

from __future__ import annotations

import filecmp
import os
import sysconfig
from pathlib import Path

from setting import Setting, expect_equal, program


def _source(setting: Setting) -> Path:
    """A real tree of some hundred files: a part of the standard library."""
    source = setting.work / "source"
    if not source.exists():
        library = Path(sysconfig.get_paths()["stdlib"])
        source.mkdir()
        for name in ("json", "email", "asyncio", "unittest", "encodings"):
            setting.run("cp", "-r", library / name, source / name)
    return source


def cp(setting: Setting) -> None:
    """mount: cp -a, mv, cmp, rm -r"""
    base = setting.mount / setting.bucket("cpcase")
    source = _source(setting)
    setting.run("cp", "-a", source, base / "tree")
    expect_equal(source, base / "tree")
    before = (source / "json" / "__init__.py").stat()
    after = (base / "tree" / "json" / "__init__.py").stat()
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_mode == before.st_mode
    setting.run("mv", base / "tree", base / "moved")
    expect_equal(source, base / "moved")
    setting.run("rm", "-r", base / "moved")
    assert not list(base.iterdir())


def rsync(setting: Setting) -> str:
    """mount: rsync -a --delete, twice, and with --checksum --inplace"""
    rsync = program("rsync", "rsync")
    base = setting.mount / setting.bucket("rsynccase")
    source = setting.folder("rsync-source")
    setting.run("cp", "-r", f"{_source(setting)}/.", source)
    setting.run(rsync, "-a", "--delete", f"{source}/", f"{base}/tree/")
    expect_equal(source, base / "tree")
    said = setting.run(rsync, "-ai", "--delete", f"{source}/", f"{base}/tree/")
    assert said.strip() == "", f"a second run moves nothing, but: {said[:300]}"
    (source / "json" / "decoder.py").unlink()
    with (source / "json" / "encoder.py").open("a") as file:
        file.write("# more\n")
    setting.run(rsync, "-a", "--delete", "--checksum", "--inplace", f"{source}/", f"{base}/tree/")
    expect_equal(source, base / "tree")
    return setting.run(rsync, "--version").splitlines()[0].split("protocol")[0].strip()


def tar(setting: Setting) -> None:
    """mount: tar out of and into the mount"""
    base = setting.mount / setting.bucket("tarcase")
    source = _source(setting)
    setting.run("tar", "-cf", base / "tree.tar", "-C", source, ".")
    (base / "out").mkdir()
    setting.run("tar", "-xf", base / "tree.tar", "-C", base / "out")
    expect_equal(source, base / "out")


def git(setting: Setting) -> str:
    """mount: git init, add, commit, branch, checkout, merge, gc, fsck, clone"""
    git = program("git", "git")
    base = setting.mount / setting.bucket("gitcase")
    repository = base / "repository"
    setting.run(git, "init", "-q", "-b", "main", repository)
    setting.run("cp", "-r", f"{_source(setting)}/.", repository)
    setting.run(git, "add", "-A", folder=repository)
    setting.run(git, "commit", "-q", "-m", "all", folder=repository)
    setting.run(git, "checkout", "-q", "-b", "side", folder=repository)
    (repository / "json" / "tool.py").write_text("changed\n")
    setting.run(git, "commit", "-q", "-am", "side", folder=repository)
    setting.run(git, "checkout", "-q", "main", folder=repository)
    setting.run(git, "merge", "-q", "side", folder=repository)
    setting.run(git, "gc", "-q", folder=repository)
    setting.run(git, "fsck", "--strict", folder=repository)
    assert setting.run(git, "status", "--porcelain", folder=repository) == ""
    setting.run(git, "clone", "-q", repository, base / "clone")
    assert (base / "clone" / "json" / "tool.py").read_text() == "changed\n"
    return setting.run(git, "--version").strip()


def sqlite(setting: Setting) -> str:
    """mount: sqlite3 with transactions, rollback, vacuum, integrity_check"""
    sqlite = program("sqlite3", "sqlite3")
    base = setting.mount / setting.bucket("sqlitecase")
    statements = (
        "create table t(a integer primary key, b text);"
        "begin; with recursive n(x) as (values(1) union all select x+1 from n where x<20000)"
        " insert into t select x, hex(randomblob(20)) from n; commit;"
        "begin; delete from t; rollback;"
        "update t set b='changed' where a%7=0; delete from t where a%5=0; vacuum;"
        "select count(*), sum(a) from t; pragma integrity_check;"
    )
    said = setting.run(sqlite, base / "test.db", statements).split()
    assert said == ["16000|160000000", "ok"], said
    return "sqlite " + setting.run(sqlite, "--version").split()[0]


def dd(setting: Setting) -> None:
    """mount: dd with seek, conv=notrunc, direct and fsync"""
    base = setting.mount / setting.bucket("ddcase")
    data = os.urandom(8 << 20)
    local = setting.work / "dd-source"
    local.write_bytes(data)
    target = base / "file"
    setting.run("dd", f"if={local}", f"of={target}", "bs=1M", "conv=fsync")
    patch = ("bs=4k", "seek=777", "skip=3", "count=10", "conv=notrunc")
    setting.run("dd", f"if={local}", f"of={target}", *patch)
    wanted = bytearray(data)
    wanted[777 * 4096 : 787 * 4096] = data[3 * 4096 : 13 * 4096]
    assert target.read_bytes() == bytes(wanted)
    setting.run("dd", f"if={target}", f"of={setting.work}/dd-back", "bs=1M", "iflag=direct")
    assert filecmp.cmp(target, setting.work / "dd-back", shallow=False)
    setting.run("dd", f"if={local}", f"of={base}/sparse", "bs=1", "count=1", "seek=100M")
    assert (base / "sparse").stat().st_size == 100 * 1024 * 1024 + 1


def fio(setting: Setting) -> str:
    """mount: fio random and sequential writes, verified by crc32c"""
    fio = program("fio", "fio")
    base = setting.mount / setting.bucket("fiocase")
    for mode, size in (("randwrite", "16M"), ("write", "64M"), ("randrw", "16M")):
        setting.run(
            fio,
            f"--name={mode}",
            f"--directory={base}",
            f"--rw={mode}",
            f"--size={size}",
            "--bs=4k" if mode != "write" else "--bs=1M",
            "--ioengine=psync",
            "--verify=crc32c",
            "--do_verify=1",
            "--verify_fatal=1",
            "--end_fsync=1",
            "--numjobs=2",
        )
    return setting.run(fio, "--version").strip()


def both_doors(setting: Setting) -> None:
    """mount and S3: written by one, read by the other, at once"""
    from setting import python_tool

    base = setting.mount / setting.bucket("bothcase")
    script = setting.work / f"both-{setting.scheme}.py"
    script.write_text(
        "import boto3, hashlib, os, sys\n"
        "s3 = boto3.client('s3', endpoint_url=sys.argv[1])\n"
        "base = sys.argv[2]\n"
        "for number in range(200):\n"
        "    size = [0, 1, 4096, 100_000, 3_000_000][number % 5]\n"
        "    data = os.urandom(size)\n"
        "    s3.put_object(Bucket='bothcase', Key='x', Body=data)\n"
        "    assert open(f'{base}/x', 'rb').read() == data, f'S3 to file, {number}'\n"
        "    data = os.urandom(size)\n"
        "    with open(f'{base}/x', 'wb') as file: file.write(data)\n"
        "    got = s3.get_object(Bucket='bothcase', Key='x')\n"
        "    assert got['Body'].read() == data, f'file to S3, {number}'\n"
        "    assert got['ETag'] != hashlib.md5(data).hexdigest()\n"
    )
    setting.run(python_tool("boto3", ["boto3[crt]"]) / "python", script, setting.endpoint, base)


VERSIONS_SCRIPT = """
import boto3, errno, os, shutil, sys

s3 = boto3.client("s3", endpoint_url=sys.argv[1])
base, bucket = sys.argv[2], "versionscase"
s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def shown(key):
    page = s3.list_object_versions(Bucket=bucket, Prefix=key)
    rows = page.get("Versions", []) + page.get("DeleteMarkers", [])
    rows.sort(key=lambda row: row["VersionId"])
    return [(row["VersionId"], "ETag" not in row) for row in rows if row["Key"] == key]


def overwrite(path):
    file = os.open(path, os.O_WRONLY)
    os.write(file, b"gone")
    return file


s3.put_object(Bucket=bucket, Key="d/k", Body=b"one")
with open(f"{base}/d/new", "wb") as file:
    file.write(b"two")
os.rename(f"{base}/d/new", f"{base}/d/k")
assert open(f"{base}/d/k", "rb").read() == b"two"
(two, _), (one, _) = shown("d/k")
assert s3.get_object(Bucket=bucket, Key="d/k", VersionId=one)["Body"].read() == b"one"
os.unlink(f"{base}/d/k")
os.rmdir(f"{base}/d")
assert os.listdir(base) == []
assert [marker for _, marker in shown("d/k")] == [True, False, False]
assert "CommonPrefixes" not in s3.list_objects_v2(Bucket=bucket, Delimiter="/")
source = {"Bucket": bucket, "Key": "d/k", "VersionId": one}
s3.copy_object(Bucket=bucket, Key="d/k", CopySource=source)
assert open(f"{base}/d/k", "rb").read() == b"one", "restored by a copy"
s3.delete_object(Bucket=bucket, Key="d/k")
assert os.listdir(base) == []
(marker, _), *_ = shown("d/k")
s3.delete_object(Bucket=bucket, Key="d/k", VersionId=marker)
assert open(f"{base}/d/k", "rb").read() == b"one", "restored by removing the marker"
os.unlink(f"{base}/d/k")
os.rmdir(f"{base}/d")
os.mkdir(f"{base}/e")
open(f"{base}/e/k", "wb").write(b"three")
try:
    os.rename(f"{base}/e", f"{base}/d")
    raise SystemExit("a folder took the name of one that holds versions")
except OSError as error:
    assert error.errno == errno.EXDEV
shutil.move(f"{base}/e", f"{base}/d")
assert open(f"{base}/d/k", "rb").read() == b"three"
assert one in [version for version, _ in shown("d/k")]
s3.put_object_lock_configuration(
    Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
)
s3.put_object(Bucket=bucket, Key="held", Body=b"held", ObjectLockLegalHoldStatus="ON")
for call in (
    lambda: os.truncate(f"{base}/held", 0),
    lambda: os.rename(f"{base}/held", f"{base}/other"),
    lambda: os.fsync(overwrite(f"{base}/held")),
):
    try:
        call()
        raise SystemExit("a version with a legal hold was changed")
    except PermissionError:
        pass
assert s3.get_object(Bucket=bucket, Key="held")["Body"].read() == b"held"
s3.put_object_legal_hold(Bucket=bucket, Key="held", LegalHold={"Status": "OFF"})
page = s3.list_object_versions(Bucket=bucket)
for row in page.get("Versions", []) + page.get("DeleteMarkers", []):
    s3.delete_object(Bucket=bucket, Key=row["Key"], VersionId=row["VersionId"])
s3.delete_bucket(Bucket=bucket)
"""


def versions(setting: Setting) -> None:
    """mount and S3: versions of what the mount replaced and removed, restored by S3; object lock"""
    from setting import python_tool

    base = setting.mount / setting.bucket("versionscase")
    script = setting.work / f"versions-{setting.scheme}.py"
    script.write_text(VERSIONS_SCRIPT)
    setting.run(python_tool("boto3", ["boto3[crt]"]) / "python", script, setting.endpoint, base)


CASES = [cp, rsync, tar, git, sqlite, dd, fio, both_doors, versions]
