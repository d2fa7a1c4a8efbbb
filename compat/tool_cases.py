"""Programs that speak S3: s3cmd, s3fs-fuse, restic, s5cmd, the newest rclone, curl."""

from __future__ import annotations

import contextlib
import filecmp
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cases import sample_tree
from setting import Setting, differences, expect_equal, program, python_tool

BIG_BYTES = 60_000_000
MOUNT_TIMEOUT_SECONDS = 30.0


def s3cmd(setting: Setting) -> str:
    """s3cmd: put, multipart, sync --delete-removed, info, cp, mv, modify, info, del -r"""
    tool = program("s3cmd", "s3cmd")
    host = urlsplit(setting.endpoint).netloc
    config = setting.work / "s3cfg"
    config.write_text(
        f"[default]\naccess_key = {setting.store.access_key}\n"
        f"secret_key = {setting.store.secret_key}\nhost_base = {host}\nhost_bucket = {host}\n"
        f"use_https = {bool(setting.certificate)}\nca_certs_file = {setting.certificate}\n"
    )

    def run(*words: str | Path) -> str:
        return setting.run(tool, "-c", config, "--no-progress", *words)

    tree = setting.folder("s3cmd-up")
    sample_tree(tree)
    run("mb", "s3://s3cmdcase")
    run("sync", "--multipart-chunk-size-mb=5", f"{tree}/", "s3://s3cmdcase/tree/")
    mounted = setting.mount / "s3cmdcase"
    expect_equal(tree, mounted / "tree")
    (tree / "a+b.txt").unlink()
    run("sync", "--delete-removed", f"{tree}/", "s3://s3cmdcase/tree/")
    expect_equal(tree, mounted / "tree")
    down = setting.folder("s3cmd-down")
    run("sync", "s3://s3cmdcase/tree/", f"{down}/")
    expect_equal(tree, down)
    kept = (down / "plain.txt").stat().st_mtime - (tree / "plain.txt").stat().st_mtime
    assert abs(kept) < 2, "modification time, kept in the metadata"
    run("cp", "s3://s3cmdcase/tree/a/b/c/large", "s3://s3cmdcase/copy ü")
    run("mv", "s3://s3cmdcase/copy ü", "s3://s3cmdcase/moved+1")
    assert filecmp.cmp(tree / "a/b/c/large", mounted / "moved+1", shallow=False)
    run("modify", "--add-header=x-amz-meta-colour:red", "s3://s3cmdcase/tree/plain.txt")
    said = run("info", "s3://s3cmdcase/tree/plain.txt")
    assert "x-amz-meta-colour: red" in said, said
    assert "x-amz-meta-s3cmd-attrs" in said, said
    run("info", "s3://s3cmdcase")
    assert run("du", "s3://s3cmdcase/tree/").split()[0].isdigit()
    run("del", "--recursive", "--force", "s3://s3cmdcase")
    run("rb", "s3://s3cmdcase")
    return setting.run(tool, "--version").strip()


@contextlib.contextmanager
def _s3fs_mount(setting: Setting, bucket: str, point: Path) -> Iterator[Path]:
    """*bucket* mounted by s3fs-fuse at *point*."""
    tool = program("s3fs", "s3fs")
    keys = setting.work / "s3fs-keys"
    keys.touch(0o600)
    keys.write_text(f"{setting.store.access_key}:{setting.store.secret_key}\n")
    options = f"passwd_file={keys},url={setting.endpoint},use_path_request_style,multipart_size=10"
    options += ",use_xattr,stat_cache_expire=1,enable_noobj_cache"
    setting.run("env", f"CURL_CA_BUNDLE={setting.certificate}", tool, bucket, point, "-o", options)
    try:
        deadline = time.monotonic() + MOUNT_TIMEOUT_SECONDS
        while not os.path.ismount(point):
            assert time.monotonic() < deadline, "s3fs did not mount"
            time.sleep(0.1)
        yield point
    finally:
        setting.run("fusermount", "-u", point)


def _expect_equal_beside_markers(source: Path, ours: Path) -> None:
    """expect_equal, but for the objects that s3fs keeps for folders: their keys end in a slash, and
    the mount shows them as files of this name."""
    found = [name for name in differences(source, ours) if Path(name).name != ".s3~e~"]
    assert not found, f"{len(found)} files differ: {found[:5]}"


def s3fs_fuse(setting: Setting) -> str:
    """s3fs-fuse: cp -a, a big file in parts, change in place, rename, modes, xattr, rm -r"""
    program("s3fs", "s3fs")
    bucket = setting.bucket("s3fscase-fuse")
    ours = setting.mount / bucket
    source = setting.folder("s3fs-source")
    sample_tree(source)
    (source / "big").write_bytes(os.urandom(BIG_BYTES))
    with _s3fs_mount(setting, bucket, setting.folder("s3fs-mount")) as theirs:
        setting.run("cp", "-a", f"{source}/.", theirs / "tree")
        expect_equal(source, theirs / "tree")
        _expect_equal_beside_markers(source, ours / "tree")
        for base in (theirs / "tree", source):
            with (base / "big").open("r+b") as file:
                file.seek(31_000_000)
                file.write(b"changed in place")
        _expect_equal_beside_markers(source, ours / "tree")
        (theirs / "tree" / "big").rename(theirs / "moved ü+")
        assert filecmp.cmp(source / "big", ours / "moved ü+", shallow=False)
        (theirs / "tree" / "a").rename(theirs / "renamed folder")
        _expect_equal_beside_markers(source / "a", ours / "renamed folder")
        (theirs / "tree" / "plain.txt").chmod(0o640)
        assert (theirs / "tree" / "plain.txt").stat().st_mode & 0o777 == 0o640
        os.setxattr(theirs / "tree" / "plain.txt", "user.colour", b"red")
        assert os.getxattr(theirs / "tree" / "plain.txt", "user.colour") == b"red"
        os.symlink("plain.txt", theirs / "tree" / "link")
        assert os.readlink(theirs / "tree" / "link") == "plain.txt"
        (ours / "from the other side").write_text("seen")
        assert (theirs / "from the other side").read_text() == "seen"
        setting.run("rm", "-r", theirs / "tree", theirs / "renamed folder")
        assert not (theirs / "tree").exists()
    assert sorted(path.name for path in ours.iterdir()) == ["from the other side", "moved ü+"]
    return setting.run("s3fs", "--version").splitlines()[0][:60]


def restic(setting: Setting) -> str:
    """restic: init, two backups, check --read-data, restore, dump, forget --prune, unlock"""
    tool = program("restic", "restic")
    trust = ("--cacert", setting.certificate) if setting.certificate else ()
    store = f"s3:{setting.endpoint}/resticcase/repository"

    def run(*words: str | Path) -> str:
        secret = "RESTIC_PASSWORD=only of this test"
        return setting.run("env", secret, tool, "--no-cache", *trust, "-r", store, *words)

    tree = setting.folder("restic-source")
    sample_tree(tree)
    (tree / "big").write_bytes(os.urandom(BIG_BYTES))
    run("init")
    run("backup", tree)
    (tree / "plain.txt").write_text("changed")
    (tree / "big").unlink()
    run("backup", tree)
    assert "no errors were found" in run("check", "--read-data")
    target = setting.folder("restic-target")
    run("restore", "latest", "--target", target)
    expect_equal(tree, target / tree.relative_to("/"))
    assert run("dump", "latest", tree / "plain.txt") == "changed"
    before = sum(path.stat().st_size for path in (setting.mount / "resticcase").rglob("*"))
    run("forget", "--keep-last", "1", "--prune")
    after = sum(path.stat().st_size for path in (setting.mount / "resticcase").rglob("*"))
    assert after < before - BIG_BYTES // 2, (before, after)
    assert "no errors were found" in run("check", "--read-data")
    run("unlock")
    return setting.run(tool, "version").split(" compiled")[0]


def s5cmd(setting: Setting) -> str:
    """s5cmd: cp with wildcards, sync --delete, mv, du, pipe, cat, select of keys, rm"""
    tool = python_tool("s5cmd", ["s5cmd"]) / "s5cmd"

    def run(*words: str | Path, stdin: bytes = b"") -> str:
        return setting.run(tool, "--endpoint-url", setting.endpoint, *words, stdin=stdin)

    tree = setting.folder("s5cmd-up")
    sample_tree(tree)
    run("mb", "s3://s5cmdcase")
    run("cp", "--part-size", "5", f"{tree}/", "s3://s5cmdcase/tree/")
    mounted = setting.mount / "s5cmdcase"
    expect_equal(tree, mounted / "tree")
    (tree / "a+b.txt").unlink()
    run("sync", "--delete", f"{tree}/", "s3://s5cmdcase/tree/")
    expect_equal(tree, mounted / "tree")
    down = setting.folder("s5cmd-down")
    run("cp", "--concurrency", "4", "--part-size", "5", "s3://s5cmdcase/tree/*", f"{down}/")
    expect_equal(tree, down)
    run("mv", "s3://s5cmdcase/tree/a/b/c/large", "s3://s5cmdcase/moved ü+")
    assert filecmp.cmp(tree / "a/b/c/large", mounted / "moved ü+", shallow=False)
    run("pipe", "s3://s5cmdcase/piped", stdin=b"through a pipe")
    assert run("cat", "s3://s5cmdcase/piped") == "through a pipe"
    assert len(run("ls", "s3://s5cmdcase/tree/*.txt").splitlines()) == 4
    assert "objects: s3://s5cmdcase/*" in run("du", "s3://s5cmdcase/*")
    run("rm", "s3://s5cmdcase/*")
    run("rb", "s3://s5cmdcase")
    return "s5cmd " + run("version").strip()


def curl_presigned(setting: Setting) -> str:
    """curl with presigned URLs: PUT, GET, ranges, HEAD, conditions, overrides, expiry, changed
    URLs"""
    tool = program("curl", "curl")
    python = python_tool("boto3", ["boto3[crt]"]) / "python"
    bucket = setting.bucket("curlcase")
    trust = ("--cacert", setting.certificate) if setting.certificate else ()

    def url(method: str, key: str, seconds: int = 600, **more: str) -> str:
        text = (
            "import boto3, sys, json\n"
            "from botocore.config import Config\n"
            "s3 = boto3.client('s3', endpoint_url=sys.argv[1], "
            "config=Config(signature_version='s3v4'))\n"
            "print(s3.generate_presigned_url(sys.argv[2], Params=json.loads(sys.argv[3]), "
            "ExpiresIn=int(sys.argv[4])))"
        )
        parameters = repr({"Bucket": bucket, "Key": key} | more).replace("'", '"')
        words = (setting.endpoint, method, parameters, str(seconds))
        return setting.run(python, "-c", text, *words).strip()

    def status(*words: str | Path) -> str:
        return setting.run(tool, "-s", *trust, "-o", "/dev/null", "-w", "%{http_code}", *words)

    key = "odd name ü+&=%20/x"
    data = setting.work / "curl-data"
    data.write_bytes(os.urandom(5_000_000))
    assert status("-T", data, url("put_object", key)) == "200"
    got = setting.work / "curl-got"
    link = url("get_object", key)
    setting.run(tool, "-sSf", *trust, "-o", got, link)
    assert filecmp.cmp(data, got, shallow=False)
    setting.run(tool, "-sSf", *trust, "-o", got, "-r", "1000-1999", link)
    assert got.read_bytes() == data.read_bytes()[1000:2000]
    assert status("-I", link) == "403", "a URL for GET is not one for HEAD"
    assert status("-I", url("head_object", key)) == "200"
    assert status("-H", "If-None-Match: *", "-T", data, url("put_object", key)) == "412"
    shown = url("get_object", key, ResponseContentDisposition="attachment; x=1")
    head = setting.run(tool, "-sSf", *trust, "-D", "-", "-o", "/dev/null", shown)
    assert "content-disposition: attachment; x=1" in head.lower(), head
    assert status(link.replace("odd%20name", "odd%20names")) == "403"
    late = url("get_object", key, 1)
    time.sleep(2.5)
    assert status(late) == "403"
    assert status("-X", "DELETE", url("delete_object", key)) == "204"
    assert status(link) == "404"
    return setting.run(tool, "--version").split(" (")[0]


CASES = [s3cmd, s3fs_fuse, restic, s5cmd, curl_presigned]
