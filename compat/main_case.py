"""The main case: a real tree up by the aws CLI, compared in the mount, changed there, down again,
compared again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setting import ROOT, Setting, expect_equal, python_tool

ODD_NAMES = (
    "with space", "ünïcode 名前 🎈", "100%", "%2F%20", "a+b", "a&b=c", "~tilde", "(brackets)[x]{y}",
    "quote'single", "star*", "semi;colon", "hash#tag", "comma,", "dollar$", "at@", "excl!",
)  # fmt: skip
SIZES = (
    0, 1, 100, 4095, 4096, 32767, 32768, 32769, 65535, 65536, 1 << 20, (8 << 20) - 1, 8 << 20,
    (8 << 20) + 1, 50_000_000,
)  # fmt: skip
LARGEST_BYTES = 1 << 30


def _make_tree(setting: Setting, tree: Path) -> None:
    """Standard library, site-packages, a git repository, all sizes, odd names."""
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", "site-packages")
    library = Path(sysconfig.get_paths()["stdlib"])
    if setting.full:
        shutil.copytree(library, tree / "stdlib", ignore=skip, symlinks=False)
        packages = Path(sysconfig.get_paths()["purelib"])
        shutil.copytree(
            packages, tree / "site-packages", ignore=shutil.ignore_patterns("__pycache__")
        )
    else:
        shutil.copytree(library / "json", tree / "stdlib" / "json", ignore=skip)
        shutil.copytree(library / "email", tree / "stdlib" / "email", ignore=skip)
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, tree / "repository"], check=True)
    # A link to its own ancestor: clients that follow links would walk in circles.
    (tree / "repository" / ".ci" / "import" / "craqen").unlink()
    sizes = tree / "sizes"
    sizes.mkdir()
    for size in SIZES:
        (sizes / f"{size}").write_bytes(os.urandom(size))
    with (sizes / "largest").open("wb") as file:
        for _ in range((LARGEST_BYTES if setting.full else 100 << 20) >> 20):
            file.write(os.urandom(1 << 20))
    odd = tree / "odd names"
    odd.mkdir()
    for name in ODD_NAMES:
        (odd / name).write_text(name)
        (odd / f"{name}.d").mkdir()
        (odd / f"{name}.d" / name).write_text(name * 2)


def _change(mounted: Path, mirror: Path) -> None:
    """The same changes in the mount and in a local copy."""
    for base in (mounted, mirror):
        with (base / "sizes" / "4096").open("ab") as file:
            file.write(b"appended")
        with (base / "sizes" / "largest").open("r+b") as file:
            file.seek(12_345_678)
            file.write(b"changed in place")
            file.seek(0, os.SEEK_END)
            file.write(b"the end")
        os.truncate(base / "sizes" / "50000000", 1_234_567)
        (base / "sizes" / "100").unlink()
        (base / "odd names" / "100%").rename(base / "odd names" / "renamed %41")
        (base / "repository").rename(base / "moved repository")
        (base / "new folder" / "deeper").mkdir(parents=True)
        (base / "new folder" / "deeper" / "file").write_bytes(b"new" * 100_000)
        shutil.rmtree(base / "stdlib" / "email")


def main_case(setting: Setting) -> str:
    """main case: a real tree synced up, compared in the mount, changed there, synced down,
    compared"""
    aws = python_tool("awscli", ["awscli"]) / "aws"
    tree = setting.folder("main-tree")
    _make_tree(setting, tree)
    bucket = setting.bucket("maincase")
    mounted = setting.mount / bucket / "tree"
    sync = ("--endpoint-url", setting.endpoint, "s3", "sync", "--only-show-errors")
    setting.run(aws, *sync, tree, f"s3://{bucket}/tree")
    expect_equal(tree, mounted)
    _change(mounted, tree)
    expect_equal(tree, mounted)
    down = setting.folder("main-down")
    setting.run(aws, *sync, f"s3://{bucket}/tree", down)
    expect_equal(tree, down)
    files = sum(len(names) for _, _, names in os.walk(tree))
    size = sum(
        os.path.getsize(os.path.join(parent, name))
        for parent, _, names in os.walk(tree)
        for name in names
    )
    shutil.rmtree(tree)
    shutil.rmtree(down)
    return f"{files:,} files, {size / 1e9:.1f} GB, Python {sys.version.split()[0]}"
