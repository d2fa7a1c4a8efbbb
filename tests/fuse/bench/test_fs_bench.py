"""The benchmark of the mount on two empty file systems: its load, its reference and its table."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from craqen.core.limits import MIB
from craqen.fuse import kernel_read_ahead

pytest.importorskip("pyfuse3", reason="the mount's library is not installed")

from craqen.core.errors import UnavailableError
from craqen.fuse.bench import fs, load
from craqen.fuse.bench.reference import null_mount

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(
        not os.access("/dev/fuse", os.R_OK | os.W_OK) or shutil.which("fusermount3") is None,
        reason="needs /dev/fuse and fusermount3",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: allow_other, read-ahead, remount"),
]


def test_the_empty_file_system_reads_zeros_and_keeps_names_and_sizes(tmp_path: Path) -> None:
    with null_mount(tmp_path):
        zeros = tmp_path / "zeros"
        assert zeros.stat().st_size == 512 * MIB
        with zeros.open("rb") as file:
            file.seek(-100, os.SEEK_END)
            assert file.read() == bytes(100)
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "file").write_bytes(b"dropped")
        assert load.drop_names(tmp_path)
        assert (folder / "file").stat().st_size == 7
        load.drop_cache(folder / "file")
        assert (folder / "file").read_bytes() == bytes(7)
        assert sorted(os.listdir(tmp_path)) == ["folder", "zeros"]
        with pytest.raises(OSError, match="not empty"):
            folder.rmdir()
        (folder / "file").unlink()
        folder.rmdir()
        assert os.listdir(tmp_path) == ["zeros"]
    assert os.listdir(tmp_path) == []
    assert kernel_read_ahead.device_of_mount(str(tmp_path)) is None


def test_the_kernel_reads_a_mebibyte_ahead_also_below_odd_names(tmp_path: Path) -> None:
    point = tmp_path / "a b\\040#c\rd"
    point.mkdir()
    with null_mount(point):
        device = kernel_read_ahead.device_of_mount(str(point))
        assert Path(f"/sys/class/bdi/{device}/read_ahead_kb").read_text() == "1024\n"


def test_a_place_that_cannot_be_mounted_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError), null_mount(tmp_path / "missing"):
        pass


def test_every_row_has_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("RANDOM_READS", 20), ("SMALL_FILES", 20), ("STAT_FILES", 50)):
        monkeypatch.setattr(load, name, size)
    one, two = tmp_path / "one", tmp_path / "two"
    for point in (one, two):
        point.mkdir()
    with null_mount(one) as first, null_mount(two) as second:
        bench = fs.Bench(fs.reference_side(one, first), fs.reference_side(two, second), runs=2)
        for step in (bench.random, bench.create, bench.stat):
            step()
        rows = bench.report.rows
    assert [row.work for row in rows[::2]] == [
        "4 KiB random read, direct",
        "create + write 4 KiB + close of 20 files",
        "stat of 50 files, cold",
    ]
    for cost in rows[::2]:
        assert cost.ratio is not None
        assert cost.ratio > 0  # the daemons of both sides did work: nothing came from a cache
        assert cost.reached is not None
    assert [row.target for row in rows[::2]] == [">= 0.5", ">= 0.4", ">= 0.4"]
