"""``make pjdfstest|fsx|fsstress``: public suites of file systems, from their own checkouts, on the
mount of a freshly started store (two mounts of it for fsstress). Needs root.

The suites are built by their own instructions; nothing of them is here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from craqen.core.bench.store import LocalStore

KNOWN = Path(__file__).resolve().parent / "pjdfstest_known.txt"
SUITE_TIMEOUT_SECONDS = 3600
FSX_FILES = (
    # A little file with many operations, one that is closed and opened often, a large one with
    # aligned operations, and one whose pages are dropped after every operation.
    ("small", ("-l", "262144")),
    ("reopened", ("-c", "20", "-l", "2000000")),
    ("large", ("-l", "30000000", "-o", "1000000", "-r", "4096", "-w", "4096", "-t", "4096")),
    ("uncached", ("-f", "-l", "1000000")),
)
_FAILED = re.compile(r"^not ok (\d+)", re.MULTILINE)
_PLANNED = re.compile(r"^1\.\.(\d+)", re.MULTILINE)


def known_failures() -> dict[tuple[str, int], str]:
    """Cases of pjdfstest that fail on purpose: (file, number) and why."""
    found: dict[tuple[str, int], str] = {}
    for line in KNOWN.read_text().splitlines():
        if line and not line.startswith("#"):
            name, numbers, reason = line.split(maxsplit=2)
            found |= {(name, int(number)): reason for number in numbers.split(",")}
    return found


def pjdfstest(checkout: Path, folder: Path, words: Sequence[str]) -> int:
    """Run all its files (or those whose names contain one of *words*) one by one; return how many
    cases failed that are not known to."""
    if not (checkout / "pjdfstest").is_file():
        raise SystemExit(f"{checkout}/pjdfstest: is not there; build it first, by its README")
    known = known_failures()
    planned, unknown, met = 0, [], set()
    for path in sorted((checkout / "tests").rglob("*.t")):
        name = str(path.relative_to(checkout / "tests"))
        if words and not any(word in name for word in words):
            continue
        done = subprocess.run(
            ["sh", str(path)],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SUITE_TIMEOUT_SECONDS,
            check=False,
        )
        count = sum(int(number) for number in _PLANNED.findall(done.stdout))
        said = len(re.findall(r"^(?:not )?ok ", done.stdout, re.MULTILINE))
        planned += count
        failed = {(name, int(number)) for number in _FAILED.findall(done.stdout)}
        if said != count:
            failed.add((name, 0))
            print(f"{name}: {said} of {count} cases ran: {done.stderr.strip()[-300:]}")
        met |= failed & known.keys()
        for case in sorted(failed - known.keys()):
            unknown.append(case)
            print(f"{case[0]} {case[1]}: failed")
    for case in sorted(met):
        print(f"{case[0]} {case[1]}: {known[case]}")
    print(f"pjdfstest: {planned} cases, {len(met)} fail as known, {len(unknown)} fail besides")
    return len(unknown)


def fsx(program: Path, folder: Path, seconds: float, seed: int) -> int:
    """Files of several kinds at the same time, each checked after every operation; return how many
    differed."""
    running = [
        (
            name,
            subprocess.Popen(
                [
                    str(program),
                    "-q",
                    "-S",
                    str(seed + number),
                    f"--duration={seconds:.0f}",
                    *words,
                    str(folder / name),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ),
        )
        for number, (name, words) in enumerate(FSX_FILES)
    ]
    failed = 0
    for name, process in running:
        said, _ = process.communicate(timeout=SUITE_TIMEOUT_SECONDS + seconds)
        last = said.strip().splitlines()[-1:] or ["nothing said"]
        print(f"fsx {name}: {last[0]}")
        if process.returncode != 0:
            failed += 1
            print(said[-5000:])
    return failed


def fsstress(program: Path, folder: Path, second: Path, seconds: float, seed: int) -> int:
    """Random calls on one tree for the given time; then both mounts must show the same tree, and
    ``craqen fsck`` find nothing. Returns how many differences there are."""
    until = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < until:
        rounds += 1
        place = folder / f"round-{rounds}"
        place.mkdir()
        subprocess.run(
            [str(program), "-d", str(place), "-p", "4", "-n", "1000", "-s", str(seed + rounds)],
            stdout=subprocess.DEVNULL,
            timeout=SUITE_TIMEOUT_SECONDS,
            check=True,
        )
        ours, theirs = _tree(place), _tree(second / place.name)
        different = {
            name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
        }
        if different:
            print(f"seed {seed + rounds}: the mounts differ: {sorted(different)[:10]}")
            return len(different)
        shutil.rmtree(place)
    print(f"fsstress: {rounds} rounds of 4 x 1000 calls, no difference between two mounts")
    return 0


def _tree(folder: Path) -> dict[str, tuple[int, ...]]:
    """Attributes of everything below."""
    found: dict[str, tuple[int, ...]] = {}
    for parent, directories, files in os.walk(folder):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            found[os.path.relpath(path, folder)] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_nlink,
                status.st_size,
                status.st_mtime_ns,
            )
    return found


def checked(store: LocalStore) -> int:
    """How many defects ``craqen fsck`` finds."""
    done = subprocess.run(
        [sys.executable, "-m", "craqen.core.cli", "fsck"],
        env={**os.environ, "CRAQEN_DATA_FOLDER": store.folder},
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"fsck: {done.stdout.strip().splitlines()[-1:]}")
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:])
    return int(done.returncode != 0)


class SecondMount:
    """Another mount of the same store, by a process of its own."""

    def __init__(self, store: LocalStore, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "craqen.core.cli", "mount", str(folder)],
            env={**os.environ, "CRAQEN_DATA_FOLDER": store.folder},
        )
        while not os.path.ismount(folder):
            if self._process.poll() is not None:
                raise SystemExit("the second mount did not start; its message is above")
            time.sleep(0.1)

    def close(self) -> None:
        """Unmount."""
        self._process.terminate()
        self._process.wait(timeout=60)


def main() -> int:
    """Run what the command line asks for; return 0 if all is well."""
    parser = argparse.ArgumentParser(prog="make pjdfstest|fsx|fsstress")
    parser.add_argument("suite", choices=["pjdfstest", "fsx", "fsstress"])
    parser.add_argument("path", type=Path, help="pjdfstest: its checkout; else the built program")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long fsx, fsstress run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-k", dest="words", action="append", default=[], help="pjdfstest: files")
    arguments = parser.parse_args()
    path: Path = arguments.path.resolve()
    if os.geteuid() != 0:
        parser.error("needs root: the suites change owners, and mount")
    if not path.exists():
        parser.error(f"{path} is not there")
    with tempfile.TemporaryDirectory(prefix="craqen-posix-") as work:
        os.chmod(work, 0o755)
        mount = Path(work) / "mount"
        with LocalStore(folder=f"{work}/data", mount=str(mount)) as store:
            folder = mount / "posix-suite"
            folder.mkdir()
            folder.chmod(0o755)
            if arguments.suite == "pjdfstest":
                failed = pjdfstest(path, folder, arguments.words)
            elif arguments.suite == "fsx":
                failed = fsx(path, folder, arguments.seconds, arguments.seed)
            else:
                second = SecondMount(store, Path(work) / "second")
                try:
                    failed = fsstress(
                        path,
                        folder,
                        second.folder / folder.name,
                        arguments.seconds,
                        arguments.seed,
                    )
                finally:
                    second.close()
            failed += checked(store)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
