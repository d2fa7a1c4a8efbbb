"""Heavier work on the mount: PostgreSQL, pip, and building C programs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setting import Setting, Skipped, program

POSTGRES_FOLDERS = "/usr/lib/postgresql"
PACKAGES = ("requests", "pyyaml", "numpy")
C_FILES = 80
BENCH_SECONDS = 20


class Postgres:
    """One cluster whose data is on the mount; its socket is not."""

    def __init__(self, setting: Setting, data: Path) -> None:
        """Raises Skipped."""
        versions = sorted(Path(POSTGRES_FOLDERS).glob("*/bin/initdb"))
        if not versions:
            raise Skipped("initdb is not installed (Debian package postgresql)")
        self._bin = versions[-1].parent
        self._setting = setting
        self._data = data
        self._sockets = setting.folder(f"postgres-{setting.scheme}")
        self._as_user: tuple[str, ...] = ()
        if os.geteuid() == 0:  # which the server refuses to be
            self._as_user = (program("runuser", "util-linux"), "-u", "postgres", "--")
            data.mkdir()
            shutil.chown(data, "postgres", "postgres")
            shutil.chown(self._sockets, "postgres", "postgres")
            for folder in (setting.work, setting.work.parent):
                folder.chmod(folder.stat().st_mode | 0o011)

    def run(self, name: str, *words: str | Path) -> str:
        """Run one of its programs."""
        return self._setting.run(*self._as_user, self._bin / name, *words)

    def client(self, name: str, *words: str | Path) -> str:
        """Run a program that connects."""
        return self.run(name, "-h", self._sockets, *words)

    def init(self) -> None:
        """initdb, with checksums of pages."""
        self.run("initdb", "-D", self._data, "-A", "trust", "--data-checksums", "--no-instructions")

    def start(self) -> None:
        """Start, and wait until it serves."""
        log = self._sockets / "log"
        options = f"-k {self._sockets} -c listen_addresses= -c shared_buffers=32MB"
        self.run("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: str) -> None:
        """``fast`` writes all out, ``immediate`` is as a crash."""
        self.run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def check(self) -> None:
        """Every page has its checksum."""
        said = self.run("pg_checksums", "--check", "-D", self._data)
        assert "Bad checksums:  0" in said, said


def postgresql(setting: Setting) -> str:
    """mount: PostgreSQL: initdb, pgbench, a crash and its recovery, vacuum full, pg_checksums"""
    server = Postgres(setting, setting.mount / setting.bucket("postgrescase") / "data")
    server.init()
    server.start()
    mode = "immediate"
    try:
        server.client("createdb", "bench")
        server.client("pgbench", "-q", "-i", "-s", "5", "bench")
        bench = ("-c", "4", "-j", "2", "-T", str(BENCH_SECONDS))
        said = server.client("pgbench", *bench, "bench")
        assert "number of failed transactions: 0" in said, said
        query = (
            "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from "
            "pgbench_history), (select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) "
            "from pgbench_branches)"
        )
        before = server.client("psql", "-Atc", "select count(*) from pgbench_history", "bench")
        server.stop("immediate")
        server.start()
        after = server.client("psql", "-Atc", "select count(*) from pgbench_history", "bench")
        assert after == before, f"{before} rows before the crash, {after} behind it"
        assert server.client("psql", "-Atc", query, "bench").strip() == "t|t"
        server.client("psql", "-qc", "vacuum full", "bench")
        assert server.client("psql", "-Atc", query, "bench").strip() == "t|t"
        mode = "fast"
    finally:
        server.stop(mode)
    server.check()
    [rate] = [line for line in said.splitlines() if line.startswith("tps")]
    version = server.run("pg_ctl", "--version").partition("(PostgreSQL) ")[2].split()[0]
    return f"PostgreSQL {version}, {float(rate.split()[2]):.0f} transactions a second"


def pip(setting: Setting) -> str:
    """mount: a virtual environment, pip install, the packages used, pip check, uninstall"""
    base = setting.mount / setting.bucket("pipcase")
    setting.run(sys.executable, "-m", "venv", base / "environment")
    python = base / "environment" / "bin" / "python"
    try:
        setting.run(python, "-m", "pip", "install", "--quiet", *PACKAGES)
    except RuntimeError as error:
        raise Skipped(f"pip install {' '.join(PACKAGES)} failed: {str(error)[-200:]}") from None
    setting.run(python, "-m", "pip", "check")
    script = "import numpy, requests, yaml; print(int(numpy.arange(10).sum()), yaml.safe_load('1'))"
    assert setting.run(python, "-c", script).split() == ["45", "1"]
    setting.run(python, "-m", "pip", "uninstall", "--quiet", "-y", "numpy")
    listed = setting.run(python, "-m", "pip", "list", "--format=freeze")
    assert "numpy" not in listed, listed
    assert not list((base / "environment" / "lib").glob("python*/site-packages/numpy"))
    return setting.run(python, "-m", "pip", "--version").split(" from ")[0]


def c_project(setting: Setting) -> str:
    """mount: a C project built by make in parallel, anew for a changed header, nothing otherwise"""
    compiler, make = program("gcc", "gcc"), program("make", "make")
    base = setting.mount / setting.bucket("buildcase") / "project"
    base.mkdir()
    names = [f"part{number}" for number in range(C_FILES)]
    (base / "sum.h").write_text("#define STEP 1\n")
    for number, name in enumerate(names):
        (base / f"{name}.h").write_text(f"int {name}(void);\n")
        header = '#include "sum.h"\n' if number % 2 else "#define STEP 1\n"
        (base / f"{name}.c").write_text(
            f'{header}#include <stdio.h>\n#include "{name}.h"\n'
            f"int {name}(void) {{ return {number} * STEP; }}\n"
        )
    includes = "".join(f'#include "{name}.h"\n' for name in names)
    total = " + ".join(f"{name}()" for name in names)
    (base / "main.c").write_text(
        f'#include <stdio.h>\n{includes}int main(void) {{ printf("%d\\n", {total}); return 0; }}\n'
    )
    objects = " ".join(f"{name}.o" for name in names)
    (base / "Makefile").write_text(
        f"CFLAGS = -O1 -MMD\nprogram: main.o libparts.a\n\t$(CC) -o $@ main.o -L. -lparts\n"
        f"libparts.a: {objects}\n\t$(AR) rcs $@ $^\n-include *.d\n"
    )

    def build() -> list[str]:
        said = setting.run(make, "-j4", f"CC={compiler}", folder=base)
        return [line for line in said.splitlines() if " -c " in line]

    assert len(build()) == C_FILES + 1
    wanted = sum(range(C_FILES))
    assert setting.run(base / "program").strip() == str(wanted)
    assert build() == [], "nothing has changed"
    (base / "sum.h").write_text("#define STEP 2\n")
    assert len(build()) == C_FILES // 2, "those that include the header"
    odd = sum(number for number in range(C_FILES) if number % 2)
    assert setting.run(base / "program").strip() == str(wanted + odd)
    return setting.run(compiler, "--version").splitlines()[0]


CASES = [postgresql, pip, c_project]
