"""fsspec's own tests of file systems, and what its users do."""

from __future__ import annotations

import posixpath
from typing import Any

import fsspec
import pytest
from fsspec.tests import abstract

from craqen.client import Store
from craqen.client.fsspec_files import CraqenFileSystem
from craqen.client.shared import share


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]  # fsspec has no types
    @pytest.fixture
    def fs(self, store: Store, config: str) -> CraqenFileSystem:
        share(store, config)
        return CraqenFileSystem(config=config)

    @pytest.fixture
    def fs_path(self, folder: str) -> str:
        return folder

    @pytest.fixture
    def fs_join(self) -> Any:
        return posixpath.join

    @pytest.fixture
    def fs_target(self, fs_path: str) -> str:
        return f"{fs_path}/target"


class TestCopy(Fixtures, abstract.AbstractCopyTests):  # type: ignore[misc]
    pass


class TestGet(Fixtures, abstract.AbstractGetTests):  # type: ignore[misc]
    pass


class TestPut(Fixtures, abstract.AbstractPutTests):  # type: ignore[misc]
    pass


class TestOpen(Fixtures, abstract.AbstractOpenTests):  # type: ignore[misc]
    pass


class TestPipe(Fixtures, abstract.AbstractPipeTests):  # type: ignore[misc]
    pass


def test_by_url(store: Store, config: str, folder: str) -> None:
    share(store, config)
    url = f"craqen:/{folder}/table/notes.txt"
    with fsspec.open(url, "wt", config=config) as file:
        file.write("one\ntwo\n")
    with fsspec.open(url, "rt", config=config) as file:
        assert file.read() == "one\ntwo\n"
    assert store.read_bytes(f"{folder}/table/notes.txt") == b"one\ntwo\n"
    files = fsspec.filesystem("craqen", config=config)
    assert files.find(folder) == [f"{folder}/table/notes.txt"]
    assert files.cat_ranges([f"{folder}/table/notes.txt"] * 3, [0, 4, -2], [3, None, None]) == [
        b"one", b"two\n", b"o\n",
    ]  # fmt: skip
    before = files.ukey(f"{folder}/table/notes.txt")
    files.pipe_file(f"{folder}/table/notes.txt", b"other")
    assert files.ukey(f"{folder}/table/notes.txt") != before


def test_a_copy_moves_no_bytes(store: Store, config: str, folder: str) -> None:
    share(store, config)
    files = CraqenFileSystem(config=config)
    data = bytes(range(256)) * 8192
    files.pipe_file(f"{folder}/source", data)
    files.cp_file(f"{folder}/source", f"{folder}/below/target")
    assert files.cat_file(f"{folder}/below/target") == data
    with store.open(f"{folder}/source", "r+b") as file:
        file.write(b"changed")
    assert files.cat_file(f"{folder}/below/target") == data


def test_tables(store: Store, config: str, folder: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    arrow = pytest.importorskip("pyarrow")
    share(store, config)
    files = CraqenFileSystem(config=config)
    table = arrow.table({"number": list(range(100_000)), "text": ["x"] * 100_000})
    parquet.write_table(table, f"{folder}/table.parquet", filesystem=files)
    found = parquet.read_table(
        f"{folder}/table.parquet", filesystem=files, filters=[("number", "<", 10)]
    )
    assert found.num_rows == 10
